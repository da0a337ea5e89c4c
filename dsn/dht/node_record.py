"""What a node says of itself, signed: where it is, what it does, how much room it has.

Spec: docs/spec/network.md#records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Literal, get_args

from dsn.core import tags
from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES
from dsn.core.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, node_id_of
from dsn.core.names import text_fault
from dsn.dht.contact import MAX_ADDRESS_CHARS, Contact, is_address
from dsn.dht.signed import check_not_ahead
from dsn.errors import PeerError, UsageError
from dsn.ids import ID_BYTES, NetworkId, NodeId
from dsn.units import KIB

Role = Literal["provider", "relay", "verifier", "index"]
"""What a node does for others."""
ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""Every role; number i is bit i of the encoding."""

NODE_TERM_S: Final = 24 * 3_600
"""The longest life of a node record: a node that is gone is soon forgotten."""
REPUBLISH_S: Final = 8 * 3_600
"""How often a record is stored anew: two rounds may fail before it runs out."""
MAX_NODE_RECORD_BYTES: Final = KIB
"""A node keeps those of its whole neighbourhood."""
MAX_ADDRESSES: Final = 4
MAX_RELAYS: Final = 3
MAX_REGION_BYTES: Final = 32
MAX_OPERATOR_BYTES: Final = 64
SETTLEMENT_BYTES: Final = 20
"""An address on any EVM chain."""
_MAX_FREE_CLASS: Final = 63
_NO_TERMS: Final = bytes(HASH_BYTES)


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node's own word; only the size of each field is checked, not whether it is true.

    Attributes:
        network: Where it holds.
        public_key: The node's Ed25519 identity key, which signs.
        sequence: Unix microseconds, above that of every earlier record of the node.
        issued_s: Unix seconds.
        expires_s: Unix seconds, at most 24 h after ``issued_s``.
        settlement: The 20-byte address of the node's settlement key, or empty.
        addresses: At most 4 times ``host:port``, best first; none behind a relay.
        relays: At most 3 nodes that forward to this one.
        roles: In the order of ``ROLES``, none twice.
        terms_digest: Hash of the terms that the node offers; zeros for none.
        free_class: What is free, as ``free_class`` counts it.
        region: Where the node says it is: up to 32 bytes of printable text.
        operator: Who says to run it: up to 64 bytes of printable text.
        signature: Over everything before it.
    """

    MOST_BYTES: ClassVar[int] = MAX_NODE_RECORD_BYTES

    network: NetworkId
    public_key: bytes
    sequence: int
    issued_s: int
    expires_s: int
    settlement: bytes
    addresses: tuple[str, ...]
    relays: tuple[NodeId, ...]
    roles: tuple[Role, ...]
    terms_digest: bytes
    free_class: int
    region: str
    operator: str
    signature: bytes

    @property
    def key(self) -> NodeId:
        """The node id, which no other identity key can claim."""
        return node_id_of(self.public_key)

    @property
    def signer(self) -> bytes:
        """The Ed25519 key that must have signed."""
        return self.public_key

    @property
    def contacts(self) -> tuple[Contact, ...]:
        """The node at each of its addresses."""
        return tuple(Contact(self.public_key, address) for address in self.addresses)

    def preimage(self) -> bytes:
        """What is signed."""
        writer = Writer().raw(tags.NODE_RECORD, tags.TAG_BYTES).raw(self.network, ID_BYTES)
        writer.raw(self.public_key, PUBLIC_KEY_BYTES)
        writer.u64(self.sequence).u64(self.issued_s).u64(self.expires_s)
        writer.var(self.settlement).u8(len(self.addresses))
        for address in self.addresses:
            writer.text(address)
        writer.u8(len(self.relays))
        for relay in self.relays:
            writer.raw(relay, ID_BYTES)
        writer.u8(sum(1 << ROLES.index(role) for role in self.roles))
        writer.raw(self.terms_digest, HASH_BYTES).u8(self.free_class)
        return writer.text(self.region).text(self.operator).done()

    def encode(self) -> bytes:
        """What is stored and sent; ``parse_record`` reads it."""
        return self.preimage() + self.signature

    def check_life(self, now_s: float) -> None:
        """Judge when the record (untrusted) was issued and how long it wants to live.

        Raises:
            PeerError: ``bad_expiry``: it ends over 24 h after it was issued, or before.
                ``from_future``: it is not issued yet.
        """
        life_s = self.expires_s - self.issued_s
        if not 0 < life_s <= NODE_TERM_S:
            raise PeerError(
                f"record: a node's that lives {life_s} s, 1 to {NODE_TERM_S} allowed",
                code="bad_expiry",
            )
        check_not_ahead(self.issued_s, now_s)


def free_class(free_bytes: int) -> int:
    """``floor(log2(free_bytes))``: room in a byte, too coarse to follow a node's writes by."""
    return max(0, free_bytes.bit_length() - 1)


