"""Bringing what happened on the chain into the ledger: each thing once, in order.

What was entered follows from the ledger itself. A file only says from which block on to look, and
counts only for a ledger that has not become shorter since: after an older copy was restored, all
is looked through again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

import structlog

from dsn.apps.ledgerd.desk import Desk
from dsn.apps.ledgerd.epochs import Sleep
from dsn.errors import ChainRefused, PeerError, TransportError
from dsn.store.files import write_atomic

RETRY_S: Final = 5.0
"""After the chain was silent."""
_T = TypeVar("_T")
ReadSince = Callable[[int], Awaitable[tuple[Sequence[_T], int]]]
"""What happened from a block on, by its number, and the block to ask from the next time."""
_log = structlog.get_logger("ledger")


class Mark:
    """Up to which block of the chain all was entered."""

    def __init__(self, file: Path, size: int) -> None:
        """Read ``file``, which need not be there; the ledger has ``size`` entries."""
        self._file = file
        try:
            self.number, known = map(int, file.read_text("ascii").split())
        except (OSError, ValueError):
            self.number, known = 0, 0
        if known > size:
            self.number = 0

    def move(self, number: int, size: int) -> None:
        """Go on from block ``number``; the ledger, of ``size`` entries, has what came before."""
        if number != self.number:
            write_atomic(self._file, f"{number} {size}\n".encode("ascii"))
            self.number = number


class Intake(Generic[_T]):
    """Enters one kind of what happens on the chain."""

    def __init__(
        self,
        desk: Desk,
        read: ReadSince[_T],
        enter: Callable[[_T], Awaitable[bool]],
        *,
        file: Path,
        every_s: float,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Prepare to enter what ``read`` gives.

        Args:
            desk: Of the ledger.
            read: Reads the chain; only what is final.
            enter: Enters one thing, or finds that it was entered or never can be; ``False``:
                something before it is missing.
            file: Remembers the block.
            every_s: Between two looks at the chain.
            sleep: Waits.
        """
        self._desk, self._read, self._enter = desk, read, enter
        self._every_s, self._sleep = every_s, sleep
        self._mark = Mark(file, desk.size)

    async def run(self) -> None:
        """Look again and again.

        Raises:
            DataLost, ConfigError: As ``Desk.run``.
        """
        while True:
            await self._sleep(self._every_s if await self.step() else RETRY_S)

    async def step(self) -> bool:
        """Look once, and enter what is new; whether the chain told, without a gap."""
        try:
            found, after = await self._read(self._mark.number)
        except (TransportError, ChainRefused, PeerError) as error:
            _log.warning("chain", code=error.detail_code, reason=error.message)
            return False
        for each in found:
            if not await self._enter(each):
                _log.warning("a gap on the chain", since=self._mark.number)
                self._mark.move(0, self._desk.size)
                return False
        self._mark.move(after, self._desk.size)
        return True
