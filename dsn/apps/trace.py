"""What a node or a client sees of the network: its contacts, and each step of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dsn.apps.dht import Dht
from dsn.dht.distance import bucket_of, shared_bits
from dsn.dht.node_record import NodeRecord
from dsn.dht.record import PointerRecord, Record
from dsn.dht.shards import ShardRecord
from dsn.ids import format_base32, format_node_id, parse_base32
from dsn.machines.lookup import Hop, Lookup
from dsn.ports import Clock


async def traces(dht: Dht, keys: Sequence[str], paths: int, clock: Clock) -> list[dict[str, Any]]:
    """``trace`` one key (in base32) after the other."""
    return [await trace(dht, parse_base32(key), clock, paths=paths) for key in keys]


async def trace(dht: Dht, key: bytes, clock: Clock, *, paths: int = 1) -> dict[str, Any]:
    """Search for ``key`` and tell each step: whom was asked, when, and what came of it.

    Args:
        dht: Searches.
        key: A node id, file id or any other 32 bytes.
        clock: Measures.
        paths: Disjoint paths; with more than one the search goes on until each has a record.
    """
    began_s = clock.monotonic_s()
    search = await dht.find_records(key, paths=paths)
    took_s = clock.monotonic_s() - began_s
    return {
        "key": format_base32(key),
        "found": [_described(record) for record in search.records],
        "depth": search.lookup.depth,
        "calls": len(search.lookup.hops),
        "milliseconds": round(took_s * 1e3, 3),
        "hops": [_hop(hop, search.lookup, began_s) for hop in search.lookup.hops],
    }


def peers_of(dht: Dht, now_s: float) -> list[dict[str, Any]]:
    """Every contact of the routing table, nearest first."""
    rows = []
    for contact in dht.table:
        entry = dht.book.get(contact.node_id)
        rows.append(
            {
                "node_id": format_node_id(contact.node_id),
                "address": contact.address,
                "bucket": bucket_of(dht.table.me, contact.node_id),
                "source": entry.source if entry else "peer",
                "latency_ms": round(entry.latency_s * 1e3, 1) if entry else None,
                "score": round(dht.book.score(contact.node_id, now_s), 2),
                "answered_s": round(now_s - entry.last_good_s, 1) if entry else None,
            }
        )
    return rows


def _hop(hop: Hop, lookup: Lookup, began_s: float) -> dict[str, Any]:
    ended_s = hop.ended_s or hop.asked_s
    return {
        "node_id": format_node_id(hop.contact.node_id),
        "address": hop.contact.address,
        "path": hop.path,
        "depth": hop.depth,
        "shared_bits": shared_bits(hop.contact.node_id, lookup.target),
        "asked_ms": round((hop.asked_s - began_s) * 1e3, 3),
        "took_ms": round((ended_s - hop.asked_s) * 1e3, 3),
        "outcome": hop.outcome.value,
        "records": hop.values,
    }


def _described(record: Record) -> dict[str, Any]:
    """What a record says in the open."""
    common = {"sequence": record.sequence, "expires": record.expires_s}
    match record:
        case NodeRecord():
            return {
                "kind": "node",
                "addresses": [each.address for each in record.contacts],
                "roles": list(record.roles),
                **common,
            }
        case PointerRecord():
            return {"kind": "pointer", **common}
        case ShardRecord():
            return {"kind": "shard", "holder": format_node_id(record.holder), **common}
        case _:
            return {"kind": "slot", **common}
