"""Auditing a file: all its holders are challenged at once, and each gets a signed verdict.

A bundle keeps the challenges, the answers and the verdicts, so that anybody can judge them
again later, without the network.

Spec: docs/spec/proofs.md#verdict
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dsn.apps.checks import what_is
from dsn.apps.faults import Faults
from dsn.apps.manifests import Manifest
from dsn.apps.nodes import Nodes
from dsn.apps.readback import (
    DEADLINE_S,
    MOST_COMMITS,
    MOST_LEAVES,
    OTHER_ROOT,
    WRONG,
    Shown,
    challenge_node,
    fresh_challenge,
)
from dsn.apps.results import Audited, AuditResult, Progress, ProgressSink
from dsn.core.hashing import sha256
from dsn.core.keys import SigningKey
from dsn.errors import DsnError, Unreachable
from dsn.ids import Commit, NetworkId, NodeId, format_node_id
from dsn.ledger.bundle import format_bundle, sign_bundle
from dsn.ledger.bundle_parts import LiveBundle, LivePart
from dsn.ports import Clock, Entropy
from dsn.proofs.por import Challenge
from dsn.proofs.verdict import Outcome, SignedVerdict, Verdict
from dsn.rpc.line import Meter
from dsn.units import LEAF_BYTES, MIB, PAGE_SEGMENTS

LEAVES: Final = 80
"""Asked of a whole file, shared out by bytes: a loss of 5.6 % of it is seen with 99 %."""
MOST_ASKED: Final = 512
"""What an audit should be asked for at most: its bundle has 4 to 5 KiB of text a leaf."""
LEAST_EACH: Final = 4
"""Asked of each holder, if it holds so many."""
SIDE_BY_SIDE: Final = 64
SURE: Final = 0.99
MOST_TEXT_BYTES: Final = MIB
"""Of a bundle, for the placement of what was asked for: of larger files, some pages are drawn."""
_PLACE_TEXT_BYTES: Final = 128
"""A shard's place on a page, and its commit among those asked for, as text."""
_SALT_BYTES: Final = 32


