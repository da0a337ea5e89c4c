"""Canonical JSON, and a reader of it that believes nothing and names the place it refuses.

Sorted keys, no blanks, ASCII. Bytes are hexadecimal or base64, numbers are decimal strings: no
reader anywhere rounds them. There is one spelling of everything.

Spec: docs/spec/proofs.md#bundle.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, NoReturn

from dsn.errors import ConfigError, DsnError, MalformedMessage, PeerError
from dsn.units import MIB

MAX_BUNDLE_BYTES: Final = 3 * MIB
"""It travels in one message."""
MAX_VALUES: Final = 1 << 18
"""Commas and brackets in one bundle: no text of its size can make many more objects."""
MAX_DEPTH: Final = 16
_MARKS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)
"""Strings, one that nobody closes too, and the brackets between them."""
_TURNS: Final = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
_EVIDENCE_BYTES: Final = 4_096

Tree = Mapping[str, Any]


def canonical(tree: Tree) -> bytes:
    """The one text of ``tree``."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return text.encode("ascii")


def parse_tree(raw: bytes) -> Cursor:
    """Read JSON of a bounded size and number of values; its spelling is for the caller.

    Args:
        raw: Untrusted.

    Raises:
        MalformedMessage: ``too_large``, or ``malformed_message``: no such JSON object.
    """
    if len(raw) > MAX_BUNDLE_BYTES:
        raise MalformedMessage(f"bundle: more than {MAX_BUNDLE_BYTES >> 20} MiB", code="too_large")
    if sum(map(raw.count, (b"[", b"{", b","))) > MAX_VALUES:
        raise _malformed("", f"more than {MAX_VALUES} values")
    if _depth(raw) > MAX_DEPTH:
        raise _malformed("", f"nested more than {MAX_DEPTH} deep")
    try:
        value = json.loads(
            raw.decode("ascii"), parse_int=_refuse, parse_float=_refuse, parse_constant=_refuse
        )
    except ValueError as error:
        reason = f"not JSON of objects, lists and strings{_where(error)}"
        raise _malformed("", reason) from error
    return Cursor(value, "")


def _depth(raw: bytes) -> int:
    """How deep brackets nest; the parser would find out on its own stack, which ends somewhere."""
    return max(accumulate(_TURNS.get(each[0], 0) for each in _MARKS.finditer(raw)), default=0)


def _where(error: ValueError) -> str:
    """At which byte a text is no JSON, if that is known."""
    match error:
        case json.JSONDecodeError():
            return f", at byte {error.pos}"
        case UnicodeDecodeError():
            return f", at byte {error.start}"
    return f", but {error}"


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"a bare {text[:20]}")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A value at a ``place`` of the text; reading it as anything it is not is refused."""

    value: Any
    place: str

    def refuse(self, reason: str) -> MalformedMessage:
        """The error to raise for ``reason``."""
        return _malformed(self.place, reason)

    def field(self, name: str) -> Cursor:
        """What an object has under ``name``."""
        if not isinstance(self.value, dict) or name not in self.value:
            raise self.refuse(f"an object with {name} needed")
        return Cursor(self.value[name], f"{self.place}.{name}".lstrip("."))

    def items(self, most: int) -> Iterator[Cursor]:
        """What a list of at most ``most`` values has."""
        if not isinstance(self.value, list) or len(self.value) > most:
            raise self.refuse(f"a list of at most {most} values needed")
        return (Cursor(each, f"{self.place}[{n}]") for n, each in enumerate(self.value))

    @property
    def absent(self) -> bool:
        """Whether nothing stands here."""
        return self.value is None

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            raise self.refuse("a string needed")
        return self.value

    def hex(self, *sizes: int) -> bytes:
        """Hexadecimal digits of one of ``sizes``; of any size if none is given."""
        try:
            raw = bytes.fromhex(self.text())
        except ValueError as error:
            raise self.refuse("hexadecimal digits needed") from error
        if sizes and len(raw) not in sizes:
            raise self.refuse(f"{len(raw)} bytes, {' or '.join(map(str, sizes))} needed")
        return raw

    def base64(self) -> bytes:
        """Base64 with its padding."""
        try:
            return base64.b64decode(self.text(), validate=True)
        except ValueError as error:
            raise self.refuse("base64 needed") from error

    def uint(self, most: int) -> int:
        """A decimal number from 0 to ``most``."""
        digits = self.text()
        if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(most))):
            raise self.refuse(f"a number from 0 to {most} needed")
        number = int(digits)
        if number > most:
            raise self.refuse(f"{number}, at most {most} allowed")
        return number


def first_difference(one: Any, other: Any, place: str = "") -> str | None:
    """Where two trees first differ, if they do: ``parts[3].answer.root``."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return _first(
            (one.get(name), other.get(name), f"{place}.{name}".lstrip("."))
            for name in sorted({*one, *other})
        )
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return _first((*pair, f"{place}[{n}]") for n, pair in pairs)
    return None if one == other else place


def _first(parts: Iterator[tuple[Any, Any, str]]) -> str | None:
    found = (first_difference(*part) for part in parts)
    return next((place for place in found if place is not None), None)


def hexes(hashes: Sequence[bytes]) -> list[str]:
    """Each as hexadecimal digits."""
    return [each.hex() for each in hashes]


def base64_text(raw: bytes) -> str:
    """As ``Cursor.base64`` reads it."""
    return base64.b64encode(raw).decode("ascii")


@contextmanager
def at(place: str) -> Iterator[None]:
    """Have any error but the reader's own fault name the ``place`` that it comes from."""
    try:
        yield
    except ConfigError:
        raise
    except PeerError as error:
        message = f"{place}: {error.message}"
        evidence = error.evidence[:_EVIDENCE_BYTES]
        kind = next(each for each in type(error).__mro__ if "code" in vars(each))
        raise kind(message, code=error.detail_code, evidence=evidence) from error
    except DsnError as error:
        raise MalformedMessage(f"{place}: {error.message}", code=error.detail_code) from error


def _malformed(place: str, reason: str) -> MalformedMessage:
    return MalformedMessage(f"bundle: {place}: {reason}" if place else f"bundle: {reason}")
