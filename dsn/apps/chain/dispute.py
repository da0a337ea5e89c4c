"""Disputes on the chain, from the side of those who ask: where the ledger takes no demand.

Spec: docs/spec/chain.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from dsn.apps.chain.ledger_now import Ledger
from dsn.apps.chain.replay import LogCopy, read_cell
from dsn.apps.chain.under_way import Notice
from dsn.apps.chain.vault import Disputes, Slashed, Vault
from dsn.chain import Call, Chain
from dsn.errors import ChainRefused, NotFound, UsageError
from dsn.ids import DealId
from dsn.ledger.cells import CellKind, DealCell
from dsn.ledger.onchain.dispute import collect, slash
from dsn.ledger.onchain.tuples import deal_tuple
from dsn.ledger.settlement import Address
from dsn.ports import Entropy
from dsn.wire.ledger import Wanted

_RACES: Final = 3
"""How often an anchor that came in between is gone along with."""
_DRAW_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Asked:
    """A demand that waits on the chain.

    Attributes:
        deal: Its id.
        asker: Who put the bond at stake.
        provider: Who has to answer.
        leaf: Which of the deal's leaves.
        number: The revision that it is asked of, with ``leaves`` and ``root``.
        deadline_s: Until when an answer is taken, in Unix seconds.
    """

    deal: DealId
    asker: Address
    deadline_s: int
    provider: Address
    leaf: int
    number: int
    leaves: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """A demand that was made just now.

    Attributes:
        asked: What was.
        anchor: The number of the anchor that it goes by.
        bond_wei: What is at stake.
        gas: What asking took.
    """

    asked: Asked
    anchor: int
    bond_wei: int
    gas: int


async def demand_of(chain: Chain, deal: DealId, *, final: bool = False) -> Asked | None:
    """The demand that waits on ``deal`` in the newest block, or in the newest final one."""
    call = Call("Dispute", "demands", (deal,))
    asker, deadline_s, provider, *held = await chain.read(call, final=final)
    if not deadline_s:
        return None
    return Asked(deal, Address(asker), deadline_s, Address(provider), *held)


class Disputing:
    """What one home demands on the chain."""

    def __init__(
        self, chain: Chain, ledger: Ledger, copies: Sequence[LogCopy], notice: Notice
    ) -> None:
        """Ask on ``chain`` by what ``ledger`` and ``copies`` of its log show of an anchor."""
        self._chain, self._ledger, self._copies = chain, ledger, copies
        self._vault, self._disputes, self._notice = Vault(chain), Disputes(chain), notice

    async def demand(self, deal: DealId, leaf: int | None, entropy: Entropy) -> Opened:
        """Have a leaf shown on the chain, or the deal slashed.

        Args:
            deal: Of this home, as its client or delegate.
            leaf: Which; ``None``: one that ``entropy`` draws.
            entropy: Draws.

        Raises:
            NotFound: ``no_anchor``: nothing is anchored yet; ``unknown_deal``: not in the anchor.
            UsageError: ``no_such_leaf``.
            ChainRefused: ``not_the_client``, ``deal_not_open``, ``demand_pending``,
                ``slashed_already``.
            LimitReached: ``not_enough_gas``: for the bond, too.
        """
        for races in range(_RACES):
            try:
                return await self._demand(deal, leaf, entropy)
            except ChainRefused as error:
                if error.detail_code != "not_newest" or races == _RACES - 1:
                    raise
        raise AssertionError("the last race returns or raises")

    async def _demand(self, deal: DealId, leaf: int | None, entropy: Entropy) -> Opened:
        if (anchor := await self._vault.newest()) is None:
            raise NotFound(
                "no state of the ledger is anchored yet",
                code="no_anchor",
                hint="'dsn ledger anchor' anchors the newest",
            )
        wanted = Wanted(CellKind.DEAL, deal)
        found = await read_cell(self._ledger, wanted, anchor, self._copies, self._notice)
        if found is None:
            raise NotFound(
                f"deal {deal.hex()} is not in the newest anchor, of {anchor.size:,} entries",
                code="unknown_deal",
                hint="wait for the next anchor, or make it: dsn ledger anchor",
            )
        cell, place = found
        assert isinstance(cell, DealCell)
        drawn = _checked(cell, leaf, entropy)
        bond_wei = int(await self._chain.read(Call("Dispute", "bond_wei")))
        args = (anchor.number, deal_tuple(cell), place, drawn)
        done = await self._chain.send(Call("Dispute", "demand", args), wei=bond_wei)
        asked = await demand_of(self._chain, deal)
        if asked is None:  # answered in the very next block
            _, now_s = await self._chain.newest()
            held = cell.number, cell.leaves, cell.root
            me, provider = self._chain.account, cell.terms.provider
            asked = Asked(deal, me, now_s, provider, drawn, *held)
        return Opened(asked, anchor.number, bond_wei, done.gas)

    async def slash(self, deal: DealId) -> int:
        """Have it on record that a demand on ``deal`` was not answered in time; gives the gas.

        Raises:
            ChainRefused: ``no_demand``, ``still_time``.
        """
        return (await self._chain.send(Call(*slash(deal)))).gas

    async def pending(self, deals: Iterable[DealId]) -> list[Asked]:
        """The demands that wait on ``deals``, the most urgent first."""
        found = [await demand_of(self._chain, deal) for deal in deals]
        waiting = [each for each in found if each is not None]
        return sorted(waiting, key=lambda asked: asked.deadline_s)

    async def slashed(self, deals: Iterable[DealId]) -> list[Slashed]:
        """Those of ``deals`` that were slashed on the chain, for good."""
        found = [await self._disputes.slash_of(deal) for deal in deals]
        return [each for each in found if each is not None]

    async def collect(self) -> int:
        """Take out bonds that came back, or were won; gives wei, perhaps 0."""
        wei = int(await self._chain.read(Call("Dispute", "credit", (self._chain.account,))))
        if wei:
            await self._chain.send(Call(*collect()))
        return wei


def _checked(cell: DealCell, leaf: int | None, entropy: Entropy) -> int:
    """The leaf to ask for."""
    if leaf is None and cell.leaves:
        return int.from_bytes(entropy(_DRAW_BYTES), "big") % cell.leaves
    if leaf is None or leaf >= cell.leaves:
        raise UsageError(
            f"leaf {leaf or 0:,} of a deal that held {cell.leaves:,} when it was anchored",
            code="no_such_leaf",
            hint="leaves count from 0; without --leaf one is drawn",
        )
    return leaf
