"""The port to a chain, over JSON-RPC: any EVM chain, any endpoint.

The key stays in this process: calls are signed here. What the network file says of its chain is
compared with what is there before anything else is asked or sent: the chain's id, and whether the
vault was made for this network, its operator and the state it begins with.

Spec: docs/spec/chain.md#endpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from dsn.chain import Call, Done, Happened
from dsn.errors import ChainRefused, ConfigError, MalformedMessage
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import Address, SettlementKey, format_address
from dsn.ledger.state import genesis
from dsn.rpc.evm_abi import artefact, refusal
from dsn.rpc.evm_endpoint import Endpoint, Pace, Refused
from dsn.rpc.evm_sending import Order, Sender
from dsn.rpc.evm_values import hexed

ERC20: Final = "TestCredit"
"""Whose interface any ERC-20 is called by."""
JUDGES: Final = (
    "FraudAccounts",
    "FraudDeals",
    "FraudEnds",
    "FraudClaims",
    "FraudDemands",
    "FraudLog",
)
"""In the order in which the vault has them."""
FIRST_SPAN: Final = 2_000
MOST_SPAN: Final = 1 << 20
"""Blocks that are searched for events at once: twice as many each time, while that is taken."""


class EvmChain:
    """A network's contracts on its chain; see ``dsn.chain.Chain``. Close it, or ``async with``."""

    def __init__(
        self,
        url: str,
        key: SettlementKey,
        params: LedgerParams,
        *,
        finality: int,
        pace: Pace | None = None,
    ) -> None:
        """Name the endpoint; nothing is asked yet.

        Args:
            url: Of a JSON-RPC endpoint; a secret.
            key: Signs what is sent, and pays for it.
            params: Of the ledger, with its network's id.
            finality: Blocks on top of one that make it final.
            pace: How long things may take.

        Raises:
            ConfigError: ``bad_setting``: ``url`` is no http address.
        """
        self._endpoint = Endpoint(url, pace or Pace())
        self._sender = Sender(self._endpoint, key, params.domain.chain_id, finality)
        self._key, self._params, self._finality = key, params, finality
        self._places: Mapping[str, Address] = {}
        self._looking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the connection go."""
        await self.close()

    async def close(self) -> None:
        """Let the connection go."""
        await self._endpoint.close()

    @property
    def account(self) -> Address:
        """Who signs and pays for what is sent."""
        return self._key.address

    async def newest(self) -> tuple[int, int]:
        """Number and time (Unix seconds) of the newest block."""
        await self.places()
        head = await self._endpoint.head()
        return head.number, head.time_s

    async def final(self) -> int:
        """Number of the newest block that is final."""
        number, _ = await self.newest()
        return max(0, number - self._finality)

    async def balance(self) -> int:
        """Wei of ``account``, to pay for gas with."""
        await self.places()
        return await self._endpoint.balance(self.account)

    async def read(self, call: Call, *, final: bool = False) -> Any:
        """What ``call`` returns, in the newest or the newest final block.

        Raises:
            ChainRefused: It reverts.
            Unreachable: ``chain_unreachable``.
            ConfigError: ``wrong_chain``, ``not_the_vault``.
        """
        places = await self.places()
        number = await self.final() if final else None
        return await self._read(places[call.contract], call, number)

    async def events(
        self, contract: str, event: str, since: int, *, final: bool
    ) -> tuple[list[Happened], int]:
        """Those in blocks from ``since`` on, and the number to ask from the next time.

        That number follows the last final block: what is newer may stand elsewhere by then, and
        comes again.
        """
        place, kind = (await self.places())[contract], artefact(contract)
        head, _ = await self.newest()
        settled = max(0, head - self._finality)
        last = settled if final else head
        topic, found = kind.topic(event), list[Happened]()
        first, span = since, FIRST_SPAN
        while first <= last:
            end = min(first + span - 1, last)
            try:
                logs = await self._endpoint.logs(place, topic, first, end)
            except (Refused, MalformedMessage) as error:
                if span == 1:
                    raise _no_events(contract, error) from None
                span = max(1, min(span, end - first + 1) // 2)
                continue
            for log in logs:
                found.append(Happened(kind.event(event, log.topics, log.data), log.number))
            first, span = end + 1, min(2 * span, MOST_SPAN)
        return found, max(since, settled + 1)

    async def send(self, call: Call, *, wei: int = 0, final: bool = False) -> Done:
        """Have ``call`` done, signed by this home's key, and wait until it is.

        Raises:
            ChainRefused: It reverts; nothing is sent where that can be known before.
            LimitReached: ``not_enough_gas``.
            Unreachable: ``chain_unreachable``.
            ConfigError: ``wrong_chain``, ``not_the_vault``.
        """
        place = (await self.places())[call.contract]
        data = artefact(call.contract).call(call.function, call.args)
        landed = await self._sender.send(Order(place, data, wei), final=final)
        return Done(landed.mined.number, landed.mined.gas, landed.hash)

    async def places(self) -> Mapping[str, Address]:
        """Where each contract is, as the vault says once it has shown that it is the network's.

        Raises:
            ConfigError: ``wrong_chain``, ``not_the_vault``.
            Unreachable: ``chain_unreachable``.
        """
        async with self._looking:
            if not self._places:
                await check_chain(self._endpoint, self._params.domain.chain_id)
                self._places = await self._look()
        return self._places

    async def _look(self) -> Mapping[str, Address]:
        domain = self._params.domain
        if not await self._endpoint.has_code(domain.vault):
            raise self._not_the_vault("nothing is there")
        words = {
            "separator": domain.separator,
            "operator": self._params.operator,
            "quorum": self._params.quorum,
            "burn_ppm": self._params.burn_ppm,
            "genesis_root": genesis(self._params).root,
        }
        try:
            for function, expected in words.items():
                if await self._vault(function) != expected:
                    raise self._not_the_vault(f"its {function} is another")
            judges = [Address(await self._vault("judges", at)) for at in range(len(JUDGES))]
            dispute, erc20 = await self._vault("dispute"), await self._vault("erc20")
        except (ChainRefused, MalformedMessage) as error:
            raise self._not_the_vault("another contract is there") from error
        named = dict(zip(JUDGES, judges, strict=True))
        return {"Vault": domain.vault, "Dispute": dispute, ERC20: erc20, **named}

    async def _vault(self, function: str, *args: Any) -> Any:
        return await self._read(self._params.domain.vault, Call("Vault", function, args), None)

    async def _read(self, place: Address, call: Call, number: int | None) -> Any:
        kind = artefact(call.contract)
        request = {"from": hexed(self.account), "to": hexed(place)}
        request["data"] = hexed(kind.call(call.function, call.args))
        try:
            raw = await self._endpoint.call(request, number)
        except Refused as refused:
            if not refused.reverted:
                raise self._endpoint.unreachable(refused.text) from None
            raise refusal(refused.text, refused.data) from None
        return kind.answer(call.function, raw)

    def _not_the_vault(self, why: str) -> ConfigError:
        return ConfigError(
            f"{format_address(self._params.domain.vault)} on the chain at {self._endpoint.place} "
            f"is not this network's vault: {why}",
            code="not_the_vault",
            hint="compare [chain] rpc in dsn.toml with the network's chain; is its node in step?",
        )


async def check_chain(endpoint: Endpoint, expected: int) -> None:
    """Check that the chain behind ``endpoint`` is the one with the id ``expected``.

    Raises:
        ConfigError: ``wrong_chain``.
    """
    if (found := await endpoint.chain_id()) != expected:
        raise ConfigError(
            f"{endpoint.place} serves chain {found}, the network settles on chain {expected}",
            code="wrong_chain",
            hint="name an endpoint of that chain: [chain] rpc in dsn.toml",
        )


def _no_events(contract: str, error: Exception) -> MalformedMessage:
    return MalformedMessage(f"the chain's endpoint gives no events of {contract}: {error}")
