"""Homes on a real EVM node with the real contracts: money moved, leaves answered, a vault left.

What the unit tests show on a chain in memory, here on the one that counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from dsn.apps.chain.answering import Answering
from dsn.apps.chain.dispute import Disputing, demand_of
from dsn.apps.chain.escape import Leaving, Left
from dsn.apps.chain.paying_in import PayingIn
from dsn.apps.chain.paying_out import PayingOut
from dsn.apps.chain.under_way import UnderWay
from dsn.apps.chain.watch import DemandWatch
from dsn.apps.node.openings import Opener
from dsn.chain import Call
from dsn.errors import ChainRefused
from dsn.ids import DealId
from dsn.ledger.bodies import Claim, Deposit, SignedVoucher, Transfer, Withdraw
from dsn.rpc.evm import EvmChain
from dsn.rpc.evm_endpoint import Pace
from tests.support.chain_world import ChainWorld, seeded
from tests.support.evm import USUAL_TIMES, Evm, Settled, deploy_world, running_evm
from tests.support.ledger_world import KEYS, World, address, terms
from tests.support.prover_world import SHARDS, Disk
from tests.unit.apps.chain.test_dispute import Yard

PACE = Pace(call_s=10.0, away_s=10.0, poll_s=0.02, stuck_s=10.0, mined_s=60.0)
FINALITY = 8
ANSWER_GAS = 100_000
CHALLENGE_S, VOUCHER_S = 600, 900


class Clockwork:
    """What ``ChainWorld`` needs of a chain besides the port."""

    def __init__(self, settled: Settled) -> None:
        self.vault = settled.params.domain.vault
        self.enter = lambda: None

    async def sleep(self, seconds: float) -> None:
        self.enter()
        await asyncio.sleep(0.02)


class RealWorld(ChainWorld):
    """A ledger in memory that settles on the node."""

    def __init__(self, settled: Settled, held: AsyncExitStack) -> None:
        self.settled, self.params, self._held = settled, settled.params, held
        self.world, self.entered = World(self.params, signed=True), {}
        self.evm = Clockwork(settled)  # type: ignore[assignment]
        self.chains: dict[str, EvmChain] = {}

    async def join(self, *names: str) -> None:
        for name in names:
            self.settled.evm.fund(address(name))
            opened = EvmChain(
                self.settled.evm.url, KEYS[name], self.params, finality=FINALITY, pace=PACE
            )
            self.chains[name] = await self._held.enter_async_context(opened)

    def chain(self, name: str) -> EvmChain:  # type: ignore[override]
        return self.chains[name]

    def fund(self, name: str, amount: int) -> None:
        self.settled.deposit(address(name), amount)
        self.enter_deposits()

    def enter_deposits(self) -> None:
        vault = self.settled.vault
        for name in self.chains:
            who = address(name)
            for serial in range(self.entered.get(who, 0) + 1, vault.call("deposits", who) + 1):
                before, after = (vault.call("deposited", who, n) for n in (serial - 1, serial))
                self.world.do("operator", Deposit(who, after - before, serial))
                self.entered[who] = serial

    def anchor(self) -> int:
        return self.settled.anchor(self.root())

    def units(self, name: str) -> int:
        return int(self.settled.credit.call("balanceOf", address(name)))


@pytest.fixture(scope="module")
def node() -> Iterator[Evm]:
    with running_evm() as evm:
        evm.rpc("anvil_setLoggingEnabled", False)
        yield evm


@pytest.fixture
def settled(node: Evm) -> Iterator[Settled]:
    with node.undone():
        times = USUAL_TIMES._replace(challenge_s=CHALLENGE_S, voucher_s=VOUCHER_S)
        yield deploy_world(node, times=times, answer_s=1_200)


@asynccontextmanager
async def mining(evm: Evm) -> AsyncIterator[None]:
    """Blocks come by themselves."""

    async def mine() -> None:
        while True:
            evm.mine()
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(mine())
        yield
        task.cancel()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Look until something holds."""
    async with asyncio.timeout(30):
        for _ in count():
            if await holds():
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def real(settled: Settled, *names: str) -> AsyncIterator[RealWorld]:
    async with AsyncExitStack() as held, mining(settled.evm):
        world = RealWorld(settled, held)
        await world.join(*names)
        yield world


