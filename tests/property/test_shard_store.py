"""Every implementation of the shard store against a dictionary, through crashes and restarts."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from dsn.errors import InvalidProof, NotFound
from dsn.ids import Commit, DealId, NodeId
from dsn.ports import ShardState, ShardStore
from tests.support.shard_stores import (
    ALICE,
    BOB,
    DEAL,
    OTHER_DEAL,
    STORES,
    OpenStore,
    Served,
    Shard,
    put,
    read_all,
    shard,
)

T = TypeVar("T")
PENDING = b""
LENGTHS = [1, 1_024, 3_000, 9_000, 65_536, 65_537, 70_001]
SHARDS = [shard(length, seed) for length in LENGTHS for seed in range(2)]
BY_COMMIT = {each.commit: each for each in SHARDS}
SEGMENT = 20_000

clients = st.sampled_from([ALICE, BOB])
deals = st.sampled_from([DEAL, OTHER_DEAL])
shards = st.sampled_from(SHARDS)
times = st.integers(1, 9)


@dataclass
class Model:
    """What the store must say: claims (client, deal or pending) of each shard, and records."""

    claims: dict[Commit, dict[tuple[NodeId, bytes], int]] = field(default_factory=dict)
    revisions: dict[tuple[NodeId, DealId], bytes] = field(default_factory=dict)
    records: dict[bytes, bytes] = field(default_factory=dict)

    def of(self, commit: Commit, client: NodeId) -> dict[bytes, int]:
        claims = self.claims.get(commit, {})
        return {deal: until for (owner, deal), until in claims.items() if owner == client}

    def put(self, commit: Commit, client: NodeId, until: int, deal: DealId = DEAL) -> None:
        if not self.of(commit, client).keys() & {PENDING, deal}:
            self.claims.setdefault(commit, {})[client, PENDING] = until

    def revise(
        self, client: NodeId, deal: DealId, add: list[Commit], drop: list[Commit], revision: bytes
    ) -> None:
        for commit in add:
            self.claims[commit].pop((client, PENDING), None)
            self.claims[commit][client, deal] = 0
        for commit in drop:
            if self.claims[commit].pop((client, deal), None) is None:
                self.claims[commit].pop((client, PENDING), None)
        self.revisions[client, deal] = revision
        self._forget_unclaimed()

    def sweep(self, now: int) -> int:
        gone = 0
        for claims in self.claims.values():
            over = [key for key, until in claims.items() if key[1] == PENDING and until <= now]
            gone += len(over)
            for key in over:
                del claims[key]
        self._forget_unclaimed()
        return gone

    def _forget_unclaimed(self) -> None:
        self.claims = {commit: claims for commit, claims in self.claims.items() if claims}


class StoreMachine(RuleBasedStateMachine):
    """Each rule does the same to a store and to the model."""

    open_store: OpenStore
    commits = Bundle("commits")

    @initialize()
    def start(self) -> None:
        self.runner = asyncio.Runner()
        self.base = Path(tempfile.mkdtemp(prefix="dsn-store-"))
        self.root, self.generation, self.turn = self.base / "0", 0, 0
        self.model = Model()
        self._open()

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self._run(self.served.stop())
            self.runner.close()
            shutil.rmtree(self.base)

    @rule(target=commits, one=shards, client=clients, deal=deals, until=times)
    def put(self, one: Shard, client: NodeId, deal: DealId, until: int) -> Commit:
        stored = self._run(put(self.store, one, client, until=until, deal=deal))
        self.model.put(one.commit, client, until, deal)
        held = deal in (mine := self.model.of(one.commit, client))
        expected = mine[deal if held else PENDING]
        assert stored.state is (ShardState.HELD if held else ShardState.PENDING)
        assert (stored.keep_until_s, stored.client) == (expected, client)
        return one.commit

    @rule(target=commits, some=st.lists(shards, max_size=8), client=clients)
    def put_many(self, some: list[Shard], client: NodeId) -> Any:
        async def all_at_once() -> None:
            await asyncio.gather(*(put(self.store, each, client, until=5) for each in some))

        self._run(all_at_once())
        for each in some:
            self.model.put(each.commit, client, 5)
        return multiple(*(each.commit for each in some))

    @rule(one=shards, other=shards)
    def put_under_another_commit(self, one: Shard, other: Shard) -> None:
        if one.commit != other.commit:
            lie = Shard(one.data, other.commit, one.root, one.groups)
            with pytest.raises(InvalidProof):
                self._run(put(self.store, lie))

    @rule(one=shards, frames=st.integers(0, 1))
    def begin_and_leave(self, one: Shard, frames: int) -> None:
        async def leave() -> None:
            writer = await self.store.begin(
                ALICE, DEAL, 70_001, keep_until_s=1, pending_limit=1 << 30
            )
            if frames:
                await writer.write(bytes(70_001))
            writer.abort()

        self._run(leave())

    @rule(
        client=clients,
        deal=deals,
        add=st.lists(commits, max_size=6, unique=True),
        drop=st.lists(commits, max_size=6, unique=True),
        revision=st.binary(max_size=40),
    )
    def revise(
        self,
        client: NodeId,
        deal: DealId,
        add: list[Commit],
        drop: list[Commit],
        revision: bytes,
    ) -> None:
        adds = all(self.model.of(commit, client) for commit in add)
        drops = all(self.model.of(c, client).keys() & {PENDING, deal} for c in drop)
        revising = self.store.revise(client, deal, add, drop, revision)
        if adds and drops:
            self._run(revising)
            self.model.revise(client, deal, add, drop, revision)
        else:
            with pytest.raises(NotFound):
                self._run(revising)

    @rule(client=clients, deal=deals, data=st.data())
    def revise_what_is_there(self, client: NodeId, deal: DealId, data: st.DataObject) -> None:
        mine = sorted(c for c in self.model.claims if self.model.of(c, client))
        add = data.draw(st.lists(st.sampled_from(mine), unique=True)) if mine else []
        kept = [c for c in mine if self.model.of(c, client).keys() & {PENDING, deal}]
        drop = data.draw(st.lists(st.sampled_from(kept), unique=True)) if kept else []
        self.turn += 1
        revision = b"%d" % self.turn
        self._run(self.store.revise(client, deal, add, drop, revision))
        self.model.revise(client, deal, add, drop, revision)

    @rule(key=st.integers(0, 3), value=st.binary(max_size=5_000))
    def put_record(self, key: int, value: bytes) -> None:
        self._run(self.store.put_records([(bytes([key]) * 32, value)]))
        self.model.records[bytes([key]) * 32] = value

    @rule(now=times)
    def sweep(self, now: int) -> None:
        assert self._run(self.store.sweep(now)) == self.model.sweep(now)

    @rule()
    def compact(self) -> None:
        self._run(self.store.compact())

    @rule()
    def restart(self) -> None:
        self._run(self.served.stop())
        self._open()

    @rule(forget_index=st.booleans())
    def crash(self, forget_index: bool) -> None:
        """Go on with a copy of the disk as it was at this moment."""
        self.generation += 1
        root = self.base / str(self.generation)
        ignored = shutil.ignore_patterns("index.db*") if forget_index else None
        shutil.copytree(self.root, root, ignore=ignored)
        self._run(self.served.stop())
        shutil.rmtree(self.root)
        self.root = root
        self._open()

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "store"):
            self._run(self._agrees())

    async def _agrees(self) -> None:
        store, model = self.store, self.model
        stored = await store.stats(BY_COMMIT)
        assert stored.keys() == model.claims.keys()
        assert store.count == len(model.claims)
        assert store.space().used == sum(len(BY_COMMIT[c].data) for c in model.claims)
        assert (store.damage().records, store.damage().lost) == (0, 0)
        for client in (ALICE, BOB):
            pending = [c for c in model.claims if PENDING in model.of(c, client)]
            assert store.pending_bytes(client) == sum(len(BY_COMMIT[c].data) for c in pending)
            for deal in (DEAL, OTHER_DEAL):
                held = sorted(c for c in model.claims if deal in model.of(c, client))
                expected = [(c, -(-len(BY_COMMIT[c].data) // 1_024)) for c in held]
                assert await store.holdings(client, deal) == expected
                assert await store.revision(client, deal) == model.revisions.get((client, deal))
        for commit in list(model.claims)[:3]:
            assert await read_all(store, BY_COMMIT[commit]) == BY_COMMIT[commit].data
            assert await store.groups(commit) == BY_COMMIT[commit].groups
        for key, value in model.records.items():
            assert await store.get_record(key) == value

    def _open(self) -> None:
        self.served = Served(self.open_store(self.root, segment_bytes=SEGMENT))
        self.store: ShardStore = self._run(self.served.start())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)


@pytest.mark.parametrize("name", STORES)
def test_a_store_agrees_with_a_dictionary(name: str) -> None:
    machine = type("Machine", (StoreMachine,), {"open_store": staticmethod(STORES[name])})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=15, stateful_step_count=25, deadline=None)
    )
