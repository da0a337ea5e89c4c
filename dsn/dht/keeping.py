"""What a node keeps for others: the newest of each record, and who holds which shards.

Anybody may bring anything. Reasons to refuse that cost little to find come before those that
cost a signature, and each is counted by its code. Memory stays within its bound whatever
arrives, for sizes are reckoned as Python spends them and not as they travel.

Spec: docs/spec/network.md#what-a-node-keeps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from dsn.core import tags
from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES, sha256
from dsn.core.keys import verify_signature
from dsn.dht.holders import Holders, KeptBatch, Plan
from dsn.dht.record import MAX_RECORD_BYTES, Record, check_record, newer, parse_record
from dsn.dht.shards import MAX_BATCH_BYTES, BatchTree, ShardBatch, ShardRecord, parse_batch
from dsn.dht.shelf import Kept, Quota, Shelf
from dsn.dht.signed import check_dates
from dsn.errors import DsnError, MalformedMessage, PeerError
from dsn.ids import ID_BYTES, Commit, NetworkId, NodeId
from dsn.units import MIB

MOST_RECORDS: Final = 65_536
MOST_BYTES: Final = 64 * MIB
MOST_A_PUBLISHER: Final = 4_096
"""Records that one node or client may have kept here."""
MOST_BATCHES_A_PUBLISHER: Final = 128
"""128,000 shards; a holder of more spreads them over more nodes."""
MOST_VALUES: Final = 20
"""Records given under one key."""
TERM_S: Final = 24 * 3_600
"""How long a record is kept that nobody brings again: three rounds of republishing."""
RECORD_BYTES: Final = 768
"""What Python spends on a record beside its bytes, rounded up."""
BATCH_BYTES: Final = 1_536
"""What Python spends on a batch beside its commits, rounded up."""
COMMIT_BYTES: Final = 192
"""What Python spends on one commit of a batch, rounded up."""


class _Brought(NamedTuple):
    """A record or a batch as it came: its bytes, by whom, and to be kept until when."""

    raw: bytes
    publisher: NodeId
    until_s: int

    def until(self, most_s: int) -> _Brought:
        """The same, to be kept until ``most_s`` at most."""
        return self._replace(until_s=min(self.until_s, most_s))


@dataclass(slots=True, eq=False)
class _KeptRecord(Kept):
    """The newest record under the key ``name``."""

    raw: bytes


class Keeper:
    """The records and batches that a node keeps in memory.

    What is brought again is kept for another term, and counts against the quota of whoever
    brought it last, as far as that has room.
    """

    def __init__(
        self,
        network: NetworkId,
        *,
        most_records: int = MOST_RECORDS,
        most_bytes: int = MOST_BYTES,
        most_a_publisher: int = MOST_A_PUBLISHER,
        most_batches_a_publisher: int = MOST_BATCHES_A_PUBLISHER,
        term_s: int = TERM_S,
    ) -> None:
        """Start empty.

        Args:
            network: The only one whose records are kept.
            most_records: Records and batches, all together.
            most_bytes: Memory for them; batches may take half of it.
            most_a_publisher: Records that one publisher may have kept.
            most_batches_a_publisher: Batches that one publisher may have kept.
            term_s: Seconds for which a record is kept that is not brought again.
        """
        self.refused: Counter[str] = Counter()
        """How often something was refused, by code."""
        self._network, self._term_s = network, term_s
        quotas: dict[type[Kept], Quota] = {
            _KeptRecord: Quota(most_a_publisher, most_bytes),
            KeptBatch: Quota(most_batches_a_publisher, most_bytes // 2),
        }
        self._shelf = Shelf(most_records, most_bytes, quotas)
        self._records: dict[bytes, _KeptRecord] = {}
        self._batches: dict[bytes, KeptBatch] = {}
        self._holders = Holders()

    def __len__(self) -> int:
        """How many records and batches are kept."""
        return len(self._shelf)

    @property
    def size_bytes(self) -> int:
        """Memory that they take, rounded up."""
        return self._shelf.size_bytes

    def find(self, key: bytes, now_s: float) -> list[bytes]:
        """What to give to whoever asks for ``key``: at most 20 encoded records.

        At most one is of a file, a catalogue or a node; the others are of holders of a shard.
        """
        kept = self._records.get(key)
        found = [kept.raw] if kept is not None and kept.until_s > now_s else []
        commit = Commit(key)
        batches = [each for each in self._holders.of(commit) if each.until_s > now_s]
        rest = MOST_VALUES - len(found)
        return found + [each.tree.record(commit).encode() for each in batches[:rest]]

    def accept(self, key: bytes, raw: bytes, publisher: NodeId, now_s: float) -> None:
        """Keep a record, or keep it for longer.

        Args:
            key: What it was brought under; untrusted.
            raw: The record; untrusted.
            publisher: Who brought it, proven.
            now_s: Unix seconds.

        Raises:
            MalformedMessage: ``too_large``, or no record; shards are announced in batches.
            PeerError: ``foreign_key``: it belongs under another. ``other_network``,
                ``expired``, ``from_future``, ``bad_expiry``. ``stale_record``: a newer one is here.
            TooMany: ``publisher_quota``, ``records_full``.
            InvalidSignature: Not by the key it names.
        """
        with self._counting(now_s):
            kept = self._records.get(key)
            if kept is not None and kept.raw == raw:
                self._renew(kept, publisher, now_s)
                return
            record = parse_record(raw)
            if record.key != key:
                raise PeerError("record: brought under another key", code="foreign_key")
            check_record(record, self._network, now_s)
            brought = _Brought(raw, publisher, self._until_s(record.expires_s, now_s))
            self._check_new(record, brought)
            verify_signature(record.signer, record.preimage(), record.signature)
            self._keep(record, brought)

    def accept_batch(self, raw: bytes, publisher: NodeId, now_s: float) -> None:
        """Keep a batch of shard records as one, or keep it for longer.

        Args:
            raw: Untrusted.
            publisher: Who brought it, proven.
            now_s: Unix seconds.

        Raises:
            MalformedMessage: ``too_large``, or no batch.
            PeerError: ``other_network``, ``expired``, ``from_future``. ``stale_record``: newer
                batches of its holder name all its commits.
            TooMany: ``publisher_quota``, ``records_full``, ``holders_full``.
            InvalidSignature: Not by the key it names.
            InvalidProof: Its commits are not those that were signed.

        Cost: some hashes a commit.
        """
        with self._counting(now_s):
            if (kept := self._batches.get(sha256(raw))) is not None:
                self._renew(kept, publisher, now_s)
                return
            batch = parse_batch(raw)
            check_dates(batch, self._network, now_s)
            brought = _Brought(raw, publisher, self._until_s(batch.expires_s, now_s))
            plan = self._plan(batch, brought)
            verify_signature(batch.signer, batch.preimage(), batch.signature)
            self._keep_batch(BatchTree(batch), brought, plan)

    def sweep(self, now_s: float) -> int:
        """Forget what has run out, and say how much that was."""
        gone = self._shelf.expire(now_s)
        for each in gone:
            if isinstance(each, KeptBatch):
                self._holders.drop(each)
                del self._batches[each.name]
            else:
                del self._records[each.name]
        return len(gone)

    def encode(self) -> bytes:
        """All that is kept, for ``load`` after a restart."""
        writer = Writer().raw(tags.KEPT, tags.TAG_BYTES).raw(self._network, ID_BYTES)
        records = [(kept, kept.raw) for kept in self._records.values()]
        batches = [(kept, kept.batch.encode()) for kept in self._batches.values()]
        _write(writer, records)
        _write(writer, batches)
        body = writer.done()
        return body + sha256(body)

    def load(self, raw: bytes, now_s: float) -> int:
        """Keep what this node kept when it last ran, as far as that still holds and fits.

        What was judged before ``encode`` is not judged again.

        Args:
            raw: What ``encode`` wrote, from a file that only this node writes.
            now_s: Unix seconds.

        Returns:
            How many records and batches are kept now.

        Raises:
            MalformedMessage: Anything else; nothing of it is kept then.
            PeerError: ``other_network``.
        """
        records, batches = _decode(raw, self._network)
        for record, brought in records:
            brought = brought.until(self._until_s(record.expires_s, now_s))
            with suppress(DsnError):
                self._check_new(record, brought)
                self._keep(record, brought)
        for tree, brought in batches:
            brought = brought.until(self._until_s(tree.batch.expires_s, now_s))
            with suppress(DsnError):
                self._keep_batch(tree, brought, self._plan(tree.batch, brought))
        self.sweep(now_s)
        return len(self)

    @contextmanager
    def _counting(self, now_s: float) -> Iterator[None]:
        """Let what has run out make room, and count what is refused."""
        self.sweep(now_s)
        try:
            yield
        except DsnError as error:
            self.refused[error.detail_code] += 1
            raise

    def _until_s(self, expires_s: int, now_s: float) -> int:
        return min(expires_s, int(now_s) + self._term_s)

    def _renew(self, kept: Kept, publisher: NodeId, now_s: float) -> None:
        self._shelf.renew(kept, publisher, self._until_s(kept.expires_s, now_s))

    def _check_new(self, record: Record, brought: _Brought) -> None:
        """Check that a record may be kept if its signature holds."""
        if isinstance(record, ShardRecord):
            raise MalformedMessage("record: a shard's alone; they come in batches")
        old = self._records.get(record.key)
        if old is not None and newer(parse_record(old.raw), record):
            raise PeerError("record: a newer one is here", code="stale_record")
        gone = () if old is None else (old,)
        self._shelf.check_room(_KeptRecord, brought.publisher, _record_bytes(brought.raw), gone)

    def _keep(self, record: Record, brought: _Brought) -> None:
        key, size_bytes = bytes(record.key), _record_bytes(brought.raw)
        if (old := self._records.get(key)) is not None:
            self._shelf.take_off(old)
        new = self._records[key] = _KeptRecord(
            key, brought.publisher, record.expires_s, brought.until_s, size_bytes, brought.raw
        )
        self._shelf.put(new)

    def _plan(self, batch: ShardBatch, brought: _Brought) -> Plan:
        """What keeping a batch would change; it may be kept if its signature holds."""
        plan = self._holders.plan(batch, sha256(brought.raw))
        self._shelf.check_room(KeptBatch, brought.publisher, _batch_bytes(batch), plan.gone)
        return plan

    def _keep_batch(self, tree: BatchTree, brought: _Brought, plan: Plan) -> None:
        for old in plan.gone:
            self._shelf.take_off(old)
            del self._batches[old.name]
        new = self._batches[plan.name] = KeptBatch(
            plan.name,
            brought.publisher,
            tree.batch.expires_s,
            brought.until_s,
            _batch_bytes(tree.batch),
            tree,
            len(plan.commits),
        )
        self._holders.place(new, plan)
        self._shelf.put(new)


def _record_bytes(raw: bytes) -> int:
    return RECORD_BYTES + len(raw)


def _batch_bytes(batch: ShardBatch) -> int:
    return BATCH_BYTES + COMMIT_BYTES * batch.count


def _write(writer: Writer, all_kept: Sequence[tuple[Kept, bytes]]) -> None:
    writer.u32(len(all_kept))
    for kept, raw in all_kept:
        writer.var(raw).raw(kept.publisher, ID_BYTES).u64(kept.until_s)


def _read(reader: Reader, most_bytes: int) -> Iterator[_Brought]:
    for _ in range(reader.u32()):
        yield _Brought(reader.var(most_bytes), NodeId(reader.raw(ID_BYTES)), reader.u64())


def _decode(
    raw: bytes, network: NetworkId
) -> tuple[list[tuple[Record, _Brought]], list[tuple[BatchTree, _Brought]]]:
    """What ``Keeper.encode`` wrote, on the same network."""
    body, digest = raw[:-HASH_BYTES], raw[-HASH_BYTES:]
    reader = Reader(body, "kept records")
    if reader.raw(tags.TAG_BYTES) != tags.KEPT or sha256(body) != digest:
        raise reader.refuse("cut short, or changed")
    if reader.raw(ID_BYTES) != network:
        raise PeerError("kept records: they are of another network", code="other_network")
    records = [(parse_record(each.raw), each) for each in _read(reader, MAX_RECORD_BYTES)]
    batches = [(BatchTree(parse_batch(each.raw)), each) for each in _read(reader, MAX_BATCH_BYTES)]
    reader.end()
    return records, batches
