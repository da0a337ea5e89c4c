"""Files audited on request, and single holders challenged again.

Spec: docs/spec/proofs.md#verdict.
"""

from __future__ import annotations

from dataclasses import replace

from dsn.apps.auditing import LEAVES, MOST_ASKED, Scope, audit_file, examine
from dsn.apps.manifests import Manifests
from dsn.apps.nodes import Nodes
from dsn.core.capability import parse_capability
from dsn.core.keys import SigningKey
from dsn.ledger.bundle import LiveBundle, LivePart, format_bundle, sign_bundle
from dsn.ports import Clock, Entropy
from dsn.proofs.verdict import Outcome, SignedVerdict, Verdict
from dsn.store.verdicts import VerdictStore
from dsn.units import LEAF_BYTES


class LiveAudits:
    """Challenges of this verifier's own."""

    def __init__(
        self,
        key: SigningKey,
        nodes: Nodes,
        manifests: Manifests,
        store: VerdictStore,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """Sign with ``key``; find files and holders through ``manifests`` and ``nodes``."""
        self._key, self._nodes, self._manifests = key, nodes, manifests
        self._store, self._clock, self._entropy = store, clock, entropy

    async def audit(self, capability: str, leaves: int) -> LiveBundle:
        """Challenge every holder of a file; the verdicts and their bundle are kept.

        Args:
            capability: Untrusted; a verify link opens enough.
            leaves: Asked for in all; 0: as many as 'dsn audit' asks for.

        Raises:
            UsageError: ``bad_capability``.
            NotFound: Nobody knows the file.
            Unreachable: No node, or no copy of its manifest, answers.
        """
        link = parse_capability(capability)
        manifest = await self._manifests.fetch(link.file_id, link.keys())
        bundle = await audit_file(
            manifest,
            self._nodes,
            leaves=min(leaves, MOST_ASKED) or LEAVES,
            identity=self._key,
            network=self._nodes.network.network_id,
            clock=self._clock,
            entropy=self._entropy,
            progress=lambda _: None,
        )
        return await self._keep(bundle)

    async def again(self, bundle: LiveBundle, part: LivePart) -> SignedVerdict:
        """Challenge the holder of a part of ``bundle`` on the same shards with a new nonce.

        Raises:
            InvalidProof: ``other_root``: it counts other leaves, which proves nothing.
        """
        old, network = part.verdict.verdict, bundle.network
        (finding,) = await examine(
            Scope((), {old.node: part.shards}),
            self._nodes,
            leaves=part.challenge.leaves,
            clock=self._clock,
            entropy=self._entropy,
            progress=lambda _: None,
        )
        if finding.outcome is None:
            assert finding.failure is not None
            raise finding.failure
        verdict = Verdict(
            network,
            self._key.public,
            old.node,
            old.subject,
            0,
            finding.challenge.nonce,
            finding.outcome,
            finding.reason,
            finding.proven,
            finding.size * LEAF_BYTES if finding.outcome is Outcome.HELD else 0,
            finding.response_ms,
            int(self._clock.now_s()),
            appeal=old.hash,
        )
        new = LivePart(
            finding.public_key,
            finding.challenge,
            finding.leaves,
            finding.shown.answer if finding.shown else None,
            SignedVerdict(verdict, b""),
        )
        kept = await self._keep(replace(bundle, at_s=verdict.at_s, parts=(new,), signature=b""))
        return kept.parts[0].verdict

    async def _keep(self, draft: LiveBundle) -> LiveBundle:
        bundle = sign_bundle(draft, self._key.sign)
        verdicts = [part.verdict for part in bundle.parts]
        if verdicts:
            raw = format_bundle(draft, self._key.sign)
            await self._store.add(verdicts, verdicts[0].verdict.evidence, raw)
        return bundle
