"""Makes record, batch, network, receipt .json: ``python -m tests.vectors.record_vectors``.

The files are frozen: a change here that changes a byte there is a new version of a format.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from dsn.core.hashing import sha256
from dsn.core.keys import SigningKey, node_id_of
from dsn.dht.contact import Contact
from dsn.dht.keeping import Keeper
from dsn.dht.network import Genesis, format_network, sign_network
from dsn.dht.node_record import NODE_TERM_S, NodeRecord, sign_node_record
from dsn.dht.record import PointerBody, Record, sign_pointer, sign_slot
from dsn.dht.shards import ShardBatch, sign_batch
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
    """Records of files, catalogues and nodes, and what is wrong with those that fail."""
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
    for record, change in (
        (pointer, {"body": b""}),
        (slot, {"body": b""}),
        (node_record(), {"region": ""}),
    ):
        yield from held_and_refused(record, change)
    for sealed in (pointer, slot):
        yield too_large(replace(sealed, body=bytes(4096)))
    yield from node_records()


def held_and_refused(record: Record, change: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A record that holds for a minute, and how it fails; ``change`` is one nobody signed."""
    kind, raw = type(record).__name__, record.encode()
    ahead = (NOW_S + 7200) * 1_000_000 + 1
    yield described(f"a {kind}", record)
    yield described(f"a {kind} at its expiry", record) | {"now_s": NOW_S + 60, "code": "expired"}
    yield described(f"an unsigned {kind}", replace(record, **change), code="invalid_signature")
    yield described(
        f"a {kind} from elsewhere", replace(record, network=OTHER_NETWORK), code="other_network"
    )
    yield described(f"a {kind} of later", replace(record, sequence=ahead), code="from_future")
    for note, bad in (
        ("cut short", raw[:-1]),
        ("a byte too many", raw + b"\0"),
        ("under no tag", bytes(16) + raw[16:]),
    ):
        yield {"note": f"a {kind} {note}", "raw": bad, "code": "malformed_message"}


def too_large(record: Record) -> dict[str, Any]:
    note = f"a {type(record).__name__} too large"
    return {"note": note, "raw": record.encode(), "code": "too_large"}


def node_record(**changes: Any) -> NodeRecord:
    fields = {
        "network": NETWORK,
        "public_key": KEY.public,
        "sequence": SEQUENCE,
        "issued_s": NOW_S,
        "expires_s": NOW_S + 60,
        "settlement": b"\x0a" * 20,
        "addresses": ["127.0.0.1:4001", "[2001:db8::1]:65535"],
        "relays": [NodeId(b"\x0b" * 32)],
        "roles": ["relay", "provider", "index"],
        "terms_digest": b"\x0c" * 32,
        "free_class": 40,
        "region": "Zürich",
        "operator": "the dsn authors",
    }
    return sign_node_record(KEY.sign, **(fields | changes))


def node_records() -> Iterator[dict[str, Any]]:
    """What only a node's record can say, rightly and wrongly."""
    nothing = {
        "settlement": b"",
        "addresses": [],
        "relays": [],
        "roles": [],
        "terms_digest": bytes(32),
        "free_class": 0,
        "region": "",
        "operator": "",
    }
    full = node_record()
    yield described("a NodeRecord that says little", node_record(**nothing))
    yield described(
        "a NodeRecord for a day", node_record(issued_s=NOW_S - 9, expires_s=NOW_S - 9 + NODE_TERM_S)
    )
    for note, issued_s, expires_s in (
        ("for over a day", NOW_S, NOW_S + NODE_TERM_S + 1),
        ("for no time", NOW_S + 60, NOW_S + 60),
    ):
        record = node_record(issued_s=issued_s, expires_s=expires_s)
        yield described(f"a NodeRecord {note}", record, code="bad_expiry")
    early = node_record(issued_s=NOW_S + 7_201, expires_s=NOW_S + 7_260)
    yield described("a NodeRecord issued later", early, code="from_future")
    for note, change in (
        ("five addresses", {"addresses": ("h:1",) * 5}),
        ("an address without port", {"addresses": ("h",)}),
        ("four relays", {"relays": (NodeId(bytes(32)),) * 4}),
        ("half a settlement address", {"settlement": bytes(10)}),
        ("free class 64", {"free_class": 64}),
        ("a region that rings", {"region": "\a"}),
        ("a long region", {"region": "r" * 33}),
        ("a long operator", {"operator": "o" * 65}),
    ):
        raw = resigned(replace(full, **change)).encode()
        yield {"note": f"a NodeRecord with {note}", "raw": raw, "code": "malformed_message"}
    yield too_large(resigned(replace(full, addresses=(f"{'h' * 250}:1",) * 4)))


def resigned(record: NodeRecord) -> NodeRecord:
    return replace(record, signature=KEY.sign(record.preimage()))


