"""Links: a key and a file id as one line of text that a person can pass on.

A link that is mistyped, cut short or of the wrong kind is named as such, because the
alternative is a search for a file that does not exist.

Spec: docs/spec/data.md#keys-and-capabilities.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from dsn.core import tags
from dsn.core.hashing import tagged
from dsn.core.keys import KEY_BYTES, LINK_KEY_BYTES, FileKeys, Kind
from dsn.errors import UsageError
from dsn.ids import ID_BYTES, FileId, format_base32, parse_base32

_PREFIX: Final = "dsn:"
_CHECK_CHARS: Final = 4
_CHECK_BYTES: Final = 3
"""20 bits are four base32 characters; three bytes hold them."""
_KEY_SIZES: Final = {
    Kind.READ: LINK_KEY_BYTES,
    Kind.REPAIR: LINK_KEY_BYTES + KEY_BYTES,
    Kind.VERIFY: LINK_KEY_BYTES,
}
_FOREIGN = re.compile("[^a-z2-7]")


def _chars(size: int) -> int:
    """Base32 characters of ``size`` bytes."""
    return -(-size * 8 // 5)


_TAIL_CHARS: Final = _chars(ID_BYTES) + _CHECK_CHARS


@dataclass(frozen=True, slots=True)
class Capability:
    """What one link opens, and of which file.

    Attributes:
        kind: ``READ``, ``REPAIR`` or ``VERIFY``; owners need no link.
        key: 16 bytes, or 48 to repair.
        file_id: The file.
    """

    kind: Kind
    key: bytes = field(repr=False)
    file_id: FileId

    def __post_init__(self) -> None:
        """Hold our own callers to the sizes."""
        assert len(self.key) == _KEY_SIZES[self.kind]
        assert len(self.file_id) == ID_BYTES

    def keys(self) -> FileKeys:
        """All keys that follow from this one."""
        match self.kind:
            case Kind.READ:
                return FileKeys.read(self.key)
            case Kind.REPAIR:
                return FileKeys.repair(self.key[:LINK_KEY_BYTES], self.key[LINK_KEY_BYTES:])
            case _:
                return FileKeys.verify(self.key)

    def weaken(self, kind: Kind) -> Capability:
        """A link of ``kind`` to the same file.

        Raises:
            UsageError: ``bad_capability``, this link does not give that much.
        """
        return make_capability(self.keys(), kind, self.file_id)


def make_capability(keys: FileKeys, kind: Kind, file_id: FileId) -> Capability:
    """A link of ``kind`` to a file whose ``keys`` we have.

    Raises:
        UsageError: ``bad_capability``, the keys do not give that much.
    """
    match kind:
        case Kind.READ:
            return Capability(kind, keys.read_key, file_id)
        case Kind.REPAIR:
            return Capability(kind, keys.mask_key + keys.place_seed, file_id)
        case _:
            return Capability(Kind.VERIFY, keys.verify_key, file_id)


def format_capability(capability: Capability) -> str:
    """The link as text, with its checksum."""
    key, file_id = format_base32(capability.key), format_base32(capability.file_id)
    return f"{_PREFIX}{capability.kind.value}:{key}:{file_id}{_checksum(capability)}"


def is_capability(text: str) -> bool:
    """Whether ``text`` means a link, good or bad, rather than a name."""
    return text[: len(_PREFIX)].lower() == _PREFIX


def parse_capability(text: str) -> Capability:
    """Read what ``format_capability`` wrote, and nothing else.

    Args:
        text: Untrusted.

    Raises:
        UsageError: ``bad_capability``; the message says what is wrong with it, and never
            repeats a key.
    """
    kind = _parse_kind(text)
    start = len(_PREFIX) + len(kind.value) + 1
    size = start + _chars(_KEY_SIZES[kind]) + 1 + _TAIL_CHARS
    if len(text) != size:
        fault = "truncated" if len(text) < size else "too long"
        raise _bad(f"the {kind.value} link is {fault}: {len(text)} characters, {size} expected")
    colon = size - _TAIL_CHARS - 1
    if text[colon] != ":":
        raise _bad(f"the {kind.value} link is mistyped: no colon at character {colon + 1}")
    _check_alphabet(kind, text, start, colon)
    _check_alphabet(kind, text, colon + 1, size)
    tail = text[colon + 1 :]
    return _decode(kind, text[start:colon], tail[:-_CHECK_CHARS], tail[-_CHECK_CHARS:])


def _parse_kind(text: str) -> Kind:
    if not is_capability(text):
        kinds = ":, ".join(_PREFIX + kind.value for kind in _KEY_SIZES)
        raise _bad("this is not a link", hint=f"a link starts with {kinds}:")
    if text != text.lower():
        raise _bad("the link is mistyped: it has upper-case letters", hint="links are lower case")
    word, separator, _ = text.removeprefix(_PREFIX).partition(":")
    for kind in _KEY_SIZES:
        if word == kind.value and separator:
            return kind
        if kind.value.startswith(word) and not separator:
            raise _bad(f"the link is truncated: it ends after {len(text)} characters")
    raise _bad(f"{word[:20]!r} is no kind of link", hint="the kinds are read, repair and verify")


def _check_alphabet(kind: Kind, text: str, start: int, end: int) -> None:
    if foreign := _FOREIGN.search(text, start, end):
        raise _bad(
            f"the {kind.value} link is mistyped: {foreign[0]!r} at character {foreign.start() + 1}",
            hint="links are written with a to z and 2 to 7",
        )


def _decode(kind: Kind, key_text: str, file_text: str, check: str) -> Capability:
    mistyped = _bad(f"the {kind.value} link is mistyped: its checksum does not match")
    try:
        capability = Capability(kind, parse_base32(key_text), FileId(parse_base32(file_text)))
    except UsageError as error:
        raise mistyped from error
    if _checksum(capability) != check:
        raise mistyped
    return capability


def _checksum(capability: Capability) -> str:
    kind = capability.kind.value.encode("ascii")
    digest = tagged(tags.CAPABILITY, kind, capability.key, capability.file_id)
    return format_base32(digest[:_CHECK_BYTES])[:_CHECK_CHARS]


def _bad(message: str, hint: str = "copy it again, whole") -> UsageError:
    return UsageError(message, code="bad_capability", hint=hint)
