"""A ledger whose witnesses are real: each replays every entry, by its own clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsn.apps.devnet import free_port
from dsn.apps.ledger.chain import Settling
from dsn.apps.witness.run import Witness, serving
from dsn.core.keys import IdentityKeys, SigningKey
from dsn.dht.contact import Contact
from dsn.dht.network import Network
from dsn.ledger.settlement import NO_ADDRESS, Address, SettlementKey
from dsn.ledger.trust import Trust
from dsn.rpc.channel import Connections
from dsn.rpc.ledger import WitnessPeer
from dsn.runtime.clock import SystemClock
from dsn.runtime.entropy import system_entropy
from tests.support.ledger_net import PATIENCE_S, Served, ledger_network, ledger_served

ROOTS = [bytes([n]) * 32 for n in (21, 22, 23)]
KEYS = [SigningKey(IdentityKeys.derive(root).identity_seed) for root in ROOTS]
PAYER = SettlementKey(b"\x31" * 32)
PAYEE = SettlementKey(b"\x32" * 32)
SLACK_MS = 5_000
"""How old a salt may be: this machine may be busy."""


@dataclass
class Town:
    """A network whose witnesses are real; ``root`` has a directory for each."""

    root: Path
    network: Network
    held: dict[int, AsyncExitStack]
    witnesses: dict[int, Witness]
    settling: Settling | None = None
    """The chain of the network, if it has one."""

    @property
    def trust(self) -> Trust:
        params = self.network.ledger_params
        assert params is not None
        return Trust.of(params)

    def folder(self, number: int) -> Path:
        return self.root / f"witness{number}"

    def root_key(self, number: int) -> SettlementKey:
        """What a witness signs with for a chain."""
        return SettlementKey.derive(ROOTS[number])

    async def start(self, number: int) -> None:
        self.held[number] = AsyncExitStack()
        self.witnesses[number] = await self.held[number].enter_async_context(
            serving(
                self.network,
                KEYS[number],
                self.folder(number),
                self.network.witnesses[number].address,
                clock=SystemClock(),
                entropy=system_entropy,
                root_key=self.root_key(number),
                settling=self.settling,
            )
        )

    async def stop(self, number: int) -> None:
        await self.held.pop(number).aclose()

    async def status(self, number: int) -> dict[str, object]:
        return await self.witnesses[number].answer("status")

    @asynccontextmanager
    async def peer(self, number: int, key: SigningKey) -> AsyncIterator[WitnessPeer]:
        """The witness as ``key`` sees it."""
        async with Connections(key, self.network.network_id) as connections:
            yield WitnessPeer(connections.line(self.network.witnesses[number]))


def town_of(
    root: Path,
    count: int,
    quorum: int,
    *,
    vault: Address = NO_ADDRESS,
    settling: Settling | None = None,
    **changes: Any,
) -> Town:
    """``count`` witnesses below ``root``, none of them up; ``changes`` are ``LedgerParams``."""
    if vault != NO_ADDRESS:
        keys = (SettlementKey.derive(each) for each in ROOTS[:count])
        changes["cosigners"] = frozenset(key.address for key in keys)
    contacts = [Contact(key.public, f"127.0.0.1:{free_port('127.0.0.1')}") for key in KEYS[:count]]
    network = ledger_network(
        f"127.0.0.1:{free_port('127.0.0.1')}",
        allocation={} if vault != NO_ADDRESS else {PAYER.address: 1_000_000},
        witnesses=contacts,
        quorum=quorum,
        vault=vault,
        **{"salt_ms": SLACK_MS, **changes},
    )
    for number in range(count):
        (root / f"witness{number}").mkdir()
    return Town(root, network, {}, {}, settling)


@asynccontextmanager
async def living(
    root: Path, count: int, quorum: int, *, relays: Sequence[str] = (), **changes: Any
) -> AsyncIterator[tuple[Town, Served]]:
    """The town with all its witnesses, and its ledger."""
    town = town_of(root, count, quorum, **changes)
    async with AsyncExitStack() as held:
        for number in range(count):
            await town.start(number)
            held.push_async_callback(_stop_if_there, town, number)
        served = await held.enter_async_context(
            ledger_served(root / "op", network=town.network, relays=relays, settling=town.settling)
        )
        yield town, served


async def _stop_if_there(town: Town, number: int) -> None:
    if number in town.held:
        await town.stop(number)


async def reaches(town: Town, number: int, size: int) -> dict[str, object]:
    """The status of a witness once it has cosigned ``size`` entries."""
    async with asyncio.timeout(PATIENCE_S):
        while int(str((status := await town.status(number))["cosigned"])) < size:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return status
