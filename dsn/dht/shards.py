"""Who holds which shards: announced a thousand at a time, under one signature.

A holder signs the Merkle root over a batch of commits. Whoever keeps the batch can cut a
record out of it for any one commit that proves itself: the signature and a path of at most
ten hashes. This is how a repair finds shards whose placement is out of date.

The tree has the shape of a shard's. A leaf is H(``dsn/shards/v1``, commit), whose preimage of
48 bytes cannot pose as a node's of 64.

Spec: docs/spec/network.md#shard-records.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Final

from dsn.core import merkle, tags
from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES, tagged
from dsn.core.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, node_id_of, verify_signature
from dsn.dht.signed import check_dates, check_size
from dsn.errors import InvalidProof, NotFound
from dsn.ids import ID_BYTES, Commit, NetworkId, NodeId
from dsn.units import GROUP_LEAVES, KIB

MAX_COMMITS: Final = 1_000
"""In one batch: 32 KiB, and paths of at most ten hashes."""
_SIGNED_BYTES: Final = tags.TAG_BYTES + ID_BYTES + PUBLIC_KEY_BYTES + 8 + 8 + 2 + HASH_BYTES
MAX_BATCH_BYTES: Final = _SIGNED_BYTES + SIGNATURE_BYTES + MAX_COMMITS * ID_BYTES
MAX_SHARD_RECORD_BYTES: Final = KIB


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a holder signs: that it has the ``count`` shards whose commits are under ``root``.

    ``sequence`` is in Unix microseconds, ``expires_s`` in Unix seconds.
    """

    network: NetworkId
    public_key: bytes
    sequence: int
    expires_s: int
    count: int
    root: bytes
    signature: bytes

    @property
    def fields(self) -> tuple[NetworkId, bytes, int, int, int, bytes, bytes]:
        """What an announcement, a batch and its records have in common, in order."""
        dates = (self.sequence, self.expires_s)
        return (self.network, self.public_key, *dates, self.count, self.root, self.signature)

    @property
    def holder(self) -> NodeId:
        """The node that says so."""
        return node_id_of(self.public_key)

    @property
    def signer(self) -> bytes:
        """The Ed25519 key that must have signed."""
        return self.public_key

    def preimage(self) -> bytes:
        """What is signed."""
        return tags.SHARDS + self._body()

    def _body(self) -> bytes:
        writer = Writer().raw(self.network, ID_BYTES).raw(self.public_key, PUBLIC_KEY_BYTES)
        writer.u64(self.sequence).u64(self.expires_s)
        return writer.u16(self.count).raw(self.root, HASH_BYTES).done()


@dataclass(frozen=True, slots=True)
class ShardBatch(Announcement):
    """An announcement with all its commits, in ascending order."""

    commits: tuple[Commit, ...]

    def encode(self) -> bytes:
        """What is stored and sent; ``parse_batch`` reads it."""
        return self.preimage() + self.signature + b"".join(self.commits)

    def record(self, commit: Commit) -> ShardRecord:
        """The record of one ``commit``; for many of one batch, see ``BatchTree``."""
        return BatchTree(self).record(commit)


@dataclass(frozen=True, slots=True)
class ShardRecord(Announcement):
    """An announcement with one of its commits: number ``index``, and the ``path`` to the root."""

    MOST_BYTES: ClassVar[int] = MAX_SHARD_RECORD_BYTES

    index: int
    commit: Commit
    path: tuple[bytes, ...]

    @property
    def key(self) -> Commit:
        """Where it is found; every holder of the shard has a record under it."""
        return self.commit

    def encode(self) -> bytes:
        """What is sent; ``parse_record`` reads it."""
        writer = Writer().raw(tags.SHARD_RECORD + self._body(), _SIGNED_BYTES)
        writer.raw(self.signature, SIGNATURE_BYTES).u16(self.index).raw(self.commit, ID_BYTES)
        return writer.done() + b"".join(self.path)

    def check_path(self) -> None:
        """Check that the commit (untrusted) is where it says under the root.

        Raises:
            InvalidProof: It is not.
        """
        try:
            merkle.verify_path(self.root, self.index, self.count, _leaf(self.commit), self.path)
        except InvalidProof as error:
            raise InvalidProof("record: its commit is not under the root it names") from error


