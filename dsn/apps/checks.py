"""Is a file still there? By samples that a node cannot foresee, or by reading every byte."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dsn.apps.deals import Deals
from dsn.apps.deep import deep_segment
from dsn.apps.faults import Fault, Faults
from dsn.apps.feeds import read_whole
from dsn.apps.manifests import Manifest
from dsn.apps.nodes import Nodes
from dsn.apps.readback import sample
from dsn.apps.results import CheckResult, FileState, Progress, ProgressSink, SegmentHealth
from dsn.core.layout import Scheme
from dsn.errors import DsnError, NotFound, ShardCorrupt
from dsn.ids import Commit, NodeId, format_node_id, short
from dsn.ports import Clock, Entropy
from dsn.runtime.kernel import Kernel
from dsn.units import leaf_count

LEAST_LEAVES = 459
"""Samples over a file: a loss of 1 % of it is seen with 99 %."""
LEAST_LEAVES_EACH = 90
"""Samples on each holder: a loss of 5 % of its shards is seen with 99 %."""
SIDE_BY_SIDE = 8


@dataclass(slots=True)
class Evidence:
    """What a check gathered: shards that are bad, nodes that are silent, samples that held."""

    bad: set[Commit] = field(default_factory=set)
    silent: dict[NodeId, str] = field(default_factory=dict)
    leaves: int = 0
    bytes: int = 0


class Check:
    """Checks one file."""

    def __init__(
        self,
        manifest: Manifest,
        nodes: Nodes,
        faults: Faults,
        *,
        deals: Deals,
        clock: Clock,
        entropy: Entropy,
        kernel: Kernel,
        progress: ProgressSink,
    ) -> None:
        """Check the file of ``manifest``; a verify key is enough to sample.

        Samples cost nothing; ``deals`` pay for what is read whole.
        """
        self._manifest, self._nodes, self._faults = manifest, nodes, faults
        self._clock, self._entropy, self._kernel = clock, entropy, kernel
        self._deals, self._progress = deals, progress
        self._evidence = Evidence()

    async def sampled(self) -> CheckResult:
        """Challenge every holder on leaves of all its shards of this file."""
        held = self._manifest.leaves()
        total = sum(sum(leaves.values()) for leaves in held.values())
        await self._sample_all(held, LEAST_LEAVES)
        if self._evidence.silent and self._evidence.leaves < LEAST_LEAVES:
            there = {n: leaves for n, leaves in held.items() if n not in self._evidence.silent}
            await self._sample_all(there, LEAST_LEAVES - self._evidence.leaves)
        seen = self._evidence.leaves
        everything = seen >= total
        return self._result(
            "every leaf was read"
            if everything
            else f"a loss of 1 % would have been seen with {_confidence(0.01, seen)}, "
            f"of 5 % of one node's with {_confidence(0.05, LEAST_LEAVES_EACH)}",
            deep=False,
        )

    async def _sample_all(self, held: dict[NodeId, dict[Commit, int]], least: int) -> None:
        """Draw ``least`` leaves over all nodes in ``held``, and enough on each of them."""
        total = sum(sum(leaves.values()) for leaves in held.values())
        limit, done = asyncio.Semaphore(SIDE_BY_SIDE), 0

        async def one(node: NodeId, leaves: dict[Commit, int]) -> None:
            nonlocal done
            share = -(-least * sum(leaves.values()) // total)
            async with limit:
                await self._sample(node, leaves, max(LEAST_LEAVES_EACH, share))
            done += 1
            self._progress(Progress("check", done, len(held)))

        await asyncio.gather(*(one(node, leaves) for node, leaves in held.items()))

    async def deep(self) -> CheckResult:
        """Read every leaf of every shard, and decode every segment."""
        manifest, segments = self._manifest, self._manifest.core.layout.segments
        for copy in manifest.copies:
            await asyncio.gather(*(self._read_copy(copy.node, *each) for each in copy.shards))
        for segment in range(segments):
            found = await deep_segment(
                manifest, segment, self._nodes, self._deals, self._faults, self._kernel
            )
            self._evidence.bad |= found.bad
            self._evidence.silent.update(found.silent)
            self._evidence.leaves += found.leaves
            self._evidence.bytes += found.bytes
            self._progress(Progress("check", segment + 1, segments))
        return self._result("every leaf was read and decoded", deep=True)

    async def _sample(self, node: NodeId, leaves: dict[Commit, int], count: int) -> None:
        try:
            async with self._nodes.peer(node, fresh=True) as peer:
                result = await sample(
                    peer,
                    leaves,
                    count,
                    network=self._nodes.network.network_id,
                    clock=self._clock,
                    entropy=self._entropy,
                )
        except DsnError as error:
            self._evidence.silent[node] = error.message
            return
        self._evidence.leaves += result.leaves
        self._evidence.bytes += result.bytes
        for commit, kind in result.bad.items():
            self._faults.note(node, commit, kind, self._what(commit))
            self._evidence.bad.add(commit)

    async def _read_copy(self, node: NodeId, commit: Commit, length: int) -> None:
        try:
            await read_whole(self._nodes, self._deals, node, commit, length)
        except (ShardCorrupt, NotFound) as error:
            kind = "wrong" if isinstance(error, ShardCorrupt) else "lost"
            self._faults.note(node, commit, kind, self._what(commit))
            self._evidence.bad.add(commit)
        except DsnError as error:
            self._evidence.silent[node] = error.message
        else:
            self._faults.clear(commit)
            self._evidence.leaves += leaf_count(length)
            self._evidence.bytes += length

    def _what(self, commit: Commit) -> str:
        return what_is(self._manifest, commit)

    def _result(self, confidence: str, *, deep: bool) -> CheckResult:
        segments = tuple(
            self._segment(number) for number in range(len(self._manifest.core.segments))
        )
        copies = [(c.node, [commit for commit, _ in c.shards]) for c in self._manifest.copies]
        good = sum(1 for node, commits in copies if self._good(node, commits))
        quiet = sum(1 for node, _ in copies if node in self._evidence.silent)
        manifest = SegmentHealth(good, 1, len(copies))
        states = [judge(health, silent, self._manifest.core.scheme) for health, silent in segments]
        states.append(judge_copies(manifest, quiet))
        state = max(states, key=_RANK.index)
        self._faults.set_state(self._manifest.file_id, state)
        faults = sorted({f"node {short(f.node_id)}: {f.kind} {f.what}" for f in self._known()})
        silent = sorted(
            f"node {short(n)}: {why.removeprefix(format_node_id(n)).lstrip(': ')}"
            for n, why in self._evidence.silent.items()
        )
        return CheckResult(
            state,
            tuple(health for health, _ in segments),
            manifest,
            self._evidence.leaves,
            self._evidence.bytes,
            confidence,
            tuple(faults),
            tuple(silent),
            deep,
        )

    def _known(self) -> Iterator[Fault]:
        for shards in self._manifest.shards().values():
            for commit in shards:
                if (fault := self._faults.get(commit)) is not None:
                    yield fault

    def _segment(self, number: int) -> tuple[SegmentHealth, int]:
        row, scheme = self._manifest.placement.rows[number], self._manifest.core.scheme
        good = silent = 0
        for index, place in enumerate(row):
            node = self._manifest.placement.holder(number, index)
            if node is None or self._bad(place.commit):
                continue
            if node in self._evidence.silent:
                silent += 1
            else:
                good += 1
        return SegmentHealth(good, scheme.required, scheme.total), silent

    def _bad(self, commit: Commit) -> bool:
        return commit in self._evidence.bad or self._faults.get(commit) is not None

    def _good(self, node: NodeId, commits: Sequence[Commit]) -> bool:
        return node not in self._evidence.silent and not any(map(self._bad, commits))


_RANK = [
    FileState.HEALTHY,
    FileState.DEGRADED,
    FileState.AT_RISK,
    FileState.UNKNOWN,
    FileState.LOST,
]


def judge(health: SegmentHealth, silent: int, scheme: Scheme) -> FileState:
    """The state of one segment of which ``silent`` holders did not answer."""
    if health.good >= health.total:
        return FileState.HEALTHY
    if health.good > scheme.repair_at:
        return FileState.DEGRADED
    if health.good >= health.required:
        return FileState.AT_RISK
    return FileState.UNKNOWN if health.good + silent >= health.required else FileState.LOST


def judge_copies(health: SegmentHealth, silent: int) -> FileState:
    """The state of the manifest's copies: one is enough, half of them is at risk."""
    if health.good == health.total:
        return FileState.HEALTHY
    if health.good > (health.total + 1) // 2:
        return FileState.DEGRADED
    if health.good:
        return FileState.AT_RISK
    return FileState.UNKNOWN if silent else FileState.LOST


def what_is(manifest: Manifest, commit: Commit) -> str:
    """What a commit of a file is, for people."""
    for number, row in enumerate(manifest.placement.rows):
        for index, place in enumerate(row):
            if place.held and place.commit == commit:
                return f"shard {index} of segment {number}"
    return "a copy of the manifest"


def _confidence(fraction: float, leaves: int) -> str:
    return f"{min(99.9, 100 * (1 - (1 - fraction) ** leaves)):.1f} %"
