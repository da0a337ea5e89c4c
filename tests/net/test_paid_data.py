"""Files stored and read for pay, on a real network: what each side counts, and what each can lose.

The client is this process; nodes, ledger and witnesses are processes of their own.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from dsn.apps.client import Client
from dsn.apps.deal_file import ClientDeal
from dsn.apps.devnet import Devnet, Process
from dsn.apps.results import Progress, PutResult
from dsn.apps.targets import PutItem
from dsn.core.layout import Scheme
from dsn.errors import LimitReached, NotEnoughShards, PeerError, TransportError
from dsn.ids import Commit, NodeId, parse_node_id
from dsn.ledger.bandwidth import Traffic, bandwidth_due, window
from dsn.machines.settle import Purse
from dsn.rpc.deals import DealPeer
from dsn.store.home import Home
from dsn.units import FRAME_BYTES, GIB, MIB
from dsn.v1 import node_pb2
from tests.support.paid_devnet import paid_devnet

NODES = 6
SCHEME = Scheme(2, 4)
SIZE = 24 * MIB
ROOM = 512 * MIB


class Net(NamedTuple):
    """A running network, and a place for files."""

    devnet: Devnet
    base: Path

    def source(self, name: str, size: int = SIZE) -> Path:
        """A file of bytes that nobody stored before."""
        path = self.base / name
        path.write_bytes(random.Random(name).randbytes(size))
        return path

    def process(self, node: NodeId) -> Process:
        """Who ``node`` is."""
        return next(p for p in self.devnet.of_role("node") if parse_node_id(p.node_id) == node)

    @asynccontextmanager
    async def client(
        self, progress: Callable[[Progress], None] = lambda _: None
    ) -> AsyncIterator[Client]:
        """The home that has credits, as one command uses it."""
        home = Home.open(self.devnet.client_home)
        async with Client.open(home, notice=print, progress=progress) as client:
            yield client


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    base = tmp_path_factory.mktemp("paid")
    with paid_devnet(base / "net", nodes=NODES, epoch_s=3_600) as devnet:
        net = Net(devnet, base)
        asyncio.run(deal_with_all(net))
        yield net


async def deal_with_all(net: Net) -> None:
    """Have deals with all nodes for all that is stored here, and the nodes know of them."""
    nodes = [parse_node_id(process.node_id) for process in net.devnet.of_role("node")]
    async with net.client() as client:
        await client._nodes.discover(len(nodes))
        assert await client._deals.reserve(dict.fromkeys(nodes, ROOM)) == {}
        for deal in deals_of(client):
            await counted(client, deal)


@contextmanager
def frozen(processes: Sequence[Process]) -> Iterator[None]:
    """``processes`` answer nobody while the block runs."""
    pids = [process.pid for process in processes if process.pid is not None]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def put(client: Client, path: Path) -> PutResult:
    """Store one file."""
    (result,) = await client.put([PutItem(path, path.name)], scheme=SCHEME)
    return result


def deals_of(client: Client) -> list[ClientDeal]:
    """The deals that ``client`` has."""
    known = client._deals._book.deals
    return [deal for deal in known if deal is client._deals.get(deal.node)]


async def counted(client: Client, deal: ClientDeal) -> node_pb2.PayReply:
    """What the node of ``deal`` says."""
    return await DealPeer(client._nodes.line(deal.node)).pay(deal.deal, None)


async def test_both_sides_count_the_same_to_the_unit(net: Net) -> None:
    path, out = net.source("both sides"), net.base / "both sides.out"
    async with net.client() as client:
        result = await put(client, path)
        await client.get(result.read, out)
        assert out.read_bytes() == path.read_bytes()
        await client._deals.settle()
        paid = 0
        for deal in deals_of(client):
            said = await counted(client, deal)
            due = bandwidth_due(deal.terms, Traffic(said.ingress_bytes, said.egress_bytes))
            assert said.voucher.credits == deal.purse.credits == due
            assert said.ingress_bytes == deal.purse.traffic.ingress_bytes
            paid += due
    stored = sum(deal.purse.traffic.ingress_bytes for deal in deals_of(client))
    read = sum(deal.purse.traffic.egress_bytes for deal in deals_of(client))
    assert stored >= SIZE * SCHEME.total // SCHEME.required
    assert read >= SIZE
    print(f"{stored} bytes stored, {read} read for {paid} credits, on both sides")


async def test_what_is_held_is_what_both_settlement_keys_signed(net: Net) -> None:
    async with net.client() as client:
        await put(client, net.source("held"))
        holding = [deal for deal in deals_of(client) if deal.leaves]
        assert len(holding) >= SCHEME.total
        for deal in holding:
            reply = await client._nodes.peer(deal.node).get_revision(deal.deal)
            assert reply.revision.leaves == deal.leaves
            assert {len(reply.revision.client_signature), len(reply.revision.node_signature)} == {
                65
            }


async def test_another_home_of_the_same_keys_goes_on_from_what_the_nodes_show(net: Net) -> None:
    """Counts and vouchers are lost with a home's state; the deals themselves are not."""
    path = net.source("forgetful")
    async with net.client() as client:
        result = await put(client, path)
        for deal in deals_of(client):
            deal.purse, deal.newest = Purse(deal.terms, Traffic(), 0, deal.purse.limit), None
        out = net.base / "forgetful.out"
        await client.get(result.read, out)
        assert out.read_bytes() == path.read_bytes()
        for deal in deals_of(client):  # not all of them were asked for a shard since
            await client._deals.agree(deal.node, await counted(client, deal))
        await client._deals.settle()
        for deal in deals_of(client):
            said = await counted(client, deal)
            due = bandwidth_due(deal.terms, Traffic(said.ingress_bytes, said.egress_bytes))
            assert said.voucher.credits == due


