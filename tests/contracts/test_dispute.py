"""Dispute: who may ask for what, what answers it, and what becomes of the bond."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import pytest

from dsn.ids import Commit, DealId, NetworkId
from dsn.ledger.binding import LedgerRoot
from dsn.ledger.bodies import SignedPledge
from dsn.ledger.cells import AccountCell, DealCell, DealState, cell_digest
from dsn.ledger.deal import Deal
from dsn.ledger.onchain import dispute
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.pledge import Pledge
from dsn.ledger.radix import StateLeaf, StateTree
from dsn.ledger.settlement import NO_ADDRESS, Address
from dsn.ledger.typed import Domain, sign_typed
from dsn.proofs.inventory import SumTree, holdings_leaf
from dsn.proofs.opening import build_opening, verify_opening
from tests.support.evm import CHAIN_ID, COSIGNERS, DEPLOYER, ETHER, Evm, Reverted
from tests.support.ledger_world import KEYS, address, terms
from tests.support.proof_world import Holdings, Shard

NETWORK = NetworkId(b"\x33" * 32)
BOND, ANSWER_S, ESCAPE_S = ETHER // 100, 86_400, 10_000_000
SEED = 6
HELD = Holdings.of(5000, 1024, 70_000, 1)
MOST_GAS = 100_000
"""Of an answer, as a transaction: what is sent and all that is done."""


class Disputed:
    """A vault, its disputes, and anchors over states of the test's own making."""

    def __init__(self, evm: Evm) -> None:
        self.evm = evm
        evm.fund(DEPLOYER, *(key.address for key in KEYS.values()))
        vault, made = evm.next_address(), evm.next_address(ahead=1)
        self.domain = Domain(NETWORK, CHAIN_ID, vault)
        witnesses = [key.address for key in COSIGNERS]
        head = (DEPLOYER, NETWORK, address("operator"), witnesses, 0, bytes(32), 0)
        self.vault = evm.deploy("Vault", *head, (ESCAPE_S,) * 4, made, [DEPLOYER])
        self.contract = evm.deploy("Dispute", vault, NETWORK, BOND, ANSWER_S)
        assert (self.vault.address, self.contract.address) == (vault, made)
        self.tree, self.size = StateTree(), 0

    def anchor(self, *cells: DealCell) -> int:
        """Anchor a state of ``cells`` and a few accounts; its number."""
        random = Random(SEED)
        accounts = (AccountCell(Address(random.randbytes(20)), n) for n in range(50))
        leaves = (StateLeaf(each.key, cell_digest(each)) for each in (*cells, *accounts))
        self.tree, self.size = StateTree.build(leaves), self.size + 1
        root = LedgerRoot(self.size, bytes(32), self.tree.root, 1)
        signature = sign_typed(root, self.domain, KEYS["operator"])
        self.vault.send("anchor", tuple(root.values()), signature, [])
        return self.size - 1

    def cell(self, held: SumTree = HELD.tree, number: int = 3, **changes: Any) -> DealCell:
        """An open deal that holds ``held``."""
        deal = terms(**changes)
        return DealCell(
            *(deal.deal_id(self.domain), deal, DealState.OPEN, deal.end, deal.grace, 1),
            number=number, shards=held.count, leaves=held.total, root=held.root,
        )  # fmt: skip

    def send(self, call: OnChain, name: str = "sam", wei: int = 0) -> Any:
        assert call.contract == "Dispute"
        return self.contract.send(call.function, *call.args, sender=address(name), wei=wei)

    def refused(self, call: OnChain, name: str = "sam", wei: int = 0) -> str:
        with pytest.raises(Reverted) as failure:
            self.contract.call(call.function, *call.args, sender=address(name), wei=wei)
        return failure.value.reason

    def demand(self, cell: DealCell, leaf: int, name: str = "alice") -> Any:
        return self.send(self.asking(cell, leaf), name, BOND)

    def asking(self, cell: DealCell, leaf: int) -> OnChain:
        return dispute.demand(self.size - 1, cell, self.tree, leaf)

    def credit(self, name: str) -> int:
        return int(self.contract.call("credit", address(name)))

    def deadline(self, cell: DealCell) -> int:
        return int(self.contract.call("demands", cell.deal)[1])


