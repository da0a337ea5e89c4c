"""A chain in memory with one network's vault, disputes and ERC-20, by the rules of the contracts.

::

    evm = MemoryEvm(params)
    chain = evm.chain(address)          # the port, as that account's home sees it
    evm.pass_time(60); evm.reorganise(5)
    await chain.send(Call("Vault", "deposit", (address, 500)), final=True)

Every call that is sent gets a block of its own. Waiting for a block to become final mines empty
ones; on the way ``evm.each`` is called every time, and the next of the plans in ``evm.then``.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dsn.apps.chain.vault import Times
from dsn.chain import Call, Done, Happened
from dsn.core.codec import Reader
from dsn.errors import ChainRefused, DsnError, LimitReached
from dsn.ids import DealId
from dsn.ledger.binding import LedgerRoot
from dsn.ledger.cells import (
    AccountCell,
    Cell,
    CellKind,
    DealCell,
    DealState,
    Pending,
    cell_digest,
    cell_key,
)
from dsn.ledger.deal import Deal
from dsn.ledger.log import TreeHead, leaf_hash, verify_inclusion_proof
from dsn.ledger.money import repair_cost
from dsn.ledger.params import LedgerParams
from dsn.ledger.pledge import Pledge
from dsn.ledger.radix import StateLeaf, StateStep, verify_absence, verify_cell
from dsn.ledger.rules.settling import Parties, roll, settle
from dsn.ledger.settlement import NO_ADDRESS, Address
from dsn.ledger.state import FIRST_EPOCH, genesis
from dsn.ledger.typed import verify_typed
from dsn.ledger.voucher import Voucher
from dsn.proofs.opening import verify_opening
from dsn.proofs.post import Link

START_S = 1_700_000_000
TIMES = Times(challenge_s=600, escape_s=3_600, voucher_s=900, inclusion_s=3_600)
BOND_WEI = 10**16
ANSWER_S = 1_200
WEI = 10**18
GAS = 21_000
_WORD_BITS = 256


@dataclass
class Remnant:
    """What an escaped deal has left for vouchers."""

    terms: Deal
    left: int
    paid: int
    delegate_paid: int


@dataclass
class Question:
    """A demand that waits on the chain."""

    cell: DealCell
    asker: Address
    leaf: int
    deadline_s: int
    anchor: int


@dataclass
class State:
    """All that the contracts remember."""

    units: dict[Address, int] = field(default_factory=lambda: defaultdict(int))
    allowed: dict[tuple[Address, Address], int] = field(default_factory=lambda: defaultdict(int))
    spent: dict[Address, int] = field(default_factory=lambda: defaultdict(int))
    """Wei."""
    deposits: dict[Address, list[int]] = field(default_factory=lambda: defaultdict(list))
    paid: dict[Address, int] = field(default_factory=lambda: defaultdict(int))
    owed: dict[Address, int] = field(default_factory=lambda: defaultdict(int))
    anchors: list[tuple[int, int, int, bytes, bytes]] = field(default_factory=list)
    frozen_at: int = 0
    escaped: set[bytes] = field(default_factory=set)
    remnants: dict[bytes, Remnant] = field(default_factory=dict)
    demands: dict[bytes, Question] = field(default_factory=dict)
    slashes: dict[bytes, tuple[int, int, Address]] = field(default_factory=dict)
    credit: dict[Address, int] = field(default_factory=lambda: defaultdict(int))
    logs: list[tuple[str, str, Happened]] = field(default_factory=list)


def need(holds: bool, code: str) -> None:
    """Revert with ``code`` unless something holds."""
    if not holds:
        raise ChainRefused(f"the contract refuses: {code}", code=code)


class MemoryEvm:
    """The chain; time moves by a second a block, and by ``pass_time``."""

    def __init__(self, params: LedgerParams, times: Times = TIMES, finality: int = 2) -> None:
        self.params, self.times, self.finality = params, times, finality
        self.vault = params.domain.vault
        self.number, self.now_s = 0, START_S
        self.state = State()
        self.past = [copy.deepcopy(self.state)]
        self.then: list[Callable[[], object]] = []
        self.each: Callable[[], object] = lambda: None
        self.sent: list[Call] = []
        self.wei = WEI
        """What everybody began with."""
        self.wrong: set[bytes] = set()
        """Leaves that a judge convicts of."""
        self.shard_roots: set[bytes] = set()
        """Of all shards there are: an answer leaves the root away, which leaf and path lead to."""

    def chain(self, account: Address) -> EvmOf:
        """The port for one account."""
        return EvmOf(self, account)

    # blocks

    def mine(self, blocks: int = 1) -> None:
        """Blocks as things are now."""
        for _ in range(blocks):
            self.number += 1
            self.now_s += 1
            self.past.append(copy.deepcopy(self.state))

    def pass_time(self, seconds: int) -> None:
        """A block so much later."""
        self.now_s += seconds - 1
        self.mine()

    def reorganise(self, depth: int) -> None:
        """Drop the newest ``depth`` blocks for as many empty ones and one more."""
        self.number -= depth
        del self.past[self.number + 1 :]
        self.state = copy.deepcopy(self.past[-1])
        self.mine(depth + 1)

    async def sleep(self, seconds: float) -> None:
        """What waits, waits for a block, and for whatever was planned for it."""
        self.mine()
        self.each()
        if self.then:
            self.then.pop(0)()

    @property
    def final(self) -> int:
        return max(0, self.number - self.finality)

    def run(self, state: State, sender: Address, call: Call, wei: int = 0) -> Any:
        """Have a call done in ``state``."""
        handler = getattr(self, f"{call.contract}_{call.function}".lower())
        return handler(state, sender, wei, *call.args)

    def do(self, sender: Address, call: Call) -> None:
        """Have a call done in a block of its own."""
        self.run(self.state, sender, call)
        self.mine()

    def log(self, state: State, contract: str, event: str, **values: Any) -> None:
        state.logs.append((contract, event, Happened(values, self.number + 1)))

    # ERC-20

    def mint(self, account: Address, amount: int) -> None:
        """Units out of nothing, in a block of their own."""
        self.state.units[account] += amount
        self.mine()

    def testcredit_balanceof(self, s: State, sender: Address, wei: int, who: Address) -> int:
        return s.units[who]

    def testcredit_allowance(
        self, s: State, sender: Address, wei: int, owner: Address, spender: Address
    ) -> int:
        return s.allowed[owner, spender]

    def testcredit_approve(
        self, s: State, sender: Address, wei: int, spender: Address, amount: int
    ) -> None:
        need(not amount or not s.allowed[sender, spender], "approve_twice")  # as some ERC-20s do
        s.allowed[sender, spender] = amount

    # Vault

    def vault_times(self, s: State, sender: Address, wei: int) -> tuple[int, ...]:
        t = self.times
        return t.challenge_s, t.escape_s, t.voucher_s, t.inclusion_s

    def vault_deposits(self, s: State, sender: Address, wei: int, who: Address) -> int:
        return len(s.deposits[who])

    def vault_deposited(self, s: State, sender: Address, wei: int, who: Address, n: int) -> int:
        made = s.deposits[who]
        return sum(made[:n]) if n <= len(made) else 0

    def vault_paid(self, s: State, sender: Address, wei: int, who: Address) -> int:
        return s.paid[who]

    def vault_owed(self, s: State, sender: Address, wei: int, who: Address) -> int:
        return s.owed[who]

    def vault_frozen_at(self, s: State, sender: Address, wei: int) -> int:
        return s.frozen_at

    def vault_anchor_count(self, s: State, sender: Address, wei: int) -> int:
        return len(s.anchors)

    def vault_anchors(self, s: State, sender: Address, wei: int, n: int) -> tuple[int, ...]:
        need(n < len(s.anchors), "no_anchor")
        return s.anchors[n]  # type: ignore[return-value]

    def vault_unredeemed(self, s: State, sender: Address, wei: int, deal: bytes) -> int:
        return s.remnants[deal].left if deal in s.remnants else 0

    def vault_deposit(self, s: State, sender: Address, wei: int, who: Address, amount: int) -> None:
        need(not s.frozen_at, "frozen")
        need(amount > 0, "zero_amount")
        need(s.allowed[sender, self.vault] >= amount, "erc20_refused")
        need(s.units[sender] >= amount, "erc20_refused")
        s.allowed[sender, self.vault] -= amount
        self._move(s, sender, self.vault, amount)
        s.deposits[who].append(amount)
        serial = len(s.deposits[who])
        self.log(s, "Vault", "Deposited", account=who, amount=amount, serial=serial)

    def vault_anchor(
        self, s: State, sender: Address, wei: int, root: tuple[int, bytes, bytes, int],
        signature: bytes, signatures: list[bytes],
    ) -> None:  # fmt: skip
        need(not s.frozen_at, "frozen")
        said = LedgerRoot(*root)
        need(said.size > (s.anchors[-1][0] if s.anchors else 0), "log_shrunk")
        self._signed(said, signature, self.params.operator)
        need(len(signatures) >= self.params.quorum, "no_quorum")
        number = len(s.anchors)
        s.anchors.append((said.size, said.epoch, self.now_s, said.root, said.state_root))
        self.log(s, "Vault", "Anchored", number=number, size=said.size)

    def vault_withdraw(
        self, s: State, sender: Address, wei: int, n: int, cell: tuple[Any, ...], place: Any
    ) -> None:
        need(not s.frozen_at, "frozen")
        _, _, time_s, _, state_root = s.anchors[n]
        need(self.now_s - time_s >= self.times.challenge_s, "not_final")
        account = account_of(cell)
        self._proven(state_root, account, place)
        who, before = account.address, s.paid[account.address]
        need(account.withdrawn > before, "nothing_due")
        s.paid[who] = account.withdrawn
        self._move(s, self.vault, who, account.withdrawn - before)

    def vault_freeze(self, s: State, sender: Address, wei: int) -> None:
        need(not s.frozen_at, "frozen")
        last = s.anchors[-1][2] if s.anchors else START_S
        need(self.now_s - last >= self.times.escape_s, "still_time")
        s.frozen_at = self.now_s

    def drop(self, standing: int) -> None:
        """As a conviction does: only the first ``standing`` anchors stand, the vault is frozen."""
        del self.state.anchors[standing:]
        self.state.frozen_at = self.now_s
        self.mine()

    def vault_escape_account(
        self, s: State, sender: Address, wei: int, cell: tuple[Any, ...], place: Any
    ) -> None:
        account = account_of(cell)
        self._proven(self._escape_root(s), account, place)
        since = sum(s.deposits[account.address][account.deposits :])
        self._leave(s, account.address, account.available + account.withdrawn + since)

    def vault_escape_absent(
        self, s: State, sender: Address, wei: int, who: Address, place: Any
    ) -> None:
        key, root = cell_key(CellKind.ACCOUNT, who), self._escape_root(s)
        leaf, steps = place_of(place)
        self._checked(lambda: verify_absence(root, key, leaf, steps))
        self._leave(s, who, sum(s.deposits[who]))

    def vault_escape_deal(
        self, s: State, sender: Address, wei: int, cell: tuple[Any, ...], place: Any,
        provider_cell: tuple[Any, ...], provider_place: Any,
    ) -> None:  # fmt: skip
        root, deal, provider = self._escape_root(s), deal_of(cell), account_of(provider_cell)
        self._proven(root, deal, place)
        self._proven(root, provider, provider_place)
        need(deal.deal not in s.escaped, "escaped_already")
        s.escaped.add(deal.deal)
        terms, bandwidth = deal.terms, deal.bandwidth_escrow
        slashable = deal.state in (DealState.OPEN, DealState.ENDED)
        number, _, asker = s.slashes.get(deal.deal, (-1, 0, NO_ADDRESS))
        if slashable and number >= deal.number:
            repair = min(deal.collateral, repair_cost(terms.repair_price, deal.leaves))
            self._credit(s, asker, (deal.collateral - repair) // 10)
            self._credit(s, terms.client, deal.refund + deal.disk_escrow + repair + bandwidth)
            bandwidth = 0
        else:
            if deal.state is DealState.OPEN:
                epoch = s.anchors[-1][1] if s.anchors else FIRST_EPOCH
                before = roll(provider, epoch)
                deal, after = settle(Parties(deal, before), epoch, self.params.burn_ppm)
                self._credit(s, terms.provider, after.available - before.available)
            self._credit(s, terms.provider, deal.collateral)
            self._credit(s, terms.client, deal.refund + deal.disk_escrow)
        if deal.demand is not None:
            self._credit(s, deal.demand.asker, deal.bond)
        s.remnants[deal.deal] = Remnant(terms, bandwidth, deal.voucher_paid, deal.delegate_paid)

    def vault_redeem_many(
        self, s: State, sender: Address, wei: int, vouchers: list[tuple[Any, ...]]
    ) -> None:
        need(s.frozen_at > 0, "not_frozen")
        need(len(vouchers) <= 64, "too_many")
        for deal, credits, by_delegate, v, r, signature_s in vouchers:
            if (there := s.remnants.get(deal)) is None or not there.left:
                continue
            terms = there.terms
            payer = terms.delegate if by_delegate else terms.client
            paid = there.delegate_paid if by_delegate else there.paid
            most = min(credits, terms.delegate_credits) if by_delegate else credits
            if most <= paid:
                continue
            self._signed(Voucher(DealId(deal), credits), r + signature_s + bytes([v]), payer)
            rise = min(most - paid, there.left)
            there.left -= rise
            if by_delegate:
                there.delegate_paid += rise
            else:
                there.paid += rise
            self._credit(s, terms.provider, rise)

    def vault_finish_deal(self, s: State, sender: Address, wei: int, deal: bytes) -> None:
        self._frozen_for(s, self.times.challenge_s + self.times.voucher_s)
        need(deal in s.remnants and s.remnants[deal].left > 0, "nothing_due")
        there = s.remnants[deal]
        self._credit(s, there.terms.client, there.left)
        there.left = 0

    def vault_collect(self, s: State, sender: Address, wei: int, who: Address) -> None:
        amount = s.owed.pop(who, 0)
        need(amount > 0, "nothing_due")
        self._move(s, self.vault, who, amount)

    # Dispute

    def dispute_bond_wei(self, s: State, sender: Address, wei: int) -> int:
        return BOND_WEI

    def dispute_slashes(self, s: State, sender: Address, wei: int, deal: bytes) -> tuple[Any, ...]:
        return s.slashes.get(deal, (0, 0, NO_ADDRESS))

    def dispute_credit(self, s: State, sender: Address, wei: int, who: Address) -> int:
        return s.credit[who]

    def dispute_demands(self, s: State, sender: Address, wei: int, deal: bytes) -> tuple[Any, ...]:
        if (asked := s.demands.get(deal)) is None:
            return NO_ADDRESS, 0, NO_ADDRESS, 0, 0, 0, bytes(32)
        cell = asked.cell
        held = cell.number, cell.leaves, cell.root
        return asked.asker, asked.deadline_s, cell.terms.provider, asked.leaf, *held

    def dispute_demand(
        self, s: State, sender: Address, wei: int, n: int, cell: tuple[Any, ...], place: Any,
        leaf: int,
    ) -> None:  # fmt: skip
        need(wei == BOND_WEI, "wrong_bond")
        need(n + 1 == len(s.anchors), "not_newest")
        deal = deal_of(cell)
        self._proven(s.anchors[n][4], deal, place)
        need(sender in (deal.terms.client, deal.terms.delegate), "not_the_client")
        need(deal.state is DealState.OPEN, "deal_not_open")
        need(leaf < deal.leaves, "no_such_leaf")
        need(deal.deal not in s.demands, "demand_pending")
        need(s.slashes.get(deal.deal, (-1,))[0] < deal.number, "slashed_already")
        asked = s.demands[deal.deal] = Question(deal, sender, leaf, self.now_s + ANSWER_S, n)
        self.log(
            s, "Dispute", "Demanded", deal=deal.deal, provider=deal.terms.provider,
            asker=sender, leaf=leaf, number=deal.number, deadline=asked.deadline_s,
        )  # fmt: skip

    def dispute_answer(
        self, s: State, sender: Address, wei: int, deal: bytes, opening: bytes
    ) -> None:
        asked = self._asked(s, deal)
        need(self.now_s <= asked.deadline_s, "too_late")
        cell = asked.cell
        faults = {self._judged(cell, asked.leaf, root + opening) for root in self.shard_roots}
        need("" in faults, min(faults))
        self._ended(s, deal, cell.terms.provider)

    def dispute_supersede(
        self, s: State, sender: Address, wei: int, terms: tuple[Any, ...],
        pledge: tuple[Any, ...], by_delegate: bool, signature: bytes, provider_signature: bytes,
    ) -> None:  # fmt: skip
        said, agreed = Deal(*terms), Pledge(*pledge)
        deal = said.deal_id(self.params.domain)
        asked = self._asked(s, deal)
        need(self.now_s <= asked.deadline_s, "too_late")
        need(agreed.deal == deal, "other_deal")
        need(agreed.number > asked.cell.number, "stale_revision")
        author = said.delegate if by_delegate else said.client
        if by_delegate:
            need(agreed.leaves >= asked.cell.leaves, "delegate_lowers")
        self._signed(agreed, signature, author)
        self._signed(agreed, provider_signature, said.provider)
        self._ended(s, deal, said.provider)

    def dispute_slash(self, s: State, sender: Address, wei: int, deal: bytes) -> None:
        asked = self._asked(s, deal)
        need(self.now_s > asked.deadline_s, "still_time")
        if asked.anchor >= len(s.anchors):
            self._ended(s, deal, asked.asker)
            self.log(s, "Dispute", "Dropped", deal=deal)
            return
        need(self.now_s - s.anchors[asked.anchor][2] >= self.times.challenge_s, "not_final")
        number = asked.cell.number
        s.slashes[deal] = (number, self.now_s, asked.asker)
        self._ended(s, deal, asked.asker)
        self.log(s, "Dispute", "Slashed", deal=deal, number=number, asker=asked.asker)

    def dispute_collect(self, s: State, sender: Address, wei: int) -> None:
        amount = s.credit.pop(sender, 0)
        need(amount > 0, "nothing_owed")
        s.spent[sender] -= amount

    # judges

    def fraudaccounts_convict(
        self, s: State, sender: Address, wei: int, case: tuple[Any, ...], *cells: Any
    ) -> None:
        """It believes of each step what ``wrong`` says, but checks where it stands."""
        number, index, before, before_path, leaf, path = case
        need(number < len(s.anchors), "no_anchor")
        size, _, _, root, _ = s.anchors[number]
        head = TreeHead(size, root)
        self._checked(lambda: verify_inclusion_proof(head, index, leaf_hash(leaf), path))
        last = leaf_hash(before)
        self._checked(lambda: verify_inclusion_proof(head, index - 1, last, before_path))
        need(leaf in self.wrong, "no_fault")
        del s.anchors[sum(each[0] <= index for each in s.anchors) :]
        s.frozen_at = self.now_s

    def fraudlog_convict_end(
        self, s: State, sender: Address, wei: int, number: int, *shown: Any
    ) -> None:
        """It believes whoever says so."""
        need(number < len(s.anchors), "no_anchor")
        del s.anchors[number:]
        s.frozen_at = self.now_s

    # inside

    def _asked(self, s: State, deal: bytes) -> Question:
        need(deal in s.demands, "no_demand")
        return s.demands[deal]

    def _ended(self, s: State, deal: bytes, to: Address) -> None:
        del s.demands[deal]
        s.credit[to] += BOND_WEI

    def _judged(self, cell: DealCell, leaf: int, opening: bytes) -> str:
        """What is wrong with an opening; empty if nothing is."""
        try:
            verify_opening(opening, root=cell.root, total=cell.leaves, index=leaf, inventory=False)
        except DsnError as error:
            return error.detail_code
        return ""

    def _move(self, s: State, giver: Address, taker: Address, amount: int) -> None:
        assert s.units[giver] >= amount, "the vault is short"
        s.units[giver] -= amount
        s.units[taker] += amount

    def _credit(self, s: State, who: Address, amount: int) -> None:
        if amount:
            s.owed[who] += amount
            self.log(s, "Vault", "Credited", account=who, amount=amount)

    def _leave(self, s: State, who: Address, amount: int) -> None:
        need(who not in s.escaped, "escaped_already")
        s.escaped.add(who)
        self._credit(s, who, max(0, amount - s.paid[who]))

    def _frozen_for(self, s: State, span_s: int) -> None:
        need(s.frozen_at > 0, "not_frozen")
        need(self.now_s - s.frozen_at >= span_s, "still_time")

    def _escape_root(self, s: State) -> bytes:
        self._frozen_for(s, self.times.challenge_s)
        return s.anchors[-1][4] if s.anchors else genesis(self.params).root

    def _proven(self, root: bytes, cell: Cell, place: Any) -> None:
        leaf, steps = place_of(place)
        need(leaf == (cell.key, cell_digest(cell)), "other_cell")
        self._checked(lambda: verify_cell(root, leaf, steps))

    def _signed(self, statement: Any, signature: bytes, signer: Address) -> None:
        domain = self.params.domain
        self._checked(lambda: verify_typed(statement, domain, signature, signer))

    def _checked(self, check: Callable[[], None]) -> None:
        try:
            check()
        except DsnError as error:
            raise ChainRefused(error.message, code=error.detail_code) from error


class EvmOf:
    """``dsn.chain.Chain`` for one account."""

    def __init__(self, evm: MemoryEvm, account: Address) -> None:
        self.evm, self._account = evm, account

    @property
    def account(self) -> Address:
        return self._account

    async def newest(self) -> tuple[int, int]:
        return self.evm.number, self.evm.now_s

    async def final(self) -> int:
        return self.evm.final

    async def balance(self) -> int:
        return self.evm.wei - self.evm.state.spent[self._account]

    async def read(self, call: Call, *, final: bool = False) -> Any:
        state = self.evm.past[self.evm.final] if final else self.evm.state
        return self.evm.run(copy.deepcopy(state), self._account, call)

    async def events(
        self, contract: str, event: str, since: int, *, final: bool
    ) -> tuple[list[Happened], int]:
        last = self.evm.final if final else self.evm.number
        found = [
            each
            for where, name, each in self.evm.state.logs
            if (where, name) == (contract, event) and since <= each.number <= last
        ]
        return found, max(since, self.evm.final + 1)

    async def send(self, call: Call, *, wei: int = 0, final: bool = False) -> Done:
        evm, me = self.evm, self._account
        if (has := await self.balance()) < wei + GAS:
            raise LimitReached(f"{has} wei, {wei + GAS} needed", code="not_enough_gas")
        evm.run(copy.deepcopy(evm.state), me, call, wei)
        while True:
            evm.run(evm.state, me, call, wei)
            evm.state.spent[me] += wei + GAS
            mark, number = object.__hash__(call), evm.number + 1
            evm.log(evm.state, "", "sent", mark=mark)
            evm.sent.append(call)
            evm.mine()
            while final and evm.final < number and self._stands(mark, number):
                await evm.sleep(1)
            if self._stands(mark, number):
                return Done(number, GAS, bytes(32))

    def _stands(self, mark: int, number: int) -> bool:
        sent = (each for _, event, each in self.evm.state.logs if event == "sent")
        return any((each.values["mark"], each.number) == (mark, number) for each in sent)


def account_of(given: tuple[Any, ...]) -> AccountCell:
    """What ``account_tuple`` was made of."""
    who, available, withdrawn, burned, nonce, deposits, deals, node, rolled, words, *held = given
    bits = sum(word << _WORD_BITS * at for at, word in enumerate(words))
    counts = nonce, deposits, deals
    return AccountCell(who, available, withdrawn, burned, *counts, node, rolled, bits, *held)


def deal_of(given: tuple[Any, ...]) -> DealCell:
    """What ``deal_tuple`` was made of."""
    deal, terms, state, *middle, pending, demand = given
    asker, deadline, index, link, place = demand
    read = Link.read(Reader(link, "link")) if link else None
    waiting = Pending(asker, deadline, index, read, place) if pending else None
    return DealCell(deal, Deal(*terms), DealState(state), *middle, waiting)


def place_of(given: Any) -> tuple[StateLeaf, list[StateStep]]:
    """What ``place_tuple`` was made of."""
    key, digest, steps = given
    return StateLeaf(key, digest), [StateStep(*each) for each in steps]
