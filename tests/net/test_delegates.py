"""Repairs that the owner pays for: deals that name somebody else, and what they let it do."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dsn.apps.client import Client
from dsn.apps.deal_file import ClientDeal
from dsn.apps.delegation import parse_reserves
from dsn.apps.paying import Payer
from dsn.apps.results import FileState, Reserved
from dsn.apps.targets import PutItem
from dsn.config import ClientSettings
from dsn.core.layout import Scheme
from dsn.core.merkle import ShardHasher
from dsn.dht.network import format_network
from dsn.errors import DsnError
from dsn.ids import NodeId, parse_base32
from dsn.ledger.bandwidth import Traffic, bandwidth_due
from dsn.ledger.bodies import Transfer
from dsn.ledger.cells import DealCell
from dsn.ledger.settlement import Address, SettlementKey
from dsn.rpc.deals import DealPeer
from dsn.store.home import Home
from dsn.units import KIB, LEAF_BYTES, MIB
from dsn.v1 import node_pb2
from tests.support.paid_net import CLIENT_ROOT, FEE, FINDING, PaidNet, bind, paid_net

SCHEME = Scheme(2, 4)
REPAIRER = b"R" * 32
BUDGET = 10**9


@dataclass
class Story:
    """A stored file, its owner, and a repairer that has no credits beyond a fee."""

    net: PaidNet
    folder: Path
    link: str
    home: Home

    @property
    def address(self) -> Address:
        return SettlementKey.derive(REPAIRER).address

    def repairer(self) -> Client:
        return Client.open(
            self.home,
            notice=self.net.notices.append,
            progress=lambda progress: None,
            dht=FINDING,
            storing=ClientSettings(),
        )

    async def reserve(self, budget: int = BUDGET) -> Reserved:
        """The owner pays for repairs."""
        async with self.net.client() as owner:
            shared = await owner.share("file", "repair", self.address, budget)
        assert shared.reserved is not None
        return shared.reserved

    async def holders(self) -> list[NodeId]:
        """Who holds the shards of the only segment, by index."""
        async with self.net.client() as owner:
            manifest = await owner._manifest(await owner._resolve("file"))
        return [manifest.placement.nodes[place.node] for place in manifest.placement.rows[0]]

    async def cells(self, reserved: Reserved) -> list[DealCell]:
        """The deals as the ledger has them."""
        async with self.net.light() as light:
            found = await light.deals(parse_base32(deal.deal) for deal in reserved.deals)
        return list(found.values())


@pytest.fixture
async def story(tmp_path: Path) -> AsyncIterator[Story]:
    async with paid_net(tmp_path, nodes=8) as net:
        path = tmp_path / "file"
        path.write_bytes(os.urandom(5 * MIB))
        async with net.client() as client:
            (stored,) = await client.put([PutItem(path, "file")], scheme=SCHEME)
        home = Home.create(tmp_path / "repairer", REPAIRER)
        home.save_network(format_network(net.served.network))
        address = SettlementKey.derive(REPAIRER).address
        await net.served.enter(SettlementKey.derive(CLIENT_ROOT), Transfer(address, FEE))
        await bind(net.served, REPAIRER)
        yield Story(net, tmp_path, stored.repair, home)


async def code(call: Any) -> str:
    """The code that ``call`` is refused with."""
    with pytest.raises(DsnError) as caught:
        await call
    return caught.value.detail_code


def dealt(client: Client) -> list[ClientDeal]:
    """The deals that ``client`` uses."""
    known = client._deals._book.deals
    return [deal for deal in known if deal is client._deals.get(deal.node)]


async def test_a_repairer_without_credits_restores_a_file(story: Story) -> None:
    """It stores on spare nodes under the owner's deals, pays from its limit, the nodes claim."""
    before = await story.net.account()
    reserved = await story.reserve()
    after = await story.net.account()
    assert before.available - after.available == reserved.locked <= BUDGET
    holders = await story.holders()
    assert len(reserved.deals) >= len(holders) + SCHEME.total - SCHEME.required
    for node in holders[:2]:
        await story.net.nodes[node]._server.stop(0)
    async with story.repairer() as repairer:
        result = await repairer.repair(
            story.link, dry_run=False, days=None, budget=None, deals=reserved.text
        )
        counted = {deal.node: deal for deal in dealt(repairer)}
    assert (result.rebuilt, result.state) == (2, FileState.HEALTHY)
    async with story.net.client() as owner:
        assert (await owner.check("file", deep=True)).state is FileState.HEALTHY
        assert not any(deal.reserved for deal in dealt(owner)), "its own files go elsewhere"
    for node in story.net.nodes.values():
        assert node.money is not None
        await node.money.claims.claim()
    cells, paid = await story.cells(reserved), 0
    for cell in cells:
        assert cell.voucher_paid == 0, "the owner promised nothing for this"
        mine = next(deal for deal in counted.values() if deal.deal == cell.deal)
        if mine.node not in holders[:2]:
            assert cell.delegate_paid == bandwidth_due(mine.terms, mine.purse.traffic)
        paid += cell.delegate_paid
    assert paid > 0
    assert (await story.net.account(REPAIRER)).available == 0, "it spent nothing of its own"
    print(f"{reserved.locked} credits locked in {len(cells)} deals, {paid} paid by the delegate")


