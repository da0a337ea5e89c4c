"""Looking again at what a verdict is about; both outcomes stand.

The same places of the same link are fetched again; of a file, the same shards are challenged with
a new nonce. A verdict can be appealed against once: asking often must not buy a better one.
"""

from __future__ import annotations

import asyncio
from typing import Final

from dsn.apps.verifier.asking import Interviewer
from dsn.apps.verifier.evidence import Looked, read_question
from dsn.apps.verifier.judging import Asked
from dsn.apps.verifier.live import LiveAudits
from dsn.apps.verifier.recording import Recorder
from dsn.errors import UsageError
from dsn.ledger.bundle import EpochBundle, LiveBundle, parse_bundle
from dsn.proofs.sample import sampled_places
from dsn.proofs.verdict import NO_EVIDENCE, NO_VERDICT, SignedVerdict
from dsn.store.verdicts import VerdictStore

NOT_AGAIN: Final = "not_appealable"


class Appeals:
    """Every provider's second chance."""

    def __init__(
        self,
        store: VerdictStore,
        interviewer: Interviewer,
        recorder: Recorder,
        audits: LiveAudits,
    ) -> None:
        """Look at what ``store`` has; ask through ``interviewer`` and ``audits``."""
        self._store, self._interviewer = store, interviewer
        self._recorder, self._audits = recorder, audits
        self._turn = asyncio.Lock()

    async def hear(self, first: SignedVerdict) -> SignedVerdict:
        """The verdict of a new look at what ``first``, one of ours, is about.

        An appeal that was heard already has the verdict that it had.

        Raises:
            UsageError: ``not_appealable``: nothing can be asked again: it is an appeal's own, the
                log alone shows it (``missed``), or its bundle is not kept any more.
            InvalidProof: ``other_root``: as ``LiveAudits.again``.
        """
        async with self._turn:
            digest = first.verdict.hash
            heard = await self._store.appeal_of(digest)
            if heard is not None:
                return heard
            if first.verdict.appeal != NO_VERDICT:
                raise _not_again("it was given on an appeal")
            if first.verdict.evidence == NO_EVIDENCE:
                raise _not_again("the ledger's log shows it, and nothing was asked")
            raw = await self._store.bundle(first.verdict.evidence)
            if not raw:
                raise _not_again("what it rests on is not kept any more")
            bundle = parse_bundle(raw)
            if isinstance(bundle, LiveBundle):
                (part,) = (part for part in bundle.parts if part.verdict == first)
                return await self._audits.again(bundle, part)
            return await self._look_again(bundle, first)

    async def _look_again(self, bundle: EpochBundle, first: SignedVerdict) -> SignedVerdict:
        verdict = first.verdict
        span, logged = read_question(bundle, verdict.node)
        (draw,) = await self._store.draws(verdict.epoch, verdict.epoch)
        places = sampled_places(draw.seed, verdict.node, logged.link.count, draw.sample)
        asked = Asked(logged.link, span.beacon, verdict.node, places)
        judged, took_ms = await self._interviewer.ask(asked)
        looked = Looked(verdict.network, span, logged, asked, judged, took_ms)
        return await self._recorder.record(looked, verdict.hash)


def _not_again(reason: str) -> UsageError:
    return UsageError(f"no appeal against this verdict: {reason}", code=NOT_AGAIN)
