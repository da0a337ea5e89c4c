"""What a node's announcing costs, by how many shards it holds: calls and bytes.

    python bench/announce.py [--nodes 30] [--shards 1,1000,100000]

A local network of real processes keeps the records; a node with a real store of so many shards
announces itself to it as nodes do every eight hours. ``own`` is its own record, ``pointers``
those of the files it holds (one in a hundred shards here), in one sweep of the keyspace;
``shard_records`` is what a network pays more that has switched them on. ``bound_calls`` is what
a sweep takes at most: a lookup a region, and for each node of a region one call for every 256
pointers or 32,000 shards. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from calibration import calibrate

from dsn.apps.announce import Announced, announce_shards
from dsn.apps.dht import Dht
from dsn.apps.node.presence import OwnRecord, Presence
from dsn.apps.node.terms import Self, Terms
from dsn.core.keys import SigningKey
from dsn.core.merkle import ShardHasher
from dsn.dht.book import AddressBook
from dsn.dht.network import parse_network
from dsn.dht.record import sign_pointer
from dsn.dht.routing import BUCKET_SIZE
from dsn.ids import NO_DEAL, NodeId
from dsn.rpc.channel import Connections
from dsn.runtime.clock import SystemClock
from dsn.runtime.entropy import system_entropy
from dsn.store.shards import DiskStore, open_store
from dsn.units import GIB

AT_ONCE = 512
POINTER_BODY = 700
"""Bytes of a sealed body that names ten holders."""


def main() -> None:
    """Run what the flags ask for; print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=30)
    parser.add_argument("--shards", default="1,1000,100000", help="comma-separated")
    args = parser.parse_args()
    result: dict[str, Any] = {"bench": "announce", "calibration": calibrate()}
    result["nodes"] = args.nodes
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder) / "net"
        try:
            dsn("devnet", "up", "--free", "--dir", str(network), "--nodes", str(args.nodes))
            result["runs"] = [
                asyncio.run(measure(network, Path(folder) / f"store{count}", int(count)))
                for count in args.shards.split(",")
            ]
        finally:
            dsn("devnet", "down", "--dir", str(network))
    print(json.dumps(result))


async def measure(folder: Path, volume: Path, shards: int) -> dict[str, Any]:
    """Announce a node with so many shards, three ways."""
    network = parse_network((folder / "network.toml").read_text())
    key, clock = SigningKey(os.urandom(32)), SystemClock()
    me = Self(network.network_id, key, Terms())
    volume.mkdir()
    async with (
        open_store(volume, capacity_bytes=GIB, entropy=system_entropy, create=True) as store,
        Connections(key, network.network_id) as connections,
    ):
        dht = Dht(
            connections,
            network,
            me.node_id,
            AddressBook(subnet_limits=False),
            clock=clock,
            entropy=system_entropy,
        )
        await fill(store, me.node_id, shards)
        own = OwnRecord(me, store, volume / "node.record", clock)
        own.address = "127.0.0.1:1"
        presence = Presence(
            dht,
            store,
            own,
            seek=nowhere,
            save=lambda: None,
            refresh_s=600,
            clock=clock,
            entropy=system_entropy,
        )
        await dht.find_nodes(me.node_id)
        return {"shards": shards} | await three_ways(dht, store, presence, clock, me)


async def three_ways(
    dht: Dht, store: DiskStore, presence: Presence, clock: SystemClock, me: Self
) -> dict[str, Any]:
    """The node's own record, the records of what it holds, and its shards one by one."""
    result: dict[str, Any] = {}
    before = sum(dht.calls.values())
    await presence.announce()
    result["own"] = priced(presence.cost, sum(dht.calls.values()) - before)
    pointers = [pointer(me, number, clock) for number in range(1 + store.count // 100)]
    await store.put_records(pointers)
    before = sum(dht.calls.values())
    await presence.announce()
    cost = priced(presence.cost, sum(dht.calls.values()) - before)
    result["pointers"] = cost | {"records": len(pointers)}
    before, all_of_it = sum(dht.calls.values()), Announced()
    page = await store.commits()
    while page:
        all_of_it.add(await announce_shards(dht, page, presence.own.sign_shards))
        page = await store.commits(after=page[-1])
    cost = priced(all_of_it, sum(dht.calls.values()) - before)
    bound = all_of_it.regions * (2 * BUCKET_SIZE + 4)
    result["shard_records"] = cost | {"bound_calls": bound}
    return result


def priced(cost: Announced, calls: int) -> dict[str, int]:
    """Calls of all kinds, and what the Store calls among them carried."""
    return {
        "calls": calls,
        "stores": cost.calls,
        "regions": cost.regions,
        "stored_bytes": cost.sent_bytes,
        "refused": sum(cost.refused.values()),
    }


async def fill(store: DiskStore, client: NodeId, shards: int) -> None:
    """Store so many small shards."""

    async def put() -> None:
        data = os.urandom(64)
        commit = ShardHasher.over(data).commit()
        await store.put_small(
            client, NO_DEAL, data, commit, keep_until_s=2**40, pending_limit=2**40
        )

    for at in range(0, shards, AT_ONCE):
        await asyncio.gather(*(put() for _ in range(min(AT_ONCE, shards - at))))


def pointer(me: Self, number: int, clock: SystemClock) -> tuple[bytes, bytes]:
    """A pointer record of a file that nobody else knows."""
    record = sign_pointer(
        me.key.sign,
        network=me.network,
        placement_public=me.key.public,
        core_hash=number.to_bytes(32, "big"),
        sequence=int(clock.now_s() * 1e6),
        expires_s=int(clock.now_s()) + 86_400,
        body=os.urandom(POINTER_BODY),
    )
    return bytes(record.key), record.encode()


async def nowhere() -> int:
    """No other way in is needed here."""
    return 0


def dsn(*args: str) -> None:
    """Run a command; its remarks go to standard error."""
    subprocess.run([sys.executable, "-m", "dsn", *args], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()
