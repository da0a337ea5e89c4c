"""Leaving a frozen vault: everybody gets what the last anchor and the newest vouchers say."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dsn.apps.chain.escape import Leaving, Left
from dsn.apps.chain.under_way import UnderWay
from dsn.chain import Call
from dsn.errors import ChainRefused, InvalidProof, NotFound
from dsn.ids import DealId
from dsn.ledger.bodies import Claim, CloseDeal, SignedVoucher, Transfer, Withdraw
from dsn.ledger.cells import DealState
from dsn.ledger.disputes import Demand
from tests.support.chain_world import ChainWorld, WorldLog
from tests.support.ledger_world import address, terms
from tests.support.memory_evm import TIMES

NAMES = ("alice", "bob", "paul", "petra", "dora", "sam", "operator")
LEAVES_S = TIMES.challenge_s
RESTS_S = TIMES.challenge_s + TIMES.voucher_s


class Town(ChainWorld):
    """Parties with deals between them, and vouchers that providers hold."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.vouchers = folder, dict[tuple[DealId, bool], SignedVoucher]()
        self.told: list[str] = []
        for name in NAMES[:-1]:
            self.fund(name, 100_000)
        self.world.open_epoch()
        self.world.bind("alice", "bob", "paul", "petra")

    def promise(self, deal: DealId, credits: int, *, by_delegate: bool = False) -> SignedVoucher:
        signed = self.world.voucher(deal, credits, by_delegate=by_delegate)
        self.vouchers[deal, by_delegate] = signed
        return signed

    def leaving(self, name: str, copies: Sequence[WorldLog] | None = None) -> Leaving:
        async def held() -> list[SignedVoucher]:
            deals = self.world.state.cells
            mine = {
                cell.deal for cell in self.world.deals() if cell.terms.provider == address(name)
            }
            assert deals
            return [each for (deal, _), each in self.vouchers.items() if deal in mine]

        under_way = UnderWay(self.folder / name, self.evm.vault)
        logs = [self.copy] if copies is None else copies
        return Leaving(self.chain(name), self.params, logs, held, under_way, self.told.append)

    async def all_leave(self, order: Sequence[str] = NAMES) -> dict[str, Left]:
        return {name: await self.leaving(name).turn() for name in order}

    def freeze(self, after_s: int = 0) -> None:
        """Freeze the vault with what is anchored now, and let ``after_s`` pass."""
        self.evm.drop(len(self.evm.state.anchors))
        if after_s:
            self.evm.pass_time(after_s)


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def open_deal(town: Town, **changes: object) -> DealId:
    return town.world.open(terms(**changes))


async def test_an_account_leaves_with_what_the_anchor_says(town: Town) -> None:
    town.world.do("alice", Transfer(address("bob"), 7_000))
    town.anchor()
    town.world.do("alice", Transfer(address("sam"), 50_000))  # comes too late for everybody
    town.freeze(LEAVES_S)
    left = await town.leaving("alice").turn()
    due = 100_000 - 7_000 - 2 * town.params.entry_fee
    assert left.credited == {"account": due}
    assert (left.owed, left.paid, left.units, left.waiting) == (0, due, due, ())
    assert left.size == len(town.world.leaves) - 1
    again = await town.leaving("alice").turn()
    assert (again.credited, again.gas, again.units) == ({"account": due}, 0, due)


async def test_what_was_deposited_or_withdrawn_since_counts(town: Town) -> None:
    town.world.do("alice", Withdraw(30_000))
    number = town.anchor()
    out = town.paying_out("alice", town.folder)
    town.evm.pass_time(TIMES.challenge_s)
    assert (await out.collect()).collected == 30_000, number
    town.evm.state.units[address("alice")] += 500
    town.evm.do(address("alice"), Call("TestCredit", "approve", (town.evm.vault, 500)))
    town.evm.do(address("alice"), Call("Vault", "deposit", (address("alice"), 500)))
    town.freeze(LEAVES_S)
    left = await town.leaving("alice").turn()
    assert left.paid == 100_000 - 30_000 - 2 * town.params.entry_fee + 500
    assert left.units == left.paid + 30_000