@pytest.fixture(scope="module")
def once(node: Evm) -> Disputed:
    return Disputed(node)


@pytest.fixture
def disputed(once: Disputed) -> Iterator[Disputed]:
    with once.evm.undone():
        tree, size = once.tree, once.size
        yield once
        once.tree, once.size = tree, size


@pytest.fixture
def asked(disputed: Disputed) -> tuple[Disputed, DealCell]:
    """Alice asked for leaf 2 of what Paul holds."""
    cell = disputed.cell()
    disputed.anchor(cell)
    disputed.demand(cell, 2)
    return disputed, cell


# asking


def test_a_demand_is_what_the_client_asked_of_the_anchored_holdings(disputed: Disputed) -> None:
    cell = disputed.cell()
    disputed.anchor(cell)
    receipt = disputed.demand(cell, 2)
    (said,) = disputed.contract.logged(receipt, "Demanded")
    deadline = disputed.evm.time_s + ANSWER_S
    assert said == {
        "deal": cell.deal, "provider": address("paul"), "asker": address("alice"),
        "leaf": 2, "number": 3, "deadline": deadline,
    }  # fmt: skip
    parts = (address("alice"), deadline, address("paul"), 2, 3, cell.leaves, cell.root)
    assert disputed.contract.call("demands", cell.deal) == parts
    assert disputed.evm.balance(disputed.contract.address) == BOND
    print(f"\nDispute.demand: {receipt.gas:,} gas")


def test_the_delegate_may_ask_too_and_nobody_else(disputed: Disputed) -> None:
    cell = disputed.cell()
    disputed.anchor(cell)
    for name in ("paul", "sam", "operator"):
        assert disputed.refused(disputed.asking(cell, 0), name, BOND) == "not_the_client"
    disputed.demand(cell, 0, "dora")
    assert disputed.contract.call("demands", cell.deal)[0] == address("dora")


@pytest.mark.parametrize("wei", [0, BOND - 1, BOND + 1])
def test_the_bond_is_exact(disputed: Disputed, wei: int) -> None:
    cell = disputed.cell()
    disputed.anchor(cell)
    assert disputed.refused(disputed.asking(cell, 0), "alice", wei) == "wrong_bond"


def test_only_the_newest_anchor_counts(disputed: Disputed) -> None:
    old = disputed.cell(number=2)
    disputed.anchor(old)
    asking = disputed.asking(old, 0)
    disputed.anchor(disputed.cell(number=4))
    assert disputed.refused(asking, "alice", BOND) == "not_newest"
    ahead = asking._replace(args=(2, *asking.args[1:]))
    assert disputed.refused(ahead, "alice", BOND) == "not_newest"
    moved = asking._replace(args=(1, *asking.args[1:]))
    assert disputed.refused(moved, "alice", BOND) == "state_root"


def test_a_deal_that_the_anchor_has_otherwise_is_refused(disputed: Disputed) -> None:
    cell, other = disputed.cell(), disputed.cell(salt=b"\x05" * 32)
    disputed.anchor(cell, other)
    number, _, place, leaf = disputed.asking(cell, 0).args
    for wrong in (replace(cell, leaves=cell.leaves + 1), replace(cell, number=9), other):
        said = dispute.demand(number, wrong, disputed.tree, leaf).args[1]
        asking = OnChain("Dispute", "demand", (number, said, place, leaf))
        assert disputed.refused(asking, "alice", BOND) == "state_root"


@pytest.mark.parametrize("state", [DealState.ENDED, DealState.SLASHED, DealState.CLOSED])
def test_only_open_deals_have_to_show_anything(disputed: Disputed, state: DealState) -> None:
    cell = replace(disputed.cell(), state=state)
    disputed.anchor(cell)
    assert disputed.refused(disputed.asking(cell, 0), "alice", BOND) == "deal_not_open"


