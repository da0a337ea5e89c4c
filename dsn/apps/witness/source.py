"""Fetching what replaying a log asks for; the ledger serves it, and may serve anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from dsn.apps.ledger.asking import Asking
from dsn.apps.witness.claims import Source
from dsn.apps.witness.judge import PUBLISHED
from dsn.apps.witness.served import Course
from dsn.core.codec import U16_MAX
from dsn.errors import (
    DsnError,
    LimitReached,
    MalformedMessage,
    NotFound,
    PeerError,
    TransportError,
    Unreachable,
)
from dsn.ledger.tiles import TILE_WIDTH, Bundle, encode_bundle, parse_path
from dsn.runtime.kernel import Kernel
from dsn.wire.status import RetryLater

_TOO_LARGE: Final = "too_large"
_T = TypeVar("_T")


class LedgerSource:
    """Gives what a course asks for."""

    def __init__(self, ask: Asking) -> None:
        """Reach it by ``ask``."""
        self._ask = ask

    async def read(self, path: str) -> bytes:
        """The bytes under ``path``; of a checkpoint that is not there yet, none.

        Raises:
            TransportError: The ledger cannot be reached.
            PeerError: ``ledger_refused``, or what it answers is nothing that it may.
            RetryLater: It is too busy.
        """
        try:
            return await self._read(path)
        except (TransportError, PeerError, RetryLater):
            raise
        except DsnError as error:
            reason = f"the ledger does not give {path}: {error.message}"
            raise PeerError(reason, code="ledger_refused", peer=error.peer) from error

    async def _read(self, path: str) -> bytes:
        if path == PUBLISHED:
            try:
                return (await self._ask(lambda peer: peer.get_checkpoint())).checkpoint
            except (NotFound, Unreachable):  # nothing was published yet, or nobody is there
                return b""
        try:
            return await self._ask(lambda peer: peer.get_tile(path))
        except DsnError as error:
            bundle = parse_path(path)
            large = isinstance(error, LimitReached) or error.detail_code == _TOO_LARGE
            if not large or isinstance(error, RetryLater) or not isinstance(bundle, Bundle):
                raise
            return await self._leaf_by_leaf(bundle)

    async def _leaf_by_leaf(self, bundle: Bundle) -> bytes:
        """A bundle whose entries are so large that no message holds them all."""
        first = bundle.index * TILE_WIDTH
        end = first + bundle.width
        leaves = [await self._leaf(index, end) for index in range(first, end)]
        if max(map(len, leaves)) > U16_MAX:
            raise MalformedMessage(f"a leaf beyond {U16_MAX} bytes")
        return encode_bundle(leaves)

    async def _leaf(self, index: int, size: int) -> bytes:
        return (await self._ask(lambda peer: peer.get_inclusion(index, size))).leaf


@dataclass(frozen=True, slots=True)
class _Done(Generic[_T]):
    """What a course returned."""

    result: _T


async def drive(
    course: Course[_T], source: Source, thread: Kernel, moved: Callable[[], None]
) -> _T:
    """Run ``course`` to its end: its arithmetic in ``thread``, what it asks for from ``source``.

    Args:
        course: Closed in any case.
        source: Of bytes.
        thread: The only one that touches what ``course`` works on.
        moved: Called after each step.

    Raises:
        DsnError: As ``course`` or ``source``.
    """
    try:
        reached = await thread.run(_go_on, course, None)
        while isinstance(reached, str):
            reached = await thread.run(_go_on, course, await source.read(reached))
            moved()
    finally:
        await thread.run(course.close)  # a cancelled step may still run there
    return reached.result


def _go_on(course: Course[_T], answer: bytes | None) -> str | _Done[_T]:
    try:
        return next(course) if answer is None else course.send(answer)
    except StopIteration as done:
        return _Done(done.value)
