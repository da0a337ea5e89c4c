"""What the shell offers to the roles: clocks, entropy, a shard store and a ledger's, as Protocols.

Machines and roles name these, never a class that touches a disk or a socket, so that a
whole network fits in one test and another store needs no change anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias

from dsn import units
from dsn.ids import Commit, DealId, NodeId
from dsn.ledger.log import LogLeaf, TreeHead
from dsn.ledger.tiles import Tile

Entropy: TypeAlias = Callable[[int], bytes]
"""That many bytes nobody can guess."""


class Clock(Protocol):
    """Two readings of time; nothing else in dsn asks the machine what time it is."""

    def now_s(self) -> float:
        """Unix seconds, as people and peers mean them; may jump."""
        ...

    def monotonic_s(self) -> float:
        """Seconds since some moment; never goes back."""
        ...


class ShardState(Enum):
    """How firmly a shard is kept."""

    PENDING = "pending"
    """Acknowledged, and kept until ``keep_until_s`` unless a revision names it."""
    HELD = "held"
    """Named by a revision."""
    LOST = "lost"
    """Acknowledged once, and no longer readable."""


@dataclass(frozen=True, slots=True)
class StoredShard:
    """A shard as one client has it here."""

    commit: Commit
    root: bytes
    length: int
    client: NodeId
    state: ShardState
    keep_until_s: int
    """Unix seconds while nothing but a receipt keeps the shard; 0 once a revision names it."""

    @property
    def leaf_count(self) -> int:
        """Leaves of 1,024 bytes, the last one zero-padded."""
        return units.leaf_count(self.length)


@dataclass(frozen=True, slots=True)
class Space:
    """Where the bytes of a volume went; the parts always add up to ``capacity``."""

    capacity: int
    used: int
    """Shards that are pending or held."""
    reserved: int
    """Shards being received."""
    trash: int
    """Log records that nothing refers to any more; the next compaction frees them."""
    overhead: int
    """Kept hashes, log headers, revisions, records and the index."""
    free: int
    """What may still be stored, never more than the disk has left beyond its keep-back."""
    withheld: int
    """Offered, but the disk no longer has it."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a volume; a crash alone leaves only zeros."""

    records: int
    """Stretches of the log that were skipped because their checksums fail."""
    lost: int
    """Shards that were acknowledged and are known to be unreadable now."""
    orphans: int
    """Shard files that nothing names, kept because of what was skipped."""


class ShardWriter(Protocol):
    """One large shard on its way to disk; nothing is stored before ``finish`` returns."""

    async def write(self, frame: bytes) -> None:
        """Hash and write the next frame, 1 MiB or the rest, once the one before is written.

        Raises:
            MalformedMessage: The frame has another size.
            NoSpace: The disk was full for the frame before; the writer has cleaned up.
        """
        ...

    async def finish(self, commit: Commit) -> StoredShard:
        """Store the shard; it survives a crash once this returns.

        Args:
            commit: What the sender claims; untrusted.

        Raises:
            InvalidProof: ``commit_mismatch``: these bytes have another commit.
            MalformedMessage: Fewer bytes came than announced.
            NoSpace: The disk is full.
        """
        ...

    def abort(self) -> None:
        """Give up and free the space; does nothing after ``finish`` or another ``abort``."""
        ...


