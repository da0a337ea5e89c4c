from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsn.core.keys import verify_signature
from dsn.dht.contact import Contact
from dsn.dht.node_record import MAX_NODE_RECORD_BYTES, NODE_TERM_S, ROLES, free_class
from dsn.dht.record import parse_record, verify
from dsn.dht.signed import MAX_AHEAD_S
from dsn.errors import InvalidSignature, MalformedMessage, PeerError, UsageError
from tests.support.records import NETWORK, NOW_S, SEQUENCE, key, node, node_record

FULL = node_record(settlement=b"\x0a" * 20)
BARE: dict[str, Any] = {
    "addresses": (),
    "relays": (),
    "roles": (),
    "terms_digest": bytes(32),
    "free_class": 0,
    "region": "",
    "operator": "",
}
LONG = "a" * 253 + ":65535"


def text(value: str) -> bytes:
    return len(value.encode()).to_bytes(4, "big") + value.encode()


def test_what_a_node_signs() -> None:
    dates = b"".join(n.to_bytes(8, "big") for n in (SEQUENCE, NOW_S, NOW_S + NODE_TERM_S))
    body = b"dsn/noderec/v1\0\0" + NETWORK + key(3).public + dates
    body += b"\0\0\0\x14" + b"\x0a" * 20
    body += b"\2" + text("127.0.0.1:4001") + text("[2001:db8::1]:4001")
    body += b"\2" + node(101) + node(102)
    body += bytes([0b101]) + b"\x06" * 32 + bytes([40]) + text("Zürich, CH") + text("the test")
    assert FULL.preimage() == body
    verify_signature(key(3).public, body, FULL.signature)


def test_a_node_with_nothing_to_say_has_a_record() -> None:
    bare = node_record(**BARE)
    verify(parse_record(bare.encode()), NETWORK, NOW_S)
    assert (bare.contacts, bare.settlement) == ((), b"")


def test_its_contacts_are_its_key_at_each_address() -> None:
    public = key(3).public
    assert FULL.contacts == (
        Contact(public, "127.0.0.1:4001"),
        Contact(public, "[2001:db8::1]:4001"),
    )
    assert {contact.node_id for contact in FULL.contacts} == {FULL.key}


def test_roles_stand_in_one_order_and_once() -> None:
    mixed = node_record(roles=["index", "provider", "index", "verifier", "relay"])
    assert mixed.roles == ROLES == ("provider", "relay", "verifier", "index")
    assert mixed == node_record(roles=ROLES)


