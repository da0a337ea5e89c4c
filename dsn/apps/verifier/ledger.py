"""The verifier's ledger: kept up to date, and asked for what stands in it, one thing at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

import structlog

from dsn.apps.verifier.archive import Archive
from dsn.apps.witness.judge import PUBLISHED
from dsn.apps.witness.source import LedgerSource, drive
from dsn.ledger.checkpoint import SignedCheckpoint, parse_checkpoint
from dsn.ledger.trust import Trust
from dsn.ports import Clock
from dsn.runtime.kernel import Kernel

SAY_EVERY_S: Final = 5.0
_log = structlog.get_logger("verifier")
_T = TypeVar("_T")


class ReplayedLedger:
    """An ``Archive`` in its thread, and the newest checkpoint, which it is always at."""

    def __init__(
        self, archive: Archive, trust: Trust, source: LedgerSource, thread: Kernel, clock: Clock
    ) -> None:
        """Only ``thread`` touches ``archive`` from now on."""
        self._archive, self._trust, self._source = archive, trust, source
        self._thread, self._clock = thread, clock
        self._turn = asyncio.Lock()
        self.signed: SignedCheckpoint | None = None
        """The newest checkpoint, with a quorum's lines; nothing before the first one."""

    async def refresh(self) -> bool:
        """Follow to the newest cosigned checkpoint; whether there was anything new.

        Raises:
            TransportError: The ledger does not answer.
            InvalidSignature: Not signed, or ``no_quorum``.
            PeerError: As ``Follower.follow``.
        """
        note = await self._source.read(PUBLISHED)
        if not note:
            return False
        signed = parse_checkpoint(note)
        if self.signed is not None and signed.checkpoint == self.signed.checkpoint:
            return False
        self._trust.verify(signed, int(self._clock.now_s()))
        async with self._turn:
            said_s, size = self._clock.monotonic_s(), signed.checkpoint.size

            def moved() -> None:
                nonlocal said_s
                if self._clock.monotonic_s() - said_s > SAY_EVERY_S:
                    said_s = self._clock.monotonic_s()
                    _log.info("replaying", size=self._archive.size, of=size)

            await drive(self._archive.follow(signed), self._source, self._thread, moved)
            self.signed = signed
        return True

    async def ask(self, question: Callable[[Archive, SignedCheckpoint], _T]) -> _T:
        """What ``question`` finds in the archive as of the newest checkpoint; there is one."""
        async with self._turn:
            assert self.signed is not None
            return await self._thread.run(question, self._archive, self.signed)