def test_a_leaf_that_is_not_there_cannot_be_asked_for(disputed: Disputed) -> None:
    cell = disputed.cell()
    disputed.anchor(cell)
    asking = disputed.asking(cell, cell.leaves)
    assert disputed.refused(asking, "alice", BOND) == "no_such_leaf"


def test_one_demand_at_a_time(asked: tuple[Disputed, DealCell]) -> None:
    disputed, cell = asked
    assert disputed.refused(disputed.asking(cell, 0), "dora", BOND) == "demand_pending"


# answering


@pytest.mark.parametrize("name", ["paul", "sam"])
def test_the_leaf_answers_and_the_provider_keeps_the_bond(
    asked: tuple[Disputed, DealCell], name: str
) -> None:
    disputed, cell = asked
    receipt = disputed.send(dispute.answer(cell.deal, HELD.opening(2)), name)
    assert disputed.contract.logged(receipt, "Answered") == [{"deal": cell.deal}]
    assert disputed.credit("paul") == BOND
    assert disputed.deadline(cell) == 0
    assert disputed.refused(dispute.slash(cell.deal)) == "no_demand"
    before = disputed.evm.balance(address("paul"))
    disputed.send(dispute.collect(), "paul")
    assert before < disputed.evm.balance(address("paul")) <= before + BOND
    assert disputed.evm.balance(disputed.contract.address) == 0
    assert disputed.refused(dispute.collect(), "paul") == "nothing_owed"


def test_every_leaf_can_be_answered_for(disputed: Disputed) -> None:
    cell = disputed.cell()
    disputed.anchor(cell)
    for leaf in (0, 1, 40, 70, cell.leaves - 1):
        disputed.demand(cell, leaf)
        disputed.send(dispute.answer(cell.deal, HELD.opening(leaf)))
    assert disputed.credit("paul") == 5 * BOND


def test_a_late_answer_is_refused(asked: tuple[Disputed, DealCell]) -> None:
    disputed, cell = asked
    evm, right = disputed.evm, dispute.answer(cell.deal, HELD.opening(2))
    with evm.undone():
        evm.rpc("evm_setNextBlockTimestamp", disputed.deadline(cell))
        disputed.send(right)
    evm.rpc("evm_setNextBlockTimestamp", disputed.deadline(cell) + 1)
    evm.mine()
    assert disputed.refused(right) == "too_late"


def test_an_answer_counts_once(asked: tuple[Disputed, DealCell]) -> None:
    disputed, cell = asked
    right = dispute.answer(cell.deal, HELD.opening(2))
    disputed.send(right)
    assert disputed.refused(right) == "no_demand"
    disputed.demand(cell, 3)
    assert disputed.refused(right) == "holdings"
    assert disputed.credit("paul") == BOND


def test_answers_for_other_leaves_and_other_holdings_are_refused(
    asked: tuple[Disputed, DealCell],
) -> None:
    disputed, cell = asked
    other = Holdings.of(5000, 1024, 70_000, 1, name="foreign")
    for opening in (HELD.opening(3), other.opening(2)):
        assert disputed.refused(dispute.answer(cell.deal, opening)) in ("holdings", "sum", "short")
    unknown = DealId(b"\x07" * 32)
    assert disputed.refused(dispute.answer(unknown, HELD.opening(2))) == "no_demand"


def test_no_changed_byte_answers(asked: tuple[Disputed, DealCell]) -> None:
    disputed, cell = asked
    right, random = HELD.opening(2)[32:], Random(SEED)
    codes = set()
    places = sorted({*range(0, 130, 7), *random.sample(range(len(right)), 40)})
    for at in places:
        wrong = right[:at] + bytes([right[at] ^ random.randint(1, 255)]) + right[at + 1 :]
        codes.add(disputed.refused(dispute.answer(cell.deal, bytes(32) + wrong)))
    for wrong in (b"", right[:-1], right + b"\0", right[:8], right[1:]):
        codes.add(disputed.refused(dispute.answer(cell.deal, bytes(32) + wrong)))
    assert codes <= {"short", "sum", "length", "holdings", "trailing"}, (SEED, codes)
    assert disputed.deadline(cell) and not disputed.credit("paul")


