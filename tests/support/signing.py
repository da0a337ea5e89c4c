"""Keys, domains and one of each signed statement; what forgers make of a signature."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from eth_account.messages import encode_typed_data
from eth_utils import keccak
from hypothesis import strategies as st

from dsn.core.keys import SigningKey
from dsn.errors import DsnError
from dsn.ids import DealId, NetworkId
from dsn.ledger.binding import KeyBinding, LedgerRoot
from dsn.ledger.deal import Close, Deal, Extension
from dsn.ledger.pledge import Pledge
from dsn.ledger.settlement import NO_ADDRESS, Address, SettlementKey
from dsn.ledger.typed import Domain, Member, Statement, Struct, Typed
from dsn.ledger.voucher import Voucher

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
IDENTITY = SigningKey(b"\x03" * 32)
CLIENT, PROVIDER, OTHER = (SettlementKey(bytes([n]) * 32) for n in (4, 5, 6))
NETWORK, OTHER_NETWORK = NetworkId(b"\x01" * 32), NetworkId(b"\x02" * 32)
DOMAIN = Domain(NETWORK, 31_337, Address(b"\x0a" * 20))
NO_CHAIN = Domain(NETWORK, 0, NO_ADDRESS)
OTHER_DOMAINS = {
    "network": Domain(OTHER_NETWORK, DOMAIN.chain_id, DOMAIN.vault),
    "chain": Domain(NETWORK, 1, DOMAIN.vault),
    "vault": Domain(NETWORK, DOMAIN.chain_id, Address(b"\x0b" * 20)),
}


def deal(**changes: Any) -> Deal:
    """A deal in which no two fields are equal."""
    fields = {
        "client": CLIENT.address,
        "provider": PROVIDER.address,
        "disk_price": 1_000,
        "ingress_price": 20,
        "egress_price": 30,
        "repair_price": 4_000,
        "open_by": 50,
        "end": 2_160,
        "grace": 720,
        "notice": 24,
        "miss_limit": 70,
        "dispute": 840,
        "disk_escrow": 9_000_000,
        "bandwidth_escrow": 1_000_000,
        "collateral_ppm": 500_000,
        "free_leaves": 97_656_250,
        "delegate": OTHER.address,
        "delegate_credits": 200_000,
        "delegate_leaves": 1 << 20,
        "salt": b"\x0c" * 32,
    }
    return Deal(**(fields | changes))


DEAL = deal()
DEAL_ID = DEAL.deal_id(DOMAIN)
OTHER_DEAL = DealId(b"\x0d" * 32)
STATEMENTS: tuple[Statement, ...] = (
    DEAL,
    Extension(DEAL_ID, 1, 4_320),
    Close(DEAL_ID, 99),
    Voucher(DEAL_ID, 750_000),
    Pledge(DEAL_ID, 8, 4, 10, b"\x0e" * 32),
    KeyBinding(IDENTITY.public, CLIENT.address, NETWORK, 1_700_000_000, 2),
    LedgerRoot(1 << 33, b"\x0f" * 32, b"\x10" * 32, 77),
)
CLASSES = tuple(type(each) for each in STATEMENTS)


def values(member: Member) -> st.SearchStrategy[Any]:
    """Everything that a field of a struct type can say."""
    if member.kind.startswith("uint"):
        return st.integers(0, (1 << 8 * member.size) - 1)
    if member.kind == "string":
        return st.text().map(str.encode)
    return st.binary(min_size=member.size, max_size=member.size or 100)


def statements() -> st.SearchStrategy[Statement]:
    """Any statement of any type."""
    return st.one_of(
        *(st.builds(cls, *(values(each) for each in cls.struct.members)) for cls in CLASSES)
    )


domains = st.builds(
    Domain,
    st.binary(min_size=32, max_size=32).map(NetworkId),
    st.integers(0, (1 << 256) - 1),
    st.binary(min_size=20, max_size=20).map(Address),
)


def eth_digest(domain: Domain, message: Typed) -> bytes:
    """What the Ethereum Foundation's own library would sign."""
    struct = message.struct
    signable = encode_typed_data(
        domain_data={
            "name": "dsn",
            "version": "1",
            "chainId": domain.chain_id,
            "verifyingContract": domain.vault,
            "salt": domain.network,
        },
        message_types={
            struct.name: [{"name": each.name, "type": each.kind} for each in struct.members]
        },
        message_data=eth_data(struct, message),
    )
    return keccak(b"\x19" + signable.version + signable.header + signable.body)


def eth_data(struct: Struct, message: Typed) -> dict[str, Any]:
    """The fields of ``message`` by name, text as text."""
    return {
        member.name: value.decode() if member.kind == "string" else value  # type: ignore[union-attr]
        for member, value in zip(struct.members, message.values(), strict=True)
    }


def mirrored(signature: bytes) -> bytes:
    """The other point of the curve that the equation of ECDSA accepts as well."""
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([27 + 28 - signature[64]])


def spoiled(signature: bytes) -> Iterator[tuple[str, bytes, str]]:
    """A good ``signature`` in ways that nobody may accept: what, the bytes, the code."""
    r, s, v = signature[:32], signature[32:64], signature[64:]
    yield "high s", mirrored(signature), "malleated_signature"
    for bad in (0, 1, 26, 29, 30, 255):
        yield f"v is {bad}", r + s + bytes([bad]), "malleated_signature"
    yield "s is the order", r + ORDER.to_bytes(32, "big") + v, "malleated_signature"
    yield "s is all ones", r + b"\xff" * 32 + v, "malleated_signature"
    yield "r is zero", bytes(32) + s + v, "invalid_signature"
    yield "s is zero", r + bytes(32) + v, "invalid_signature"
    yield "r is the order", ORDER.to_bytes(32, "big") + s + v, "invalid_signature"
    yield "r is on no curve", (5).to_bytes(32, "big") + s + v, "invalid_signature"
    yield "no v", r + s, "invalid_signature"
    yield "a byte too many", signature + b"\0", "invalid_signature"
    yield "empty", b"", "invalid_signature"
    yield "zeros", bytes(65), "malleated_signature"


def refusal(call: Callable[[], object]) -> str:
    """The stable code with which ``call`` fails."""
    with pytest.raises(DsnError) as failure:
        call()
    return failure.value.detail_code
