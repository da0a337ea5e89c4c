"""Back from the phrase on a new machine: deals, vouchers and escrow, against a real ledger."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dsn.apps.client import Client
from dsn.apps.deal_file import ClientDeal
from dsn.apps.node.dealing import PAGE
from dsn.apps.node.run import Node
from dsn.apps.results import RecoverResult
from dsn.apps.targets import PutItem
from dsn.apps.wallet import Balance, opened
from dsn.core.keys import node_id_of
from dsn.core.layout import Scheme
from dsn.dht.network import format_network
from dsn.ids import DealId, NodeId
from dsn.ledger.cells import DealCell, DealState
from dsn.ledger.settlement import SettlementKey
from dsn.ledger.typed import sign_typed
from dsn.store.deals import StoredDeal
from dsn.store.home import Home
from dsn.units import KIB, MIB
from tests.support.paid_net import CLIENT_ROOT, EPOCH_S, START, PaidNet, identity_of, paid_net
from tests.support.paid_node import paid_node

SCHEME = Scheme(2, 4)
SPAN = 12
"""Epochs: the longest term, and so the grace and the notice of these nodes."""
DAYS = 8 * EPOCH_S / 86_400
SIZE = 3 * MIB


@dataclass
class Story:
    """A stored file, what its home knew, and a new home with the same keys."""

    net: PaidNet
    folder: Path
    known: dict[DealId, ClientDeal]

    async def recover(self, name: str = "new") -> RecoverResult:
        """Recover in a fresh home, which is the client's from then on."""
        self.net.home = Home.create(self.folder / name, CLIENT_ROOT)
        self.net.home.save_network(format_network(self.net.served.network))
        async with self.net.client() as client:
            return await client.recover()

    async def look(self) -> None:
        """Every node does what is due."""
        for node in self.net.nodes.values():
            assert node.money is not None
            await node.money.turn()


def book(client: Client) -> dict[DealId, ClientDeal]:
    """The deals that ``client`` knows."""
    return {deal.deal: deal for deal in client._deals._book.deals}


def file(folder: Path, name: str, size: int = SIZE) -> PutItem:
    path = folder / name
    path.write_bytes(os.urandom(size))
    return PutItem(path, name)


@pytest.fixture
async def story(tmp_path: Path) -> AsyncIterator[Story]:
    async with paid_net(tmp_path, nodes=4, max_term=SPAN) as net:
        async with net.client() as client:
            await client.put([file(tmp_path, "file")], scheme=SCHEME, days=DAYS)
        async with net.client() as client:
            yield Story(net, tmp_path, book(client))


async def test_deals_come_back_as_they_were(story: Story) -> None:
    result = await story.recover()
    assert (result.files, result.bytes) == (1, SIZE)
    assert (result.deals, result.missing_deals) == (len(story.known), 0)
    async with story.net.client() as client:
        found = book(client)
        assert found.keys() == story.known.keys() and len(found) == SCHEME.total
        for deal, was in story.known.items():
            now = found[deal]
            assert (now.node, now.agreed, now.stage) == (was.node, was.agreed, was.stage)
            assert now.leaves == was.leaves
            assert now.purse.credits >= was.purse.credits
            read = now.purse.traffic.egress_bytes
            assert now.purse.traffic == was.purse.traffic.read(read), "but for the names"
            assert read <= KIB
            assert (now.newest is None) == (now.purse.credits == 0)
        assert sum(deal.purse.credits for deal in found.values()) > 0
        again = await client.recover()
        assert (again.deals, again.missing_deals) == (0, 0)
    assert not story.net.notices, story.net.notices


async def test_all_is_freed_and_the_escrow_comes_back(story: Story) -> None:
    """Under the old deals more is stored and paid, then all is removed; the log adds up to that."""
    net, before = story.net, {deal: was.purse.credits for deal, was in story.known.items()}
    await story.recover()
    async with net.client() as client:
        await client.put([file(story.folder, "more", MIB)], scheme=SCHEME, days=DAYS)
        await client.renew(["file"], days=DAYS, budget=None)
        assert book(client).keys() == story.known.keys(), "the deals were used again"
        now = {deal: each.purse.credits for deal, each in book(client).items()}
        assert all(now[deal] >= credits for deal, credits in before.items())
        assert sum(now.values()) > sum(before.values()), "vouchers went on from there"
    async with net.client() as client:
        removed = await client.rm(["file", "more"])
        assert all(not each.pending_nodes for each in removed)
    assert not net.notices, net.notices
    await end(story)
    cells = await cells_of(story)
    assert {cell.state for cell in cells} == {DealState.ENDED}
    paid = sum(cell.voucher_paid + cell.disk_paid for cell in cells)
    account = await net.account()
    assert account.available == START - account.burned - paid and paid > 0
    async with opened(net.home) as wallet:
        balance, said = await wallet.balance(), (await wallet.history()).accounting()
    assert balance == Balance(account.available, 0, 0, account.available)
    assert said.total == balance.total and said.escrow == 0
    assert said.spent_bandwidth + said.spent_disk == paid


