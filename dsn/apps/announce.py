"""Having records kept: at the nodes nearest to their keys, region by region.

However many records there are, a region costs one lookup and each of its nodes one call for
as many records as a message takes.

Spec: docs/spec/network.md#publishing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from typing import Final, TypeVar

from dsn.apps.dht import Dht
from dsn.dht.contact import Contact
from dsn.dht.regions import Region
from dsn.dht.shards import MAX_COMMITS, ShardBatch
from dsn.ids import Commit, NodeId
from dsn.rpc.dht import MOST_BATCHES, MOST_ENTRIES, DhtPeer
from dsn.units import KIB

STORE_BYTES: Final = 960 * KIB
"""Records in one Store, with room in the message for their keys."""
AT_ONCE: Final = 8
"""Nodes written to side by side."""


@dataclass(slots=True)
class Announced:
    """What having records kept has cost, and what came of it."""

    regions: int = 0
    calls: int = 0
    sent_bytes: int = 0
    keepers: Counter[bytes] = field(default_factory=Counter)
    """By key: how many nodes keep the record, or one as new."""
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, other: Announced) -> None:
        """Count the cost of ``other`` in; who keeps what is not gathered."""
        self.regions += other.regions
        self.calls += other.calls
        self.sent_bytes += other.sent_bytes
        self.refused.update(other.refused)


_Item = TypeVar("_Item")
_Key = TypeVar("_Key", bound=bytes)
STALE: Final = "stale_record"
"""A newer one is kept there."""
Entries = Sequence[tuple[bytes, bytes]]


async def announce(
    dht: Dht, records: Mapping[bytes, bytes], told: Mapping[bytes, Collection[NodeId]] | None = None
) -> Announced:
    """Have every record kept by the nodes nearest to its key.

    Args:
        dht: Finds them.
        records: Encoded records by key.
        told: By key, nodes that have the record already.
    """
    result, told = Announced(), told or {}
    async for region, inside in _by_region(dht, sorted(records)):
        result.regions += 1
        near = {contact.node_id for contact in region.nodes}
        result.keepers.update({key: len(near.intersection(told.get(key, ()))) for key in inside})
        wanted = {
            contact: _loads(
                [(key, records[key]) for key in inside if contact.node_id not in told.get(key, ())]
            )
            for contact in region.nodes
        }
        await _store_all(dht, wanted, result)
    return result


async def announce_shards(
    dht: Dht,
    commits: Sequence[Commit],
    sign: Callable[[Sequence[Commit]], ShardBatch],
) -> Announced:
    """Tell the nodes near each commit that this one has its shard: a signature for 1,000.

    Args:
        dht: Finds them.
        commits: Sorted, so that each region's are together.
        sign: Signs at most 1,000 of them.
    """
    result = Announced()
    async for region, inside in _by_region(dht, commits):
        result.regions += 1
        batches = [sign(part).encode() for part in _parts(inside, MAX_COMMITS)]
        loads = [Load((), tuple(part)) for part in _parts(batches, MOST_BATCHES)]
        await _store_all(dht, dict.fromkeys(region.nodes, loads), result)
    return result


async def _by_region(
    dht: Dht, keys: Sequence[_Key]
) -> AsyncIterator[tuple[Region, Sequence[_Key]]]:
    """The regions that sorted ``keys`` lie in, each with those in it."""
    while keys:
        region = await dht.region(keys[0])
        yield region, [key for key in keys if key in region]
        keys = [key for key in keys if key not in region]


@dataclass(frozen=True, slots=True)
class Load:
    """What one Store carries."""

    entries: Entries
    batches: tuple[bytes, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Without what protobuf adds."""
        return sum(len(key) + len(record) for key, record in self.entries) + sum(
            map(len, self.batches)
        )


async def _store_all(dht: Dht, wanted: Mapping[Contact, Iterable[Load]], result: Announced) -> None:
    """Store each node's loads with it, a few nodes at a time."""
    places = asyncio.Semaphore(AT_ONCE)

    async def store(contact: Contact, loads: Iterable[Load]) -> None:
        async with places:
            for load in loads:
                if not await _store(dht, contact, load, result):
                    return

    async with asyncio.TaskGroup() as tasks:
        for contact, loads in wanted.items():
            tasks.create_task(store(contact, loads))


async def _store(dht: Dht, contact: Contact, load: Load, result: Announced) -> bool:
    """Whether ``contact`` answered; what it keeps now is counted."""

    def ask(peer: DhtPeer) -> Awaitable[dict[int, str]]:
        return peer.store(load.entries, load.batches)

    refused = await dht.call("Store", contact, ask)
    result.calls += 1
    result.sent_bytes += load.size_bytes
    if refused is None:
        return False
    result.refused.update(refused.values())
    result.keepers.update(
        key for at, (key, _) in enumerate(load.entries) if refused.get(at, STALE) == STALE
    )
    return True


def _parts(items: Sequence[_Item], most: int) -> Iterator[Sequence[_Item]]:
    for at in range(0, len(items), most):
        yield items[at : at + most]


def _loads(entries: Entries) -> Iterator[Load]:
    """``entries`` in parts that fit a message."""
    batch: list[tuple[bytes, bytes]] = []
    size = 0
    for key, record in entries:
        if batch and (len(batch) == MOST_ENTRIES or size + len(record) > STORE_BYTES):
            yield Load(batch)
            batch, size = [], 0
        batch.append((key, record))
        size += len(record)
    if batch:
        yield Load(batch)
