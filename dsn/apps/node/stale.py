"""Is this the only home of its node? A link that this home does not know says that it is not.

Two homes of one node would sign against each other: revisions under the same number, vouchers
that the other never saw. So whoever finds that its node proved without it stops.

Spec: docs/spec/proofs.md#proof-of-spacetime.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from dsn.apps.ledger.light import Snapshot
from dsn.errors import ConfigError, InvalidSignature, MalformedMessage
from dsn.ledger.bodies import Kind, OpenEpoch, SubmitLink
from dsn.ledger.cells import KEPT_BITS, AccountCell
from dsn.ledger.entry import Entry
from dsn.ledger.log import LogLeaf
from dsn.ledger.rules.settling import roll
from dsn.ledger.settlement import Address
from dsn.ledger.typed import Domain, verify_typed
from dsn.store.answers import AnswerStore

Leaves = Callable[[int, int], Awaitable[list[LogLeaf]]]
"""Entries ``[start, end)`` of the log, from anybody."""
STALE: Final = "home_is_stale"
LEAVES_AT_ONCE: Final = 256
"""A tile's worth."""
_log = structlog.get_logger("proving")


class Twins:
    """Looks out for links that another home made in this one's name."""

    def __init__(self, answers: AnswerStore, leaves: Leaves, domain: Domain, me: Address) -> None:
        """Compare what ``answers`` knows with the account of ``me`` and, in doubt, with the log."""
        self._answers, self._leaves, self._domain, self._me = answers, leaves, domain, me
        self._cleared = 0
        self._watching_from: int | None = None

    async def may_link(self, snapshot: Snapshot, oldest: int) -> bool:
        """Whether links may be made: no other home makes them, as far as can be seen.

        Args:
            snapshot: The account and the time.
            oldest: Links before this epoch are forgotten here, too.

        Raises:
            ConfigError: ``home_is_stale``: another home made one.
            DsnError: The ledger cannot be reached.
        """
        epoch = snapshot.network.epoch
        account = roll(snapshot.account, epoch)
        if self._answers.waiting:
            return await self._wait(account)
        if account.live_leaves or account.frozen_leaves:
            floor = max(self._cleared, self._answers.accepted, oldest - 1)
            doubtful = self._doubtful(account, floor)
            if doubtful and await self._is_linked(snapshot, account, doubtful, floor):
                raise _stale(doubtful)
        self._cleared = epoch - 1
        return True

    def _doubtful(self, account: AccountCell, floor: int) -> int:
        """The newest epoch after ``floor`` that counts as proven, if this home knows no link of it.

        It was proven elsewhere, or there was nothing to prove: a bit does not tell the two apart.
        """
        for epoch in range(account.rolled, max(floor, account.rolled - KEPT_BITS, 0), -1):
            if epoch in self._answers:
                return 0
            if account.proven(epoch):
                return epoch
        return 0

    async def _is_linked(
        self, snapshot: Snapshot, account: AccountCell, epoch: int, floor: int
    ) -> bool:
        """Whether this home does not know its node's newest link since ``floor``."""
        if epoch == account.rolled and account.frozen_leaves:
            return True
        end = snapshot.size
        while end > 0:
            start = (end - 1) // LEAVES_AT_ONCE * LEAVES_AT_ONCE
            for leaf in reversed(await self._leaves(start, end)):
                found = self._epoch_of(leaf)
                if found is not None:
                    return found > floor and found not in self._answers
                opened = opened_body(leaf)
                if opened is not None and opened.epoch <= floor + 1:
                    return False
            end = start
        return False

    def _epoch_of(self, leaf: LogLeaf) -> int | None:
        """The epoch of a link that this node's account signed."""
        entry = _entry(leaf, Kind.LINK)
        if entry is None or entry.signer != self._me or not isinstance(entry.body, SubmitLink):
            return None
        try:
            verify_typed(entry, self._domain, leaf.signature, self._me)
        except InvalidSignature:
            return None
        return entry.body.link.epoch

    async def _wait(self, account: AccountCell) -> bool:
        """Whether a whole epoch has passed without a link, or there is nothing to link at all."""
        epoch = account.rolled
        if self._watching_from is None:
            self._watching_from = epoch
            _log.info("taking over", epoch=epoch)
        idle = not account.live_leaves and not account.frozen_leaves
        watched = epoch - 1 > self._watching_from and not account.proven(epoch - 1)
        quiet = watched and not (account.frozen_leaves and account.proven(epoch))
        if idle or quiet:
            await self._answers.resume(epoch - 1)
            _log.info("taken over", epoch=epoch)
        return idle or quiet


def opened_body(leaf: LogLeaf) -> OpenEpoch | None:
    """What ``leaf`` says if it opens an epoch."""
    entry = _entry(leaf, Kind.OPEN_EPOCH)
    return entry.body if entry is not None and isinstance(entry.body, OpenEpoch) else None


def _entry(leaf: LogLeaf, kind: Kind) -> Entry | None:
    """The entry of ``leaf`` if it is of ``kind``; only then it is decoded."""
    if leaf.entry[0] != kind:
        return None
    try:
        return Entry.decode(leaf.entry)
    except MalformedMessage:
        return None


def _stale(epoch: int) -> ConfigError:
    return ConfigError(
        f"epoch {epoch} was proven by another home of this node: this one is an old copy",
        code=STALE,
        hint="run the other home; if it is gone for good: dsn provider takeover",
    )