# a newer revision


def signed(
    disputed: Disputed,
    cell: DealCell,
    by_delegate: bool = False,
    signers: tuple[str, str] = ("alice", "paul"),
    **changes: Any,
) -> SignedPledge:
    pledge = Pledge(cell.deal, cell.number + 1, cell.shards, cell.leaves, b"\x01" * 32)
    pledge = replace(pledge, **changes)
    one, other = (sign_typed(pledge, disputed.domain, KEYS[name]) for name in signers)
    return SignedPledge(pledge, by_delegate, one, other)


def test_a_newer_revision_of_both_ends_a_demand(asked: tuple[Disputed, DealCell]) -> None:
    disputed, cell = asked
    newer = signed(disputed, cell, shards=0, leaves=0, root=bytes(32))
    receipt = disputed.send(dispute.supersede(cell.terms, newer))
    assert disputed.contract.logged(receipt, "Superseded") == [{"deal": cell.deal, "number": 4}]
    assert disputed.credit("paul") == BOND
    assert disputed.refused(dispute.supersede(cell.terms, newer)) == "no_demand"


def test_the_delegate_can_sign_what_it_may(asked: tuple[Disputed, DealCell]) -> None:
    disputed, _ = asked
    cell = disputed.cell(salt=b"\x06" * 32, delegate_leaves=200)
    disputed.anchor(cell)
    disputed.demand(cell, 0)
    by = {"by_delegate": True, "signers": ("dora", "paul")}
    for code, leaves in (("delegate_lowers", cell.leaves - 1), ("over_delegate_leaves", 201)):
        wrong = signed(disputed, cell, leaves=leaves, **by)
        assert disputed.refused(dispute.supersede(cell.terms, wrong)) == code
    disputed.send(dispute.supersede(cell.terms, signed(disputed, cell, leaves=200, **by)))
    alone = disputed.cell(salt=b"\x08" * 32, delegate=NO_ADDRESS)
    disputed.anchor(alone)
    disputed.demand(alone, 0)
    wrong = signed(disputed, alone, **by)
    assert disputed.refused(dispute.supersede(alone.terms, wrong)) == "no_delegate"


def test_revisions_that_do_not_end_a_demand(asked: tuple[Disputed, DealCell]) -> None:
    disputed, cell = asked
    right = signed(disputed, cell)
    high_s = right.signature[:32] + b"\xff" * 32 + right.signature[64:]
    wrong = {
        "stale_revision": signed(disputed, cell, number=cell.number),
        "other_deal": signed(disputed, cell, deal=DealId(b"\x07" * 32)),
        "malleated_signature": replace(right, signature=high_s),
    }
    for code, each in wrong.items():
        assert disputed.refused(dispute.supersede(cell.terms, each)) == code
    for signers in (("dora", "paul"), ("alice", "sam"), ("paul", "alice")):
        each = signed(disputed, cell, signers=signers)
        assert disputed.refused(dispute.supersede(cell.terms, each)) == "invalid_signature"
    flipped = replace(right, by_delegate=True)
    assert disputed.refused(dispute.supersede(cell.terms, flipped)) == "over_delegate_leaves"
    other: Deal = replace(cell.terms, delegate_leaves=1 << 40)
    assert disputed.refused(dispute.supersede(other, right)) == "no_demand"
    disputed.evm.pass_time(ANSWER_S + 1)
    assert disputed.refused(dispute.supersede(cell.terms, right)) == "too_late"


# slashing


