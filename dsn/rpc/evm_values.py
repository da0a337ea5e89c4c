"""Values of JSON-RPC answers, read strictly: whoever sends them is a stranger.

Spec: docs/spec/chain.md#endpoint; EIP-1474.
"""

from __future__ import annotations

from typing import Final

from dsn.errors import MalformedMessage

MAX_DATA_BYTES: Final = 8 << 20
"""Of one value in an answer."""
HASH_BYTES: Final = 32
U64_MAX: Final = (1 << 64) - 1
U256_MAX: Final = (1 << 256) - 1
_SHOWN_CHARS: Final = 120


def hexed(raw: bytes) -> str:
    """``0x`` and the digits of ``raw``."""
    return "0x" + raw.hex()


def quantity(value: object, most: int = U64_MAX) -> int:
    """A number of an answer (untrusted).

    Raises:
        MalformedMessage: It is none, or above ``most``.
    """
    try:
        if isinstance(value, str) and value.startswith("0x") and len(value) <= len(hex(U256_MAX)):
            number = int(value, 16)
            if 0 <= number <= most:
                return number
    except ValueError:
        pass
    raise malformed(f"{str(value)[:_SHOWN_CHARS]!r} is no number up to {most}")


def data(value: object, size: int | None = None) -> bytes:
    """Bytes of an answer (untrusted), ``size`` of them if that is given.

    Raises:
        MalformedMessage: They are not, or too many.
    """
    if not isinstance(value, str) or not value.startswith("0x"):
        raise malformed("a value that is not in hexadecimal")
    try:
        raw = bytes.fromhex(value[2:])
    except ValueError:
        raise malformed("a value that is not in hexadecimal") from None
    if len(raw) > MAX_DATA_BYTES or (size is not None and len(raw) != size):
        raise malformed(f"a value of {len(raw)} bytes, {size or MAX_DATA_BYTES} expected")
    return raw


def fields(value: object) -> dict[str, object]:
    """An object of an answer (untrusted).

    Raises:
        MalformedMessage: It is none.
    """
    if not isinstance(value, dict):
        raise malformed(f"a {type(value).__name__} where an object belongs")
    return value


def printable(text: str) -> str:
    """The beginning of a text of an endpoint (untrusted), with nothing that a terminal obeys."""
    return "".join(each if each.isprintable() else "?" for each in text[:_SHOWN_CHARS])


def malformed(what: str) -> MalformedMessage:
    """The error that an endpoint answers ``what``."""
    return MalformedMessage(f"the chain's endpoint answers {what}")