@pytest.mark.parametrize(
    "change",
    [
        {"public_key": key(4).public},
        {"sequence": 1},
        {"issued_s": NOW_S + 1},
        {"expires_s": NOW_S + 1},
        {"settlement": b""},
        {"addresses": FULL.addresses[::-1]},
        {"addresses": FULL.addresses[:1]},
        {"relays": ()},
        {"roles": ("provider",)},
        {"terms_digest": bytes(32)},
        {"free_class": 41},
        {"region": ""},
        {"operator": "another"},
        {"signature": bytes(64)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_field_is_signed(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidSignature):
        verify(replace(FULL, **change), NETWORK, NOW_S)


def code(**changes: Any) -> str:
    with pytest.raises(PeerError) as failure:
        verify(node_record(**changes), NETWORK, NOW_S)
    return failure.value.detail_code


def test_it_lives_a_day_at_most() -> None:
    verify(node_record(issued_s=NOW_S - 5, expires_s=NOW_S - 5 + NODE_TERM_S), NETWORK, NOW_S)
    assert code(issued_s=NOW_S - 5, expires_s=NOW_S - 4 + NODE_TERM_S) == "bad_expiry"
    assert code(issued_s=NOW_S + 9, expires_s=NOW_S + 9) == "bad_expiry"
    assert code(issued_s=NOW_S + 9, expires_s=NOW_S + 8) == "bad_expiry"


def test_it_is_not_issued_in_advance() -> None:
    limit = NOW_S + MAX_AHEAD_S
    verify(node_record(issued_s=limit, expires_s=limit + 1), NETWORK, NOW_S)
    assert code(issued_s=limit + 1, expires_s=limit + 2) == "from_future"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"settlement": bytes(19)}, "a settlement address of 19 bytes, 20 needed"),
        ({"addresses": ["h:1"] * 5}, "5 addresses, at most 4 allowed"),
        ({"addresses": ["h:1", "nowhere"]}, "address 'nowhere' is not host:port"),
        ({"addresses": ["h:0"]}, "address 'h:0' is not host:port"),
        ({"relays": [node(1)] * 4}, "4 relays, at most 3 allowed"),
        ({"free_class": 64}, "a free class of 64, at most 63 allowed"),
        ({"region": "x" * 33}, "region .*: it has 33 bytes, at most 32 allowed"),
        ({"region": "\N{SNOWMAN}" * 11}, "region .*: it has 33 bytes, at most 32 allowed"),
        ({"region": "a\x1b[2Jb"}, r"region 'a\\x1b\[2Jb': it is not printable"),
        ({"region": "a\u202eb"}, "it is not printable"),
        ({"operator": "x" * 65}, "operator .*: it has 65 bytes, at most 64 allowed"),
        ({"operator": "two\nlines"}, "it is not printable"),
        ({"operator": "\ud800"}, "it is not UTF-8"),
        ({"addresses": [LONG] * 4}, "1[0-9]{3} bytes, at most 1024 allowed"),
    ],
)
def test_what_a_reader_would_refuse_is_not_signed(change: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as failure:
        node_record(**change)
    assert failure.value.detail_code == "bad_node_record"


@pytest.mark.parametrize(
    "change",
    [
        {"settlement": bytes(19)},
        {"addresses": ("h:1",) * 5},
        {"addresses": ("nowhere",)},
        {"relays": (node(1),) * 4},
        {"free_class": 64},
        {"region": "x" * 33},
        {"region": "a\x1b[2Jb"},
        {"operator": "two\nlines"},
    ],
)
def test_what_another_signed_all_the_same_is_malformed(change: dict[str, Any]) -> None:
    forged = replace(FULL, **change)
    signed = replace(forged, signature=key(3).sign(forged.preimage()))
    with pytest.raises(MalformedMessage) as failure:
        parse_record(signed.encode())
    assert failure.value.detail_code == "malformed_message"


def test_an_unknown_role_is_malformed() -> None:
    raw = node_record(**BARE).encode()
    at = 16 + 32 + 32 + 24 + 4 + 1 + 1
    assert parse_record(raw[:at] + b"\x0f" + raw[at + 1 :]).roles == ROLES
    with pytest.raises(MalformedMessage, match="roles 0x10"):
        parse_record(raw[:at] + b"\x10" + raw[at + 1 :])


def test_over_1_kib_is_too_large() -> None:
    room = MAX_NODE_RECORD_BYTES - len(node_record(**BARE | {"addresses": [LONG] * 3}).encode())
    full = node_record(**BARE | {"addresses": [LONG] * 3, "operator": "x" * room})
    assert len(full.encode()) == MAX_NODE_RECORD_BYTES
    verify(parse_record(full.encode()), NETWORK, NOW_S)
    over = replace(full, region="x")
    for judge in (lambda: parse_record(over.encode()), lambda: verify(over, NETWORK, NOW_S)):
        with pytest.raises(MalformedMessage) as failure:
            judge()
        assert failure.value.detail_code == "too_large"


@pytest.mark.parametrize(
    ("free_bytes", "expected"),
    [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), ((1 << 40) - 1, 39), (1 << 40, 40)],
)
def test_free_space_is_told_to_the_next_power_of_two(free_bytes: int, expected: int) -> None:
    assert free_class(free_bytes) == expected
