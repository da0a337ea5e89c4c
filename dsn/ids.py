"""Identifiers as types, made only by the functions here that check them."""

from __future__ import annotations

import base64
import binascii
import functools
from typing import NewType

from dsn.errors import UsageError

NodeId = NewType("NodeId", bytes)
"""32 bytes: H(``dsn/node/v1`` tag, Ed25519 public key)."""
FileId = NewType("FileId", bytes)
"""32 bytes: H(``dsn/file/v1`` tag, placement public key, core hash)."""
Commit = NewType("Commit", bytes)
"""32 bytes: what a shard's holder computed over its bytes."""
NetworkId = NewType("NetworkId", bytes)
"""32 bytes: hash of a network file's genesis section."""
DealId = NewType("DealId", bytes)
"""32 bytes: the digest that both parties of a deal sign; all zero where nobody pays."""

ID_BYTES = 32
NO_DEAL = DealId(bytes(ID_BYTES))
NO_NETWORK = NetworkId(bytes(ID_BYTES))
"""Of what is part of a network's own id, and so cannot name it."""


def _checked(raw: bytes, what: str) -> bytes:
    if len(raw) != ID_BYTES:
        raise UsageError(f"a {what} is {ID_BYTES} bytes, got {len(raw)}", code="bad_id")
    return bytes(raw)


def node_id(raw: bytes) -> NodeId:
    """Check that ``raw`` (untrusted) has the size of a node id."""
    return NodeId(_checked(raw, "node id"))


def file_id(raw: bytes) -> FileId:
    """Check that ``raw`` (untrusted) has the size of a file id."""
    return FileId(_checked(raw, "file id"))


def commit(raw: bytes) -> Commit:
    """Check that ``raw`` (untrusted) has the size of a commit."""
    return Commit(_checked(raw, "commit"))


def network_id(raw: bytes) -> NetworkId:
    """Check that ``raw`` (untrusted) has the size of a network id."""
    return NetworkId(_checked(raw, "network id"))


def deal_id(raw: bytes) -> DealId:
    """Check that ``raw`` (untrusted) has the size of a deal id."""
    return DealId(_checked(raw, "deal id"))


def format_base32(raw: bytes) -> str:
    """Lower-case base32 without padding."""
    return base64.b32encode(raw).decode("ascii").rstrip("=").lower()


def parse_base32(text: str) -> bytes:
    """Decode what ``format_base32`` wrote, and nothing else.

    Args:
        text: Untrusted.

    Raises:
        UsageError: Upper case, padding, a foreign character, or spare bits that are not zero.
    """
    try:
        raw = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError) as error:
        raise UsageError("not lower-case base32", code="bad_base32") from error
    if format_base32(raw) != text:
        raise UsageError("not lower-case base32", code="bad_base32")
    return raw


@functools.lru_cache(maxsize=4096)
def format_node_id(node: NodeId) -> str:
    """``n`` and 52 characters of base32."""
    return "n" + format_base32(node)


def parse_node_id(text: str) -> NodeId:
    """Decode what ``format_node_id`` wrote (untrusted)."""
    if not text.startswith("n"):
        raise UsageError("a node id starts with n", code="bad_id")
    return node_id(parse_base32(text[1:]))


def short(node: NodeId) -> str:
    """The first ten characters of a node id's text, enough for people on one screen."""
    return format_node_id(node)[:10]