class Scope(NamedTuple):
    """What of a file an audit looks at: pages of its placement, and what stands on them.

    ``leaves`` are leaf counts by commit, by holder.
    """

    pages: Sequence[int]
    leaves: Mapping[NodeId, Mapping[Commit, int]]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one holder showed of a file.

    Attributes:
        node: Whose.
        public_key: Its Ed25519 key; empty if nobody says where it is.
        leaves: Leaf counts of the shards that it was challenged on, by commit.
        challenge: What was asked.
        shown: What it showed, if it answered.
        failure: Why there is no answer, if there is none.
        response_ms: Until it answered, or was given up.
    """

    node: NodeId
    public_key: bytes
    leaves: Mapping[Commit, int]
    challenge: Challenge
    shown: Shown | None
    failure: DsnError | None
    response_ms: int

    @property
    def outcome(self) -> Outcome | None:
        """The verdict; ``None`` if both sides speak of other leaves, which proves nothing."""
        if self.failure is not None and self.failure.detail_code == OTHER_ROOT:
            return None
        if self.shown is None:
            return Outcome.SILENT
        if not self.shown.bad:
            return Outcome.HELD
        return Outcome.WRONG if WRONG in self.shown.bad.values() else Outcome.SILENT

    @property
    def reason(self) -> str:
        """The code of what went wrong; empty if nothing did."""
        if self.shown is not None:
            return self.shown.reason
        return self.failure.detail_code if self.failure else ""

    @property
    def size(self) -> int:
        """Leaves of all shards that it was challenged on."""
        return sum(self.leaves.values())

    @property
    def asked(self) -> int:
        """Leaves that were drawn."""
        return min(self.challenge.leaves, self.size)

    @property
    def proven(self) -> int:
        """Of those, how many it showed: all or none counts."""
        return self.asked if self.outcome is Outcome.HELD else 0


def draw_scope(manifest: Manifest, entropy: Entropy) -> Scope:
    """The whole file, or of a large one as many pages as a bundle has room for, drawn afresh."""
    segments, total = len(manifest.placement.rows), manifest.core.scheme.total
    pages: Sequence[int] = range(-(-segments // PAGE_SEGMENTS))
    most = max(1, MOST_TEXT_BYTES // (PAGE_SEGMENTS * total * _PLACE_TEXT_BYTES))
    if len(pages) <= most:
        return Scope(pages, manifest.leaves())
    salt = entropy(_SALT_BYTES)
    drawn = sorted(pages, key=lambda page: sha256(salt + page.to_bytes(4, "big")))[:most]
    starts = (page * PAGE_SEGMENTS for page in sorted(drawn))
    chosen = [each for at in starts for each in range(at, min(at + PAGE_SEGMENTS, segments))]
    return Scope(sorted(drawn), manifest.leaves(chosen))


def share_out(sizes: Mapping[NodeId, int], leaves: int) -> dict[NodeId, int]:
    """How many of some ``leaves`` each holder is asked for, by the leaves that it holds."""
    total = sum(sizes.values())
    return {
        node: min(size, MOST_LEAVES, max(LEAST_EACH, -(-leaves * size // total)))
        for node, size in sizes.items()
    }


async def examine(
    scope: Scope,
    nodes: Nodes,
    *,
    leaves: int,
    clock: Clock,
    entropy: Entropy,
    progress: ProgressSink,
    deadline_s: float = DEADLINE_S,
) -> list[Finding]:
    """Challenge all holders side by side, each with a nonce of its own; gives them by node id.

    Args:
        scope: What they are to show.
        nodes: How they are reached.
        leaves: Drawn in all, at least 1; each holder is asked for at least ``LEAST_EACH``.
        clock: For deadlines and response times.
        entropy: For the nonces.
        progress: Told the holders that are done.
        deadline_s: How long a holder has.
    """
    held = {node: _asked_for(counts, entropy) for node, counts in sorted(scope.leaves.items())}
    asked = share_out({node: sum(counts.values()) for node, counts in held.items()}, leaves)
    limit, done = asyncio.Semaphore(SIDE_BY_SIDE), 0

    async def one(node: NodeId, counts: Mapping[Commit, int]) -> Finding:
        nonlocal done
        async with limit:
            challenge = fresh_challenge(
                counts, asked[node], clock=clock, entropy=entropy, deadline_s=deadline_s
            )
            finding = await _put(nodes, node, counts, challenge, clock)
        done += 1
        progress(Progress("audit", done, len(held)))
        return finding

    return await asyncio.gather(*(one(*each) for each in held.items()))


def _asked_for(leaves: Mapping[Commit, int], entropy: Entropy) -> Mapping[Commit, int]:
    """``leaves``, or as many shards of them as one challenge names, drawn afresh."""
    if len(leaves) <= MOST_COMMITS:
        return leaves
    salt = entropy(_SALT_BYTES)
    drawn = sorted(leaves, key=lambda commit: sha256(salt + commit))[:MOST_COMMITS]
    return {commit: leaves[commit] for commit in drawn}


async def _put(
    nodes: Nodes, node: NodeId, leaves: Mapping[Commit, int], challenge: Challenge, clock: Clock
) -> Finding:
    """Put one challenge; whatever goes wrong is a finding.

    A connection that is there already is used, and a new one if it turns out to be broken:
    nobody is called silent because gRPC waits before it connects again.
    """
    began_s, network = clock.monotonic_s(), nodes.network.network_id
    public_key, shown, failure = b"", None, None
    try:
        public_key = nodes.contact(node).public_key
        try:
            peer = nodes.peer(node)
            shown = await challenge_node(peer, challenge, leaves, network=network, clock=clock)
        except Unreachable:
            async with nodes.peer(node, fresh=True) as peer:
                shown = await challenge_node(peer, challenge, leaves, network=network, clock=clock)
    except DsnError as error:
        failure = error
    took_ms = int((clock.monotonic_s() - began_s) * 1000)
    response_ms = shown.response_ms if shown else took_ms
    return Finding(node, public_key, leaves, challenge, shown, failure, response_ms)


def make_bundle(
    manifest: Manifest,
    scope: Scope,
    findings: Sequence[Finding],
    *,
    identity: SigningKey,
    network: NetworkId,
    clock: Clock,
) -> LiveBundle:
    """Signed verdicts on all findings that have an outcome, with what they rest on."""
    at_s, pages = int(clock.now_s()), manifest.placement.pages()

    def part(finding: Finding, outcome: Outcome) -> LivePart:
        verdict = Verdict(
            network=network,
            verifier=identity.public,
            node=finding.node,
            subject=manifest.file_id,
            epoch=0,
            nonce=finding.challenge.nonce,
            outcome=outcome,
            reason=finding.reason,
            leaves=finding.proven,
            size_bytes=finding.size * LEAF_BYTES if outcome is Outcome.HELD else 0,
            response_ms=finding.response_ms,
            at_s=at_s,
        )
        answer = finding.shown.answer if finding.shown else None
        draft = SignedVerdict(verdict, b"")
        return LivePart(finding.public_key, finding.challenge, finding.leaves, answer, draft)

    known = [(each, each.outcome) for each in findings]
    parts = tuple(part(each, outcome) for each, outcome in known if outcome is not None)
    asked = tuple(pages[number] for number in scope.pages)
    bundle = LiveBundle(network, identity.public, at_s, manifest.head.encode(), asked, parts)
    return sign_bundle(bundle, identity.sign)


async def audit_file(
    manifest: Manifest,
    nodes: Nodes,
    *,
    leaves: int,
    identity: SigningKey,
    network: NetworkId,
    clock: Clock,
    entropy: Entropy,
    progress: ProgressSink,
) -> LiveBundle:
    """Challenge all holders of a file and sign what they showed.

    Holders that count other leaves than the manifest says get no verdict, and no part.

    Args:
        manifest: Of the file; a verify link opens enough of it.
        nodes: How they are reached.
        leaves: Asked for in all, at least 1.
        identity: Signs the verdicts.
        network: The network's id.
        clock: For deadlines and response times.
        entropy: For the nonces.
        progress: Told the holders that are done.
    """
    scope = draw_scope(manifest, entropy)
    findings = await examine(
        scope, nodes, leaves=leaves, clock=clock, entropy=entropy, progress=progress
    )
    return make_bundle(manifest, scope, findings, identity=identity, network=network, clock=clock)


async def audit(
    manifest: Manifest,
    nodes: Nodes,
    faults: Faults,
    *,
    leaves: int,
    identity: SigningKey,
    clock: Clock,
    entropy: Entropy,
    progress: ProgressSink,
    meter: Meter,
    began_s: float,
) -> AuditResult:
    """As ``audit_file``, for a person: ``faults`` remembers what was bad.

    ``meter`` counts what is moved, ``began_s`` (monotonic) is when that began: finding the
    manifest is part of it.
    """
    scope = draw_scope(manifest, entropy)
    findings = await examine(
        scope, nodes, leaves=leaves, clock=clock, entropy=entropy, progress=progress
    )
    for finding in findings:
        for commit, kind in (finding.shown.bad if finding.shown else {}).items():
            faults.note(finding.node, commit, kind, what_is(manifest, commit))
    network = nodes.network.network_id
    bundle = make_bundle(manifest, scope, findings, identity=identity, network=network, clock=clock)
    outcomes, held = [finding.outcome for finding in findings], manifest.shards()
    return AuditResult(
        outcomes.count(Outcome.HELD),
        outcomes.count(Outcome.WRONG),
        outcomes.count(Outcome.SILENT),
        outcomes.count(None),
        sum(finding.proven for finding in findings),
        meter.bytes,
        clock.monotonic_s() - began_s,
        confidence(findings, whole=len(scope.pages) == len(manifest.head.pages)),
        tuple(_told(finding, sum(held[finding.node].values()), nodes) for finding in findings),
        format_bundle(bundle, identity.sign),
    )


def _told(finding: Finding, held_bytes: int, nodes: Nodes) -> Audited:
    outcome = finding.outcome
    return Audited(
        format_node_id(finding.node),
        nodes.address(finding.node),
        "unclear" if outcome is None else outcome.name.lower(),
        finding.reason,
        finding.asked,
        finding.proven,
        held_bytes,
        finding.response_ms,
    )


def confidence(findings: Sequence[Finding], *, whole: bool) -> str:
    """How small a loss would have been seen with 99 %, for people.

    Every holder is asked for at least its share, so a loss that is spread unevenly is seen
    more surely than one over all of them, and that is the case that counts.

    Args:
        findings: Of all holders.
        whole: Whether all of the file was looked at.
    """
    answered = [each for each in findings if each.shown is not None]
    if not answered:
        return "none: no node answered"
    total = sum(each.size for each in answered)
    drawn = min(each.asked * total // each.size for each in answered)
    part = "" if len(answered) == len(findings) else " of what the nodes that answered hold"
    part += "" if whole else ", in the part of the file that was drawn,"
    if all(each.asked == each.size for each in answered):
        return f"every leaf{part} was asked for"
    loss = 1 - (1 - SURE) ** (1 / max(1, drawn))
    return f"a loss of {loss:.1%}{part} would have been seen with {SURE:.0%}".replace("%", " %")