async def test_deposits_come_back_where_no_anchor_stands(town: Town) -> None:
    town.anchor()
    town.evm.drop(0)
    town.evm.pass_time(LEAVES_S)
    left = await town.leaving("bob").turn()
    assert (left.size, left.paid) == (0, 100_000)
    nobody = await town.leaving("operator").turn()
    assert (nobody.credited, nobody.gas) == ({}, 0)


async def test_before_its_time_nothing_is_done(town: Town) -> None:
    town.anchor()
    early = await town.leaving("alice").turn()
    made_s = town.evm.state.anchors[-1][2]
    assert early.frozen_s == 0
    assert [each.since_s for each in early.waiting] == [made_s + TIMES.escape_s]
    town.evm.pass_time(TIMES.escape_s)
    frozen = await town.leaving("alice").turn()
    assert frozen.frozen_s and frozen.next_s == frozen.frozen_s + TIMES.challenge_s
    assert (frozen.credited, frozen.size) == ({}, None)
    town.evm.pass_time(TIMES.challenge_s)
    assert (await town.leaving("alice").turn()).paid > 0


async def test_a_home_that_does_not_freeze_waits(town: Town) -> None:
    town.anchor()
    town.evm.pass_time(TIMES.escape_s)
    assert (await town.leaving("alice").turn(freezes=False)).frozen_s == 0
    assert not town.evm.state.frozen_at


async def test_parties_of_a_deal_leave_with_their_parts(town: Town) -> None:
    deal = open_deal(town)
    town.world.hold(deal, 1, 2)
    town.world.pass_epochs(4, "paul")
    promised = town.promise(deal, 300)
    town.world.do("paul", Claim(deal, None, promised))
    town.anchor()
    town.promise(deal, 450)
    town.promise(deal, 120, by_delegate=True)
    town.freeze(LEAVES_S)
    cell, before = town.world.deal(deal), town.evm.state.units[town.evm.vault]
    paul = await town.leaving("paul").turn()
    assert paul.credited[f"vouchers {deal.hex()}"] == 150 + 120
    alice = await town.leaving("alice").turn()
    assert alice.credited[f"deal {deal.hex()}"] <= cell.disk_escrow
    [rest] = alice.waiting
    assert rest.since_s == town.evm.state.frozen_at + RESTS_S
    assert "430 units" in rest.what
    town.evm.pass_time(TIMES.voucher_s)
    alice = await town.leaving("alice").turn()
    assert alice.credited[f"rest {deal.hex()}"] == 1_000 - 300 - 150 - 120
    assert alice.waiting == ()
    again = await town.leaving("alice").turn()
    assert (again.credited, again.gas) == (alice.credited, 0)
    assert before - town.evm.state.units[town.evm.vault] == alice.paid + paul.paid


async def test_vouchers_beyond_the_escrow_take_what_is_there(town: Town) -> None:
    deal = open_deal(town)
    town.anchor()
    town.promise(deal, 5_000)
    town.freeze(LEAVES_S)
    left = await town.leaving("paul").turn()
    assert left.credited[f"vouchers {deal.hex()}"] == 1_000
    assert (await town.leaving("alice").turn()).waiting == ()


async def test_a_better_voucher_can_follow(town: Town) -> None:
    deal = open_deal(town)
    town.anchor()
    town.promise(deal, 100)
    town.freeze(LEAVES_S)
    assert (await town.leaving("paul").turn()).credited[f"vouchers {deal.hex()}"] == 100
    town.promise(deal, 250)
    left = await town.leaving("paul").turn()
    assert left.credited[f"vouchers {deal.hex()}"] == 250
    assert left.owed == 0 and left.paid == left.credited.total()
    assert (await town.leaving("paul").turn()).gas == 0


