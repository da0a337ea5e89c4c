"""Shards on their way in: frames of any size, paid by the sums of both sides."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from pathlib import Path

import pytest

from dsn.apps.feeds import Feed, read_whole
from dsn.errors import LimitReached, PeerError, TimedOut, TransportError
from dsn.ids import NO_DEAL
from dsn.ledger.bandwidth import FIRST_WINDOW_BYTES, Traffic, window
from dsn.units import KIB, MIB
from tests.support.seller import Shop, shop

SIZE = 5 * MIB + 333


def feed(shop: Shop, start: int = 0, end: int = SIZE) -> Feed:
    """All of the shard, or a part of it."""
    return Feed(shop.nodes, shop.deals, shop.node, shop.commit, start, end)


async def take_all(feed: Feed, size: int, rng: random.Random) -> bytes:
    """``size`` bytes, taken in parts of any size."""
    parts = []
    while size:
        part = rng.randint(1, min(size, 2 * MIB))
        parts.append(await feed.take(part))
        assert len(parts[-1]) == part
        size -= part
    feed.close()
    return b"".join(parts)


@pytest.mark.parametrize("dealt", [False, True], ids=["free", "paid"])
@pytest.mark.parametrize("seed", range(4))
async def test_frames_may_be_cut_anywhere(tmp_path: Path, seed: int, dealt: bool) -> None:
    rng = random.Random(seed)
    async with shop(tmp_path, SIZE, seed=seed, dealt=dealt) as it:
        it.seller.most_frame = rng.choice([3 * KIB, 64 * KIB, 700_001, MIB])
        start = rng.randrange(SIZE - MIB)
        got = await take_all(feed(it, start), SIZE - start, rng)
        assert got == it.seller.data[start:], f"seed {seed}"


async def test_without_a_deal_nothing_is_said_of_money(tmp_path: Path) -> None:
    async with shop(tmp_path, SIZE, dealt=False) as it:
        await read_whole(it.nodes, it.deals, it.node, it.commit, SIZE)
        assert it.seller.asked == [NO_DEAL]
        assert it.seller.vouchers == []


async def test_a_shard_is_paid_as_it_comes(tmp_path: Path) -> None:
    async with shop(tmp_path, SIZE) as it:
        assert await read_whole(it.nodes, it.deals, it.node, it.commit, SIZE) == it.seller.data
        assert it.traffic == it.seller.tab.traffic == Traffic(0, SIZE)
        vouchers = it.seller.vouchers
        assert all(left < right for left, right in pairwise(vouchers)), "each pays for more"
        assert vouchers[-1] <= SIZE
        mine = it.deals.get(it.node)
        assert mine is not None
        assert mine.purse.owed <= window(mine.terms, mine.purse.credits) // 2
        print(f"{SIZE} bytes in {len(vouchers)} vouchers, at most {it.seller.most_owed} owed")


async def test_what_is_left_is_paid_when_the_session_ends(tmp_path: Path) -> None:
    async with shop(tmp_path, SIZE) as it:
        await read_whole(it.nodes, it.deals, it.node, it.commit, SIZE)
        await it.deals.settle()
        assert it.seller.tab.credits == SIZE
        assert it.seller.tab.owed == 0
        assert it.notices == []


async def test_streams_of_one_node_share_a_purse(tmp_path: Path) -> None:
    async with shop(tmp_path, SIZE) as it:
        parts = [(at, min(at + MIB, SIZE)) for at in range(0, SIZE, MIB)]
        feeds = [feed(it, *part) for part in parts]
        got = await asyncio.gather(*(f.take(b - a) for f, (a, b) in zip(feeds, parts, strict=True)))
        for each in feeds:
            each.close()
        assert b"".join(got) == it.seller.data
        assert it.traffic == it.seller.tab.traffic == Traffic(0, SIZE), "counted once"
        assert it.seller.tab.credits <= SIZE


async def test_bytes_that_only_the_node_counted_do_not_hold_up_the_next_read(
    tmp_path: Path,
) -> None:
    async with shop(tmp_path, SIZE) as it:
        it.seller.tab.read(FIRST_WINDOW_BYTES - 5)  # sent to somebody who hung up
        assert await read_whole(it.nodes, it.deals, it.node, it.commit, SIZE) == it.seller.data
        await it.deals.settle()
        assert it.seller.tab.credits == it.seller.tab.traffic.egress_bytes
        assert it.seller.tab.traffic == Traffic(0, SIZE + FIRST_WINDOW_BYTES - 5)


async def test_a_read_that_is_given_up_halfway_leaves_the_node_served(tmp_path: Path) -> None:
    async with shop(tmp_path, SIZE) as it:
        for _ in range(4):
            first = feed(it)
            await first.take(MIB)
            first.close()
        assert await read_whole(it.nodes, it.deals, it.node, it.commit, SIZE) == it.seller.data
        assert it.traffic.egress_bytes <= it.seller.tab.traffic.egress_bytes
        await it.deals.settle()
        assert it.seller.tab.owed == 0
        assert it.notices == []


async def test_what_perhaps_only_the_node_counted_is_asked_for_at_the_end(tmp_path: Path) -> None:
    async with shop(tmp_path, SIZE) as it:
        mine = it.deals.get(it.node)
        assert mine is not None
        mine.purse.asked(5_000)
        mine.purse.forgone(5_000, 5_000)
        it.seller.tab.read(3_000)
        await it.deals.settle()
        assert it.traffic == it.seller.tab.traffic == Traffic(0, 3_000)
        assert it.seller.tab.owed == 0


async def test_a_bill_that_is_right_is_paid(tmp_path: Path) -> None:
    async with shop(tmp_path, SIZE) as it:
        it.seller.tab.read(FIRST_WINDOW_BYTES)
        it.seller.refusals.append(it.seller.bill())
        assert await read_whole(it.nodes, it.deals, it.node, it.commit, SIZE) == it.seller.data
        assert it.seller.vouchers[0] == FIRST_WINDOW_BYTES
        assert len(it.seller.asked) == 2


async def test_a_bill_that_is_too_high_is_not(tmp_path: Path) -> None:
    async with shop(tmp_path, SIZE) as it:
        it.seller.tab.read(FIRST_WINDOW_BYTES + 1)
        it.seller.refusals.append(it.seller.bill())
        with pytest.raises(PeerError) as failure:
            await read_whole(it.nodes, it.deals, it.node, it.commit, SIZE)
        assert failure.value.detail_code == "overcharged"
        assert it.seller.vouchers == []


async def test_a_node_that_was_paid_and_refuses_again_is_left(tmp_path: Path) -> None:
    async with shop(tmp_path, SIZE) as it:
        it.seller.refusals += [it.seller.bill(), it.seller.bill()]
        with pytest.raises(PeerError) as failure:
            await read_whole(it.nodes, it.deals, it.node, it.commit, SIZE)
        assert failure.value.detail_code == "payment_due"
        assert len(it.seller.asked) == 2


async def test_beyond_the_free_quota_the_ledger_is_needed(tmp_path: Path) -> None:
    async with shop(tmp_path, SIZE, dealt=False) as it:
        it.seller.refusals.append(LimitReached("no", code="payment_needed"))
        with pytest.raises(TransportError) as failure:
            await read_whole(it.nodes, it.deals, it.node, it.commit, SIZE)
        assert failure.value.detail_code == "ledger_unreachable"


async def test_a_node_that_has_not_seen_what_was_locked_is_asked_again(tmp_path: Path) -> None:
    async with shop(tmp_path, SIZE) as it:
        it.seller.refusals.append(LimitReached("no", code="escrow_spent"))
        assert await read_whole(it.nodes, it.deals, it.node, it.commit, SIZE) == it.seller.data
        assert len(it.seller.asked) == 2


async def test_no_more_is_promised_than_is_locked(tmp_path: Path) -> None:
    async with shop(tmp_path, SIZE, escrow=2 * MIB) as it:
        with pytest.raises(TransportError) as failure:
            await read_whole(it.nodes, it.deals, it.node, it.commit, SIZE)
        assert failure.value.detail_code == "ledger_unreachable"
        assert it.seller.tab.traffic.egress_bytes == 2 * MIB
        assert it.seller.tab.credits <= 2 * MIB


@pytest.mark.parametrize("extra", [b"", bytes(SIZE + 1)[: MIB + 1]], ids=["empty", "too long"])
async def test_a_frame_of_another_size_than_was_asked(tmp_path: Path, extra: bytes) -> None:
    async with shop(tmp_path, SIZE, dealt=False) as it:
        it.seller.extra = extra
        with pytest.raises(PeerError, match=f"a frame of {len(extra)} bytes"):
            await feed(it, 0, MIB).take(MIB)


async def test_a_node_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    async with shop(tmp_path, SIZE) as it:
        it.seller.most_frame = 1
        with pytest.raises(TimedOut):
            await feed(it).take(SIZE, within_s=0.2)