async def test_files_are_stored_and_read_while_the_ledger_is_away(net: Net) -> None:
    path, out = net.source("no ledger"), net.base / "no ledger.out"
    with frozen([*net.devnet.of_role("ledger"), *net.devnet.of_role("witness")]):
        async with net.client() as client:
            result = await put(client, path)
            await client.get(result.read, out)
    assert out.read_bytes() == path.read_bytes()


async def test_a_client_that_stops_signing_gets_a_window_and_no_more(net: Net) -> None:
    async with net.client() as client:
        await put(client, net.source("thief"))
        await client._deals.settle()
        deal = max(deals_of(client), key=lambda each: each.leaves)
        node = deal.node
        commit, length = await largest(client, deal)
        before = await counted(client, deal)
        allowed = window(deal.terms, before.voucher.credits)
        got, refusal = await read_unpaid(client, deal, commit, length)
        assert refusal.detail_code == "payment_due"
        after = await counted(client, deal)
        owed = bandwidth_due(deal.terms, Traffic(after.ingress_bytes, after.egress_bytes))
        owed -= after.voucher.credits
        print(f"{node.hex()[:8]}: {got} bytes unpaid, {owed} credits owed, the window is {allowed}")
        assert owed <= allowed
        assert got <= (allowed + 1) * (1 << 30) // deal.terms.egress_price + FRAME_BYTES
        await client._deals.agree(node, after)


async def largest(client: Client, deal: ClientDeal) -> tuple[Commit, int]:
    """A large shard that the node of ``deal`` holds under it, and a size that it has at least."""
    held = await client._holdings._load(deal.node)
    commit, leaves = max(held.leaves.items(), key=lambda entry: entry[1])
    return commit, (leaves - 1) * 1_024


