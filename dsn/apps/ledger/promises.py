"""Promises of the ledger that it has yet to keep: this leaf stands at this index.

They lie on disk until the entry was seen where it was promised. An operator that drops an entry
which it accepted is then convicted by its own signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES
from dsn.core.keys import SIGNATURE_BYTES
from dsn.errors import MalformedMessage
from dsn.ledger.promise import Promise
from dsn.store.files import PRIVATE_DIRECTORY, write_atomic


class Promises:
    """Promises that were verified, one file for those of one call.

    Several processes of a home keep theirs in one directory: no two write the same file.
    """

    def __init__(self, directory: Path) -> None:
        """Take up those that an earlier run left in ``directory``, which need not be there."""
        self._directory = directory
        self._files: dict[Path, set[Promise]] = {}
        for file in sorted(directory.glob("*")):
            with suppress(MalformedMessage, FileNotFoundError):
                self._files[file] = set(_decode(file.read_bytes()))

    def keep(self, promised: Sequence[Promise]) -> None:
        """Remember what was promised by one call; it survives a crash once this returns."""
        if not promised:
            return
        self._directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        file = self._directory / f"{promised[0].index:020}"
        write_atomic(file, _encode(promised))
        self._files[file] = set(promised)

    def due(self, size: int) -> list[Promise]:
        """Those that a log of ``size`` entries must have kept."""
        return [each for some in self._files.values() for each in some if each.index < size]

    def kept(self, promised: Promise) -> None:
        """Forget a promise that was kept."""
        for file, waiting in list(self._files.items()):
            waiting.discard(promised)
            if not waiting:
                del self._files[file]
                file.unlink(missing_ok=True)


def _encode(promised: Iterable[Promise]) -> bytes:
    writer = Writer()
    for each in promised:
        writer.u64(each.index).raw(each.leaf, HASH_BYTES).raw(each.signature, SIGNATURE_BYTES)
    return writer.done()


def _decode(raw: bytes) -> Iterable[Promise]:
    reader = Reader(raw, "promises")
    while reader.left:
        index, leaf = reader.u64(), reader.raw(HASH_BYTES)
        yield Promise(index, leaf, reader.raw(SIGNATURE_BYTES))