def shards() -> dict[str, Any]:
    """Batches of shard records, records of single shards, and a node's file of all it keeps."""
    batches = [batch(count) for count in (1, 2, 3, 64, 65)]
    five = batch(5)
    record = five.record(five.commits[3])
    raw, head = five.encode(), len(five.preimage()) + 64
    return {
        "network": NETWORK,
        "now_s": NOW_S,
        "batches": [
            {"note": f"a batch of {each.count}", "raw": each.encode(), **asdict(each)}
            for each in batches
        ],
        "records": [
            {"note": f"shard {at} of {each.count}", "raw": one.encode(), "key": one.key}
            | asdict(one)
            for each in batches
            for at in sorted({0, each.count // 2, each.count - 1})
            for one in [each.record(each.commits[at])]
        ],
        "batches_refused": [
            {"note": note, "raw": bad, "code": code}
            for note, bad, code in (
                ("from elsewhere", batch(2, network=OTHER_NETWORK).encode(), "other_network"),
                ("of the past", batch(2, expires_s=NOW_S).encode(), "expired"),
                ("of later", batch(2, sequence=SEQUENCE + (7200 << 20)).encode(), "from_future"),
                ("unsigned", replace(five, sequence=SEQUENCE + 1).encode(), "invalid_signature"),
                ("another commit", raw[:-32] + b"\xff" * 32, "invalid_proof"),
                ("out of order", raw[:head] + raw[-32:] + raw[head:-32], "malformed_message"),
                ("cut short", raw[:-1], "malformed_message"),
                ("a byte too many", raw + b"\0", "malformed_message"),
                ("under no tag", bytes(16) + raw[16:], "malformed_message"),
                ("too large", raw + bytes(32 * 1_000), "too_large"),
            )
        ],
        "records_refused": [
            {"note": note, "raw": bad.encode(), "code": code}
            for note, bad, code in (
                ("another commit", replace(record, commit=five.commits[2]), "invalid_proof"),
                ("another place", replace(record, index=2), "invalid_proof"),
                ("another path", replace(record, path=record.path[::-1]), "invalid_proof"),
                ("another sequence", replace(record, sequence=SEQUENCE + 1), "invalid_signature"),
                ("number 5 of 5", replace(record, index=5), "malformed_message"),
                ("a short path", replace(record, path=record.path[1:]), "malformed_message"),
            )
        ],
        "kept": kept(five),
    }


def batch(count: int, **changes: Any) -> ShardBatch:
    fields = {
        "network": NETWORK,
        "public_key": KEY.public,
        "sequence": SEQUENCE,
        "expires_s": NOW_S + 60,
        "commits": [Commit(sha256(bytes([number]))) for number in range(count)],
    }
    return sign_batch(KEY.sign, **(fields | changes))


def kept(five: ShardBatch) -> dict[str, Any]:
    keeper, record = Keeper(NETWORK), node_record()
    keeper.accept(record.key, record.encode(), NODE, NOW_S)
    keeper.accept_batch(five.encode(), NodeId(b"\x0d" * 32), NOW_S)
    raw = keeper.encode()
    fails = [("cut short", raw[:-1]), ("changed", raw[:99] + b"\0" + raw[100:])]
    return {
        "raw": raw,
        "finds": {each.hex(): keeper.find(each, NOW_S) for each in (record.key, *five.commits)},
        "fails": [{"note": note, "raw": bad, "code": "malformed_message"} for note, bad in fails],
    }


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
    genesis = Genesis("golden", NOW_S, KEY.public, "subnet", True, True)
    contacts = (
        Contact(KEY.public, "127.0.0.1:4001"),
        Contact(CLIENT.public, "[2001:db8::1]:65535"),
    )
    dns = ("seeds.example.org", "_dsn.example.net")
    file = sign_network(genesis, contacts, KEY.sign, dns)
    text = format_network(file)
    fails = [
        ("another name", text.replace("golden", "gilden"), "bad_network_signature"),
        ("an unknown key", text.replace("name =", "nmae ="), "bad_network_file"),
        ("no port", text.replace(":4001", ""), "bad_network_file"),
        ("no shard records", text.replace("shard_records = true\n", ""), "bad_network_signature"),
        ("another DNS name", text.replace("_dsn.", "_dns."), "bad_network_signature"),
        ("a DNS name with a port", text.replace(".net", ".net:53"), "bad_network_file"),
        ("cut short", text[:-30], "bad_network_file"),
    ]
    return {
        "holds": {
            "text": text,
            "genesis": genesis.encode(),
            "network_id": file.network_id,
            "preimage": file.preimage(),
            "contacts": [[each.node_id, each.public_key, each.address] for each in contacts],
            "dns": dns,
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


MAKERS = {
    "record": record_vectors,
    "batch": shards,
    "network": network,
    "receipt": statements,
}

if __name__ == "__main__":
    for name, make in MAKERS.items():
        save(name, make())