async def end(story: Story) -> None:
    """Wait until all deals are over, and have what is left in them given back."""
    last = max(cell.last for cell in await cells_of(story))
    while story.net.served.time().epoch <= last:
        await story.look()
        await story.net.served.next_epoch()
    async with story.net.client() as client:
        await client._deals.moment()
    await story.net.served.published()


async def cells_of(story: Story) -> list[DealCell]:
    async with story.net.light() as light:
        return list((await light.deals(story.known)).values())


async def test_a_node_gives_only_what_can_be_so(story: Story) -> None:
    """One lists a deal of another, one a deal that we never signed, one is away: their own wait."""
    thief, forger, away, *_ = nodes = list(story.net.nodes.values())
    theirs = {deal.node: deal for deal in story.known.values()}
    foreign = stored(theirs[nodes[3].dht.table.me])
    forged = stored(theirs[forger.dht.table.me])
    made = replace(forged.terms, salt=b"x" * 32)
    domain = story.net.served.params.domain
    signature = sign_typed(made, domain, SettlementKey.derive(b"\2" * 32))
    forged = replace(forged, deal=made.deal_id(domain), terms=made, provider_signature=signature)
    for node, lie in ((thief, foreign), (forger, forged)):
        assert node.money is not None
        await node.money.deals.store.sign(lie)
    await away._server.stop(0)
    result = await story.recover()
    assert (result.deals, result.missing_deals) == (len(story.known) - 3, 3)
    async with story.net.client() as client:
        lacking = {deal.node for deal in story.known.values()} - set(nodes_of(client))
        assert lacking == {node.dht.table.me for node in (thief, forger, away)}
    for node, lie in ((thief, foreign), (forger, forged)):
        await forget(node, lie.deal)
    async with story.net.client() as client:
        again = await client.recover()
        assert (again.deals, again.missing_deals) == (2, 1)


def nodes_of(client: Client) -> list[NodeId]:
    return [deal.node for deal in book(client).values()]


def stored(deal: ClientDeal) -> StoredDeal:
    """The deal as a node keeps it."""
    owner, agreed = identity_of(CLIENT_ROOT), deal.agreed
    signatures = agreed.client_signature, agreed.provider_signature
    return StoredDeal(deal.deal, node_id_of(owner.public), deal.terms, *signatures)


async def forget(node: Node, deal: DealId) -> None:
    assert node.money is not None
    await node.money.deals.store._batches.write(("DELETE FROM deals WHERE id = ?", (deal,)))


async def test_a_long_list_comes_in_pages_and_to_its_owner_only(tmp_path: Path) -> None:
    async with paid_node(tmp_path) as world:
        client, other = await world.client(1), await world.client(2)
        terms, owner = await client.draft(), node_id_of(client.identity.public)
        made = [replace(terms, salt=n.to_bytes(32, "big")) for n in range(PAGE + 10)]
        for each in made:
            deal = each.deal_id(client.domain)
            await world.money.deals.store.sign(StoredDeal(deal, owner, each, b"c" * 65, b"p" * 65))
        first = await client.deals.listed(b"")
        assert (len(first.deals), first.more) == (PAGE, True)
        ids = sorted(each.deal_id(client.domain) for each in made)
        rest = await client.deals.listed(ids[PAGE - 1])
        assert (len(rest.deals), rest.more) == (10, False)
        listed = [*first.deals, *rest.deals]
        encoded = {each.deal_id(client.domain): each.encode() for each in made}
        assert listed == [encoded[deal] + b"c" * 65 + b"p" * 65 for deal in ids]
        assert not (await other.deals.listed(b"")).deals
