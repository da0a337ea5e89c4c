"""The store's state as rules without I/O: what a change does to the rows it touches.

``Draft.apply`` runs on live changes before they are written and again on replay, so both
come to the same state by the same code; a draft that could not be written is thrown away.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias, assert_never

from dsn import units
from dsn.core.hashing import HASH_BYTES
from dsn.ids import Commit, NodeId
from dsn.ports import ShardState, StoredShard
from dsn.store.changes import (
    PENDING,
    Change,
    Claim,
    Claims,
    ClaimsSet,
    LargeStored,
    RecordPut,
    Revised,
    SmallStored,
)


class Position(NamedTuple):
    """A place between changes in the log."""

    segment: int
    offset: int


class Place(NamedTuple):
    """Where a change stands in the log: ``size`` bytes, header included."""

    segment: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The offset of the next change."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Row:
    """A shard that is stored, or is known to be lost."""

    commit: Commit
    root: bytes
    length: int
    place: Place
    large: bool
    lost: bool
    claims: Claims

    def stored(self, client: NodeId | None) -> StoredShard | None:
        """The shard as ``client`` or, without one, as its firmest holder has it."""
        claim = firmest(self.claims, client)
        return describe(self.commit, self.root, self.length, claim, self.lost) if claim else None


def firmest(claims: Claims, client: bytes | None = None) -> Claim | None:
    """The claim (of ``client``) that keeps a shard longest: any deal, then the latest time."""
    if not claims:
        return None
    return max(
        (claim for claim in claims if client in (None, claim.client)),
        key=lambda claim: (claim.deal != PENDING, claim.keep_until_s),
        default=None,
    )


def describe(
    commit: Commit, root: bytes, length: int, claim: Claim, lost: bool = False
) -> StoredShard:
    """A shard as the holder of ``claim`` has it."""
    state = ShardState.PENDING if claim.deal == PENDING else ShardState.HELD
    if lost:
        state = ShardState.LOST
    return StoredShard(commit, root, length, NodeId(claim.client), state, claim.keep_until_s)


def kept_bytes(length: int) -> int:
    """Size of the hashes kept behind a large shard of ``length`` bytes."""
    return HASH_BYTES * -(-units.leaf_count(length) // units.GROUP_LEAVES)


@dataclass(slots=True)
class Totals:
    """Sums over all rows, kept up as they change so that nobody has to walk."""

    shards: int = 0
    lost: int = 0
    small: int = 0
    """Bytes of shards inside the log."""
    large: int = 0
    """Bytes of shards with a file of their own."""
    kept: int = 0
    """Hashes behind them."""
    log: int = 0
    """Size of all log segments."""
    dead: int = 0
    """How much of that nothing refers to any more."""
    damaged: int = 0
    """Stretches of the log that were skipped because their checksums fail."""

    def add(self, other: Totals) -> None:
        """Field by field."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def count(self, row: Row, sign: int) -> None:
        """Add ``row``, or take it away."""
        if row.lost:
            self.lost += sign
            return
        self.shards += sign
        if row.large:
            self.large += sign * row.length
            self.kept += sign * kept_bytes(row.length)
        else:
            self.small += sign * row.length


@dataclass(slots=True)
class SegmentUse:
    """A log segment: its size and how much of it is worth keeping."""

    size: int = 0
    dead: int = 0
    """Bytes of changes that a later one replaced."""
    facts: int = 0
    """Bytes of bare claims: no use once no older segment is left."""

    def add(self, other: SegmentUse) -> None:
        """More of it dead or mere facts; its size is the larger one."""
        self.size = max(self.size, other.size)
        self.dead += other.dead
        self.facts += other.facts


Rows: TypeAlias = dict[Commit, Row | None]
Records: TypeAlias = dict[bytes, Place | None]


