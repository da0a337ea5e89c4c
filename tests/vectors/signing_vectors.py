"""Makes signing.json: ``python -m tests.vectors.signing_vectors``.

The file is frozen: a change here that changes a byte there is a new version of a format.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from dsn.core.codec import U64_MAX
from dsn.ledger.binding import KeyBinding, SignedBinding, sign_binding
from dsn.ledger.deal import check_deal
from dsn.ledger.pledge import Pledge, check_pledge
from dsn.ledger.settlement import Address, SettlementKey, format_address
from dsn.ledger.typed import Domain, Statement, digest, sign_typed
from dsn.ledger.voucher import Voucher
from tests.support.signing import (
    CLASSES,
    CLIENT,
    DEAL,
    DEAL_ID,
    DOMAIN,
    IDENTITY,
    NETWORK,
    NO_CHAIN,
    OTHER,
    OTHER_DEAL,
    OTHER_DOMAINS,
    OTHER_NETWORK,
    PROVIDER,
    STATEMENTS,
    spoiled,
)
from tests.support.vectors import save

CHECKS = {"Deal": check_deal, "Pledge": check_pledge}
VOUCHER = Voucher(DEAL_ID, 750_000)
BINDING = KeyBinding(IDENTITY.public, CLIENT.address, NETWORK, 1_700_000_000, 2)


def signing() -> dict[str, Any]:
    """All of the file."""
    return {
        "keys": [key(bytes([n]) * 32) for n in (1, 4, 5, 6)],
        "derived": derived(b"\x07" * 32),
        "addresses_refused": list(addresses_refused()),
        "types": {cls.struct.name: declared(cls) for cls in CLASSES},
        "domains": [domain(each) for each in (DOMAIN, NO_CHAIN, *OTHER_DOMAINS.values())],
        "statements": [signed(each, on) for each in STATEMENTS for on in (DOMAIN, NO_CHAIN)],
        "malformed": list(malformed()),
        "signatures_refused": list(signatures_refused()),
        "checks_refused": list(checks_refused()),
        "vouchers": list(vouchers()),
        "bindings": list(bindings()),
    }


def key(seed: bytes) -> dict[str, Any]:
    made = SettlementKey(seed)
    over = b"\x11" * 32
    return {
        "seed": seed,
        "address": made.address,
        "text": format_address(made.address),
        "digest": over,
        "signature": made.sign(over),
    }


def derived(root: bytes) -> dict[str, Any]:
    return {"root": root, "address": SettlementKey.derive(root).address}


def addresses_refused() -> Iterator[str]:
    text = format_address(CLIENT.address)
    yield from (text.lower(), text[2:], text[:-1], text + "0", text[:-1] + "g", "")


def declared(cls: type[Statement]) -> str:
    fields = ",".join(f"{each.kind} {each.name}" for each in cls.struct.members)
    return f"{cls.struct.name}({fields})"


def domain(each: Domain) -> dict[str, Any]:
    return asdict(each)


def signed(statement: Any, on: Domain) -> dict[str, Any]:
    return {
        "type": statement.struct.name,
        "fields": asdict(statement),
        "raw": statement.encode(),
        "domain": on.separator,
        "digest": digest(on, statement),
        "signer": CLIENT.address,
        "signature": sign_typed(statement, on, CLIENT),
    }


def malformed() -> Iterator[dict[str, Any]]:
    for each in STATEMENTS:
        for note, raw in (
            ("cut short", each.encode()[:-1]),
            ("a byte too many", each.encode() + b"\0"),
            ("empty", b""),
        ):
            name = each.struct.name
            yield {"note": f"{name} {note}", "type": name, "raw": raw, "code": "malformed_message"}


def signatures_refused() -> Iterator[dict[str, Any]]:
    """Signatures of a voucher that the client did not give, or not so."""
    good = sign_typed(VOUCHER, DOMAIN, CLIENT)
    for note, bad, code in spoiled(good):
        yield about(note, bad, code)
    for note, on in OTHER_DOMAINS.items():
        yield about(f"another {note}", sign_typed(VOUCHER, on, CLIENT), "invalid_signature")
    for note, what in (
        ("another deal", replace(VOUCHER, deal=OTHER_DEAL)),
        ("other credits", replace(VOUCHER, credits=VOUCHER.credits + 1)),
    ):
        yield about(note, sign_typed(what, DOMAIN, CLIENT), "invalid_signature")
    yield about("another key", sign_typed(VOUCHER, DOMAIN, OTHER), "invalid_signature")


def about(note: str, signature: bytes, code: str) -> dict[str, Any]:
    said = {"type": "Voucher", "raw": VOUCHER.encode(), "signer": CLIENT.address}
    return {"note": note, **said, "signature": signature, "code": code}


def checks_refused() -> Iterator[dict[str, Any]]:
    """Statements that read well and are wrong by themselves."""
    pledge = Pledge(DEAL_ID, 8, 4, 10, b"\x0e" * 32)
    for what, code in (
        (replace(DEAL, provider=CLIENT.address), "same_party"),
        (replace(DEAL, miss_limit=701), "bad_miss_limit"),
        (replace(DEAL, end=U64_MAX), "bad_term"),
        (replace(pledge, shards=11), "bad_holdings"),
        (replace(pledge, leaves=1 << 63), "bad_holdings"),
        (replace(pledge, root=bytes(32)), "bad_holdings"),
        (replace(pledge, shards=0, leaves=0), "bad_holdings"),
    ):
        yield {"type": what.struct.name, "raw": what.encode(), "code": code}


def vouchers() -> Iterator[dict[str, Any]]:
    """What a voucher is worth, given what is paid and locked."""
    for credits, paid, escrow, code in (
        (1, 0, 1, ""),
        (1_000, 400, 600, ""),
        (U64_MAX, 0, U64_MAX, ""),
        (0, 0, 1, "stale_voucher"),
        (5, 5, 9, "stale_voucher"),
        (4, 5, 9, "stale_voucher"),
        (1_001, 0, 1_000, "over_escrow"),
    ):
        said = {"deal": DEAL_ID, "credits": credits, "paid": paid, "escrow": escrow}
        yield {**said, "under": DEAL_ID, "code": code}
    said = {"deal": DEAL_ID, "credits": 1, "paid": 0, "escrow": 1}
    yield {**said, "under": OTHER_DEAL, "code": "other_deal"}


def bindings() -> Iterator[dict[str, Any]]:
    """Bindings by both keys, and those that lack one."""
    good = sign_binding(BINDING, DOMAIN, IDENTITY.sign, CLIENT)
    yield bound("by both keys", good, "")
    for note, bad, code in (
        ("of another serial", replace(good, binding=replace(BINDING, serial=3)), None),
        ("without the identity key", replace(good, identity_signature=bytes(64)), None),
        ("without the settlement key", by(PROVIDER), None),
        ("for a stranger's address", to(PROVIDER.address), None),
        ("of another network", elsewhere(), "other_network"),
    ):
        yield bound(note, bad, code or "invalid_signature")
    for note, signature, code in spoiled(good.settlement_signature):
        if len(signature) == len(good.settlement_signature):
            yield bound(note, replace(good, settlement_signature=signature), code)
    for note, raw in (
        ("cut short", good.encode()[:-1]),
        ("a byte too many", good.encode() + b"\0"),
    ):
        yield {"note": note, "raw": raw, "code": "malformed_message"}


def by(who: SettlementKey) -> SignedBinding:
    return sign_binding(BINDING, DOMAIN, IDENTITY.sign, who)


def to(address: Address) -> SignedBinding:
    return sign_binding(replace(BINDING, settlement=address), DOMAIN, IDENTITY.sign, CLIENT)


def elsewhere() -> SignedBinding:
    moved, on = replace(BINDING, network=OTHER_NETWORK), OTHER_DOMAINS["network"]
    return sign_binding(moved, on, IDENTITY.sign, CLIENT)


def bound(note: str, what: SignedBinding, code: str) -> dict[str, Any]:
    return {"note": note, "raw": what.encode(), "code": code}


if __name__ == "__main__":
    save("signing", signing())
