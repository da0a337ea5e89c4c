"""The fixed big-endian encoding of everything that is hashed, signed or sealed.

A ``Reader`` refuses what is short, long or out of range; a decoder built on it ends with
``end()`` and, where a format has more than one spelling, compares its re-encoding.
"""

from __future__ import annotations

from dsn.errors import MalformedMessage

U8_MAX, U16_MAX, U32_MAX, U64_MAX = (1 << 8) - 1, (1 << 16) - 1, (1 << 32) - 1, (1 << 64) - 1


class Writer:
    """Append fields; ``done`` gives the bytes. Every method returns the writer itself."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        """Start with no bytes."""
        self._parts: list[bytes] = []

    def _uint(self, value: int, size: int) -> Writer:
        self._parts.append(value.to_bytes(size, "big"))
        return self

    def u8(self, value: int) -> Writer:
        """One byte."""
        return self._uint(value, 1)

    def u16(self, value: int) -> Writer:
        """Two bytes."""
        return self._uint(value, 2)

    def u32(self, value: int) -> Writer:
        """Four bytes."""
        return self._uint(value, 4)

    def u64(self, value: int) -> Writer:
        """Eight bytes."""
        return self._uint(value, 8)

    def raw(self, value: bytes, size: int) -> Writer:
        """A field of exactly ``size`` bytes."""
        assert len(value) == size
        self._parts.append(bytes(value))
        return self

    def var(self, value: bytes) -> Writer:
        """A u32 length and that many bytes."""
        self._uint(len(value), 4)
        self._parts.append(bytes(value))
        return self

    def text(self, value: str) -> Writer:
        """UTF-8 as ``var``."""
        return self.var(value.encode("utf-8"))

    def done(self) -> bytes:
        """All fields, in order."""
        return b"".join(self._parts)


class Reader:
    """Take fields from untrusted ``data``; anything unexpected is a ``MalformedMessage``."""

    __slots__ = ("_data", "_at", "_what")

    def __init__(self, data: bytes | memoryview, what: str) -> None:
        """Read ``data``; ``what`` names the format in errors."""
        self._data = bytes(data)
        self._at = 0
        self._what = what

    def refuse(self, reason: str) -> MalformedMessage:
        """The error to raise for ``reason``."""
        return MalformedMessage(f"{self._what}: {reason}", evidence=self._data[:4096])

    def raw(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise self.refuse(f"ends after {len(self._data)} bytes, {end} needed")
        part = self._data[self._at : end]
        self._at = end
        return part

    def _uint(self, size: int) -> int:
        return int.from_bytes(self.raw(size), "big")

    def u8(self) -> int:
        """One byte."""
        return self._uint(1)

    def u16(self) -> int:
        """Two bytes."""
        return self._uint(2)

    def u32(self) -> int:
        """Four bytes."""
        return self._uint(4)

    def u64(self) -> int:
        """Eight bytes."""
        return self._uint(8)

    def var(self, most: int) -> bytes:
        """A u32 length, at most ``most``, and that many bytes."""
        size = self.u32()
        if size > most:
            raise self.refuse(f"a field of {size} bytes, at most {most} allowed")
        return self.raw(size)

    def text(self, most: int) -> str:
        """UTF-8 of at most ``most`` bytes."""
        try:
            return self.var(most).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.refuse("text is not UTF-8") from error

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def end(self) -> None:
        """Refuse trailing bytes."""
        if self.left:
            raise self.refuse(f"{self.left} bytes too many")
