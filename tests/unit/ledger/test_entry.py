from __future__ import annotations

import random

import pytest

from dsn.errors import MalformedMessage
from dsn.ids import NetworkId
from dsn.ledger import bodies
from dsn.ledger.bodies import Kind
from dsn.ledger.entry import BODIES, Entry, sign_entry
from dsn.ledger.settlement import Address, recover
from dsn.ledger.typed import digest
from tests.support.entry_kinds import DEAL, ONE_OF_EACH, H
from tests.support.ledger_world import DOMAIN, KEYS, NETWORK, address
from tests.support.signing import eth_digest, refusal

SEED = 20_261_123
ENTRIES = [Entry(NETWORK, address("alice"), 5 + n, body) for n, body in enumerate(ONE_OF_EACH)]
each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: type(e.body).__name__)


def test_every_kind_has_one_body() -> None:
    assert {body.kind for body in ONE_OF_EACH} == set(Kind) == set(BODIES)
    assert [int(kind) for kind in Kind] == list(range(1, 20))


@each_entry
def test_an_entry_reads_back(entry: Entry) -> None:
    assert Entry.decode(entry.encode()) == entry


def test_the_encoding_field_by_field() -> None:
    entry = Entry(NETWORK, address("alice"), 9, bodies.Transfer(address("bob"), 78))
    body = address("bob") + (78).to_bytes(8, "big")
    head = b"\x06" + NETWORK + address("alice") + (9).to_bytes(8, "big")
    assert entry.encode() == head + len(body).to_bytes(4, "big") + body


@each_entry
def test_cut_or_lengthened_bytes_are_malformed(entry: Entry) -> None:
    raw = entry.encode()
    for bad in (*(raw[:size] for size in range(len(raw))), raw + b"\0"):
        with pytest.raises(MalformedMessage):
            Entry.decode(bad)
    body = entry.body.encode() + b"\0"
    with pytest.raises(MalformedMessage):
        Entry.decode(raw[:61] + len(body).to_bytes(4, "big") + body)


@each_entry
def test_no_bytes_are_another_spelling(entry: Entry) -> None:
    rng, raw = random.Random(SEED), entry.encode()
    for _ in range(300):
        bad = bytearray(raw)
        for _ in range(rng.randint(1, 3)):
            bad[rng.randrange(len(bad))] = rng.choice([0, 1, 2, 255, rng.randrange(256)])
        try:
            read = Entry.decode(bytes(bad))
        except MalformedMessage:
            continue
        assert read.encode() == bad, SEED


def test_an_unknown_kind_and_too_many_bytes_have_their_codes() -> None:
    raw = ENTRIES[0].encode()
    for kind in (0, 20, 255):
        assert refusal(lambda k=kind: Entry.decode(bytes([k]) + raw[1:])) == "unknown_kind"
    assert refusal(lambda: Entry.decode(bytes(32 * 1_024 + 1))) == "entry_too_large"
    assert refusal(lambda: Entry.decode(bytes(32 * 1_024))) == "unknown_kind"


@each_entry
def test_entries_are_signed_as_ethereum_would(entry: Entry) -> None:
    assert digest(DOMAIN, entry) == eth_digest(DOMAIN, entry)
    signed = sign_entry(entry, DOMAIN, KEYS["alice"])
    assert recover(digest(DOMAIN, entry), signed.signature) == address("alice")


def test_the_signature_covers_every_field() -> None:
    entry = ENTRIES[4]
    others = [
        Entry(NetworkId(H), entry.signer, entry.nonce, entry.body),
        Entry(NETWORK, Address(bytes(20)), entry.nonce, entry.body),
        Entry(NETWORK, entry.signer, entry.nonce + 1, entry.body),
        Entry(NETWORK, entry.signer, entry.nonce, bodies.Withdraw(76)),
        Entry(NETWORK, entry.signer, entry.nonce, bodies.Quit(DEAL)),
    ]
    digests = {digest(DOMAIN, each) for each in (entry, *others)}
    assert len(digests) == 6
