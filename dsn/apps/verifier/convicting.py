"""Bringing what convicts a provider before the ledger: it loses its collateral.

A wrong opening does, as soon as it is seen. So does what the ledger's own record shows: more epochs
missed than a deal allows, or a demand that was not served in time.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from dsn.apps.ledger.account import LedgerAccount
from dsn.apps.verifier.archive import Archive
from dsn.apps.verifier.evidence import Looked, known_bracket
from dsn.apps.verifier.ledger import ReplayedLedger
from dsn.errors import DsnError, EntryRefused, InvalidProof
from dsn.ids import format_node_id
from dsn.ledger.cells import DealCell, DealState
from dsn.ledger.disputes import DrawnOpening, SlashMissed, SlashUnserved, SlashWrong
from dsn.ledger.rules.settling import Parties, roll, settle
from dsn.ledger.settlement import Address
from dsn.proofs.opening import proven_deal
from dsn.proofs.post import Link
from dsn.store.files import PRIVATE_DIRECTORY, write_atomic

MOST_OVERDUE: Final = 64
"""Entered in one epoch; the rest comes in the next."""
_ENTRY_BYTES: Final = 104
_STEP_BYTES: Final = 40
_log = structlog.get_logger("verifier")


class Convictions:
    """Files of what convicts providers, and the entries that do."""

    def __init__(self, ledger: ReplayedLedger, folder: Path, account: LedgerAccount | None) -> None:
        """Keep files in ``folder``; enter by ``account``, if there is one."""
        self._ledger, self._folder, self._account = ledger, folder, account
        self._overdue_in = 0

    async def convict(self, looked: Looked) -> None:
        """Keep what proves a wrong opening, and enter it; the reporter's part is this account's.

        The ledger may turn to the next epoch before it takes the entry, which is then made anew.
        """
        name, tried = format_node_id(looked.logged.node), None
        while True:
            body = await self._ledger.ask(lambda archive, _: build_slash(archive, looked))
            if body is None or body == tried:
                return
            await asyncio.to_thread(self._keep, looked, body)
            if self._account is None:
                return
            tried = body
            try:
                if await self._entered(body, name):
                    return
                await self._ledger.refresh()
            except DsnError as error:
                _log.warning("not slashed", node=name, code=error.detail_code)
                return

    async def convict_overdue(self) -> None:
        """Enter what the ledger's record shows; once an epoch, whatever becomes of it."""
        account = self._account
        epoch = await self._ledger.ask(lambda archive, _: archive.network.epoch)
        if account is None or epoch == self._overdue_in:
            return
        self._overdue_in, mine = epoch, account.address
        bodies = await self._ledger.ask(lambda archive, _: build_overdue(archive, mine))
        if not bodies:
            return
        try:
            outcomes = await account.enter(bodies)
        except DsnError as error:
            _log.warning("not slashed", deals=len(bodies), code=error.detail_code)
            return
        for body, outcome in zip(bodies, outcomes, strict=True):
            deal, what = body.deal.hex(), body.kind.name.lower()
            if isinstance(outcome, EntryRefused):
                _log.warning("slash refused", deal=deal, what=what, code=outcome.detail_code)
            else:
                _log.info("slashed", deal=deal, what=what)

    async def _entered(self, body: SlashWrong, name: str) -> bool:
        assert self._account is not None
        try:
            await self._account.send([body])
        except EntryRefused as error:
            _log.warning("slash refused", node=name, code=error.detail_code)
            return False
        _log.info("slashed", node=name, deal=body.deal.hex())
        return True

    def _keep(self, looked: Looked, body: SlashWrong) -> None:
        self._folder.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        name = f"slash_wrong-{looked.span.epoch}-{format_node_id(looked.logged.node)}.entry"
        write_atomic(self._folder / name, body.encode())


def build_slash(archive: Archive, looked: Looked) -> SlashWrong | None:
    """The entry that a wrong opening makes; nothing if nobody knows which deal it falls in.

    Args:
        archive: Where the epoch after the link's is open already.
        looked: With a wrong place.
    """
    place, asked, logged = looked.judged.wrong, looked.asked, looked.logged
    assert place is not None
    link, served = asked.link, looked.judged.shown[place]
    index = looked.drawn[place]
    known = known_bracket(archive, looked, index)
    bracket = known or _shown_bracket(served.opening, link, index)
    if not bracket:
        return None
    deal = proven_deal(bracket, root=link.root, total=link.total, index=index).deal
    path = archive.inclusion(logged.index, archive.network.closed.size)
    drawn = DrawnOpening(logged.leaf, logged.index, tuple(path), asked.beacon, place, bracket)
    return SlashWrong(deal, drawn, served)


def build_overdue(archive: Archive, reporter: Address) -> list[SlashMissed | SlashUnserved]:
    """The entries that the ledger would take now because of what a provider left undone.

    Args:
        archive: As of now.
        reporter: Who enters them; a provider cannot slash itself.

    Cost: a look at every cell.
    """
    state, epoch = archive.replica.state, archive.network.epoch
    bodies = list[SlashMissed | SlashUnserved]()
    for cell in archive.replica.cells():
        if not isinstance(cell, DealCell) or cell.terms.provider == reporter:
            continue
        if cell.state not in (DealState.OPEN, DealState.ENDED):
            continue
        if cell.demand is not None and epoch > cell.demand.deadline:
            bodies.append(SlashUnserved(cell.deal))
        elif cell.state is DealState.OPEN:
            parties = Parties(cell, roll(state.account(cell.terms.provider), epoch))
            missed = settle(parties, epoch, state.params.burn_ppm).deal.missed
            if missed > cell.terms.miss_limit:
                bodies.append(SlashMissed(cell.deal))
    return bodies[:MOST_OVERDUE]


def _shown_bracket(opening: bytes, link: Link, index: int) -> bytes:
    """How far ``opening`` shows which deal it falls in; nothing if it does not."""
    for size in range(_ENTRY_BYTES, len(opening), _STEP_BYTES):
        with suppress(InvalidProof):
            proven_deal(opening[:size], root=link.root, total=link.total, index=index)
            return opening[:size]
    return b""
