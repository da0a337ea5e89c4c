"""Files that are paid for, end to end: a real ledger, real nodes, a real client."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dsn.apps.client import Client
from dsn.apps.deal_book import Sender
from dsn.apps.deal_file import FOLDER, DealFolder
from dsn.apps.targets import PutItem
from dsn.apps.wallet import Balance, opened
from dsn.core.layout import Scheme
from dsn.dht.network import format_network, sign_network
from dsn.errors import DsnError
from dsn.ids import NodeId
from dsn.ledger.cells import DealState
from dsn.ledger.entry import Body
from dsn.ledger.rules.settling import check_cover
from dsn.units import GIB, LEAF_BYTES, MIB
from tests.support.ledger_net import LOG_KEY
from tests.support.paid_net import EPOCH_S, FEE, PaidNet, paid_net

SCHEME = Scheme(2, 4)
DAY_EPOCHS = 86_400 // EPOCH_S


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[PaidNet]:
    async with paid_net(tmp_path) as net:
        yield net


def item(folder: Path, size: int, name: str) -> PutItem:
    path = folder / name
    path.write_bytes(os.urandom(size))
    return PutItem(path, name)


async def put(client: Client, *items: PutItem, days: int = 30, budget: int = 0) -> int:
    """Store ``items``; gives what they cost."""
    results = await client.put(items, scheme=SCHEME, days=days, budget=budget)
    return sum(result.cost or 0 for result in results)


async def held(client: Client, name: str) -> dict[NodeId, list[int]]:
    """Lengths of the shards of ``name``, by node."""
    meant = await client._resolve(name)
    manifest = await client._manifest(meant)
    return {node: list(shards.values()) for node, shards in manifest.shards().items()}


async def test_a_file_is_stored_paid_and_read_back(net: PaidNet, tmp_path: Path) -> None:
    before = await net.account()
    one, two = item(tmp_path, 3 * MIB, "one"), item(tmp_path, 5 * MIB, "two")
    async with net.client() as client:
        assert await put(client, one) > 0
        first, entries = await net.deals(), net.entries
        where = await held(client, "one")
        listed = {file.name: file for file in await client.ls()}
    assert set(where) <= set(first)
    for node, lengths in where.items():
        cell = first[node]
        assert cell.state is DealState.OPEN and cell.end >= 1 + 30 * DAY_EPOCHS
        leaves = sum(-(-length // LEAF_BYTES) for length in lengths)
        check_cover(replace(cell, leaves=leaves))
        moved = sum(lengths) * (cell.terms.ingress_price + cell.terms.egress_price) // GIB
        assert cell.bandwidth_escrow >= moved
    locked = sum(cell.disk_escrow + cell.bandwidth_escrow for cell in first.values())
    after = await net.account()
    assert before.available - after.available == locked + FEE * len(first)
    assert listed["one"].cost and listed["one"].expires_s

    async with net.client() as client:
        await put(client, two)
        await client.get("one", tmp_path / "back")
        await client.check("two")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "one").read_bytes()
    assert net.entries - entries <= SCHEME.total, "the deals of the first put had room for more"
    assert {cell.deal for cell in first.values()} <= {c.deal for c in (await net.deals()).values()}
    assert not net.notices, net.notices


async def code(call: object) -> str:
    """The code that ``call`` is refused with."""
    with pytest.raises(DsnError) as caught:
        await call  # type: ignore[misc]
    return caught.value.detail_code


async def test_what_it_may_not_cost_is_refused_before_a_byte_is_sent(tmp_path: Path) -> None:
    big = item(tmp_path, 8 * MIB, "big")
    async with paid_net(tmp_path, nodes=4, credits=100_000) as net:
        entries, empty = net.entries, net.stored_bytes
        async with net.client() as client:
            quote = await client.quote(8 * MIB, scheme=SCHEME, days=30)
        assert quote.cost is not None and quote.cost.locked.expected > 100_000
        async with net.client() as client:
            assert await code(put(client, big, budget=1_000)) == "over_budget"
        async with net.client(budget=1_000) as client:
            assert await code(client.put([big], scheme=SCHEME)) == "over_budget"
        async with net.client() as client:
            assert await code(put(client, big)) == "not_enough_credit"
            assert await code(put(client, big, days=36_500)) == "term_too_long"
        assert (net.entries, net.stored_bytes) == (entries, empty)
        assert await net.deals() == {}


async def test_a_file_lasts_longer_when_it_is_renewed(tmp_path: Path) -> None:
    async with paid_net(tmp_path, nodes=4) as net:
        async with net.client() as client:
            await put(client, item(tmp_path, 2 * MIB, "short"), days=2)
            await put(client, item(tmp_path, MIB, "other"), days=2)
            other, before = await client.ls()
            short = await net.deals()
            assert await code(client.renew(["none"], days=60, budget=0)) == "unknown_name"
            assert await code(client.renew(["short"], days=60, budget=10)) == "over_budget"
            second, result = await client.renew(None, days=60, budget=0)
            _, after = await client.ls()
            spent = net.entries
            await client.renew(["short"], days=59, budget=0)
        assert before.expires_s is not None and after.expires_s is not None
        assert after.expires_s - before.expires_s > 57 * 86_400
        assert result.expires_s == after.expires_s and not result.refused_nodes
        assert second.name == other.name and result.added_cost > second.added_cost > 0
        assert after.cost == (before.cost or 0) + result.added_cost
        longer = await net.deals()
        assert {node: cell.deal for node, cell in longer.items()} == {
            node: cell.deal for node, cell in short.items()
        }
        for node, cell in longer.items():
            assert cell.end > short[node].end and cell.serial == 1
            leaves = sum(-(-each // LEAF_BYTES) for each in (await holdings(net, tmp_path))[node])
            check_cover(replace(cell, leaves=leaves))
        assert net.entries == spent, "what lasts long enough already is left alone"


async def holdings(net: PaidNet, folder: Path) -> dict[NodeId, list[int]]:
    async with net.client() as client:
        return await held(client, "short")


async def test_the_balance_is_the_same_with_and_without_the_log(
    net: PaidNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with net.client() as client:
        await put(client, item(tmp_path, 3 * MIB, "one"))
    for node in net.nodes.values():
        assert node.money is not None
        await node.money.claims.claim()
    async with opened(net.home) as wallet:
        said = (await wallet.history()).accounting()
        known = Balance(said.available, said.escrow, said.collateral, said.total)
        assert known.escrow > 0
        wallet._deals = tmp_path / "none"
        assert await wallet.balance() == known, "deals are missing here: the log tells"
    async with opened(net.home) as wallet:
        monkeypatch.delattr("dsn.apps.wallet.read_history")
        assert await wallet.balance() == known


async def test_deals_that_hold_nothing_any_more_are_ended(net: PaidNet, tmp_path: Path) -> None:
    """All was let go and the nodes installed that: the escrow need not wait for the end."""
    async with net.client() as client:
        await client._deals.reserve(dict.fromkeys(net.nodes, MIB))
        await put(client, item(tmp_path, MIB, "one"))
        unused = {deal.node for deal in client._deals._book.deals}
        used = client._deals.get(next(iter(await held(client, "one"))))
        assert used is not None
        for deal in client._deals._book.deals:
            deal.coming = 0
            if deal is not used:  # as after a removal
                deal.leaves, deal.cell = 0, replace(deal.cell, leaves=0)
        stored = {d.node for d in client._deals._book.deals if d.purse.traffic.ingress_bytes}
        busy = next(iter(stored - {used.node}))
        await client._deals.quit_unused([busy])
    await net.served.published()
    cells, epoch = await net.deals(), net.served.time().epoch
    ended = {node for node, cell in cells.items() if cell.end <= epoch}
    assert ended == stored - {used.node, busy} and ended < unused
    before = net.entries
    async with net.client() as client:
        await client._deals.quit_unused([busy])
        assert net.entries == before, "once is enough"


class Crash(BaseException):
    """The process ends here."""


class Crashing:
    """An account whose process ends while it sends."""

    def __init__(self, account: Sender, *, entered: bool) -> None:
        self._account, self._entered = account, entered

    async def send(self, bodies: Sequence[Body], *, wait: bool = True) -> list[int]:
        if self._entered:
            await self._account.send(bodies)
        raise Crash


async def reserve_and_crash(net: PaidNet, node: NodeId, *, entered: bool) -> None:
    async with net.client() as client:
        escrow = client._deals._escrow
        escrow._sender = Crashing(escrow._sender, entered=entered)
        await client._deals.reserve({node: MIB})


async def test_a_crash_opens_no_deal_twice(tmp_path: Path) -> None:
    async with paid_net(tmp_path, nodes=2) as net:
        for node, entered in zip(net.nodes, (False, True), strict=True):
            entries = net.entries
            with pytest.raises(Crash):
                await reserve_and_crash(net, node, entered=entered)
            async with net.client() as client:
                assert client._deals.get(node) is None, "nobody knows yet"
                assert await client._deals.reserve({node: MIB}) == {}
                deal = client._deals.get(node)
                assert deal is not None and (await net.deals())[node].deal == deal.deal
            assert net.entries == entries + 1
        assert len(DealFolder(net.home.state / FOLDER).ids()) == 2


async def test_a_put_under_open_deals_does_without_the_ledger(tmp_path: Path) -> None:
    small, late = item(tmp_path, MIB, "small"), item(tmp_path, MIB, "late")
    async with paid_net(tmp_path, nodes=4) as net:
        async with net.client() as client:
            await put(client, item(tmp_path, MIB, "first"))
        network = net.served.network
        nowhere = sign_network(network.genesis, network.contacts, LOG_KEY.sign)
        net.home.save_network(format_network(nowhere))
        entries = net.entries
        async with net.client() as client:
            await put(client, small)
            await client.get("first", tmp_path / "back")
            assert await code(put(client, late, days=90)) == "ledger_unreachable"
        assert net.entries == entries
