"""Makes record.json, network.json and receipt.json: ``python -m tests.vectors.record_vectors``.

The files are frozen: a change here that changes a byte there is a new version of a format.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from dsn.core.keys import SigningKey, node_id_of
from dsn.dht.contact import Contact
from dsn.dht.network import Genesis, format_network, sign_network
from dsn.dht.record import PointerBody, Record, sign_pointer, sign_slot
from dsn.ids import NO_DEAL, Commit, DealId, NetworkId, NodeId
from dsn.ledger.receipt import Receipt, sign_receipt
from dsn.ledger.revision import Parties, Revision, sign_revision
from tests.support.vectors import save

NETWORK, OTHER_NETWORK = NetworkId(b"\x01" * 32), NetworkId(b"\x02" * 32)
KEY, CLIENT = SigningKey(b"\x03" * 32), SigningKey(b"\x04" * 32)
NODE = node_id_of(KEY.public)
NOW_S = 1_700_000_000
SEQUENCE = NOW_S * 1_000_000 + 7


def described(note: str, record: Record, **verdict: Any) -> dict[str, Any]:
    fields = {"key": record.key} | asdict(record)
    return {"note": note, "raw": record.encode(), "now_s": NOW_S, **fields, **verdict}


def records() -> Iterator[dict[str, Any]]:
    """Records of both kinds, and what is wrong with those that fail."""
    body = PointerBody(7_000, ((NodeId(b"\x06" * 32), Commit(b"\x07" * 32)),)).encode()
    pointer = sign_pointer(
        KEY.sign,
        network=NETWORK,
        placement_public=KEY.public,
        core_hash=b"\x05" * 32,
        sequence=SEQUENCE,
        expires_s=NOW_S + 60,
        body=body,
    )
    slot = sign_slot(
        KEY.sign,
        network=NETWORK,
        slot_public=KEY.public,
        sequence=SEQUENCE,
        expires_s=NOW_S + 60,
        body=b"sealed elsewhere",
    )
    both: tuple[Record, ...] = (pointer, slot)
    for record in both:
        kind = type(record).__name__
        ahead = (NOW_S + 7200) * 1_000_000 + 1
        yield described(f"a {kind}", record)
        yield described(f"a {kind} at its expiry", record) | {
            "now_s": NOW_S + 60,
            "code": "expired",
        }
        yield described(f"an unsigned {kind}", replace(record, body=b""), code="invalid_signature")
        yield described(
            f"a {kind} from elsewhere", replace(record, network=OTHER_NETWORK), code="other_network"
        )
        yield described(f"a {kind} of later", replace(record, sequence=ahead), code="from_future")
        raw = record.encode()
        for note, bad, code in (
            ("cut short", raw[:-1], "malformed_message"),
            ("a byte too many", raw + b"\0", "malformed_message"),
            ("under no tag", bytes(16) + raw[16:], "malformed_message"),
            ("too large", replace(record, body=bytes(4096)).encode(), "too_large"),
        ):
            yield {"note": f"a {kind} {note}", "raw": bad, "code": code}


def bodies() -> Iterator[dict[str, Any]]:
    """Pointer bodies before they are sealed."""
    for count in (0, 2):
        holders = tuple(
            (NodeId(bytes([n]) * 32), Commit(bytes([9 + n]) * 32)) for n in range(count)
        )
        raw = PointerBody(5_000 + count, holders).encode()
        yield {"raw": raw, "head_length": 5_000 + count, "holders": holders}
        yield {"raw": raw[:-1], "code": "malformed_message"}
        yield {"raw": raw + b"\0", "code": "malformed_message"}
    yield {"raw": bytes(8) + b"\x31" + bytes(64 * 49), "code": "malformed_message"}


def network() -> dict[str, Any]:
    genesis = Genesis("golden", NOW_S, KEY.public, "subnet", True)
    contacts = (
        Contact(KEY.public, "127.0.0.1:4001"),
        Contact(CLIENT.public, "[2001:db8::1]:65535"),
    )
    file = sign_network(genesis, contacts, KEY.sign)
    text = format_network(file)
    fails = [
        ("another name", text.replace("golden", "gilden"), "bad_network_signature"),
        ("an unknown key", text.replace("name =", "nmae ="), "bad_network_file"),
        ("no port", text.replace(":4001", ""), "bad_network_file"),
        ("cut short", text[:-30], "bad_network_file"),
    ]
    return {
        "holds": {
            "text": text,
            "genesis": genesis.encode(),
            "network_id": file.network_id,
            "preimage": file.preimage(),
            "contacts": [[each.node_id, each.public_key, each.address] for each in contacts],
        },
        "fails": [{"note": note, "text": bad, "code": code} for note, bad, code in fails],
    }


def statements() -> dict[str, Any]:
    """Receipts and revisions."""
    receipts = (
        Receipt(NO_DEAL, Commit(b"\x06" * 32), 1, 1, NOW_S),
        Receipt(DealId(b"\x05" * 32), Commit(b"\x06" * 32), 1 << 30, 1 << 40, (1 << 64) - 1),
    )
    revisions = (
        Revision(NO_DEAL, 1, 2, 3, b"\x07" * 32),
        Revision(DealId(b"\x05" * 32), (1 << 64) - 1, 0, (1 << 63) - 1, bytes(32)),
    )
    parties = Parties(NETWORK, KEY.public, CLIENT.public)
    return {
        "network": NETWORK,
        "node_public": KEY.public,
        "client_public": CLIENT.public,
        "receipts": [
            {
                **asdict(receipt),
                "preimage": receipt.preimage(NETWORK, NODE),
                "signature": sign_receipt(receipt, KEY.sign, network=NETWORK, node=NODE),
            }
            for receipt in receipts
        ],
        "revisions": [
            {
                **asdict(revision),
                "preimage": revision.preimage(parties),
                "client_signature": sign_revision(revision, parties, CLIENT.sign),
                "node_signature": sign_revision(revision, parties, KEY.sign),
            }
            for revision in revisions
        ],
    }


def record_vectors() -> dict[str, Any]:
    return {"network": NETWORK, "records": list(records()), "bodies": list(bodies())}


MAKERS = {"record": record_vectors, "network": network, "receipt": statements}

if __name__ == "__main__":
    for name, make in MAKERS.items():
        save(name, make())
