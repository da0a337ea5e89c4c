"""A paid node as a process of its own: what kill -9 leaves, what a stop claims, what it shows."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

from dsn.ledger.bandwidth import Traffic, bandwidth_due, window
from dsn.units import MIB
from tests.net.local import dsn
from tests.support.node_world import shards
from tests.support.paid_node import PaidWorld, node_home, paid_ledger, process_of


async def test_kill_9_mid_download_keeps_the_vouchers(tmp_path: Path) -> None:
    (shard,) = shards(16 * MIB)
    async with paid_ledger(tmp_path) as served:
        home = node_home(tmp_path, served)
        async with process_of(home, served) as (world, running):
            await bound(world)
            client = await world.client()
            await client.open()
            await client.hold(shard)
            stream = client.peer.get_shards()
            await stream.write(client.asked(shard, 0, 16 * MIB))
            while client.purse.traffic.egress_bytes < 10 * MIB:
                client.purse.received(len(await stream.read() or b""))
                if (voucher := client.due()) is not None:
                    await stream.write(client.only(voucher))
            await running.end(signal.SIGKILL)
        received = bandwidth_due(client.terms, client.purse.traffic)
        async with process_of(home, served) as (world, running):
            again = await world.stranger(1)
            again.use(client.terms)
            reply = await again.deals.pay(again.deal, None)
            credits = reply.voucher.credits
            assert received - window(client.terms, credits) <= credits <= client.purse.credits
            again.purse = client.purse
            again.purse.agree(Traffic(reply.ingress_bytes, reply.egress_bytes))
            await again.pay()
            assert await again.get(shard) == shard.data


async def test_a_stop_claims_and_every_screen_agrees(tmp_path: Path) -> None:
    (shard,) = shards(3 * MIB)
    async with paid_ledger(tmp_path) as served:
        home = node_home(tmp_path, served)
        async with process_of(home, served) as (world, running):
            await bound(world)
            client = await world.client()
            await client.open()
            await client.hold(shard)
            credits = client.purse.credits
            shown = await earnings(home.path)
            assert (shown["total"], shown["unclaimed"]) == ("0", str(credits))
            assert shown["deals"][0]["deal"] == client.deal.hex()
            status = await asyncio.to_thread(dsn, "provider", "status", "--json", home=home.path)
            assert status.check().fields["unclaimed"] == str(credits)
            assert await running.end(signal.SIGTERM) == 0
            await served.published()
            cell = await world.cell(client)
        shown = await earnings(home.path)
        assert (shown["total"], shown["unclaimed"]) == (str(credits), "0")
        assert int(shown["ingress"]) + int(shown["egress"]) == credits == cell.voucher_paid
        assert shown["disk"] == shown["relay"] == shown["slashed"] == "0"
        text = await asyncio.to_thread(dsn, "provider", "earnings", "--deals", home=home.path)
        assert f"{credits:,}" in text.check().text


async def earnings(home: Path) -> dict[str, Any]:
    """What ``dsn provider earnings`` says."""
    done = await asyncio.to_thread(dsn, "provider", "earnings", "--json", home=home)
    fields: dict[str, Any] = done.check().fields
    return fields


async def bound(world: PaidWorld) -> None:
    """Return once the node has entered its key binding: the log's second entry."""
    await world.served.published(2)
