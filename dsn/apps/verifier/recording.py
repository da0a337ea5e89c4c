"""Verdicts made, signed, and kept with the bundles that they stand in."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from dsn.apps.verifier.archive import Archive, Provider
from dsn.apps.verifier.evidence import Looked, build_bundle
from dsn.apps.verifier.ledger import ReplayedLedger
from dsn.core.keys import SigningKey
from dsn.ids import NetworkId
from dsn.ledger.bundle import format_bundle, sign_bundle
from dsn.ledger.checkpoint import SignedCheckpoint
from dsn.ports import Clock
from dsn.proofs.verdict import (
    NO_EVIDENCE,
    NO_NONCE,
    NO_VERDICT,
    Outcome,
    SignedVerdict,
    Verdict,
    account_subject,
    sign_verdict,
)
from dsn.store.verdicts import VerdictStore
from dsn.units import LEAF_BYTES

MISSED: Final = "missed"
"""The reason for a provider that was asked in an epoch and has no link of it."""


class Recorder:
    """Signs what this verifier finds."""

    def __init__(
        self,
        key: SigningKey,
        network: NetworkId,
        ledger: ReplayedLedger,
        store: VerdictStore,
        clock: Clock,
    ) -> None:
        """Sign with ``key``; keep in ``store``."""
        self.network = network
        self._key, self._ledger, self._store, self._clock = key, ledger, store, clock

    async def record(self, looked: Looked, appeal: bytes = NO_VERDICT) -> SignedVerdict:
        """Sign the verdict on one link, and keep it with its bundle.

        Args:
            looked: What was found.
            appeal: Hash of the verdict that is looked at again, if one is.
        """
        blank = replace(self._verdict(looked), appeal=appeal)
        signed, raw = await self._ledger.ask(
            lambda archive, checkpoint: self._bundled(archive, checkpoint, looked, blank)
        )
        await self._store.add([signed], signed.verdict.evidence, raw)
        return signed

    async def record_missed(self, provider: Provider, epoch: int) -> SignedVerdict:
        """Sign and keep that a provider has no link of ``epoch``: the log itself shows it."""
        signed = self._sign(
            Verdict(
                self.network,
                self._key.public,
                provider.node,
                account_subject(provider.account),
                epoch,
                NO_NONCE,
                Outcome.SILENT,
                MISSED,
                0,
                0,
                0,
                int(self._clock.now_s()),
            )
        )
        await self._store.add([signed])
        return signed

    def _verdict(self, looked: Looked) -> Verdict:
        logged, judged = looked.logged, looked.judged
        held = judged.outcome is Outcome.HELD
        return Verdict(
            self.network,
            self._key.public,
            logged.node,
            account_subject(logged.account),
            logged.link.epoch,
            NO_NONCE,
            judged.outcome,
            judged.reason,
            len(judged.shown) if held else 0,
            logged.link.total * LEAF_BYTES if held else 0,
            looked.took_ms,
            int(self._clock.now_s()),
            NO_EVIDENCE,
        )

    def _bundled(
        self, archive: Archive, checkpoint: SignedCheckpoint, looked: Looked, blank: Verdict
    ) -> tuple[SignedVerdict, bytes]:
        """The verdict, naming its bundle, and that bundle."""
        draft = build_bundle(archive, checkpoint, looked, SignedVerdict(blank, b""))
        (part,) = sign_bundle(draft, self._key.sign).parts
        return part.verdict, format_bundle(draft, self._key.sign)

    def _sign(self, verdict: Verdict) -> SignedVerdict:
        return sign_verdict(verdict, self._key.sign)
