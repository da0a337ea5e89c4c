"""Entries: all that the ledger's state ever moves by.

``u8 kind, network 32, signer 20, u64 nonce, u32 length, body``, signed as EIP-712 typed data by
the signer's settlement key, at most 32 KiB.

Spec: docs/spec/economy.md#entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

from dsn.core.codec import Reader
from dsn.errors import MalformedMessage
from dsn.ids import ID_BYTES, NetworkId
from dsn.ledger import bodies, disputes
from dsn.ledger.bodies import Kind
from dsn.ledger.log import MAX_ENTRY_BYTES
from dsn.ledger.settlement import ADDRESS_BYTES, Address, SettlementKey
from dsn.ledger.typed import Domain, Struct, Value, sign_typed

Body = (
    bodies.OpenEpoch
    | bodies.ShutEpoch
    | bodies.Bind
    | bodies.Deposit
    | bodies.Withdraw
    | bodies.Transfer
    | bodies.Open
    | bodies.TopUp
    | bodies.SubmitLink
    | bodies.Claim
    | bodies.Loss
    | bodies.Quit
    | bodies.CloseDeal
    | disputes.Demand
    | disputes.Serve
    | disputes.SlashWrong
    | disputes.SlashMissed
    | disputes.SlashUnserved
    | disputes.SlashJudged
)
BODIES: Final[dict[Kind, type[Body]]] = {
    body.kind: body
    for body in (
        bodies.OpenEpoch,
        bodies.ShutEpoch,
        bodies.Bind,
        bodies.Deposit,
        bodies.Withdraw,
        bodies.Transfer,
        bodies.Open,
        bodies.TopUp,
        bodies.SubmitLink,
        bodies.Claim,
        bodies.Loss,
        bodies.Quit,
        bodies.CloseDeal,
        disputes.Demand,
        disputes.Serve,
        disputes.SlashWrong,
        disputes.SlashMissed,
        disputes.SlashUnserved,
        disputes.SlashJudged,
    )
}
"""Every kind there is; a kind has one body."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What ``signer`` wants done on ``network``; its entries are numbered from 1 by ``nonce``."""

    struct: ClassVar[Struct] = Struct(
        "Entry(bytes32 network,uint8 kind,address signer,uint64 nonce,bytes body)"
    )

    network: NetworkId
    signer: Address
    nonce: int
    body: Body

    def values(self) -> Iterable[Value]:
        """The fields as typed data has them."""
        body = self.body
        return (self.network, int(body.kind), self.signer, self.nonce, body.encode())

    def encode(self) -> bytes:
        """The bytes that stand in the log, before the signature."""
        assert (len(self.network), len(self.signer)) == (ID_BYTES, ADDRESS_BYTES)
        body = self.body.encode()
        head = bytes((self.body.kind,)) + self.network + self.signer
        return head + self.nonce.to_bytes(8, "big") + len(body).to_bytes(4, "big") + body

    @classmethod
    def decode(cls, raw: bytes) -> Entry:
        """Read what ``encode`` wrote.

        Args:
            raw: Untrusted.

        Raises:
            MalformedMessage: ``entry_too_large`` beyond 32 KiB, ``unknown_kind``, or
                ``malformed_message``: short, long, or not what it would encode to again.
        """
        if len(raw) > MAX_ENTRY_BYTES:
            raise MalformedMessage(
                f"entry: {len(raw)} bytes, at most {MAX_ENTRY_BYTES} allowed",
                code="entry_too_large",
            )
        reader = Reader(raw, "entry")
        kind = reader.u8()
        if kind not in BODIES:
            raise MalformedMessage(f"entry: kind {kind} is not known", code="unknown_kind")
        network, signer = NetworkId(reader.raw(ID_BYTES)), Address(reader.raw(ADDRESS_BYTES))
        nonce, body = reader.u64(), Reader(reader.var(MAX_ENTRY_BYTES), f"entry of kind {kind}")
        reader.end()
        entry = cls(network, signer, nonce, BODIES[Kind(kind)].read(body))
        body.end()
        if entry.encode() != raw:
            raise reader.refuse("another spelling of the same entry")
        return entry


@dataclass(frozen=True, slots=True)
class SignedEntry:
    """An entry and the 65-byte signature of its signer."""

    entry: Entry
    signature: bytes


def sign_entry(entry: Entry, domain: Domain, key: SettlementKey) -> SignedEntry:
    """Sign ``entry`` with the settlement key of its signer."""
    return SignedEntry(entry, sign_typed(entry, domain, key))
