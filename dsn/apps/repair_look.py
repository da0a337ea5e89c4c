"""What is the matter with a file: who is silent, which shards are bad, which leaves are rotten."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from dsn.apps.checks import LEAST_LEAVES, LEAST_LEAVES_EACH, what_is
from dsn.apps.client_parts import Parts, Setting
from dsn.apps.deep import deep_segment
from dsn.apps.manifests import Manifest
from dsn.apps.readback import Sampled, sample
from dsn.apps.results import Progress
from dsn.errors import DsnError
from dsn.ids import Commit, NodeId, format_node_id, short
from dsn.machines.repair import MOST_RETURNED

SIDE_BY_SIDE: Final = 32
TRIES: Final = 2
"""A holder that does not answer is asked once more before its shards are made again."""


class Held(NamedTuple):
    """A shard at the node that is to hold it."""

    node: NodeId
    commit: Commit


@dataclass(slots=True)
class Damage:
    """What looking at a file showed.

    Attributes:
        silent: Holders that did not answer, and why.
        bad: Shards that are wrong or lost.
        rotten: Shards that are there but for these leaves.
    """

    silent: dict[NodeId, str] = field(default_factory=dict)
    bad: set[Held] = field(default_factory=set)
    rotten: dict[Held, tuple[int, ...]] = field(default_factory=dict)


async def look(manifest: Manifest, parts: Parts, setting: Setting) -> Damage:
    """Challenge all holders of a file, and ask for the rotten leaves of what is bad.

    What this home saw go wrong before counts as bad, until its segment was read whole.
    """
    damage, held = Damage(), manifest.leaves()
    total = sum(sum(leaves.values()) for leaves in held.values())
    for _ in range(TRIES):
        asked = held.keys() & damage.silent.keys() if damage.silent else held.keys()
        damage.silent.clear()
        found = await _sample_all(manifest, asked, total, damage, parts, setting)
        for node, bad in found.items():
            damage.bad |= {Held(node, commit) for commit in bad}
            for commit, kind in bad.items():
                parts.faults.note(node, commit, kind, what_is(manifest, commit))
        if not damage.silent:
            break
    remembered = {
        Held(node, commit)
        for node, leaves in held.items()
        for commit in leaves
        if node not in damage.silent and parts.faults.get(commit) is not None
    }
    await _ask_rotten(damage, remembered, held, parts)
    return damage


async def _sample_all(
    manifest: Manifest,
    asked: Collection[NodeId],
    total: int,
    damage: Damage,
    parts: Parts,
    setting: Setting,
) -> dict[NodeId, dict[Commit, str]]:
    """Sample the shards of ``asked``: bad ones by node; whoever is silent goes to ``damage``."""
    held, limit = manifest.leaves(), asyncio.Semaphore(SIDE_BY_SIDE)
    bad: dict[NodeId, dict[Commit, str]] = {}
    network = parts.nodes.network.network_id

    async def one(node: NodeId) -> None:
        share = -(-LEAST_LEAVES * sum(held[node].values()) // total)
        try:
            async with limit, parts.nodes.peer(node, fresh=True) as peer:
                result: Sampled = await sample(
                    peer,
                    held[node],
                    max(LEAST_LEAVES_EACH, share),
                    network=network,
                    clock=setting.clock,
                    entropy=setting.entropy,
                )
        except DsnError as error:
            damage.silent[node] = error.message
        else:
            bad[node] = result.bad
            setting.progress(Progress("look", len(bad), len(held)))

    await asyncio.gather(*(one(node) for node in asked))
    return bad


async def _ask_rotten(
    damage: Damage,
    remembered: Collection[Held],
    held: Mapping[NodeId, Mapping[Commit, int]],
    parts: Parts,
) -> None:
    """Tell shards that lost some leaves from those that are bad as a whole."""
    limit = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(shard: Held) -> None:
        leaves = held[shard.node][shard.commit]
        try:
            async with limit:
                reply = await parts.nodes.peer(shard.node).put_leaves(shard.commit, {})
        except DsnError:
            damage.bad.add(shard)
            return
        rotten = tuple(sorted(index for index in set(reply.rotten) if index < leaves))
        if rotten and len(rotten) <= MOST_RETURNED and not reply.more:
            damage.bad.discard(shard)
            damage.rotten[shard] = rotten
        else:
            damage.bad.add(shard)

    await asyncio.gather(*(one(shard) for shard in damage.bad | set(remembered)))


async def look_deep(manifest: Manifest, segment: int, parts: Parts) -> set[Held]:
    """Read one segment whole: shards that are wrong, lost, or do not decode."""
    found = await deep_segment(
        manifest, segment, parts.nodes, parts.deals, parts.faults, parts.kernel
    )
    row, placement = manifest.placement.rows[segment], manifest.placement
    holders = [(placement.holder(segment, index), place) for index, place in enumerate(row)]
    return {
        Held(node, place.commit)
        for node, place in holders
        if node is not None and (place.commit in found.bad or node in found.silent)
    }


def silent_lines(damage: Damage) -> tuple[str, ...]:
    """Who did not answer, and why, for people."""
    return tuple(
        sorted(
            f"node {short(node)}: {why.removeprefix(format_node_id(node)).lstrip(': ')}"
            for node, why in damage.silent.items()
        )
    )
