"""Making a new network's contracts, while there is no vault yet to ask.

Where a contract will stand follows from who makes it and by which call of that account, so the
contracts of a network can name one another, and a network's id its vault, before any is there.

Spec: docs/spec/chain.md#deployment; EIP-161, EIP-684.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from eth_typing import HexAddress, HexStr
from eth_utils.address import to_canonical_address
from web3.types import Nonce
from web3.utils import get_create_address

from dsn.chain import Done
from dsn.errors import ChainRefused
from dsn.ledger.settlement import Address, SettlementKey, format_address
from dsn.rpc.evm_abi import artefact
from dsn.rpc.evm_endpoint import Endpoint, Pace
from dsn.rpc.evm_sending import Order, Sender


class Maker:
    """Makes contracts on a chain before there is a vault; close it, or ``async with``."""

    def __init__(
        self, url: str, key: SettlementKey, *, finality: int, pace: Pace | None = None
    ) -> None:
        """As ``EvmChain``, but which chain it is follows from the endpoint."""
        self._endpoint = Endpoint(url, pace or Pace())
        self._key, self._finality = key, finality
        self._sender: Sender | None = None

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
        await self._endpoint.close()

    @property
    def account(self) -> Address:
        """Who makes and pays for them."""
        return self._key.address

    async def chain_id(self) -> int:
        """Of the chain behind the endpoint."""
        return await self._endpoint.chain_id()

    async def count(self) -> int:
        """How many calls of the account were mined."""
        return await self._endpoint.count(self.account)

    async def next_nonce(self) -> int:
        """The number of the account's next call.

        Raises:
            ChainRefused: ``nonce_taken``: some wait to be mined.
        """
        used = await self.count()
        if await self._endpoint.count(self.account, pending=True) != used:
            raise ChainRefused(
                f"calls of {format_address(self.account)} wait to be mined",
                code="nonce_taken",
                hint="try again once they are",
            )
        return used

    def place(self, nonce: int) -> Address:
        """Where the contract will be that the account's call ``nonce`` makes."""
        return place_of(self.account, nonce)

    async def exists(self, place: Address) -> bool:
        """Whether a contract is there."""
        return await self._endpoint.has_code(place)

    async def stands(self, place: Address) -> bool:
        """Whether a contract is there, once that is final.

        Raises:
            Unreachable: ``chain_unreachable``: no blocks make it final.
        """
        pace = self._endpoint.pace
        try:
            async with asyncio.timeout(pace.mined_s):
                while await self.exists(place):
                    head = await self._endpoint.head()
                    settled = head.number - self._finality
                    if settled >= 0 and await self._endpoint.has_code(place, settled):
                        return True
                    await asyncio.sleep(pace.poll_s)
        except TimeoutError:
            raise self._endpoint.unreachable("the contracts become final too slowly") from None
        return False

    async def make(
        self, contract: str, values: Mapping[str, Any], nonce: int, *, final: bool = False
    ) -> Done:
        """Make ``contract`` by the account's call ``nonce``; ``values`` by constructor name.

        Raises:
            ChainRefused: It reverts, or ``nonce_taken``.
            LimitReached: ``not_enough_gas``.
            Unreachable: ``chain_unreachable``.
        """
        order = Order(None, artefact(contract).creation(values))
        if self._sender is None:
            chain_id = await self.chain_id()
            self._sender = Sender(self._endpoint, self._key, chain_id, self._finality)
        landed = await self._sender.send(order, final=final, nonce=nonce)
        return Done(landed.mined.number, landed.mined.gas, landed.hash)


def place_of(account: Address, nonce: int) -> Address:
    """Where the contract will be that ``account`` makes by its call ``nonce``, from 0."""
    maker = HexAddress(HexStr(format_address(account)))
    return Address(to_canonical_address(get_create_address(maker, Nonce(nonce))))