class ShardStore(Protocol):
    """Shards of many clients, their revisions, and signed records, all crash-safe.

    Whatever a method that stores has returned for survives kill -9. A shard is known by its
    commit alone; several clients may have claims on it, and its bytes go with the last one.
    """

    @property
    def count(self) -> int:
        """Shards stored, without a walk."""
        ...

    def space(self) -> Space:
        """Where the volume's bytes went, without a walk."""
        ...

    def damage(self) -> Damage:
        """What is known to be wrong."""
        ...

    def pending_bytes(self, client: NodeId) -> int:
        """Bytes of ``client`` that no revision names yet, those being received included."""
        ...

    async def begin(
        self, client: NodeId, deal: DealId, length: int, *, keep_until_s: int, pending_limit: int
    ) -> ShardWriter:
        """Reserve room for a shard of more than 64 KiB.

        Args:
            client: Whose shard it will be.
            deal: Under which; what ``client`` holds under another one alone is claimed anew.
            length: Bytes that will come; untrusted.
            keep_until_s: Unix seconds up to which the shard is kept without a revision.
            pending_limit: Most bytes ``client`` may have pending, this shard included.

        Raises:
            MalformedMessage: A shard this short travels in one message (``put_small``).
            NoSpace: It does not fit.
            TooMany: ``pending_limit``: revise first.
        """
        ...

    async def put_small(
        self,
        client: NodeId,
        deal: DealId,
        data: bytes,
        commit: Commit,
        *,
        keep_until_s: int,
        pending_limit: int,
    ) -> StoredShard:
        """Store a shard of at most 64 KiB; storing it again returns what was returned first.

        Args:
            client: Whose shard it is.
            deal: As for ``begin``.
            data: 1 to 65,536 bytes; untrusted.
            commit: What the sender claims; untrusted.
            keep_until_s: As for ``begin``.
            pending_limit: As for ``begin``.

        Raises:
            InvalidProof: ``commit_mismatch``.
            MalformedMessage: Empty, or longer than 64 KiB.
            LimitReached: As ``begin``.
        """
        ...

    async def stat(self, commit: Commit, client: NodeId | None = None) -> StoredShard | None:
        """The shard as ``client`` has it (or as its firmest holder has it), if it is here."""
        ...

    async def stats(self, commits: Iterable[Commit]) -> dict[Commit, StoredShard]:
        """``stat`` of many shards at the cost of one; those not here are left out."""
        ...

    async def read(self, commit: Commit, start: int, end: int) -> bytes:
        """Bytes ``[start, end)`` of a shard as the disk has them: at most 1 MiB a call.

        Bytes that rotted under a large shard come back as they are; compare with the commit.

        Raises:
            NotFound: ``unknown_shard``.
            UsageError: ``bad_range``: reversed, empty, too long or past the end.
            ShardCorrupt: The disk cannot read it, or a small shard fails its checksum.
        """
        ...

    async def groups(self, commit: Commit) -> bytes:
        """Hashes over groups of 64 leaves, concatenated (32 bytes each); raises as ``read``."""
        ...

    async def sample(self, commit: Commit, numbers: Sequence[int]) -> tuple[bytes, list[bytes]]:
        """``groups``, and the 64-leaf groups ``numbers``, at the cost of a ``read``; raises so."""
        ...

    async def rotten(self, commit: Commit) -> list[int]:
        """Read a shard whole; which leaves may be wrong, sorted.

        Leaves that no kept hash tells apart are named together, up to 64 of them.

        Raises:
            NotFound: ``unknown_shard``.
            ShardCorrupt: ``shard_lost``: only storing it again brings it back; ``disk_error``.
        """
        ...

    async def mend(self, commit: Commit, leaves: Mapping[int, bytes]) -> None:
        """Put ``leaves`` (untrusted) by index in the place of rotten ones, crash-safely.

        What does not become right with them stays as it is, and ``rotten`` goes on naming it.

        Raises:
            InvalidProof: ``bad_leaf``: one is wrong for certain; nothing was written.
            NoSpace: No room for a small shard.
            As ``rotten``.
        """
        ...

    async def lost(self, after: bytes = b"", limit: int = 16_384) -> list[Commit]:
        """Commits beyond ``after`` of shards known to be lost, sorted."""
        ...

    async def revise(
        self,
        client: NodeId,
        deal: DealId,
        add: Sequence[Commit],
        drop: Sequence[Commit],
        revision: bytes,
    ) -> None:
        """Install ``revision``: all of it is durable, or nothing has changed.

        ``add`` moves from pending to ``deal`` (held there already: no change), ``drop`` leaves
        ``deal`` or pending; bytes that nobody claims any more are deleted.

        Raises:
            NotFound: ``unknown_shard``: ``client`` has no claim on a commit that is named.
            LimitReached: The lists are longer than one log record can be.
        """
        ...

    async def revision(self, client: NodeId, deal: DealId) -> bytes | None:
        """The bytes of the newest revision installed.

        Raises:
            DataLost: ``record_lost``: there is one, and the disk cannot read it.
        """
        ...

    async def holdings(
        self, client: NodeId, deal: DealId, after: bytes = b"", limit: int = 16_384
    ) -> list[tuple[Commit, int]]:
        """Commits and leaf counts held under ``deal``, sorted, greater than ``after``."""
        ...

    async def put_records(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Store (key, value) pairs, a later value replacing an earlier one.

        Keys are 32 bytes, values at most 64 KiB. Newer or older is for the caller to judge.

        Raises:
            NoSpace: They do not fit.
        """
        ...

    async def get_record(self, key: bytes) -> bytes | None:
        """The value last stored under ``key``, if the disk can still read it."""
        ...

    async def record_keys(self, after: bytes = b"", limit: int = 1_024) -> list[bytes]:
        """Keys beyond ``after`` that ``put_records`` stored values under, sorted."""
        ...

    async def commits(self, after: bytes = b"", limit: int = 16_384) -> list[Commit]:
        """Commits of shards stored here, whoever claims them, sorted, greater than ``after``."""
        ...

    async def sweep(self, now_s: float) -> int:
        """Forget pending shards whose time has passed; returns how many claims went."""
        ...

    async def compact(self) -> int:
        """Rewrite log segments that are mostly trash; returns the bytes freed."""
        ...


class StoredCell(NamedTuple):
    """A cell of the ledger's state as bytes: its key, its ``CellKind``, its encoding."""

    key: bytes
    kind: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class LedgerBatch:
    """What some accepted entries add to a ledger: all of it is stored, or nothing is."""

    base: TreeHead
    """The log before them."""
    head: TreeHead
    """The log after them."""
    leaves: Sequence[LogLeaf]
    """What came in between, in order: one an entry."""
    cells: Sequence[StoredCell]
    """Each cell that they touched, once, as it is after them."""
    tiles: Mapping[Tile, bytes]
    """Each hash tile that grew, whole; see ``grown_tiles``."""


class LedgerStore(Protocol):
    """A ledger's log, the cells after its last entry, and the tiles that every proof comes from.

    Calls block: a service makes them in a thread of its own, one at a time. One store at most is
    open to sign; any number may read, each of them the ledger as it stood at its first call.
    """

    @property
    def genesis(self) -> str:
        """What the ledger began with: the text that it was created for."""
        ...

    def head(self) -> TreeHead:
        """Size and root of the log."""
        ...

    def fenced(self) -> TreeHead:
        """The newest log that ``fence`` was called for; an empty one before."""
        ...

    def append(self, batch: LedgerBatch) -> None:
        """Add a batch; it survives kill -9 and a loss of power once this returns.

        Raises:
            ConfigError: ``ledger_moved``: the log is not ``batch.base`` (any more).
            NoSpace: The disk is full; nothing has changed.
        """
        ...

    def fence(self, head: TreeHead) -> None:
        """Note, as durably as ``append``, that a checkpoint of ``head`` will be signed.

        Call it before every signature: then not even a second signer, or one that was restored
        from a copy, signs two contents for one size on this store.

        Raises:
            ConfigError: ``ledger_moved``: not the log's head, or one beside or above it was fenced.
        """
        ...

    def leaves(self, start: int, end: int) -> Iterator[LogLeaf]:
        """Leaves ``[start, end)`` of the log, a bounded number in memory; fewer if it ends."""
        ...

    def cells(self, keys: Iterable[bytes]) -> dict[bytes, StoredCell]:
        """Those of ``keys`` that have a cell."""
        ...

    def all_cells(self) -> Iterator[StoredCell]:
        """Every cell, by key, a bounded number in memory."""
        ...

    def tile(self, tile: Tile) -> bytes:
        """The hashes of a tile, one after another.

        Raises:
            NotFound: ``no_such_tile``: the log has no such tile, or not that many hashes in it.
        """
        ...

    def close(self) -> None:
        """Let go of the ledger; does nothing the second time."""
        ...