async def test_credits_go_in_and_out_to_the_unit_though_blocks_fall(
    settled: Settled, tmp_path: Path
) -> None:
    told: list[str] = []
    async with real(settled, "alice") as both:
        settled.mint(address("alice"), 1_000)
        settled.evm.mine(FINALITY)
        under_way = UnderWay(tmp_path, both.evm.vault)
        chain, ledger = both.chain("alice"), both.ledger("alice")
        paying = PayingIn(chain, ledger, under_way, both.evm.sleep, told.append)

        async def disturb(function: str) -> None:
            """Drop five blocks once the vault has done something for Alice."""

            async def done() -> bool:
                return bool(settled.vault.call(function, address("alice")))

            await until(done)
            settled.evm.reorganise(5)

        both.evm.enter = both.enter_deposits  # type: ignore[attr-defined]
        async with asyncio.TaskGroup() as group:
            group.create_task(disturb("deposits"))
            done = await paying.deposit(600, address("alice"))
        assert (done.serial, done.available, done.units) == (1, 600, 400)
        assert settled.credit.call("allowance", address("alice"), both.evm.vault) == 0

        copies = [both.copy]
        out = PayingOut(chain, ledger, copies, under_way, both.evm.sleep, told.append)
        early = await out.withdraw(250, wait=False)
        assert (early.collected, early.withdrawn, early.due_s) == (0, 250, None)
        both.anchor()
        with pytest.raises(ChainRefused) as refused:
            await chain.send(Call("Vault", "freeze"))
        assert refused.value.detail_code == "still_time"
        settled.evm.pass_time(CHALLENGE_S)
        settled.evm.mine(FINALITY)

        async with asyncio.TaskGroup() as group:
            group.create_task(disturb("paid"))
            late = await out.collect()
        assert (late.collected, late.paid, late.withdrawn, late.units) == (250, 250, 250, 650)
        assert both.world.account("alice").available == 600 - 250 - both.params.entry_fee
        assert settled.credit.call("balanceOf", both.evm.vault) == 350
        print(f"gas: deposit {done.gas:,}, withdraw {late.gas:,}")


class RealYard(RealWorld):
    """Paul's shards, and what his node answers with; as ``Yard``."""

    holdings, shard = Yard.holdings, Yard.shard
    answering, asking, revise = Yard.answering, Yard.asking, Yard.revise

    def begin(self) -> DealId:
        self.disk, self.forgotten, self.newest = Disk(dict(SHARDS)), set[int](), None
        for name in ("alice", "paul"):
            self.fund(name, 100_000)
        self.world.open_epoch()
        self.world.bind("alice", "paul")
        self.deal = self.world.open(terms(end=60, disk_escrow=50_000))
        self.world.hold(self.deal, 1, 2, 3, 7)
        self.anchor()
        return self.deal


