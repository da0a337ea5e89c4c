"""The ledger as it is shown just now, to whoever moves money between it and the chain."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from dsn.apps.ledger.account import LedgerAccount
from dsn.apps.ledger.light import LightClient
from dsn.ledger.binding import LedgerRoot
from dsn.ledger.cells import AccountCell, Cell, CellKind, cell_digest
from dsn.ledger.checkpoint import parse_checkpoint
from dsn.ledger.entry import Body
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import Address
from dsn.rpc.ledger import LedgerPeer
from dsn.v1 import ledger_pb2
from dsn.wire.ledger import Wanted, cells_from_wire

Shown = tuple[Cell, tuple[Any, ...]]
"""A cell, and its place as contracts take it."""


class Ledger(Protocol):
    """One account on the ledger, read and written; ``LedgerNow`` is one."""

    params: LedgerParams

    async def account(self, address: Address) -> AccountCell:
        """Any account as the newest cosigned checkpoint has it."""
        ...

    async def size(self) -> int:
        """How many entries the newest cosigned checkpoint has."""
        ...

    async def shown(self, wanted: Wanted, root: LedgerRoot) -> Shown | None:
        """An account or a deal at ``root``, if that is what the ledger shows just now."""
        ...

    async def enter(self, bodies: Sequence[Body]) -> None:
        """Enter ``bodies`` as this home, until a cosigned checkpoint has them.

        Raises:
            EntryRefused: Of the first that was refused.
        """
        ...


class LedgerNow:
    """The ledger over the network; every method raises as ``LightClient.refresh``."""

    def __init__(self, light: LightClient, account: LedgerAccount) -> None:
        """Read by ``light``, write by ``account``."""
        self._light, self._account, self.params = light, account, light.params

    async def account(self, address: Address) -> AccountCell:
        """As ``Ledger``."""
        return await self._light.account(address)

    async def size(self) -> int:
        """As ``Ledger``."""
        return (await self._light.refresh()).size

    async def shown(self, wanted: Wanted, root: LedgerRoot) -> Shown | None:
        """As ``Ledger``; it saves the replay while the anchored checkpoint is the newest."""

        def call(peer: LedgerPeer) -> Awaitable[ledger_pb2.CellsReply]:
            names = [wanted.name]
            if wanted.kind is CellKind.DEAL:
                return peer.get_deals(names)
            return peer.get_accounts(names)

        reply = await self._light.ask(call)
        if parse_checkpoint(reply.checkpoint).checkpoint.ledger_root != root:
            return None
        [cell] = cells_from_wire(reply.cells, [wanted], root.state_root)
        if cell is None:
            return None
        steps = [(step.bit, step.sibling) for step in reply.cells[0].steps]
        return cell, (cell.key, cell_digest(cell), steps)

    async def enter(self, bodies: Sequence[Body]) -> None:
        """As ``Ledger``."""
        await self._account.send(bodies)