async def test_what_a_delegate_may_not_do(story: Story) -> None:
    """Each limit is kept by the client, and by the node if the client does not."""
    reserved = await story.reserve()
    async with story.repairer() as repairer:
        deals = repairer._deals
        await deals.act_for_owner(reserved.text)
        deal = dealt(repairer)[0]
        node, most = deal.node, deal.terms.delegate_leaves
        refusals = await deals.reserve({node: (most + 1) * LEAF_BYTES})
        assert refusals[node].detail_code == "over_delegated"
        refusals = await deals.reserve({node: 1 << 40})
        assert refusals[node].detail_code == "over_delegated"
        assert await code(deals.reserve_reading(node, 1 << 40)) == "over_delegated"
        assert await deals.reserve({node: MIB}) == {}

        data = os.urandom(40 * KIB)
        commit = ShardHasher.over(data).commit()
        session = repairer._nodes.peer(node).put_shards()
        header = node_pb2.PutHeader(small=[node_pb2.SmallShard(data=data, commit=commit)])
        Payer(deals, node).announce(header, len(data))
        await session.write(header.SerializeToString())
        assert await session.read() is not None
        await session.done_writing()
        repairer._holdings.add(node, commit, 40)
        await repairer._holdings.revise(node)
        assert deal.leaves == 40
        repairer._holdings.drop(node, [commit])
        assert await code(repairer._holdings.revise(node)) == "delegate_lowers"

        deals._signing.promise(deal, deal.terms.delegate_credits + 1)
        voucher = deals.voucher(node)
        peer = DealPeer(repairer._nodes.line(node))
        assert await code(peer.pay(deal.deal, voucher)) == "over_escrow"
        deal.purse.traffic, deal.purse.credits = Traffic(), 0


async def test_deals_for_somebody_else_are_refused(story: Story) -> None:
    reserved = await story.reserve()
    domain = story.net.served.params.domain
    assert len(parse_reserves(reserved.text, domain, story.address)) == len(reserved.deals)
    fields = json.loads(reserved.text)
    first = fields["deals"][0]["agreed"]
    bad = {
        "no JSON": "x",
        "a list": "[]",
        "nothing": "null",
        "deep": "[" * 100_000,
        "no deals": json.dumps(fields | {"deals": []}),
        "another network": json.dumps(fields | {"network": "aaaa"}),
        "another version": json.dumps(fields | {"version": 2}),
        "no deal": json.dumps(fields | {"deals": [{"node": fields["deals"][0]["node"]}]}),
        "changed": json.dumps(fields).replace(first, first[:40] + "00" + first[42:]),
        "cut": json.dumps(fields).replace(first, first[:-2]),
        "too long": reserved.text + " " * (1 << 20),
    }
    async with story.repairer() as repairer:
        for name, text in bad.items():
            assert (name, await code(repairer._deals.act_for_owner(text))) == (
                name,
                "bad_deals_file",
            )
    async with story.net.client() as owner:
        assert await code(owner._deals.act_for_owner(reserved.text)) == "bad_deals_file"


async def test_who_can_be_paid_for_repairs(story: Story) -> None:
    before = await story.net.account()
    async with story.net.client() as owner:
        stranger = SettlementKey(b"s" * 32).address
        assert await code(owner.share("file", "repair", stranger, BUDGET)) == "not_bound"
        mine = SettlementKey.derive(CLIENT_ROOT).address
        assert await code(owner.share("file", "repair", mine, BUDGET)) == "same_account"
        assert await code(owner.share("file", "repair", story.address, 10)) == "over_budget"
    assert await story.net.account() == before
