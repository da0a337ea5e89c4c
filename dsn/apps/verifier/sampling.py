"""Looking at epochs: what is drawn of each, asked for, judged, signed and kept.

Spec: docs/spec/proofs.md#sampling-epochs.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import structlog

from dsn.apps.verifier.archive import LATEST, Archive, Logged, Provider, Span
from dsn.apps.verifier.asking import Interviewer
from dsn.apps.verifier.evidence import Looked
from dsn.apps.verifier.judging import Asked
from dsn.apps.verifier.ledger import ReplayedLedger
from dsn.apps.verifier.recording import Recorder
from dsn.ids import format_node_id
from dsn.proofs.sample import sample_seed, sampled_links, sampled_places
from dsn.proofs.verdict import Outcome
from dsn.store.verdicts import Draw, VerdictStore

EPOCHS_AT_ONCE: Final = LATEST
_log = structlog.get_logger("verifier")

Convict: TypeAlias = Callable[[Looked], Awaitable[None]]
"""Told of each opening that was proven wrong."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How much is looked at: ``links`` of an epoch at most, ``sample`` openings of each."""

    links: int
    sample: int


class _Scene(NamedTuple):
    """One epoch as the log has it."""

    span: Span
    next_beacon: bytes
    links: list[Logged]
    missed: list[Provider]


class Sampler:
    """Looks at every epoch once it is shut and the next one's beacon is known."""

    def __init__(
        self,
        ledger: ReplayedLedger,
        store: VerdictStore,
        interviewer: Interviewer,
        recorder: Recorder,
        sampling: Sampling,
        convict: Convict,
        *,
        verifier: bytes,
    ) -> None:
        """Look at epochs of ``ledger`` as ``verifier`` (an Ed25519 public key)."""
        self._ledger, self._store, self._interviewer = ledger, store, interviewer
        self._recorder, self._sampling, self._convict = recorder, sampling, convict
        self._verifier = verifier
        self._epochs = asyncio.Semaphore(EPOCHS_AT_ONCE)
        self._begun: set[int] = set()
        self._newest = 0
        self.tally: Counter[str] = Counter()
        """Verdicts of this process by outcome, and links that the budget had no room for."""

    @property
    def epoch(self) -> int:
        """The newest epoch that is, or was, looked at."""
        return self._newest

    async def resume(self) -> None:
        """Go on where an earlier process was."""
        draws = await self._store.draws()
        self._begun = {draw.epoch for draw in draws if draw.done}
        undone = [draw.epoch for draw in draws if not draw.done]
        self._newest = min([max(self._begun, default=0), *(each - 1 for each in undone)])

    async def look_at_due(self) -> None:
        """Look at every epoch that is due and was not looked at yet; returns when all are."""
        after = self._newest
        due = await self._ledger.ask(lambda archive, _: archive.due(after))
        new = [span for span in due if span.epoch not in self._begun]
        self._begun.update(span.epoch for span in new)
        async with asyncio.TaskGroup() as group:
            for span in new:
                group.create_task(self._look_at(span))
        if due:
            self._newest = max(self._newest, due[-1].epoch)
            self._begun = {each for each in self._begun if each > self._newest}

    async def _look_at(self, span: Span) -> None:
        async with self._epochs:
            scene = await self._ledger.ask(lambda archive, _: _scene(archive, span))
            seed = sample_seed(self._verifier, scene.next_beacon, span.epoch)
            sampling, count = self._sampling, len(scene.links)
            draw = await self._store.begin(
                Draw(span.epoch, span.opened, seed, count, sampling.links, sampling.sample)
            )
            picked = [scene.links[n] for n in sampled_links(draw.seed, count, draw.most)]
            looks = [self._look(span, logged, draw) for logged in picked]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(look) for look in looks]
                for provider in scene.missed:
                    group.create_task(self._miss(span, provider))
            skipped = sum(task.result() for task in tasks)
            await self._store.finish(span.epoch, skipped)
            _log.info("looked", epoch=span.epoch, links=count, drawn=len(picked), skipped=skipped)

    async def _look(self, span: Span, logged: Logged, draw: Draw) -> bool:
        """Look at one link, unless it has its verdict; whether it had to be skipped."""
        if await self._store.of_draw(logged.node, span.epoch):
            return False
        places = sampled_places(draw.seed, logged.node, logged.link.count, draw.sample)
        asked = Asked(logged.link, span.beacon, logged.node, places)
        with self._interviewer.allowance.reserved(len(places)) as room:
            if not room:
                self.tally["skipped"] += 1
                return True
            judged, took_ms = await self._interviewer.ask(asked)
        looked = Looked(self._recorder.network, span, logged, asked, judged, took_ms)
        await self._recorder.record(looked)
        self._count(judged.outcome)
        if judged.wrong is not None:
            name = format_node_id(logged.node)
            _log.warning("wrong", node=name, epoch=span.epoch, reason=judged.reason)
            await self._convict(looked)
        return False

    async def _miss(self, span: Span, provider: Provider) -> None:
        """Note that a provider has no link, unless that is noted; no budget bounds that."""
        if not await self._store.of_draw(provider.node, span.epoch):
            await self._recorder.record_missed(provider, span.epoch)
            self._count(Outcome.SILENT)

    def _count(self, outcome: Outcome) -> None:
        self.tally[outcome.name.lower()] += 1


def _scene(archive: Archive, span: Span) -> _Scene:
    after = archive.span(span.epoch + 1)
    scene = _Scene(span, after.beacon, archive.links(span), archive.missed(span.epoch))
    archive.forget(span.epoch - LATEST)
    return scene
