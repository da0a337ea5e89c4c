"""Certificates that no honest client makes."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from dsn.rpc import tls
from dsn.rpc.tls import Leaf


def with_binding_of(victim: bytes) -> Leaf:
    """A leaf with a key of our own, and the extension of the ``victim``'s (PEM)."""
    extension = x509.load_pem_x509_certificate(victim).extensions.get_extension_for_oid(
        tls._BINDING
    )
    key = ec.generate_private_key(ec.SECP256R1())
    builder = tls._leaf_builder(key, "mallory", tls._AUTHORITY_NAME)
    builder = builder.add_extension(extension.value, critical=False)
    return tls._leaf(key, builder, tls._AUTHORITY_KEY.sign)
