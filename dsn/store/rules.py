"""Who may store, claim and revise what: decisions on a draft, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dsn.errors import MalformedMessage, NoSpace, NotFound, TooMany
from dsn.ids import ID_BYTES, Commit, DealId, NodeId
from dsn.ports import StoredShard
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
from dsn.store.committer import Decide, Decision
from dsn.store.state import Draft, Place, Row, describe, firmest, still_true
from dsn.units import KIB, format_size

MAX_CLAIMS = 256
"""A shard is masked for one holder; more clients than a few are somebody's game."""
_MAX_VALUE = 64 * KIB
_OVERHEAD = 512
"""More than a change needs in the log beside the bytes that it stores."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A shard that is here whole and matches its commit, but is not stored yet."""

    commit: Commit
    root: bytes
    length: int
    client: NodeId
    deal: DealId
    keep_until_s: int
    data: bytes | None
    """The bytes of a small shard; a large one has a durable file."""

    def claimed_by(self, before: Claims) -> Claims:
        """``before``, and a pending claim unless the client has that or holds it under the deal.

        What it holds under another deal may go at any time, and the receipt is for this one.

        Raises:
            TooMany: Too many others claim it.
        """
        if self._own(before) is not None:
            return before
        if len(before) >= MAX_CLAIMS:
            raise TooMany(f"{len(before)} claims on this shard, no more may be")
        return (*before, Claim(self.client, PENDING, self.keep_until_s))

    def stored(self, claims: Claims) -> Change:
        """The change that stores it."""
        if self.data is None:
            return LargeStored(self.commit, self.root, self.length, claims)
        return SmallStored(self.commit, self.root, self.length, claims, self.data)

    def described(self, claims: Claims) -> StoredShard:
        """The shard as its client has it under the deal."""
        claim = self._own(claims)
        assert claim is not None
        return describe(self.commit, self.root, self.length, claim)

    def _own(self, claims: Claims) -> Claim | None:
        deals = PENDING, self.deal
        return firmest(tuple(claim for claim in claims if claim.deal in deals), self.client)


def store(arrival: Arrival, admit: Callable[[Draft], None]) -> Decide[StoredShard]:
    """Store a shard that is not here or is lost; claim one that is here.

    Args:
        arrival: The shard.
        admit: Raises if the client may not have it stored.
    """

    def decide(draft: Draft) -> Decision[StoredShard]:
        row = draft.rows[arrival.commit]
        claims = arrival.claimed_by(row.claims if row else ())
        here = row is not None and not row.lost
        if row is not None and here and claims == row.claims:
            return (), arrival.described(claims)
        admit(draft)
        change = ClaimsSet((arrival.commit,), claims) if here else arrival.stored(claims)
        return (change,), arrival.described(claims)

    return decide


def revise(change: Revised) -> Decide[None]:
    """Install a revision if the client has a claim on all that it names.

    A lost shard can only move from another account of the client: it is owed all the same.
    """

    def decide(draft: Draft) -> Decision[None]:
        for commit in change.add:
            row = draft.rows[commit]
            mine = _deals_of(row, change.client)
            if row is None or not mine or (row.lost and mine <= {PENDING, change.deal}):
                raise unknown_shard(commit)
        droppable = (change.client, change.deal), (change.client, PENDING)
        for commit in change.drop:
            row = draft.rows[commit]
            if row is None or not any(claim[:2] in droppable for claim in row.claims):
                raise unknown_shard(commit)
        return (change,), None

    return decide


def put_records(records: Sequence[tuple[bytes, bytes]]) -> Decide[None]:
    """Store all ``records`` if they fit.

    Raises:
        MalformedMessage: A key that is not 32 bytes, or a value over 64 KiB.
    """
    for key, value in records:
        if len(key) != ID_BYTES or len(value) > _MAX_VALUE:
            raise MalformedMessage(
                f"a record of {len(value)} bytes under a key of {len(key)}; at most "
                f"{_MAX_VALUE} under {ID_BYTES} allowed",
                code="bad_record",
            )

    def decide(draft: Draft) -> Decision[None]:
        check_room(draft.room, sum(len(value) for _, value in records))
        return tuple(RecordPut(key, value) for key, value in records), None

    return decide