async def test_a_step_that_fails_holds_up_no_other(town: Town) -> None:
    deal = open_deal(town)
    town.anchor()
    signed = town.promise(deal, 100)
    town.vouchers[deal, False] = replace(signed, signature=bytes(64) + b"\x1b")
    town.freeze(LEAVES_S)
    with pytest.raises(ChainRefused) as refused:
        await town.leaving("paul").turn()
    assert refused.value.detail_code == "invalid_signature"
    assert town.evm.state.units[address("paul")] > 0, "the account left all the same"
    town.vouchers[deal, False] = signed
    left = await town.leaving("paul").turn()
    assert left.credited[f"vouchers {deal.hex()}"] == 100 and left.owed == 0


async def test_more_vouchers_than_fit_a_call(town: Town) -> None:
    deals = [
        open_deal(town, disk_escrow=0, bandwidth_escrow=10, salt=n.to_bytes(32, "big"))
        for n in range(70)
    ]
    town.anchor()
    for deal in deals:
        town.promise(deal, 7)
    town.freeze(LEAVES_S)
    left = await town.leaving("paul").turn()
    redeemed = [call for call in town.evm.sent if call.function == "redeem_many"]
    assert [len(call.args[0]) for call in redeemed] == [64, 6]
    vouchers = sum(amount for row, amount in left.credited.items() if row.startswith("vouchers"))
    assert vouchers == 70 * 7


async def test_somebody_else_may_have_taken_every_step(town: Town) -> None:
    deal = open_deal(town)
    town.world.hold(deal, 1)
    town.anchor()
    town.freeze(RESTS_S)
    paul = await town.leaving("paul").turn()
    assert f"deal {deal.hex()}" not in town.told
    alice = await town.leaving("alice").turn()
    state, me = town.evm.state, address("alice")
    assert state.owed[me] == 0 and alice.paid == alice.credited.total() == state.units[me]
    assert paul.paid == paul.credited.total() == state.units[address("paul")]
    for name in ("alice", "paul"):
        fresh = Town.leaving(town, name)
        fresh._under_way = UnderWay(town.folder / "other", town.evm.vault)
        seen = await fresh.turn()
        assert (seen.paid, seen.gas) == ({"alice": alice, "paul": paul}[name].paid, 0)


async def test_a_slash_on_the_chain_splits_the_deal(town: Town) -> None:
    deal = open_deal(town, miss_limit=50, end=40)
    town.world.hold(deal, 1, 2, 3)
    town.world.pass_epochs(12, "paul")
    town.world.do("paul", Claim(deal, None, None))
    cell = town.world.deal(deal)
    assert cell.collateral
    town.anchor()
    town.evm.state.slashes[deal] = (cell.number, 1, address("dora"))
    town.freeze(LEAVES_S)
    alice, paul = await town.leaving("alice").turn(), await town.leaving("paul").turn()
    assert alice.credited[f"deal {deal.hex()}"] >= cell.disk_escrow + cell.bandwidth_escrow
    assert f"deal {deal.hex()}" not in paul.credited


async def test_a_slash_of_an_older_revision_does_not_count(town: Town) -> None:
    deal = open_deal(town)
    town.world.hold(deal, 1)
    town.anchor()
    town.evm.state.slashes[deal] = (0, 1, address("alice"))
    town.freeze(LEAVES_S)
    left = await town.leaving("alice").turn()
    assert left.waiting, "the bandwidth escrow waits for vouchers"
    assert set(left.credited) == {"account", f"deal {deal.hex()}"}
    assert left.paid == left.credited.total()


async def test_a_bond_goes_back_to_its_asker(town: Town) -> None:
    deal = open_deal(town)
    town.world.hold(deal, 1)
    town.world.do("alice", Demand(deal, 500, 0))
    town.anchor()
    town.freeze(RESTS_S)
    before = town.world.account("alice").available
    left = await town.leaving("alice").turn()
    cell = town.world.deal(deal)
    assert left.paid == before + 500 + cell.disk_escrow + cell.bandwidth_escrow


