from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dsn.core.keys import SigningKey, node_id_of
from dsn.errors import InvalidSignature
from dsn.ids import NO_DEAL, Commit, DealId, NetworkId
from dsn.ledger.revision import (
    DealParties,
    Parties,
    Revision,
    Signers,
    first_revision,
    next_revision,
    sign_revision,
    verify_client_signature,
    verify_node_signature,
)
from dsn.ledger.typed import Domain, sign_typed
from dsn.proofs.inventory import EMPTY, holdings
from tests.support import signing
from tests.support.signing import DOMAIN, OTHER_DOMAINS, refusal, spoiled

NODE, CLIENT, OTHER = (SigningKey(bytes([n]) * 32) for n in (3, 4, 5))
PARTIES = Parties(NetworkId(b"\x01" * 32), NODE.public, CLIENT.public)
HELD = holdings([(Commit(bytes([n]) * 32), n + 1) for n in range(4)])
DEAL_PARTIES = DealParties(DOMAIN, signing.CLIENT.address, signing.PROVIDER.address)
Signs = Callable[[bytes], bytes]
WAYS: dict[str, tuple[Signers, Signs, Signs]] = {
    "nobody pays": (PARTIES, CLIENT.sign, NODE.sign),
    "a deal": (DEAL_PARTIES, signing.CLIENT.sign, signing.PROVIDER.sign),
}
"""Who signs where: the parties, then how the client and the node sign."""
WAY = pytest.mark.parametrize(("parties", "client", "node"), WAYS.values(), ids=WAYS)
REVISION = next_revision(Revision(DealId(b"\x06" * 32), 7, 1, 1, bytes(32)), HELD)


def test_a_revision_says_what_is_held() -> None:
    assert Revision(DealId(b"\x06" * 32), 8, 4, 10, HELD.root) == REVISION


def test_the_first_revision_says_that_nothing_is() -> None:
    first = first_revision(NO_DEAL)
    assert first == Revision(NO_DEAL, 0, 0, 0, EMPTY.root)
    assert next_revision(first, EMPTY) == replace(first, number=1)


@WAY
def test_both_sign_the_same_bytes(parties: Signers, client: Signs, node: Signs) -> None:
    verify_client_signature(REVISION, parties, sign_revision(REVISION, parties, client))
    verify_node_signature(REVISION, parties, sign_revision(REVISION, parties, node))


@WAY
def test_one_side_cannot_sign_for_the_other(parties: Signers, client: Signs, node: Signs) -> None:
    with pytest.raises(InvalidSignature):
        verify_client_signature(REVISION, parties, sign_revision(REVISION, parties, node))
    with pytest.raises(InvalidSignature):
        verify_node_signature(REVISION, parties, sign_revision(REVISION, parties, client))


def test_under_a_deal_both_sign_what_the_ledger_judges() -> None:
    for key in (signing.CLIENT, signing.PROVIDER):
        signature = sign_revision(REVISION, DEAL_PARTIES, key.sign)
        assert signature == sign_typed(REVISION.pledge, DOMAIN, key)


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
@WAY
def test_a_changed_revision_is_not_signed(
    parties: Signers, client: Signs, node: Signs, change: dict[str, Any]
) -> None:
    by_client, by_node = (sign_revision(REVISION, parties, sign) for sign in (client, node))
    changed = replace(REVISION, **change)
    with pytest.raises(InvalidSignature):
        verify_client_signature(changed, parties, by_client)
    with pytest.raises(InvalidSignature):
        verify_node_signature(changed, parties, by_node)


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


@pytest.mark.parametrize("domain", OTHER_DOMAINS.values(), ids=OTHER_DOMAINS)
def test_a_deals_signature_serves_where_it_settles_only(domain: Domain) -> None:
    elsewhere = replace(DEAL_PARTIES, domain=domain)
    signature = sign_revision(REVISION, DEAL_PARTIES, signing.CLIENT.sign)
    with pytest.raises(InvalidSignature):
        verify_client_signature(REVISION, elsewhere, signature)


def test_a_settlement_signature_has_one_spelling() -> None:
    signature = sign_revision(REVISION, DEAL_PARTIES, signing.PROVIDER.sign)
    for what, bad, code in spoiled(signature):
        found = refusal(lambda bad=bad: verify_node_signature(REVISION, DEAL_PARTIES, bad))
        assert found == code, what


def test_an_identity_key_signs_nothing_under_a_deal() -> None:
    signature = sign_revision(REVISION, PARTIES, NODE.sign)
    with pytest.raises(InvalidSignature):
        verify_node_signature(REVISION, DEAL_PARTIES, signature)
