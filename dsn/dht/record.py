"""Signed, self-certifying records: where a file's manifest, a person's catalogue, a node is.

Anyone can judge a record alone: its key is a hash of what it names, its signature is by the
key it names, and between two of one key everyone prefers the same one.

Spec: docs/spec/network.md#records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from dsn.core import tags
from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES, sha256, tagged
from dsn.core.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, verify_signature
from dsn.dht.node_record import NodeRecord, read_node_record
from dsn.dht.shards import ShardRecord, read_shard_record
from dsn.dht.signed import check_dates, check_size
from dsn.ids import ID_BYTES, Commit, FileId, NetworkId, NodeId
from dsn.units import KIB

MAX_RECORD_BYTES: Final = 4 * KIB
"""A DHT value: small enough to store for strangers."""
MAX_HOLDERS: Final = 48
"""Holders a pointer names; the body then still fits in a record."""


@dataclass(frozen=True, slots=True)
class PointerRecord:
    """Where the newest head of a file is: signed by the file's placement key.

    ``sequence`` is in Unix microseconds, ``expires_s`` in Unix seconds; ``body`` is a sealed
    ``PointerBody``.
    """

    MOST_BYTES: ClassVar[int] = MAX_RECORD_BYTES

    network: NetworkId
    placement_public: bytes
    core_hash: bytes
    sequence: int
    expires_s: int
    body: bytes
    signature: bytes

    @property
    def key(self) -> FileId:
        """The file id, which no other placement key or core can claim."""
        return FileId(tagged(tags.FILE, self.placement_public, self.core_hash))

    @property
    def signer(self) -> bytes:
        """The Ed25519 key that must have signed."""
        return self.placement_public

    def preimage(self) -> bytes:
        """What is signed."""
        return _preimage(tags.POINTER, self, self.placement_public + self.core_hash)

    def encode(self) -> bytes:
        """What is stored and sent; ``parse_record`` reads it."""
        return self.preimage() + self.signature


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """Where the newest version of a catalogue is: signed by its owner's slot key.

    ``sequence`` is in Unix microseconds, ``expires_s`` in Unix seconds; ``body`` is sealed.
    """

    MOST_BYTES: ClassVar[int] = MAX_RECORD_BYTES

    network: NetworkId
    slot_public: bytes
    sequence: int
    expires_s: int
    body: bytes
    signature: bytes

    @property
    def key(self) -> bytes:
        """32 bytes that follow from the slot key alone."""
        return slot_key(self.slot_public)

    @property
    def signer(self) -> bytes:
        """The Ed25519 key that must have signed."""
        return self.slot_public

    def preimage(self) -> bytes:
        """What is signed."""
        return _preimage(tags.SLOT, self, self.slot_public)

    def encode(self) -> bytes:
        """What is stored and sent; ``parse_record`` reads it."""
        return self.preimage() + self.signature


Record = PointerRecord | SlotRecord | NodeRecord | ShardRecord


@dataclass(frozen=True, slots=True)
class PointerBody:
    """What a pointer says to those who hold a link: the head's length and who has a copy.

    Each copy is sealed on its own, so each holder has its own commit.
    """

    head_length: int
    holders: tuple[tuple[NodeId, Commit], ...]

    def encode(self) -> bytes:
        """The plaintext that the caller seals; at most 48 holders."""
        assert len(self.holders) <= MAX_HOLDERS
        writer = Writer().u64(self.head_length).u8(len(self.holders))
        for node, commit in self.holders:
            writer.raw(node, ID_BYTES).raw(commit, ID_BYTES)
        return writer.done()

    @classmethod
    def decode(cls, raw: bytes) -> PointerBody:
        """Read what ``encode`` wrote.

        Args:
            raw: Unsealed but untrusted: any holder of the file's repair link can write one.

        Raises:
            MalformedMessage: Short, long, or more than 48 holders.
        """
        reader = Reader(raw, "pointer")
        head_length, count = reader.u64(), reader.u8()
        if count > MAX_HOLDERS:
            raise reader.refuse(f"{count} holders, at most {MAX_HOLDERS} allowed")
        holders = tuple(
            (NodeId(reader.raw(ID_BYTES)), Commit(reader.raw(ID_BYTES))) for _ in range(count)
        )
        reader.end()
        return cls(head_length, holders)


def slot_key(slot_public: bytes) -> bytes:
    """The key under which a slot's record is found."""
    return tagged(tags.SLOT, slot_public)


