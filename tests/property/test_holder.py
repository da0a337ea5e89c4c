"""A node that holds, drops, loses and crashes: it can always answer, and keeps nothing for ever."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dsn.apps.node.accounts import Account
from dsn.ids import DealId
from dsn.ledger.bodies import Claim
from dsn.ledger.cells import DealState
from dsn.ledger.disputes import Demand, Serve
from dsn.ledger.rules.settling import roll
from dsn.store.deals import open_deals
from tests.support.holder_world import (
    FOREVER,
    OWNERS,
    PROVIDER,
    Crash,
    Holder,
    tree_over,
)
from tests.support.ledger_world import World, shard
from tests.support.shard_stores import disk_store

T = TypeVar("T")
CLIENTS = ("alice", "bob")
clients = st.sampled_from(CLIENTS)
some = st.sets(st.integers(0, 7), max_size=3)
crashes = st.one_of(st.none(), st.integers(0, 5))


class HolderMachine(RuleBasedStateMachine):
    """What each revision held is the model; the world says which of them count."""

    @initialize()
    def start(self) -> None:
        self.runner = asyncio.Runner()
        self.root = Path(tempfile.mkdtemp(prefix="dsn-holder-"))
        self.stack = AsyncExitStack()
        self.world = World()
        self.world.open_epoch()
        self.world.bind(PROVIDER, *CLIENTS)
        self._run(self._open())

    async def _open(self) -> None:
        store = await self.stack.enter_async_context(disk_store(self.root / "volume"))
        deals = await self.stack.enter_async_context(open_deals(self.root / "deals"))
        self.holder = Holder(self.world, store, deals)
        self.deals: dict[str, DealId] = {}
        for client in CLIENTS:
            self.deals[client] = await self.holder.open(
                client, end=60, open_by=50, disk_escrow=50_000
            )
        self.held: dict[DealId, dict[int, frozenset[int]]] = {
            deal: {0: frozenset()} for deal in self.deals.values()
        }

    def teardown(self) -> None:
        if hasattr(self, "holder"):
            try:
                self._run(self._wind_down())
            finally:
                self._run(self.stack.aclose())
                self.runner.close()
                shutil.rmtree(self.root)

    @rule(client=clients, add=some, drop=some, crash=crashes)
    def revise(self, client: str, add: set[int], drop: set[int], crash: int | None) -> None:
        deal = self.deals[client]
        if self.world.deal(deal).state is not DealState.OPEN:
            return
        base = self._run(self.holder.accounts.open(OWNERS[client], deal)).base.number
        before = self.held[deal][base]
        add, drop = add - before - drop, drop & before
        after = (before | add) - drop
        self.holder.writes.left = crash
        try:
            number = self._run(self.holder.revise(client, deal, sorted(add), sorted(drop)))
        except Crash:
            self.holder.restart()
            newest = self._run(self.holder.accounts.open(OWNERS[client], deal)).base.number
            assert newest in (base, base + 1)
            if newest == base:
                return
            number = newest
        self.holder.writes.left = None
        self.held[deal][number] = after
        self.world.shards[deal, number] = tuple(sorted(after))

    @rule(client=clients, data=st.data(), by_client=st.booleans())
    def install(self, client: str, data: st.DataObject, by_client: bool) -> None:
        deal = self.deals[client]
        newest = self._run(self.holder.accounts.open(OWNERS[client], deal)).base.number
        installed = self.world.deal(deal).number
        signed = [n for n in self.held[deal] if installed < n <= newest]
        if signed:
            number = data.draw(st.sampled_from(signed))
            shards = sorted(self.held[deal][number])
            claim = Claim(deal, self.world.pledge(deal, shards, number=number), None)
            name = client if by_client else PROVIDER
            if not self.world.code(name, claim):
                self.world.do(name, claim)

    @rule()
    def shut(self) -> None:
        if self.world.epoch < 55:
            self.world.pass_epochs(1)

    @rule()
    def link(self) -> None:
        if self.world.can_link(PROVIDER):
            self.world.link(PROVIDER)

    @rule(crash=crashes, claim=st.booleans())
    def look(self, crash: int | None, claim: bool) -> None:
        self.holder.writes.left = crash
        try:
            self._run(self.holder.claims.tick() if claim else self._see())
        except Crash:
            self.holder.restart()
        self.holder.writes.left = None

    @rule(client=clients, data=st.data(), crash=st.booleans(), demanded=st.booleans())
    def lose(self, client: str, data: st.DataObject, crash: bool, demanded: bool) -> None:
        deal, world = self.deals[client], self.world
        cell = world.deal(deal)
        if cell.state is not DealState.OPEN or cell.demand is not None or not cell.leaves:
            return
        before, of = self.held[deal][cell.number], cell.number
        number = self._run(self.holder.inventories.give_up(deal))
        if demanded:
            leaf = data.draw(st.integers(0, cell.leaves - 1))
            world.do(client, Demand(deal, world.params.min_bond, leaf))
            gone = world.demanded(deal)
            world.do(PROVIDER, Serve(deal, world.shard_lost(deal, number)))
        else:
            gone = data.draw(st.sampled_from(sorted(before)))
            world.do(PROVIDER, world.loss(deal, gone, number=number))
        self.held[deal][number] = self.held[deal][of] - {gone}
        if crash:
            self.holder.restart()

    @rule(client=clients, serve=st.booleans())
    def demand(self, client: str, serve: bool) -> None:
        deal, world = self.deals[client], self.world
        cell = world.deal(deal)
        if self._in_time(deal):
            world.do(PROVIDER, Serve(deal, world.service(deal)))
        elif cell.demand is not None:
            return
        elif cell.state is DealState.OPEN and cell.leaves:
            world.do(client, Demand(deal, world.params.min_bond, 0))
            if serve:
                world.do(PROVIDER, Serve(deal, world.service(deal)))

    @precondition(lambda self: hasattr(self, "holder"))
    @invariant()
    def can_answer(self) -> None:
        """Whatever the ledger names now can be read, whether or not the node has looked."""
        self._run(self._can_answer())

    async def _can_answer(self) -> None:
        for deal, numbers in (await self._named()).items():
            for number in numbers:
                for each in self.held[deal][number]:
                    assert await self.holder.has(each), (deal.hex()[:4], number, each)
        snapshot = await self._see()
        for deal, numbers in (await self._named()).items():
            for number in numbers:
                tree = await self.holder.inventories.holdings(deal, number)
                assert tree.root == tree_over(self.held[deal][number]).root
        account = roll(snapshot.account, snapshot.network.epoch)
        inventory = await self.holder.inventories.frozen(snapshot)
        assert (inventory.tree.root, inventory.tree.total) == (
            account.frozen,
            account.frozen_leaves,
        )

    async def _named(self) -> dict[DealId, set[int]]:
        """Revisions that are installed, frozen for an epoch that can be linked, or may be next."""
        world, named = self.world, dict[DealId, set[int]]()
        frozen = world.known.get(world.frozen(PROVIDER), ()) if world.can_link(PROVIDER) else ()
        for client, deal in self.deals.items():
            cell = world.deal(deal)
            numbers = {n for each, n, _ in frozen if each == deal}
            if cell.state is DealState.OPEN:
                account = await self.holder.accounts.open(OWNERS[client], deal)
                newest = max(account.base.number, cell.number)
                numbers |= {n for n in self.held[deal] if cell.number <= n <= newest}
            named[deal] = numbers
        return named

    async def _see(self) -> Any:
        return await self.holder.inventories.see()

    async def _wind_down(self) -> None:
        """Once all is installed only that is on disk; once the deals are closed nothing is."""
        world, holder = self.world, self.holder
        holder.restart()
        for deal in self.deals.values():
            if self._in_time(deal):
                world.do(PROVIDER, Serve(deal, world.service(deal)))
        await self._settle_down()
        for client, deal in self.deals.items():
            account = await holder.accounts.open(OWNERS[client], deal)
            if account.unsigned and world.deal(deal).state is DealState.OPEN:
                self._signed(deal, await holder.revise(client, deal), account)
        await self._settle_down()
        await holder.store.sweep(FOREVER + 1)
        cells = [world.deal(deal) for deal in self.deals.values()]
        if not any(cell.demand for cell in cells):
            kept = {n for cell in cells for n in self.held[cell.deal][cell.number]}
            assert set(await holder.store.commits()) == {shard(n).commit for n in kept}

    def _signed(self, deal: DealId, number: int, account: Account) -> None:
        """The client has signed what the ledger made, and changes nothing."""
        before = max(n for n in self.held[deal] if n < number)
        self.held[deal][number] = self.held[deal][before]
        self.world.shards[deal, number] = tuple(sorted(self.held[deal][before]))
        assert not account.unsigned

    async def _settle_down(self) -> None:
        """Install all that may be, and let epochs pass."""
        for _ in range(3):
            await self.holder.claims.tick()
            self.world.pass_epochs(1, PROVIDER)
            if self.world.can_link(PROVIDER):
                self.world.link(PROVIDER)
            await self.holder.claims.tick()

    def _in_time(self, deal: DealId) -> bool:
        demand = self.world.deal(deal).demand
        return demand is not None and demand.deadline >= self.world.epoch

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)


def test_a_node_can_always_answer_and_keeps_nothing_for_ever() -> None:
    run_state_machine_as_test(
        HolderMachine, settings=settings(max_examples=20, stateful_step_count=30, deadline=None)
    )