def sign_node_record(
    sign: Callable[[bytes], bytes],
    *,
    network: NetworkId,
    public_key: bytes,
    sequence: int,
    issued_s: int,
    expires_s: int,
    settlement: bytes = b"",
    addresses: Iterable[str] = (),
    relays: Iterable[NodeId] = (),
    roles: Iterable[Role] = (),
    terms_digest: bytes = _NO_TERMS,
    free_class: int = 0,
    region: str = "",
    operator: str = "",
) -> NodeRecord:
    """Make a node's record; ``sequence`` comes from ``next_sequence``, roles in any order.

    Raises:
        UsageError: ``bad_node_record``: a field that a reader would refuse.
    """
    blank = NodeRecord(
        network,
        public_key,
        sequence,
        issued_s,
        expires_s,
        settlement,
        tuple(addresses),
        tuple(relays),
        tuple(sorted(set(roles), key=ROLES.index)),
        terms_digest,
        free_class,
        region,
        operator,
        bytes(SIGNATURE_BYTES),
    )
    if fault := _fault(blank) or _size_fault(blank):
        raise UsageError(f"the node record cannot be signed: {fault}", code="bad_node_record")
    return replace(blank, signature=sign(blank.preimage()))


def read_node_record(reader: Reader, network: NetworkId) -> NodeRecord:
    """Take what follows the network id (untrusted), up to the signature.

    Raises:
        MalformedMessage: Short, or a field over its bound.
    """
    record = NodeRecord(
        network,
        reader.raw(PUBLIC_KEY_BYTES),
        reader.u64(),
        reader.u64(),
        reader.u64(),
        reader.var(SETTLEMENT_BYTES),
        tuple(reader.text(MAX_ADDRESS_CHARS) for _ in range(reader.u8())),
        tuple(NodeId(reader.raw(ID_BYTES)) for _ in range(reader.u8())),
        _read_roles(reader),
        reader.raw(HASH_BYTES),
        reader.u8(),
        reader.text(MAX_REGION_BYTES),
        reader.text(MAX_OPERATOR_BYTES),
        reader.raw(SIGNATURE_BYTES),
    )
    if fault := _fault(record):
        raise reader.refuse(fault)
    return record


def _read_roles(reader: Reader) -> tuple[Role, ...]:
    bits = reader.u8()
    if bits >> len(ROLES):
        raise reader.refuse(f"roles {bits:#x}, at most {(1 << len(ROLES)) - 1:#x} known")
    return tuple(role for number, role in enumerate(ROLES) if bits >> number & 1)


def _fault(record: NodeRecord) -> str:
    """What is wrong with the fields of a record (untrusted); empty if nothing is."""
    if len(record.settlement) not in (0, SETTLEMENT_BYTES):
        return f"a settlement address of {len(record.settlement)} bytes, {SETTLEMENT_BYTES} needed"
    for what, count, most in (
        ("addresses", len(record.addresses), MAX_ADDRESSES),
        ("relays", len(record.relays), MAX_RELAYS),
    ):
        if count > most:
            return f"{count} {what}, at most {most} allowed"
    if record.free_class > _MAX_FREE_CLASS:
        return f"a free class of {record.free_class}, at most {_MAX_FREE_CLASS} allowed"
    wrong = next((each for each in record.addresses if not is_address(each)), None)
    if wrong is not None:
        return f"address {wrong!r} is not host:port"
    return _hint_fault("region", record.region, MAX_REGION_BYTES) or _hint_fault(
        "operator", record.operator, MAX_OPERATOR_BYTES
    )


def _hint_fault(what: str, text: str, most: int) -> str:
    """Why ``text`` may not be shown to people: too long, or it could repaint a terminal."""
    fault = text_fault(text, most) or ("" if text.isprintable() else "it is not printable")
    return f"{what} {text!r}: {fault}" if fault else ""


def _size_fault(record: NodeRecord) -> str:
    size = len(record.encode())
    fits = size <= MAX_NODE_RECORD_BYTES
    return "" if fits else f"{size} bytes, at most {MAX_NODE_RECORD_BYTES} allowed"
