"""Whoever connects, the node keeps serving those who behave, in bounded memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dsn.ids import NO_DEAL
from dsn.ledger.revision import first_revision
from dsn.units import MIB
from tests.support.attackers import attacking
from tests.support.node_process import prepare, running_process
from tests.support.node_world import Client, shards

COUNT = int(os.environ.get("DSN_TEST_BAD_CONNECTIONS", "240"))
"""The promise is about 1,000; the test command makes fewer to stay quick."""
MOST_BYTES = 512 * MIB


async def behave(client: Client) -> None:
    """Put, hold, get: what a good client does."""
    group = shards(5_000, 3 * MIB)
    await client.put(*group)
    await client.revise(client.request(first_revision(NO_DEAL), group, group))
    for shard in group:
        assert await client.get(shard.commit, 0, len(shard.data)) == shard.data


@pytest.mark.skipif(sys.platform != "linux", reason="reads a process's peak memory from /proc")
async def test_bad_connections_neither_stop_nor_bloat_a_node(tmp_path: Path) -> None:
    home = prepare(tmp_path / "home")
    async with running_process(home) as node:
        async with attacking(node.contact, node.network, COUNT), node.client(1) as client:
            await behave(client)
        async with node.client(2) as client:
            await behave(client)
        peak = node.peak_bytes()
        print(f"{COUNT} bad connections: peak memory {peak / MIB:.0f} MiB")
        assert peak < MOST_BYTES