def expire(claims: Iterable[tuple[bytes, Commit]], now_s: float) -> Decide[int]:
    """Take away those claims of (client, commit) that are still pending and too old."""

    def decide(draft: Draft) -> Decision[int]:
        left: dict[Commit, Claims] = {}
        gone = 0
        for client, commit in claims:
            row = draft.rows[commit]
            before = left.get(commit, row.claims if row else ())
            left[commit] = tuple(c for c in before if not _is_over(c, client, now_s))
            gone += len(before) - len(left[commit])
        changed = {
            c: after for c, after in left.items() if (r := draft.rows[c]) and r.claims != after
        }
        return _grouped(changed.items()), gone

    return decide


def lose(commit: Commit, place: Place) -> Decide[None]:
    """Note that what stands at ``place`` cannot be read, unless it was stored anew since."""

    def decide(draft: Draft) -> Decision[None]:
        row = draft.rows[commit]
        if row is not None and row.place == place and not row.lost:
            draft.lose(row)
        return (), None

    return decide


def restore(commit: Commit, data: bytes) -> Decide[None]:
    """Store a lost small shard anew, for all who claim it; its bytes were compared with it."""

    def decide(draft: Draft) -> Decision[None]:
        row = draft.rows[commit]
        if row is None or not row.lost:
            return (), None
        check_room(draft.room, len(data))
        return (SmallStored(commit, row.root, row.length, row.claims, data),), None

    return decide


def rewrite(changes: Sequence[tuple[Place, Change]], *, oldest: bool) -> Decide[None]:
    """Say again what is still true of ``changes``, whose segment is about to go."""

    def decide(draft: Draft) -> Decision[None]:
        again = [c for p, change in changes for c in still_true(draft, change, p, oldest=oldest)]
        facts = {
            c: each.claims for each in again if isinstance(each, ClaimsSet) for c in each.commits
        }
        whole = [each for each in again if not isinstance(each, ClaimsSet)]
        return [*whole, *_grouped(facts.items())], None

    return decide


def check_room(room_bytes: int, size_bytes: int) -> None:
    """Refuse what does not fit.

    Raises:
        NoSpace: Nothing was written.
    """
    if size_bytes + _OVERHEAD > room_bytes:
        raise NoSpace(
            f"{format_size(size_bytes)} wanted, {format_size(max(room_bytes, 0))} free",
            hint="store it on another node",
        )


def check_pending(pending_bytes: int, limit_bytes: int) -> None:
    """Refuse what would lift a client's pending bytes over the limit.

    Raises:
        TooMany: ``pending_limit``.
    """
    if pending_bytes > limit_bytes:
        raise TooMany(
            f"{format_size(pending_bytes)} would be pending, at most "
            f"{format_size(limit_bytes)} may be",
            hint="revise what is stored, then go on",
            code="pending_limit",
        )


def unknown_shard(commit: Commit) -> NotFound:
    """The answer to who asks for what is not here."""
    return NotFound(f"shard {commit.hex()[:10]} is not kept here", code="unknown_shard")


def _grouped(claims: Iterable[tuple[Commit, Claims]]) -> list[ClaimsSet]:
    """As few changes as can say all of ``claims``."""
    groups: dict[Claims, list[Commit]] = {}
    for commit, each in claims:
        groups.setdefault(each, []).append(commit)
    return [ClaimsSet(tuple(commits), each) for each, commits in groups.items()]


def _deals_of(row: Row | None, client: bytes) -> set[bytes]:
    """What keeps a shard for ``client``: deals, and ``PENDING``."""
    return {claim.deal for claim in row.claims if claim.client == client} if row else set()


def _is_over(claim: Claim, client: bytes, now_s: float) -> bool:
    return claim[:2] == (client, PENDING) and claim.keep_until_s <= now_s