def sign_pointer(
    sign: Callable[[bytes], bytes],
    *,
    network: NetworkId,
    placement_public: bytes,
    core_hash: bytes,
    sequence: int,
    expires_s: int,
    body: bytes,
) -> PointerRecord:
    """Make a pointer; ``sequence`` comes from ``next_sequence``, ``body`` is sealed."""
    blank = PointerRecord(
        network, placement_public, core_hash, sequence, expires_s, body, bytes(SIGNATURE_BYTES)
    )
    return replace(blank, signature=sign(blank.preimage()))


def sign_slot(
    sign: Callable[[bytes], bytes],
    *,
    network: NetworkId,
    slot_public: bytes,
    sequence: int,
    expires_s: int,
    body: bytes,
) -> SlotRecord:
    """Make a slot record; ``sequence`` comes from ``next_sequence``, ``body`` is sealed."""
    blank = SlotRecord(network, slot_public, sequence, expires_s, body, bytes(SIGNATURE_BYTES))
    return replace(blank, signature=sign(blank.preimage()))


def parse_record(raw: bytes) -> Record:
    """Read a record of any kind; ``verify`` judges it.

    Args:
        raw: Untrusted.

    Raises:
        MalformedMessage: Over 4 KiB, or 1 KiB of a node's (``too_large``); short, long, or of
            no known kind.
    """
    check_size(len(raw), MAX_RECORD_BYTES)
    reader = Reader(raw, "record")
    tag, network = reader.raw(tags.TAG_BYTES), NetworkId(reader.raw(ID_BYTES))
    record: Record
    if tag == tags.POINTER:
        placement_public, core_hash = reader.raw(PUBLIC_KEY_BYTES), reader.raw(HASH_BYTES)
        record = PointerRecord(network, placement_public, core_hash, *_tail(reader))
    elif tag == tags.SLOT:
        record = SlotRecord(network, reader.raw(PUBLIC_KEY_BYTES), *_tail(reader))
    elif tag == tags.NODE_RECORD:
        check_size(len(raw), NodeRecord.MOST_BYTES)
        record = read_node_record(reader, network)
    elif tag == tags.SHARD_RECORD:
        record = read_shard_record(reader, network)
    else:
        raise reader.refuse("of no kind that is known")
    reader.end()
    return record


def verify(record: Record, network: NetworkId, now_s: float) -> None:
    """Judge a record by itself; cheap reasons come first.

    Args:
        record: Untrusted.
        network: The network that the reader is on.
        now_s: Unix seconds by the reader's clock.

    Raises:
        PeerError: As ``check_record``.
        InvalidSignature: Not by the key it names.
    """
    check_record(record, network, now_s)
    verify_signature(record.signer, record.preimage(), record.signature)


def check_record(record: Record, network: NetworkId, now_s: float) -> None:
    """Everything that ``verify`` judges but the signature, which costs a hundred times more.

    Raises:
        PeerError: As ``check_dates``; of a node's record ``bad_expiry``.
        InvalidProof: A shard record's commit is not in the batch that was signed.
        MalformedMessage: ``too_large``.
    """
    check_dates(record, network, now_s)
    if isinstance(record, NodeRecord):
        record.check_life(now_s)
    elif isinstance(record, ShardRecord):
        record.check_path()
    check_size(len(record.encode()), record.MOST_BYTES)


def newer(a: Record, b: Record) -> bool:
    """Whether ``a`` supersedes ``b`` of the same key.

    The higher sequence wins; at equal sequences the lower hash does, so that all who see both
    keep the same one. Shard records of one commit stand side by side, one a holder.
    """
    assert a.key == b.key
    if a.sequence != b.sequence:
        return a.sequence > b.sequence
    return sha256(a.encode()) < sha256(b.encode())


def next_sequence(last: int, now_us: int) -> int:
    """The sequence of a writer's next record: its clock, but always above its ``last``."""
    return max(last + 1, now_us)


def _preimage(tag: bytes, record: PointerRecord | SlotRecord, named: bytes) -> bytes:
    writer = Writer().raw(tag, tags.TAG_BYTES).raw(record.network, ID_BYTES)
    writer.raw(named, len(named)).u64(record.sequence).u64(record.expires_s)
    return writer.var(record.body).done()


def _tail(reader: Reader) -> tuple[int, int, bytes, bytes]:
    """Sequence, expiry, body and signature."""
    return reader.u64(), reader.u64(), reader.var(MAX_RECORD_BYTES), reader.raw(SIGNATURE_BYTES)
