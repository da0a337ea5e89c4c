"""The publisher: signs how the log stands, has witnesses cosign it, and shows it to readers.

One checkpoint at a time is on its way. Each witness is asked on its own, so one that is down
holds up nobody; readers see a checkpoint once a quorum stands under it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import chain
from typing import Final

import structlog

from dsn.apps.ledgerd.books import Candidate, merged
from dsn.apps.ledgerd.desk import Desk, Operator
from dsn.apps.ledgerd.views import Views
from dsn.apps.ledgerd.witnesses import Witness
from dsn.errors import ConfigError, DsnError, PeerError
from dsn.ledger.checkpoint import (
    NoteSignature,
    SignedCheckpoint,
    format_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
    sign_root,
)
from dsn.ledger.trust import Trust
from dsn.ports import Clock

CONSULT_S: Final = 5.0
"""What each witness gets, when the ledger starts, to say that it is behind."""
SHORT_EPOCH_S: Final = 60
"""Where epochs are shorter, everything is done more often."""
RETRY_S: Final = 0.2
MOST_RETRY_S: Final = 5.0
BEHIND: Final = "ledger_behind"
_log = structlog.get_logger("ledger")


class Publisher:
    """Takes the log's head to its readers, again and again."""

    def __init__(
        self,
        desk: Desk,
        operator: Operator,
        views: Views,
        witnesses: Sequence[Witness],
        *,
        clock: Clock,
        every_s: float,
        keep: Callable[[bytes], None],
    ) -> None:
        """Publish what ``desk`` takes.

        Args:
            desk: Where the log grows.
            operator: Signs.
            views: What readers see.
            witnesses: All that the network file says how to reach.
            clock: For who cosigned when.
            every_s: The least time between two checkpoints.
            keep: Remembers a published note.
        """
        self._desk, self._operator, self._views = desk, operator, views
        self._witnesses, self._clock, self._every_s, self._keep = witnesses, clock, every_s, keep
        self._trust = Trust.of(operator.params)
        self._alone = asyncio.Lock()
        self._news = asyncio.Condition()
        self._candidate: Candidate | None = None
        self._signed: SignedCheckpoint | None = None
        self._lines: dict[str, Sequence[NoteSignature]] = {}
        self.cosigned_s: dict[str, float] = {}
        """By name, when a witness last cosigned, in Unix seconds."""
        self.refusals: Counter[str] = Counter()
        """By code, why witnesses did not."""

    def recall(self, note: bytes) -> None:
        """Show what an earlier process published, if readers would believe it.

        Args:
            note: As it was kept.

        Raises:
            ConfigError: ``ledger_behind``: it is of a longer log than this one.
        """
        check_newest(note, self._trust, self._desk.size)
        with suppress(DsnError):
            signed = parse_checkpoint(note)
            self._trust.verify(signed, int(self._clock.now_s()))
            self._views.recall(signed)

    async def consult(self) -> None:
        """Ask the witnesses, before anything is taken, whether they saw more than is here.

        Raises:
            ConfigError: ``ledger_behind``.
        """
        signed = self._sign(await self._desk.ask(self._desk.books.propose))

        behind: list[ConfigError] = []

        async def ask(witness: Witness) -> None:
            try:
                async with asyncio.timeout(CONSULT_S):
                    await witness.cosign(signed)
            except TimeoutError:
                _log.warning("no answer", witness=witness.key.name)
            except DsnError as error:
                try:
                    self._heed(witness, signed, error)
                except ConfigError as reason:
                    behind.append(reason)

        async with asyncio.TaskGroup() as group:
            for witness in self._witnesses:
                group.create_task(ask(witness))
        if behind:
            raise behind[0]
        if signed.checkpoint.size:
            self._desk.grown.set()

    async def run(self) -> None:
        """Publish whenever the log has grown.

        Raises:
            ConfigError: ``ledger_behind``, ``ledger_moved``.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for witness in self._witnesses:
                group.create_task(self._follow(witness))
            while True:
                await self._desk.grown.wait()
                started_s = loop.time()
                async with self.alone():
                    self._desk.grown.clear()
                    if self._desk.size > self._views.size:
                        await self.publish(await self._desk.ask(self._desk.books.propose))
                await asyncio.sleep(started_s + self._every_s - loop.time())

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Nobody else publishes while the block runs; begins once nothing is on its way."""
        async with self._alone:
            yield

    async def publish(self, candidate: Candidate) -> None:
        """Sign ``candidate`` and wait until readers see it; call it inside ``alone``."""
        async with self._news:
            if self._candidate is not None and self._candidate.checkpoint.size > self._views.size:
                candidate = merged(self._candidate, candidate)
            self._candidate, self._lines = candidate, {}
            self._signed = self._sign(candidate)
            self._news.notify_all()
            await self._show()
        await self.covers(candidate.checkpoint.size)

    async def covers(self, size: int) -> None:
        """Wait until readers see a log of ``size`` entries."""
        async with self._news:
            await self._news.wait_for(lambda: self._views.size >= size)

    async def _follow(self, witness: Witness) -> None:
        """Have one witness cosign each checkpoint, or the newest there is when it is back."""
        signed: SignedCheckpoint | None = None
        wait_s = RETRY_S
        while True:
            signed = await self._newer_than(signed)
            try:
                lines = await witness.cosign(signed)
            except DsnError as error:
                self._heed(witness, signed, error)
                await asyncio.sleep(wait_s)
                signed, wait_s = None, min(2 * wait_s, MOST_RETRY_S)
                continue
            wait_s = RETRY_S
            self.cosigned_s[witness.key.name] = self._clock.now_s()
            async with self._news:
                if self._signed is signed:
                    self._lines[witness.key.name] = lines
                    await self._show()

    async def _newer_than(self, asked: SignedCheckpoint | None) -> SignedCheckpoint:
        async with self._news:
            await self._news.wait_for(lambda: self._signed is not asked)
        assert self._signed is not None
        return self._signed

    async def _show(self) -> None:
        """Let readers see the candidate if a quorum stands under it; call it with the news."""
        candidate, signed = self._candidate, self._signed
        assert candidate is not None
        assert signed is not None
        if len(self._lines) < self._operator.params.quorum:
            return
        for line in chain.from_iterable(self._lines.values()):
            signed = signed.signed(line)
        await asyncio.to_thread(self._keep, format_checkpoint(signed))
        new = candidate.checkpoint.size > self._views.size
        self._views.publish(signed, candidate.tree, candidate.changed.values() if new else ())
        self._news.notify_all()

    def _sign(self, candidate: Candidate) -> SignedCheckpoint:
        checkpoint, operator = candidate.checkpoint, self._operator
        note = sign_checkpoint(checkpoint, self._trust.operator, operator.log_key.sign)
        root = sign_root(checkpoint, operator.params.domain, operator.key)
        return SignedCheckpoint(checkpoint).signed(note).signed(root)

    def _heed(self, witness: Witness, signed: SignedCheckpoint, error: DsnError) -> None:
        """Note why a witness did not sign; only the operator's own word stops the ledger."""
        self.refusals[error.detail_code] += 1
        _log.warning("not cosigned", witness=witness.key.name, code=error.detail_code)
        if isinstance(error, PeerError) and error.detail_code == BEHIND:
            check_newest(error.evidence, self._trust, signed.checkpoint.size)


def check_newest(note: bytes, trust: Trust, size: int) -> None:
    """Refuse to go on if the operator signed more than ``size`` entries.

    Args:
        note: Untrusted; what is no checkpoint by the operator does not count.
        trust: The network's keys.
        size: What is here.

    Raises:
        ConfigError: ``ledger_behind``.
    """
    try:
        newest = parse_checkpoint(note)
        trust.verify_operator(newest)
    except DsnError:
        return
    if newest.checkpoint.size > size:
        raise ConfigError(
            f"the ledger has {size} entries, a checkpoint of {newest.checkpoint.size} was signed",
            code=BEHIND,
            hint="restore a newer copy, a witness has one: going on from here would fork it",
        )