async def test_a_demand_is_answered_by_itself_superseded_or_slashed(
    settled: Settled, tmp_path: Path
) -> None:
    async with AsyncExitStack() as held, mining(settled.evm):
        yard = RealYard(settled, held)
        await yard.join("alice", "paul")
        deal = yard.begin()
        asking: Disputing = Yard.asking(yard, "alice")  # type: ignore[arg-type]
        answering: Answering = Yard.answering(yard)  # type: ignore[arg-type]

        async def running() -> list[DealId]:
            return [deal]

        async def answered() -> bool:
            return await demand_of(paul, deal) is None

        async def slashed() -> bool:
            return bool(await asking.slashed([deal]))

        paul = yard.chain("paul")
        watching = DemandWatch(paul, answering, running, UnderWay(tmp_path, yard.evm.vault))
        runs = asyncio.create_task(watching.run(yard.evm.sleep))
        gas = []
        for leaf in range(yard.world.deal(deal).leaves):
            opened = await asking.demand(deal, leaf, seeded(leaf))
            assert opened.asked.leaf == leaf
            await until(answered)
        runs.cancel()
        for leaf in (0, 3):
            await asking.demand(deal, leaf, seeded(leaf))
            gas.append((await answering.answer(deal)).gas)
        assert max(gas) <= ANSWER_GAS
        assert isinstance(answering._opener, Opener)

        yard.forgotten.add(yard.world.deal(deal).number)
        Yard.revise(yard, 1)  # type: ignore[arg-type]
        await asking.demand(deal, 2, seeded(2))
        superseded = await answering.answer(deal)
        assert superseded.how == "superseded"

        yard.newest = None
        await asking.demand(deal, 1, seeded(1))
        settled.evm.pass_time(1_201)
        await asking.slash(deal)
        await until(slashed)
        assert await asking.collect() > 0
        assert await yard.asking("paul").collect() > 0  # type: ignore[arg-type]
        print(f"gas: answer {max(gas):,}, supersede {superseded.gas:,}")


async def test_all_leave_with_what_the_last_anchor_and_their_vouchers_say(
    settled: Settled, tmp_path: Path
) -> None:
    names = ("alice", "bob", "paul", "petra", "sam")
    async with real(settled, *names) as both:
        world, vouchers = both.world, dict[tuple[DealId, bool], SignedVoucher]()
        for name in names[:-1]:
            both.fund(name, 100_000)
        world.open_epoch()
        world.bind("alice", "bob", "paul", "petra")
        deals = [
            world.open(terms(end=40, miss_limit=60)),
            world.open(terms(client=address("bob"), provider=address("petra"), end=40)),
            world.open(terms(provider=address("petra"), end=40, salt=b"3" * 32)),
        ]
        for number, deal in enumerate(deals):
            world.hold(deal, 1 + number, 5 + number)
        world.pass_epochs(6, "paul", "petra")
        world.do("paul", Claim(deals[0], None, world.voucher(deals[0], 120)))
        world.do("alice", Withdraw(2_500))
        both.anchor()
        for deal, credits in zip(deals, (410, 77, 5_000), strict=True):
            vouchers[deal, False] = world.voucher(deal, credits)
        vouchers[deals[1], True] = world.voucher(deals[1], 150, by_delegate=True)
        settled.deposit(address("sam"), 900)
        world.do("bob", Transfer(address("sam"), 40_000))  # after the anchor: it never was

        settled.evm.pass_time(settled.vault.call("times")[1])

        def leaving(name: str) -> Leaving:
            async def mine() -> list[SignedVoucher]:
                provides = {
                    deal for deal in deals if world.deal(deal).terms.provider == address(name)
                }
                return [each for (deal, _), each in vouchers.items() if deal in provides]

            under_way = UnderWay(tmp_path / name, both.evm.vault)
            kept = under_way, lambda text: None
            return Leaving(both.chain(name), both.params, [both.copy], mine, *kept)

        first = await leaving("sam").turn()
        assert first.frozen_s and first.credited == {}
        settled.evm.pass_time(CHALLENGE_S)
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(leaving(name).turn())
        settled.evm.pass_time(VOUCHER_S)
        left: dict[str, Left] = {name: await leaving(name).turn() for name in names}
        for name, each in left.items():
            assert each.waiting == (), name
            assert (each.owed, each.paid) == (0, both.units(name)), name
            assert each.credited.total() == each.paid, name
        rows = {row.split()[0] for each in left.values() for row in each.credited}
        assert rows == {"account", "deal", "vouchers", "rest"}
        assert left["sam"].credited == {"account": 900}
        assert left["petra"].credited[f"vouchers {deals[2].hex()}"] == 1_000
        assert left["petra"].credited[f"vouchers {deals[1].hex()}"] == 77 + 150
        burned = int(settled.credit.call("balanceOf", both.evm.vault))
        funded = 4 * 100_000 + 900
        assert burned == funded - sum(each.paid for each in left.values()) > 0
