"""The answers of a node: for each epoch that it linked, the link and the openings behind it.

One file an epoch, named by it: ``u8 version, link, u32 count, count x (u32 length, opening),
SHA-256 of all before``. A file that is there says that the link may have been sent, whatever is in
it; what does not read back exactly as it was written is lost, and never half right.

Spec: docs/spec/proofs.md#proof-of-spacetime.
"""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES
from dsn.errors import DataLost, DsnError, MalformedMessage, NoSpace, NotFound
from dsn.proofs.por import answer_root
from dsn.proofs.post import Link
from dsn.store.files import PRIVATE_DIRECTORY, sync_directory, write_atomic

FOLDER: Final = "answers"
"""In a home's state."""
MOST_OPENING_BYTES: Final = 22_584
_VERSION: Final = 1
_SUFFIX: Final = ".answer"
_TAKEOVER: Final = "takeover"


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A link and its openings in draw order, one for each leaf that was asked for."""

    link: Link
    openings: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The file's bytes."""
        link = self.link.encode()
        writer = Writer().u8(_VERSION).raw(link, len(link)).u32(len(self.openings))
        for opening in self.openings:
            writer.var(opening)
        body = writer.done()
        return body + sha256(body).digest()

    @classmethod
    def decode(cls, raw: bytes) -> StoredAnswer:
        """Read what ``encode`` wrote.

        Args:
            raw: As the disk gave it.

        Raises:
            MalformedMessage: Not every byte is as it was, or the openings are not the link's.
        """
        body, digest = raw[:-HASH_BYTES], raw[-HASH_BYTES:]
        reader = Reader(body, "answer")
        if sha256(body).digest() != digest or reader.u8() != _VERSION:
            raise reader.refuse("its checksum fails")
        link = Link.read(reader)
        openings = tuple(reader.var(MOST_OPENING_BYTES) for _ in range(reader.u32()))
        reader.end()
        if len(openings) != link.count or answer_root(openings) != link.answer_root:
            raise reader.refuse("its openings are not those of its link")
        return cls(link, openings)


class AnswerStore:
    """One home's answers, and whether the home may go on; made by ``open_answers``."""

    def __init__(self, folder: Path, sizes: dict[int, int]) -> None:
        """Use ``folder``, in which the answers of epochs take as many bytes as ``sizes`` says."""
        self._folder, self._sizes = folder, sizes
        self.waiting, self.accepted = _read_takeover(folder)
        self._turn = asyncio.Lock()

    @property
    def epochs(self) -> frozenset[int]:
        """The epochs that a link was made for here, as far back as answers are kept."""
        return frozenset(self._sizes)

    @property
    def newest(self) -> int:
        """The newest epoch that a link was made for, or 0."""
        return max(self._sizes, default=0)

    @property
    def size_bytes(self) -> int:
        """What all answers take on disk."""
        return sum(self._sizes.values())

    def __contains__(self, epoch: int) -> bool:
        """Whether a link was made for ``epoch``, readable or not."""
        return epoch in self._sizes

    async def put(self, answer: StoredAnswer) -> None:
        """Keep an answer; it survives kill -9 and a loss of power once this returns.

        Raises:
            NoSpace: The disk is full; nothing is kept.
            DataLost: ``disk_failed``.
        """
        epoch, raw = answer.link.epoch, answer.encode()
        assert epoch not in self._sizes
        async with self._turn:
            try:
                await asyncio.to_thread(_write_once, self._file(epoch), raw)
            except OSError as error:
                raise _failing(self._folder, error) from error
            self._sizes[epoch] = len(raw)

    async def get(self, epoch: int) -> StoredAnswer:
        """The answer of ``epoch``.

        Raises:
            NotFound: ``unknown_answer``: none was made, it is kept no longer, or it is lost.
            DataLost: ``disk_failed``: the disk cannot read it now.
        """
        if epoch not in self._sizes:
            raise _unknown(epoch, "is not kept here")
        try:
            return await asyncio.to_thread(self._read, epoch)
        except FileNotFoundError as error:
            raise _unknown(epoch, "is gone") from error
        except OSError as error:
            raise _failing(self._folder, error) from error
        except MalformedMessage as error:
            raise _unknown(epoch, "was damaged on disk") from error

    async def drop_before(self, epoch: int) -> int:
        """Drop the answers of all epochs before ``epoch``; gives how many there were."""
        old = [each for each in self._sizes if each < epoch]
        async with self._turn:
            for each in old:
                await asyncio.to_thread(self._file(each).unlink, missing_ok=True)
                del self._sizes[each]
        return len(old)

    async def resume(self, epoch: int) -> None:
        """Go on after a takeover: whose the links up to ``epoch`` are is no matter any more."""
        await asyncio.to_thread(write_atomic, self._folder / _TAKEOVER, b"%d" % epoch)
        self.waiting, self.accepted = False, epoch

    def _file(self, epoch: int) -> Path:
        return self._folder / f"{epoch}{_SUFFIX}"

    def _read(self, epoch: int) -> StoredAnswer:
        answer = StoredAnswer.decode(self._file(epoch).read_bytes())
        if answer.link.epoch != epoch:
            raise MalformedMessage(f"answer: of epoch {answer.link.epoch} under {epoch}")
        return answer


def open_answers(folder: Path) -> AnswerStore:
    """The answers in ``folder``, which is made if it is missing.

    Raises:
        DataLost: ``disk_failed``.
    """
    try:
        if not folder.exists():
            folder.mkdir(PRIVATE_DIRECTORY)
            sync_directory(folder.parent)
        for half in folder.glob(f".*{_SUFFIX}.*"):  # a crash left it
            half.unlink()
        return AnswerStore(folder, _sizes(folder))
    except OSError as error:
        raise _failing(folder, error) from error


def linked_epochs(folder: Path) -> frozenset[int]:
    """The epochs whose answers are in ``folder``, if there is such a folder."""
    return frozenset(_sizes(folder)) if folder.exists() else frozenset()


def begin_takeover(folder: Path) -> None:
    """Have the home that ``folder`` is in wait for an epoch without a link of another home."""
    folder.mkdir(PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    write_atomic(folder / _TAKEOVER, b"")


def _write_once(file: Path, raw: bytes) -> None:
    """Write ``raw``; a file that is there is from a try that failed late, and says the same."""
    try:
        write_atomic(file, raw, replace=False)
    except FileExistsError:
        if file.read_bytes() != raw:
            raise
        sync_directory(file.parent)


def _sizes(folder: Path) -> dict[int, int]:
    """Bytes by epoch."""
    found = {file.stem: file for file in folder.iterdir() if file.suffix == _SUFFIX}
    return {int(name): file.stat().st_size for name, file in found.items() if name.isdecimal()}


def _read_takeover(folder: Path) -> tuple[bool, int]:
    """Whether a takeover waits, and up to which epoch the links of others are accepted."""
    file = folder / _TAKEOVER
    if not file.exists():
        return False, 0
    text = file.read_text("ascii", "replace").strip()
    return (False, int(text)) if text.isdecimal() else (True, 0)


def _unknown(epoch: int, what: str) -> NotFound:
    return NotFound(f"the answer of epoch {epoch} {what}", code="unknown_answer")


def _failing(folder: Path, error: OSError) -> DsnError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"no room for an answer in {folder}", hint="free some space")
    return DataLost(f"the answers in {folder} fail: {error}", code="disk_failed")
