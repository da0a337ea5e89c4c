"""Two certificates that prove an Ed25519 identity inside ordinary TLS.

A server's leaf is signed by its Ed25519 key as its own root, and a client rebuilds that root
from the public key alone, so no certificate is ever handed out. A client's leaf hangs under
an authority whose key is public, and names its Ed25519 key in an extension that also signs
the leaf: TLS by itself accepts a copied extension, so ``verified_caller`` must be asked.

The dates in the certificates mean nothing (the identity is the key), so they are fixed.

Spec: docs/spec/network.md, Identity inside TLS.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from dsn.core import tags
from dsn.core.hashing import tagged
from dsn.core.keys import (
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    SigningKey,
    node_id_of,
    verify_signature,
)
from dsn.errors import DsnError, InvalidSignature
from dsn.ids import NodeId

NAME_CHARS: Final = 58
"""A DNS label holds 63 characters; 58 hex digits of the node id leave room for a prefix."""
UNPROVEN: Final = "unproven_identity"

_BINDING: Final = x509.ObjectIdentifier("2.25.258721051028778722945425954181710357576")
_NOT_BEFORE = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER = datetime.datetime(2090, 1, 1, tzinfo=datetime.UTC)
_AUTHORITY_NAME = "dsn clients"
_AUTHORITY_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(
    tagged(tags.TLS, b"the client authority's key is public")
)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate and the P-256 key it speaks for, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of a connection, proven by its certificate."""

    node_id: NodeId
    public_key: bytes


def target_name(node: NodeId) -> str:
    """The name a node's leaf carries and a client insists on."""
    return node.hex()[:NAME_CHARS]


def server_leaf(identity: SigningKey) -> Leaf:
    """A fresh leaf under ``identity`` as its own root; old pins keep working."""
    name = target_name(node_id_of(identity.public))
    key = ec.generate_private_key(ec.SECP256R1())
    return _leaf(key, _leaf_builder(key, name, _root_name(name)), identity.sign)


def client_leaf(identity: SigningKey) -> Leaf:
    """A fresh leaf under the public authority, bound to ``identity``."""
    key = ec.generate_private_key(ec.SECP256R1())
    binding = identity.public + identity.sign(_statement(key.public_key()))
    builder = _leaf_builder(key, target_name(node_id_of(identity.public)), _AUTHORITY_NAME)
    builder = builder.add_extension(x509.UnrecognizedExtension(_BINDING, binding), critical=False)
    return _leaf(key, builder, _AUTHORITY_KEY.sign)


@functools.cache
def client_authority() -> bytes:
    """The authority's certificate (PEM), which every server trusts."""
    return _root(_AUTHORITY_KEY.public_key(), _AUTHORITY_NAME)


@functools.lru_cache(maxsize=1024)
def pinned_root(public_key: bytes) -> bytes:
    """The root certificate (PEM) of the node with ``public_key``, made from that key alone.

    Its own signature is not the node's: TLS stacks check the leaf's signature under the
    root's key and take the root as given.
    """
    name = _root_name(target_name(node_id_of(public_key)))
    return _root(ed25519.Ed25519PublicKey.from_public_bytes(public_key), name)


def server_credentials(identity: SigningKey) -> grpc.ServerCredentials:
    """Credentials that prove ``identity`` and ask every client for its leaf."""
    leaf = server_leaf(identity)
    return grpc.ssl_server_credentials(
        [(leaf.key, leaf.certificate)], client_authority(), require_client_auth=True
    )


def channel_credentials(leaf: Leaf, public_key: bytes) -> grpc.ChannelCredentials:
    """Credentials for a connection to nobody but the node with ``public_key``."""
    return grpc.ssl_channel_credentials(pinned_root(public_key), leaf.key, leaf.certificate)


@functools.lru_cache(maxsize=4096)
def verified_caller(certificate: bytes) -> Caller:
    """Whom a client's leaf (PEM, untrusted) proves.

    Raises:
        InvalidSignature: It has no binding, or one that was made for another leaf.
    """
    leaf = x509.load_pem_x509_certificate(certificate)
    try:
        extension = leaf.extensions.get_extension_for_oid(_BINDING).value
    except (x509.ExtensionNotFound, ValueError) as error:
        raise InvalidSignature("the client's certificate names no key", code=UNPROVEN) from error
    assert isinstance(extension, x509.UnrecognizedExtension)
    binding, key = extension.value, leaf.public_key()
    if len(binding) != PUBLIC_KEY_BYTES + SIGNATURE_BYTES or not isinstance(
        key, ec.EllipticCurvePublicKey
    ):
        raise InvalidSignature("the client's certificate has a bad binding", code=UNPROVEN)
    public_key = binding[:PUBLIC_KEY_BYTES]
    try:
        verify_signature(public_key, _statement(key), binding[PUBLIC_KEY_BYTES:])
    except DsnError as error:
        raise InvalidSignature(
            "the client's certificate is bound to another key than its own", code=UNPROVEN
        ) from error
    return Caller(node_id_of(public_key), public_key)


def _root_name(name: str) -> str:
    """OpenSSL takes a leaf for self-signed when its name equals its issuer's."""
    return "id-" + name


def _statement(key: ec.EllipticCurvePublicKey) -> bytes:
    return tags.TLS + key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: str, issuer: str) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
    )


def _root(public_key: ed25519.Ed25519PublicKey, name: str) -> bytes:
    builder = _builder(name, name).public_key(public_key).serial_number(1)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.sign(_AUTHORITY_KEY, None).public_bytes(serialization.Encoding.PEM)


def _leaf_builder(
    key: ec.EllipticCurvePrivateKey, name: str, issuer: str
) -> x509.CertificateBuilder:
    return (
        _builder(name, issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )


def _leaf(
    key: ec.EllipticCurvePrivateKey,
    builder: x509.CertificateBuilder,
    sign: Callable[[bytes], bytes],
) -> Leaf:
    """Sign with a callable, so that no identity key has to leave its holder.

    An Ed25519 signature has one size and ends the DER, so a placeholder is replaced in place.
    """
    placeholder = builder.sign(_AUTHORITY_KEY, None)
    der = placeholder.public_bytes(serialization.Encoding.DER)[:-SIGNATURE_BYTES]
    certificate = x509.load_der_x509_certificate(der + sign(placeholder.tbs_certificate_bytes))
    return Leaf(
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
