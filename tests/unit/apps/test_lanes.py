"""Put streams: what goes out is paid as it goes, and does not count if it got no receipt."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from pathlib import Path

import pytest

from dsn.apps.lanes import LargeLane, SmallLane
from dsn.apps.paying import Payer
from dsn.core.merkle import ShardHasher
from dsn.errors import DsnError, LimitReached, PeerError
from dsn.ids import NO_DEAL, Commit
from dsn.ledger.bandwidth import Traffic, window
from dsn.units import KIB, MIB
from tests.support.seller import Shop, shop


def large(shop: Shop) -> LargeLane:
    """A lane for large shards."""
    payer, network = Payer(shop.deals, shop.node), shop.nodes.network.network_id
    return LargeLane(shop.nodes.peer(shop.node), payer, network, shop.nodes.clock, 1)


def small(shop: Shop) -> SmallLane:
    """A lane for small ones."""
    payer, network = Payer(shop.deals, shop.node), shop.nodes.network.network_id
    return SmallLane(shop.nodes.peer(shop.node), payer, network, shop.nodes.clock)


def shard(size: int, seed: int = 0) -> tuple[bytes, Commit]:
    """Bytes and their name."""
    data = random.Random(seed).randbytes(size)
    return data, ShardHasher.over(data).commit()


async def send(lane: LargeLane, size: int) -> None:
    """Send a large shard and wait for its receipt."""
    data, commit = shard(size)
    await lane.begin(size)
    for at in range(0, size, MIB):
        await lane.send(data[at : at + MIB])
    await (await lane.end(commit, size))


async def test_large_shards_are_paid_as_their_frames_go(tmp_path: Path) -> None:
    sizes = [700 * KIB, 100 * KIB, 3 * MIB, MIB, 5 * MIB]
    async with shop(tmp_path, 1) as it:
        lane = large(it)
        for size in sizes:
            await send(lane, size)
        await lane.close()
        deal = it.deals.deal_id(it.node)
        assert [header.deal for header in it.seller.headers] == [deal] * len(sizes)
        assert it.traffic == it.seller.tab.traffic == Traffic(sum(sizes), 0)
        credits = [header.voucher.credits for header in it.seller.headers]
        assert all(left <= right for left, right in pairwise(credits)), "always the newest"
        assert credits[0] == 0, "nothing was sent yet"
        assert credits[1] == sizes[0], "more than half a window"
        assert credits[2] == sizes[0], "less than half: the newest again, nothing new to sign"
        first, paid = window(it.seller.terms, 0), it.seller.tab.credits
        assert it.seller.most_owed <= max(first, paid)
        assert sum(sizes) - paid < window(it.seller.terms, paid) // 2


async def test_a_node_that_stops_taking_is_paid_a_window_ahead_at_most(tmp_path: Path) -> None:
    """What is in buffers on the way counts as sent, and no more than that is promised."""
    taken, size = 8 * MIB, 64 * MIB
    async with shop(tmp_path, 1) as it:
        lane, data = large(it), bytes(MIB)

        async def feed() -> None:
            for _ in range(size // MIB):
                if it.seller.taken >= taken:
                    it.seller.taking.clear()
                await lane.send(data)

        await lane.begin(size)
        feeding = asyncio.create_task(feed())
        await asyncio.wait([feeding], timeout=1.0)
        assert not feeding.done(), "buffers on the way took a whole shard"
        promised, window_ = it.seller.tab.credits, window(it.seller.terms, it.seller.tab.credits)
        assert taken <= it.seller.taken < size
        ahead = promised - it.seller.taken
        print(f"{ahead} credits were paid ahead of what was taken, the window is {window_}")
        assert ahead <= window_
        lane.fail(DsnError("given up"))
        await feeding
        await lane.close()
        assert it.traffic == Traffic()


async def test_a_lane_whose_voucher_is_refused_has_failed(tmp_path: Path) -> None:
    async with shop(tmp_path, 1) as it:
        lane = large(it)
        it.seller.no_vouchers = True
        with pytest.raises(PeerError):
            await send(lane, 3 * MIB)
        await lane.close()
        assert it.traffic == Traffic()


async def test_small_shards_share_a_message_and_its_voucher(tmp_path: Path) -> None:
    async with shop(tmp_path, 1) as it:
        lane = small(it)
        await asyncio.gather(*(lane.put(*shard(8 * KIB, seed)) for seed in range(200)))
        await lane.close()
        assert it.traffic == it.seller.tab.traffic == Traffic(200 * 8 * KIB, 0)
        assert len(it.seller.headers) < 20
        assert len(set(it.seller.vouchers)) <= 3, "no signature a message"


async def test_without_a_deal_nothing_is_said_of_money(tmp_path: Path) -> None:
    async with shop(tmp_path, 1, dealt=False) as it:
        lanes = large(it), small(it)
        await send(lanes[0], MIB)
        await lanes[1].put(*shard(KIB))
        await asyncio.gather(*(lane.close() for lane in lanes))
        assert [header.deal for header in it.seller.headers] == [NO_DEAL, NO_DEAL]
        assert it.seller.vouchers == []


async def test_what_is_refused_is_not_counted(tmp_path: Path) -> None:
    async with shop(tmp_path, 1) as it:
        it.seller.refusals += [LimitReached("no"), LimitReached("no")]
        lanes = large(it), small(it)
        await lanes[0].begin(2 * MIB)
        receipts = [lanes[1].put(*shard(KIB, seed)) for seed in range(5)]
        receipts.append(await lanes[0].end(shard(2 * MIB)[1], 2 * MIB))
        for result in await asyncio.gather(*receipts, return_exceptions=True):
            assert isinstance(result, LimitReached)
        await asyncio.gather(*(lane.close() for lane in lanes))
        assert it.traffic == Traffic()


async def test_a_shard_that_is_not_finished_is_not_counted(tmp_path: Path) -> None:
    async with shop(tmp_path, 1) as it:
        lane = large(it)
        await send(lane, MIB)
        await lane.begin(2 * MIB)
        lane.fail(DsnError("given up"))
        await lane.close()
        assert it.traffic == it.seller.tab.traffic == Traffic(MIB, 0)


async def test_nothing_is_announced_that_the_escrow_does_not_cover(tmp_path: Path) -> None:
    async with shop(tmp_path, 1, escrow=10 * KIB) as it:
        lane = large(it)
        await lane.begin(MIB)
        with pytest.raises(LimitReached) as failure:
            await (await lane.end(shard(MIB)[1], MIB))
        assert failure.value.detail_code == "escrow_spent"
        await lane.close()
        assert it.seller.headers == []
        assert it.traffic == Traffic()


async def test_too_little_to_be_paid_yet_is_still_within_the_escrow(tmp_path: Path) -> None:
    async with shop(tmp_path, 1, escrow=10 * KIB) as it:
        lane = small(it)
        with pytest.raises(LimitReached) as failure:
            await lane.put(*shard(20 * KIB))
        assert failure.value.detail_code == "escrow_spent"
        await lane.close()
        assert it.traffic == it.seller.tab.traffic == Traffic()