async def read_unpaid(
    client: Client, deal: ClientDeal, commit: Commit, length: int
) -> tuple[int, PeerError]:
    """Read a shard over and over, and sign nothing: the bytes that came, and how it ended."""
    got = 0
    request = node_pb2.GetShardRequest(
        commit=commit, start=0, end=length, first_frame=FRAME_BYTES, deal=deal.deal
    ).SerializeToString()
    while True:
        stream = client._nodes.peer(deal.node).get_shards()
        await stream.write(request)
        await stream.done_writing()
        try:
            while (frame := await stream.read()) is not None:
                got += len(frame)
        except PeerError as refusal:
            return got, refusal


async def test_a_node_that_stops_serving_was_paid_a_window_ahead_at_most(net: Net) -> None:
    path, out = net.source("halfway", 60 * MIB), net.base / "halfway.out"
    stopped: list[int] = []

    def stop(progress: Progress) -> None:
        if progress.stage == "get" and not stopped:
            pid = net.process(victim).pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)

    async with net.client(stop) as client:
        result = await put(client, path)
        await client._deals.settle()
        victim = next(iter(await holders(client, result.read)))
        try:
            await client.get(result.read, out)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        assert out.read_bytes() == path.read_bytes()
        deal = client._deals.get(victim)
        assert stopped and deal is not None
        ahead = deal.purse.credits - bandwidth_due(deal.terms, deal.purse.traffic)
        allowed = window(deal.terms, deal.purse.credits)
        print(f"{ahead} credits were paid ahead of what came, the window is {allowed}")
        assert ahead <= allowed


async def test_a_node_that_stops_taking_was_paid_a_window_ahead_at_most(net: Net) -> None:
    """Inside a large shard, too: what is on its way counts as sent, and no more is promised."""
    path, stopped = net.source("half stored", 120 * MIB), dict[NodeId, tuple[int, int]]()
    async with net.client() as client:

        def stop(progress: Progress) -> None:
            if progress.stage != "put" or progress.done < 40 * MIB or stopped:
                return
            deal = max(deals_of(client), key=lambda each: each.purse.traffic.ingress_bytes)
            pid = net.process(deal.node).pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            stopped[deal.node] = pid, deal.purse.credits

        client._progress = stop
        try:
            result = await put(client, path)
        finally:
            for pid, _ in stopped.values():
                os.kill(pid, signal.SIGCONT)
        [(node, (_, promised))] = stopped.items()
        deal = client._deals.get(node)
        assert result.placed == result.total and deal is not None
        ahead, allowed = deal.purse.credits - promised, window(deal.terms, promised)
        shard = deal.terms.ingress_price * 60 * MIB // GIB
        print(f"{ahead} credits promised after it stopped, the window is {allowed}")
        print(f"the whole shard costs {shard}")
        assert ahead <= allowed


async def holders(client: Client, link: str) -> list[NodeId]:
    """Who holds the first data shards of a file."""
    info = await client.info(link)
    return [parse_node_id(holder.node) for holder in info.holders]


async def test_a_budget_is_kept(net: Net) -> None:
    items = [PutItem(net.source("too dear"), "too dear")]
    async with net.client() as client:
        with pytest.raises(LimitReached) as failure:
            await client.put(items, scheme=SCHEME, days=200, budget=1)
        assert failure.value.detail_code == "over_budget"
        assert all(entry.name != "too dear" for entry in await client.ls())


async def test_small_files_share_what_was_reserved(net: Net) -> None:
    """No file waits for the ledger once there is room."""
    items = [PutItem(net.source(f"small {n}", 3_000 + n), f"small {n}") for n in range(40)]
    with frozen(net.devnet.of_role("ledger")):
        async with net.client() as client:
            results = await client.put(items, scheme=SCHEME)
    assert len(results) == len(items)


async def test_without_shards_in_reach_the_reason_is_told(net: Net) -> None:
    async with net.client() as client:
        result = await put(client, net.source("gone"))
        with (
            frozen(net.devnet.of_role("node")[1:]),
            pytest.raises((NotEnoughShards, TransportError)),
        ):
            await client.get(result.read, net.base / "gone.out")