def test_who_does_not_answer_is_slashed_and_the_bond_goes_back(
    asked: tuple[Disputed, DealCell],
) -> None:
    disputed, cell = asked
    slash = dispute.slash(cell.deal)
    assert disputed.refused(slash) == "still_time"
    disputed.evm.rpc("evm_setNextBlockTimestamp", disputed.deadline(cell))
    disputed.evm.mine()
    assert disputed.contract.call("slashes", cell.deal) == (0, 0, NO_ADDRESS)
    disputed.evm.pass_time(1)
    assert disputed.refused(slash) == "not_final"
    disputed.evm.pass_time(ESCAPE_S)
    receipt = disputed.send(slash)
    said = {"deal": cell.deal, "number": 3, "asker": address("alice")}
    assert disputed.contract.logged(receipt, "Slashed") == [said]
    record = (3, disputed.evm.time_s, address("alice"))
    assert disputed.contract.call("slashes", cell.deal) == record
    assert (disputed.credit("alice"), disputed.credit("paul")) == (BOND, 0)
    assert disputed.refused(slash) == "no_demand"
    assert disputed.refused(dispute.answer(cell.deal, HELD.opening(2))) == "no_demand"
    assert disputed.refused(disputed.asking(cell, 0), "alice", BOND) == "slashed_already"
    newer = disputed.cell(number=4)
    disputed.anchor(newer)
    disputed.demand(newer, 1)


def test_what_an_anchor_said_that_fell_slashes_nobody(asked: tuple[Disputed, DealCell]) -> None:
    disputed, cell = asked
    disputed.evm.pass_time(ANSWER_S + 1)
    disputed.vault.send("convict", 0, DEPLOYER, sender=DEPLOYER)
    receipt = disputed.send(dispute.slash(cell.deal))
    assert disputed.contract.logged(receipt, "Dropped") == [{"deal": cell.deal}]
    assert disputed.contract.call("slashes", cell.deal) == (0, 0, NO_ADDRESS)
    assert (disputed.credit("alice"), disputed.credit("paul")) == (BOND, 0)
    assert disputed.refused(dispute.slash(cell.deal)) == "no_demand"


# the cost


@cache
def random_shard() -> Shard:
    """16 MiB of random bytes."""
    return Shard(Random(SEED).randbytes(16 << 20))


@cache
def large(depth: int) -> tuple[Shard, SumTree]:
    """The shard among 999 others as large, ``depth`` steps below the root."""
    shard = random_shard()
    for seed in range(100):
        others = Random(seed)
        keys = [shard.commit, *(Commit(others.randbytes(32)) for _ in range(999))]
        tree = SumTree.build((key, holdings_leaf(key, shard.leaves), shard.leaves) for key in keys)
        first, _ = tree.find(shard.commit)
        if len(tree.locate(first).steps) == depth:
            return shard, tree
    raise LookupError(depth)


@pytest.mark.parametrize("depth", [10, 11, 12])
def test_an_answer_is_cheap_enough(disputed: Disputed, depth: int) -> None:
    shard, tree = large(depth)
    first, _ = tree.find(shard.commit)
    leaf = first + 777
    at, stored = tree.locate(leaf), shard.leaf(777)
    assert (len(stored.path), len(at.steps), tree.count) == (14, depth, 1_000)
    opening = build_opening(stored, at.steps)
    verify_opening(opening, root=tree.root, total=tree.total, index=leaf, inventory=False)
    cell = disputed.cell(tree)
    disputed.anchor(cell)
    disputed.demand(cell, leaf)
    call = dispute.answer(cell.deal, opening)
    data = disputed.contract.data(call.function, *call.args)
    gas = disputed.send(call).gas
    floor = 21_000 + 10 * sum(4 if byte else 1 for byte in data)
    print(
        f"\nDispute.answer, {len(data):,} bytes, path 14, {depth} steps: {gas:,} gas; "
        f"EIP-7623's floor: {floor:,}"
    )
    assert max(gas, floor) <= MOST_GAS


def test_the_terms_of_disputes_can_be_asked_for(once: Disputed) -> None:
    said = [once.contract.call(each) for each in ("vault", "bond_wei", "answer_s")]
    assert said == [once.vault.address, BOND, ANSWER_S]