class BatchTree:
    """What is kept of a batch's tree, one hash for every 64 commits, ready to give records."""

    __slots__ = ("_groups", "batch")

    def __init__(self, batch: ShardBatch) -> None:
        """Hash a batch (untrusted).

        Raises:
            InvalidProof: Its commits are not those under its root.

        Cost: two hashes a commit.
        """
        self.batch, self._groups = batch, _groups(batch.commits)
        if _root(self._groups) != batch.root:
            raise InvalidProof("batch: its commits are not under the root it names")

    def record(self, commit: Commit) -> ShardRecord:
        """The record of one ``commit``.

        Raises:
            NotFound: It is not in the batch.

        Cost: two hashes for each of 64 commits.
        """
        batch = self.batch
        index = bisect_left(batch.commits, commit)
        if batch.commits[index : index + 1] != (commit,):
            raise NotFound("the batch does not name this commit")
        start = index - index % GROUP_LEAVES
        leaves = _leaves(batch.commits[start : start + GROUP_LEAVES])
        path = merkle.KeptTree(self._groups, batch.count).path(index, leaves)
        return ShardRecord(*batch.fields, index, commit, tuple(path))


def sign_batch(
    sign: Callable[[bytes], bytes],
    *,
    network: NetworkId,
    public_key: bytes,
    sequence: int,
    expires_s: int,
    commits: Iterable[Commit],
) -> ShardBatch:
    """Announce shards: 1 to 1,000 of them, in any order; ``sequence`` from ``next_sequence``."""
    ordered = tuple(sorted(set(commits)))
    assert 1 <= len(ordered) <= MAX_COMMITS
    root, unsigned = _root(_groups(ordered)), bytes(SIGNATURE_BYTES)
    blank = ShardBatch(
        network, public_key, sequence, expires_s, len(ordered), root, unsigned, ordered
    )
    return replace(blank, signature=sign(blank.preimage()))


def parse_batch(raw: bytes) -> ShardBatch:
    """Read a batch; ``verify_batch`` judges it.

    Args:
        raw: Untrusted.

    Raises:
        MalformedMessage: Too long for 1,000 commits (``too_large``); short, long, no commit, or
            commits that do not ascend.
    """
    check_size(len(raw), MAX_BATCH_BYTES)
    reader = Reader(raw, "batch")
    if reader.raw(tags.TAG_BYTES) != tags.SHARDS:
        raise reader.refuse("of no kind that is known")
    said = _read_announcement(reader, NetworkId(reader.raw(ID_BYTES)))
    listed = reader.raw(ID_BYTES * said.count)
    reader.end()
    commits = tuple(Commit(listed[at : at + ID_BYTES]) for at in range(0, len(listed), ID_BYTES))
    if any(a >= b for a, b in pairwise(commits)):
        raise reader.refuse("commits that do not ascend")
    return ShardBatch(*said.fields, commits)


def verify_batch(batch: ShardBatch, network: NetworkId, now_s: float) -> None:
    """Judge a batch by itself; cheap reasons come first.

    Args:
        batch: Untrusted.
        network: The network that the reader is on.
        now_s: Unix seconds by the reader's clock.

    Raises:
        PeerError: As ``check_dates``.
        InvalidSignature: Not by the key it names.
        InvalidProof: Its commits are not those that were signed.
    """
    check_dates(batch, network, now_s)
    verify_signature(batch.signer, batch.preimage(), batch.signature)
    BatchTree(batch)


def read_shard_record(reader: Reader, network: NetworkId) -> ShardRecord:
    """Take what follows the network id (untrusted), up to the path's end.

    Raises:
        MalformedMessage: Short, a count over 1,000, or an index that is not below it.
    """
    said = _read_announcement(reader, network)
    index, commit = reader.u16(), Commit(reader.raw(ID_BYTES))
    if index >= said.count:
        raise reader.refuse(f"commit {index} of {said.count}")
    path = tuple(reader.raw(HASH_BYTES) for _ in range(merkle.path_length(index, said.count)))
    return ShardRecord(*said.fields, index, commit, path)


def _read_announcement(reader: Reader, network: NetworkId) -> Announcement:
    public_key = reader.raw(PUBLIC_KEY_BYTES)
    sequence, expires_s, count = reader.u64(), reader.u64(), reader.u16()
    if not 1 <= count <= MAX_COMMITS:
        raise reader.refuse(f"{count} commits, 1 to {MAX_COMMITS} allowed")
    root, signature = reader.raw(HASH_BYTES), reader.raw(SIGNATURE_BYTES)
    return Announcement(network, public_key, sequence, expires_s, count, root, signature)


def _leaf(commit: Commit) -> bytes:
    return tagged(tags.SHARDS, commit)


def _leaves(commits: Sequence[Commit]) -> bytes:
    return b"".join(map(_leaf, commits))


def _groups(commits: Sequence[Commit]) -> bytes:
    """One hash for every 64 commits, the last for what is left."""
    starts = range(0, len(commits), GROUP_LEAVES)
    return b"".join(_root(_leaves(commits[at : at + GROUP_LEAVES])) for at in starts)


def _root(hashes: bytes) -> bytes:
    """The root over hashes side by side: they stand for as many whole groups."""
    return merkle.root_of_groups(hashes, GROUP_LEAVES * len(hashes) // HASH_BYTES)
