"""What a client holds on a node under a deal, as both sign it, through crashes and new deals."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dsn.apps.deal_file import Stage, new_deal
from dsn.apps.deals import Deals
from dsn.apps.dht import Dht
from dsn.apps.faults import Faults
from dsn.apps.holdings import Held, Holdings, decode_held, encode_held
from dsn.apps.ledger.account import LedgerAccount
from dsn.apps.ledger.light import LightClient
from dsn.apps.nodes import Nodes
from dsn.dht.book import AddressBook
from dsn.dht.contact import Contact
from dsn.errors import MalformedMessage, Unreachable
from dsn.ids import ID_BYTES, NO_DEAL, Commit, DealId, NodeId
from dsn.ledger.bandwidth import Traffic, bandwidth_due
from dsn.ledger.revision import Revision
from dsn.proofs.inventory import holdings
from dsn.runtime.clock import SystemClock
from dsn.units import KIB, leaf_count
from dsn.v1 import node_pb2
from tests.support.node_world import Shard, shards
from tests.support.paid_node import PaidClient, PaidWorld, paid_node

# files


def held(deal: DealId, rng: random.Random, count: int) -> Held:
    """Some shards under revision 7 of ``deal``."""
    leaves = {Commit(rng.randbytes(32)): rng.randint(1, 1 << 40) for _ in range(count)}
    tree = holdings(leaves.items())
    return Held(Revision(deal, 7, tree.count, tree.total, tree.root), tree, leaves)


@pytest.mark.parametrize("seed", range(5))
def test_a_file_says_what_was_held_under_which_deal(seed: int) -> None:
    rng = random.Random(seed)
    for count in range(9):
        kept = held(DealId(rng.randbytes(32)), rng, count)
        read = decode_held(encode_held(kept))
        assert (read.base, read.leaves) == (kept.base, kept.leaves), f"seed {seed}"


def test_a_file_from_before_there_were_deals_is_read() -> None:
    rng = random.Random(1)
    for count in range(9):
        kept = held(NO_DEAL, rng, count)
        old = encode_held(kept)[ID_BYTES:]
        assert decode_held(old).base == kept.base, f"{count} shards"
        assert decode_held(old).leaves == kept.leaves


def test_a_damaged_file_is_refused() -> None:
    raw = encode_held(held(NO_DEAL, random.Random(2), 3))
    for bad in (b"", raw[:-1], raw[:50]):
        with pytest.raises(MalformedMessage):
            decode_held(bad)


# on a node that is paid


@dataclass
class Home:
    """A client with a deal, and its holdings in a folder that outlives them."""

    client: PaidClient
    deals: Deals
    nodes: Nodes
    node: NodeId
    folder: Path

    def holdings(self, kind: type[Holdings] = Holdings) -> Holdings:
        """As a new command finds them."""
        return kind(
            self.folder, self.nodes, self.client.identity, deals=self.deals, faults=self.faults
        )

    @property
    def faults(self) -> Faults:
        """What this home saw go wrong, as a new command finds it."""
        return Faults(self.folder.parent / "faults", print)

    async def stored(self, *sizes: int) -> list[Shard]:
        """Shards that the node has and nobody signed for, nor paid."""
        made = shards(*sizes)
        await self.client.put(*made, pays=False)
        return made

    async def signed(self) -> node_pb2.GetRevisionReply:
        """What the node says both signed."""
        return await self.client.peer.get_revision(self.deals.deal_id(self.node), limit=100)


def note(holdings: Holdings, node: NodeId, *group: Shard) -> None:
    """Have the next revision name ``group``."""
    for shard in group:
        holdings.add(node, shard.commit, leaf_count(len(shard.data)))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[PaidWorld]:
    async with paid_node(tmp_path) as world:
        yield world


async def home_of(world: PaidWorld, client: PaidClient, root: Path) -> Home:
    """The deal of ``client`` as a home has it."""
    network, clock = world.served.network, SystemClock()
    book = AddressBook(subnet_limits=False)
    me = Contact(client.identity.public, "").node_id
    dht = Dht(client.connections, network, me, book, clock=clock, entropy=os.urandom)
    dht.proven[world.contact.node_id] = world.contact
    nodes = Nodes(dht, client.connections, _nobody, clock, os.urandom)
    light = LightClient(network, client.connections, root / "checkpoint", clock)
    deals = Deals(
        network,
        nodes,
        light,
        LedgerAccount(light, client.key),
        client.key,
        root / "deals",
        clock=clock,
        entropy=os.urandom,
        budget=0,
        days=1.0,
        notice=print,
    )
    await add_deal(deals, client, world)
    return Home(client, deals, nodes, world.contact.node_id, root / "holdings")


async def add_deal(deals: Deals, client: PaidClient, world: PaidWorld) -> None:
    """Have ``deals`` know the deal that ``client`` uses."""
    agreed, epoch = await client.agree(client.terms), world.served.time().epoch
    deals._book.add(new_deal(world.contact.node_id, client.deal, agreed, epoch, Stage.OPEN))
    await deals._book.look()


async def _nobody() -> int:
    return 0


@pytest.fixture
async def home(world: PaidWorld, tmp_path: Path) -> Home:
    client = await world.client()
    await client.open()
    (tmp_path / "home").mkdir()
    return await home_of(world, client, tmp_path / "home")


async def test_both_settlement_keys_sign_what_was_paid_for(home: Home) -> None:
    """The node counted bytes that this home did not: it shows its count, and is paid."""
    group = await home.stored(5 * KIB, 60 * KIB, KIB)
    kept = home.holdings()
    note(kept, home.node, *group)
    await kept.revise(home.node)
    reply = await home.signed()
    assert (reply.revision.number, reply.revision.shards) == (1, 3)
    assert {len(reply.revision.client_signature), len(reply.revision.node_signature)} == {65}
    mine = home.deals.get(home.node)
    assert mine is not None
    assert mine.purse.traffic == Traffic(66 * KIB, 0)
    assert mine.purse.credits == bandwidth_due(mine.terms, Traffic(66 * KIB, 0)) == 66
    assert mine.leaves == reply.revision.leaves == 66
    assert kept.changed == []


async def test_what_was_signed_is_remembered_under_its_deal(home: Home) -> None:
    for number in range(3):
        kept = home.holdings()
        note(kept, home.node, *(await home.stored(KIB)))
        await kept.revise(home.node)
        assert (await home.signed()).revision.number == number + 1
    (file,) = home.folder.glob("*.held")
    base = decode_held(file.read_bytes()).base
    assert (base.deal, base.number, base.shards) == (home.client.deal, 3, 3)


class Crashing(Holdings):
    """Dies when the node has signed, before anything is written down."""

    async def _send(
        self, node: NodeId, request: node_pb2.ReviseRequest, revision: Revision
    ) -> None:
        await super()._send(node, request, revision)
        raise Unreachable("the power went out")


async def test_a_revision_whose_reply_got_lost_is_repeated(home: Home) -> None:
    first, second = await home.stored(KIB, 2 * KIB)
    kept = home.holdings(Crashing)
    note(kept, home.node, first)
    with pytest.raises(Unreachable):
        await kept.revise(home.node)
    again = home.holdings()
    note(again, home.node, second)
    await again.revise(home.node)
    reply = await home.signed()
    assert (reply.revision.number, reply.revision.shards) == (2, 2)
    assert list(home.folder.glob("*.next")) == []


async def test_another_home_of_the_same_person_is_caught_up_with(
    home: Home, world: PaidWorld, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = await home_of(world, home.client, tmp_path / "other")
    mine, theirs = home.holdings(), other.holdings()
    for number, (one, kept) in enumerate([(home, mine), (other, theirs), (home, mine)]):
        note(kept, one.node, *(await one.stored(KIB)))
        await kept.revise(one.node)
        assert (await home.signed()).revision.shards == number + 1


async def test_a_new_deal_begins_with_nothing(home: Home, world: PaidWorld) -> None:
    kept = home.holdings()
    (old,) = await home.stored(KIB)
    note(kept, home.node, old)
    await kept.revise(home.node)
    before = home.client.deal
    await home.client.open(end=world.served.time().epoch + 20)
    await add_deal(home.deals, home.client, world)
    assert home.deals.deal_id(home.node) == home.client.deal != before
    (fresh,) = await home.stored(2 * KIB)
    note(kept, home.node, fresh)
    kept.drop(home.node, [old.commit])
    await kept.revise(home.node)
    reply = await home.signed()
    assert (reply.revision.deal, reply.revision.number) == (home.client.deal, 1)
    assert reply.revision.shards == 1
    (file,) = home.folder.glob("*.held")
    assert decode_held(file.read_bytes()).leaves == {fresh.commit: 2}


async def test_a_journal_of_a_deal_that_is_over_is_let_go(home: Home, world: PaidWorld) -> None:
    kept = home.holdings(Crashing)
    note(kept, home.node, *(await home.stored(KIB)))
    with pytest.raises(Unreachable):
        await kept.revise(home.node)
    await home.client.open(end=world.served.time().epoch + 20)
    await add_deal(home.deals, home.client, world)
    again = home.holdings()
    note(again, home.node, *(await home.stored(KIB)))
    await again.revise(home.node)
    assert (await home.signed()).revision.number == 1


async def test_where_no_deal_is_open_nobody_is_told_to_let_go(home: Home, tmp_path: Path) -> None:
    stranger = NodeId(b"\x07" * 32)
    kept = home.holdings()
    kept.drop(stranger, [Commit(bytes(32))])
    assert kept.changed == []
    kept.add(stranger, Commit(bytes(32)), 1)
    assert kept.changed == [stranger], "what was stored must be signed for, or it is lost"