@dataclass(slots=True)
class Draft:
    """A batch of changes over the rows and records that it may touch."""

    rows: Rows
    """Every commit asked for; ``None`` where there is nothing."""
    records: Records
    room: int = 0
    """Bytes that may still be written for somebody."""
    pending: Counter[bytes] = field(default_factory=Counter)
    """The difference that this draft makes to each client's pending bytes."""
    totals: Totals = field(default_factory=Totals)
    """The difference that this draft makes."""
    grown: defaultdict[int, SegmentUse] = field(default_factory=lambda: defaultdict(SegmentUse))
    """The difference that it makes to each log segment (``size`` is absolute)."""
    changed: set[Commit] = field(default_factory=set)
    recorded: set[bytes] = field(default_factory=set)
    unfiled: set[Commit] = field(default_factory=set)
    """Large shards whose file may have lost its last claim."""

    def apply(self, change: Change, place: Place) -> None:
        """Take ``change``, which stands at ``place``; cannot fail."""
        self.grown[place.segment].size = place.end
        self.room -= place.size
        match change:
            case SmallStored(commit, root, length, claims, data):
                self.put(Row(commit, root, length, place, False, len(data) != length, claims))
            case LargeStored(commit, root, length, claims, lost):
                self.put(Row(commit, root, length, place, True, lost, claims))
            case ClaimsSet(commits, claims):
                self.grown[place.segment].facts += place.size
                for commit in commits:
                    self._claim(commit, claims)
            case Revised():
                self._revise(change)
                self._record(change.key, place)
            case RecordPut(key):
                self._record(key, place)
            case _:
                assert_never(change)

    def lose(self, row: Row, lost: bool = True) -> None:
        """Note that the disk no longer has what ``row`` says, or has it again."""
        self.put(replace(row, lost=lost))

    def put(self, row: Row) -> None:
        """Make ``row`` what is known of its commit."""
        self._replace(row.commit, row)

    def files_to_delete(self) -> list[Commit]:
        """Large shards that had claims before this draft, and have none after it."""
        return [commit for commit in self.unfiled if self.rows[commit] is None]

    def _claim(self, commit: Commit, claims: Claims) -> None:
        row = self.rows[commit]
        if row is not None:
            self._replace(commit, replace(row, claims=claims) if claims else None)

    def _revise(self, change: Revised) -> None:
        pending, held = (change.client, PENDING), (change.client, change.deal)
        for commit in change.add:
            others = self._claims_beside(commit, pending, held)
            self._claim(commit, (*others, Claim(*held, 0)))
        for commit in change.drop:
            others = self._claims_beside(commit, held)
            if others == self._claims_beside(commit):
                others = self._claims_beside(commit, pending)
            self._claim(commit, others)

    def _claims_beside(self, commit: Commit, *accounts: tuple[bytes, bytes]) -> Claims:
        row = self.rows[commit]
        return tuple(c for c in row.claims if c[:2] not in accounts) if row else ()

    def _record(self, key: bytes, place: Place) -> None:
        before = self.records[key]
        if before is not None:
            self.grown[before.segment].dead += before.size
        self.records[key] = place
        self.recorded.add(key)

    def _replace(self, commit: Commit, row: Row | None) -> None:
        before = self.rows[commit]
        if before is not None:
            self._count(before, -1)
            if row is None or row.place != before.place:
                self.grown[before.place.segment].dead += before.place.size
            if row is None and before.large:
                self.unfiled.add(commit)
        if row is not None:
            self._count(row, 1)
        self.rows[commit] = row
        self.changed.add(commit)

    def _count(self, row: Row, sign: int) -> None:
        self.totals.count(row, sign)
        for claim in row.claims:
            if claim.deal == PENDING:
                self.pending[claim.client] += sign * row.length


def touched(change: Change) -> tuple[tuple[Commit, ...], tuple[bytes, ...]]:
    """The commits and the record keys that ``change`` reads or writes."""
    match change:
        case SmallStored(commit) | LargeStored(commit):
            return (commit,), ()
        case ClaimsSet(commits):
            return commits, ()
        case Revised():
            return change.add + change.drop, (change.key,)
        case RecordPut(key):
            return (), (key,)
        case _:
            assert_never(change)


def still_true(draft: Draft, change: Change, place: Place, *, oldest: bool) -> Iterator[Change]:
    """What must be said again if the segment with ``change`` at ``place`` goes.

    Args:
        draft: The state now, with all that ``change`` touches.
        change: What stands at ``place``, a small shard with its bytes.
        place: Where it stands.
        oldest: No older segment exists, so nothing is left that a shard's end must undo.
    """
    match change:
        case SmallStored(commit):
            row = draft.rows[commit]
            if row is not None and row.place == place:
                yield replace(change, claims=row.claims)
        case LargeStored(commit):
            row = draft.rows[commit]
            if row is not None and row.place == place:
                yield replace(change, claims=row.claims, lost=row.lost)
        case ClaimsSet(commits):
            yield from _facts(draft, commits, place, oldest)
        case Revised():
            if draft.records[change.key] == place:
                yield replace(change, add=(), drop=())
            yield from _facts(draft, change.add + change.drop, place, oldest)
        case RecordPut(key):
            if draft.records[key] == place:
                yield change
        case _:
            assert_never(change)


def _facts(
    draft: Draft, commits: tuple[Commit, ...], place: Place, oldest: bool
) -> Iterator[ClaimsSet]:
    """The claims on those of ``commits`` whose shards stand in older segments.

    Shards in this segment say their claims themselves when they are written again, and
    shards in newer ones have said them since.
    """
    for commit in commits:
        row = draft.rows[commit]
        if row is None and not oldest:
            yield ClaimsSet((commit,), ())
        elif row is not None and row.place.segment < place.segment:
            yield ClaimsSet((commit,), row.claims)
