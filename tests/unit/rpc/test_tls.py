"""Certificates prove keys; a copied binding proves nothing."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519

from dsn.core.keys import SigningKey, node_id_of
from dsn.errors import InvalidSignature
from dsn.rpc import tls
from tests.support.forgery import with_binding_of

ANN, BOB = SigningKey(b"a" * 32), SigningKey(b"b" * 32)


def loaded(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def test_a_server_leaf_verifies_under_the_root_made_from_the_public_key() -> None:
    leaf, root = loaded(tls.server_leaf(ANN).certificate), loaded(tls.pinned_root(ANN.public))
    leaf.verify_directly_issued_by(root)
    key = root.public_key()
    assert isinstance(key, ed25519.Ed25519PublicKey)
    assert key.public_bytes_raw() == ANN.public


def test_leaf_and_root_have_different_names() -> None:
    """A leaf whose name equals its issuer's is taken for self-signed and refused."""
    leaf = loaded(tls.server_leaf(ANN).certificate)
    assert leaf.subject != leaf.issuer
    assert leaf.issuer == loaded(tls.pinned_root(ANN.public)).subject


def test_the_pinned_root_needs_no_certificate_of_the_node() -> None:
    assert tls.pinned_root(ANN.public) == tls.pinned_root(ANN.public)
    with pytest.raises(ValueError, match=r"not match|issuer"):
        loaded(tls.server_leaf(BOB).certificate).verify_directly_issued_by(
            loaded(tls.pinned_root(ANN.public))
        )


def test_every_leaf_has_a_key_of_its_own() -> None:
    assert tls.server_leaf(ANN) != tls.server_leaf(ANN)
    assert tls.client_leaf(ANN) != tls.client_leaf(ANN)


def test_a_client_leaf_names_its_key() -> None:
    leaf = tls.client_leaf(ANN)
    loaded(leaf.certificate).verify_directly_issued_by(loaded(tls.client_authority()))
    assert tls.verified_caller(leaf.certificate) == tls.Caller(node_id_of(ANN.public), ANN.public)


def test_a_secret_key_is_not_shown() -> None:
    assert "PRIVATE" not in repr(tls.client_leaf(ANN))


def test_a_copied_binding_is_refused() -> None:
    with pytest.raises(InvalidSignature) as refused:
        tls.verified_caller(with_binding_of(tls.client_leaf(ANN).certificate).certificate)
    assert refused.value.detail_code == tls.UNPROVEN


def test_a_certificate_without_a_binding_is_refused() -> None:
    with pytest.raises(InvalidSignature) as refused:
        tls.verified_caller(tls.server_leaf(ANN).certificate)
    assert refused.value.detail_code == tls.UNPROVEN
