"""A session's put streams: a node that waits for pay is paid, and is not given up for it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dsn.apps.fleet import Fleet
from dsn.core.merkle import ShardHasher
from dsn.errors import DsnError
from dsn.ids import NodeId
from dsn.ledger.bandwidth import Traffic, window
from dsn.units import MIB
from tests.support import seller
from tests.support.seller import Shop, shop

SIZE = 24 * MIB


async def store(it: Shop, failed: list[tuple[NodeId, DsnError]]) -> None:
    """Store one large shard over a fleet of its own."""
    fleet = Fleet(it.nodes, it.deals, lambda *failure: failed.append(failure), lambda: False)
    data = random.Random(1).randbytes(SIZE)
    try:
        group = fleet.group(it.node, SIZE)
        for at in range(0, SIZE, MIB):
            await group.send(data[at : at + MIB])
        await (await group.end(ShardHasher.over(data).commit()))
    finally:
        await fleet.close()


@pytest.mark.parametrize("share", [1, 0.75])
async def test_a_node_that_counted_more_is_paid_for_it_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """As after a read that broke off, of which this run knows nothing.

    With the widest window it takes nothing long before the client thinks that a voucher is due.
    """
    monkeypatch.setattr(seller, "PAY_S", 10.0)
    failed: list[tuple[NodeId, DsnError]] = []
    async with shop(tmp_path, 1) as it:
        await store(it, failed)
        extra = int(window(it.seller.terms, it.seller.tab.credits) * share)
        it.seller.tab.read(extra)
        await store(it, failed)
        assert failed == []
        assert it.traffic == it.seller.tab.traffic == Traffic(2 * SIZE, extra)


async def test_a_node_that_claims_too_much_is_not_paid_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seller, "PAY_S", 1.0)
    async with shop(tmp_path, 1) as it:
        await store(it, [])
        it.seller.tab.read(3 * window(it.seller.terms, it.seller.tab.credits))
        with pytest.raises(DsnError) as refusal:
            await store(it, [])
        assert refusal.value.detail_code == "payment_due"
        assert it.seller.tab.credits <= 2 * SIZE