async def test_a_copy_that_lies_is_passed_over(town: Town) -> None:
    town.anchor()
    town.freeze(LEAVES_S)

    def wrong(leaf):  # type: ignore[no-untyped-def]
        return replace(leaf, signature=bytes(65))

    short = WorldLog(town.world.leaves[:3], "a short one")
    liar = WorldLog(town.world.leaves, "a liar", wrong)
    with pytest.raises(NotFound) as nowhere:
        await town.leaving("alice", [short, liar]).turn()
    assert nowhere.value.detail_code == "no_log"
    assert "a short one" in nowhere.value.message and "a liar" in nowhere.value.message
    assert (await town.leaving("alice", [short, liar, town.copy]).turn()).paid


async def test_an_anchor_that_its_log_does_not_lead_to_is_told(town: Town) -> None:
    town.anchor()
    size, epoch, time_s, root, _ = town.evm.state.anchors[0]
    town.evm.state.anchors[0] = (size, epoch, time_s, root, bytes(32))
    town.freeze(LEAVES_S)
    with pytest.raises(InvalidProof) as wrong:
        await town.leaving("alice").turn()
    assert wrong.value.detail_code == "state_root"
    assert "dsn dispute audit" in wrong.value.hint


@pytest.mark.parametrize("seed", range(4))
async def test_all_leave_in_any_order_and_the_vault_is_not_short(town: Town, seed: int) -> None:
    """Whatever happened before and since the anchor: all get theirs, and what burned stays."""
    rng = random.Random(seed)
    world = town.world
    deals = []
    for n in range(3):
        client, provider = rng.choice(["alice", "bob"]), rng.choice(["paul", "petra"])
        parties = {"client": address(client), "provider": address(provider)}
        deal = world.open(terms(**parties, miss_limit=60, salt=bytes([n]) * 32, end=30))
        world.hold(deal, *rng.sample(range(1, 20), rng.randint(1, 4)))
        deals.append(deal)
    for _ in range(rng.randint(1, 8)):
        world.pass_epochs(1, *rng.sample(["paul", "petra"], rng.randint(0, 2)))
        deal = rng.choice(deals)
        provider = "paul" if world.deal(deal).terms.provider == address("paul") else "petra"
        paid = world.deal(deal).voucher_paid
        voucher = town.promise(deal, paid + rng.randint(1, 150)) if rng.random() < 0.6 else None
        world.do(provider, Claim(deal, None, voucher))
    if rng.random() < 0.5:
        world.do("alice", Withdraw(rng.randint(1, 5_000)))
    town.anchor()
    anchored = world.state
    for deal in deals:
        town.promise(deal, world.deal(deal).voucher_paid + rng.randint(0, 400))
        if rng.random() < 0.5:
            town.promise(deal, rng.randint(1, 250), by_delegate=True)
    world.do("bob", Transfer(address("sam"), 1_000))
    town.freeze(LEAVES_S)
    order = list(NAMES)
    rng.shuffle(order)
    await town.all_leave(order)
    town.evm.pass_time(TIMES.voucher_s)
    rng.shuffle(order)
    left = await town.all_leave(order)
    state = town.evm.state
    assert not any(state.owed.values()), f"seed {seed}"
    for name, each in left.items():
        assert each.paid == each.credited.total() == state.units[address(name)], f"seed {seed}"
        assert each.waiting == (), f"seed {seed}"
    burned = sum(cell.burned for cell in anchored.cells.values() if hasattr(cell, "burned"))
    assert state.units[town.evm.vault] >= burned, f"seed {seed}"
    rows = Counter[str]()
    for each in left.values():
        rows.update(each.credited)
    assert set(rows) <= {
        "account",
        *(f"{what} {deal.hex()}" for deal in deals for what in ("deal", "vouchers", "rest")),
    }, f"seed {seed}"


async def test_closed_deals_need_no_step(town: Town) -> None:
    deal = open_deal(town, end=3, grace=1, dispute=2)
    town.world.pass_epochs(8)
    town.world.do("alice", CloseDeal(deal, None))
    town.world.pass_epochs(5)
    town.world.do("alice", CloseDeal(deal, None))
    assert town.world.deal(deal).state is DealState.CLOSED
    town.anchor()
    town.freeze(LEAVES_S)
    left = await town.leaving("alice").turn()
    assert set(left.credited) == {"account"}
    assert not [call for call in town.evm.sent if call.function == "escape_deal"]
