from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsn.core.keys import SigningKey, node_id_of
from dsn.errors import InvalidSignature
from dsn.ids import NO_DEAL, Commit, DealId, NetworkId
from dsn.ledger.revision import (
    Parties,
    Revision,
    first_revision,
    next_revision,
    sign_revision,
    verify_client_signature,
    verify_node_signature,
)
from dsn.proofs.inventory import EMPTY, holdings

NODE, CLIENT, OTHER = (SigningKey(bytes([n]) * 32) for n in (3, 4, 5))
PARTIES = Parties(NetworkId(b"\x01" * 32), NODE.public, CLIENT.public)
HELD = holdings([(Commit(bytes([n]) * 32), n + 1) for n in range(4)])
REVISION = next_revision(Revision(DealId(b"\x06" * 32), 7, 1, 1, bytes(32)), HELD)


def test_a_revision_says_what_is_held() -> None:
    assert Revision(DealId(b"\x06" * 32), 8, 4, 10, HELD.root) == REVISION


def test_the_first_revision_says_that_nothing_is() -> None:
    first = first_revision(NO_DEAL)
    assert first == Revision(NO_DEAL, 0, 0, 0, EMPTY.root)
    assert next_revision(first, EMPTY) == replace(first, number=1)


def test_both_sign_the_same_bytes() -> None:
    verify_client_signature(REVISION, PARTIES, sign_revision(REVISION, PARTIES, CLIENT.sign))
    verify_node_signature(REVISION, PARTIES, sign_revision(REVISION, PARTIES, NODE.sign))


def test_one_side_cannot_sign_for_the_other() -> None:
    with pytest.raises(InvalidSignature):
        verify_client_signature(REVISION, PARTIES, sign_revision(REVISION, PARTIES, NODE.sign))
    with pytest.raises(InvalidSignature):
        verify_node_signature(REVISION, PARTIES, sign_revision(REVISION, PARTIES, CLIENT.sign))


def test_the_preimage_field_by_field() -> None:
    numbers = b"".join(n.to_bytes(8, "big") for n in (8, 4, 10))
    tag = b"dsn/revision/v1".ljust(16, b"\0")
    parties = PARTIES.network + node_id_of(NODE.public) + CLIENT.public
    expected = tag + parties + REVISION.deal + numbers + HELD.root
    assert REVISION.preimage(PARTIES) == expected


@pytest.mark.parametrize(
    "change",
    [{"deal": NO_DEAL}, {"number": 9}, {"shards": 5}, {"leaves": 11}, {"root": bytes(32)}],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_revision_is_not_signed(change: dict[str, Any]) -> None:
    client, node = (sign_revision(REVISION, PARTIES, key.sign) for key in (CLIENT, NODE))
    changed = replace(REVISION, **change)
    with pytest.raises(InvalidSignature):
        verify_client_signature(changed, PARTIES, client)
    with pytest.raises(InvalidSignature):
        verify_node_signature(changed, PARTIES, node)


@pytest.mark.parametrize(
    "change",
    [
        {"network": NetworkId(bytes(32))},
        {"node_public": OTHER.public},
        {"client_public": OTHER.public},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_signature_serves_between_its_two_parties_only(change: dict[str, Any]) -> None:
    others = replace(PARTIES, **change)
    with pytest.raises(InvalidSignature):
        verify_client_signature(REVISION, others, sign_revision(REVISION, PARTIES, CLIENT.sign))
    with pytest.raises(InvalidSignature):
        verify_node_signature(REVISION, others, sign_revision(REVISION, PARTIES, NODE.sign))
