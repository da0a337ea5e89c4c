"""A small economy under one ledger: parties with keys, data behind every root, a real log.

Entries go through the same rules as anywhere. With ``signed=False`` a world hands them to
``check_rules`` as entries whose signatures were judged elsewhere, which is ten times as fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from dsn.core.keys import SigningKey
from dsn.errors import DsnError
from dsn.ids import DealId, NetworkId
from dsn.ledger.binding import KeyBinding, SignedBinding, sign_binding
from dsn.ledger.bodies import (
    Agreed,
    Bind,
    Claim,
    Deposit,
    Loss,
    Open,
    OpenEpoch,
    Salt,
    ShutEpoch,
    SignedPledge,
    SignedVoucher,
    SubmitLink,
)
from dsn.ledger.cells import AccountCell, Cell, CellKind, DealCell, Phase
from dsn.ledger.deal import Deal
from dsn.ledger.disputes import DrawnOpening, ServedOpening, ShardLost
from dsn.ledger.entry import Body, Entry, SignedEntry, sign_entry
from dsn.ledger.log import Frontier, LogLeaf, Subtree, TreeHead, build_inclusion_proof, leaf_hash
from dsn.ledger.params import LedgerParams, check_params
from dsn.ledger.pledge import Pledge
from dsn.ledger.rules.moves import apply, check_rules, step
from dsn.ledger.rules.signatures import salt_preimage
from dsn.ledger.settlement import NO_ADDRESS, Address, SettlementKey
from dsn.ledger.state import Changes, State, genesis
from dsn.ledger.typed import Domain, Statement, sign_typed
from dsn.ledger.voucher import Voucher
from dsn.proofs.beacon import next_value
from dsn.proofs.deletion import build_deletion_proof
from dsn.proofs.por import answer_root
from dsn.proofs.post import (
    Link,
    beacon_hash,
    build_answer_path,
    drawn_indices,
    leaves_asked,
)
from tests.support.proof_world import Holdings, Inventory, Shard
from tests.vectors.core_vectors import data

S = TypeVar("S", bound=Statement)
GIB = 1 << 20
NETWORK = NetworkId(b"\x33" * 32)
DOMAIN = Domain(NETWORK, 31_337, NO_ADDRESS)
NAMES = "operator alice bob paul petra dora sam".split()
"""Alice and Bob are clients, Paul and Petra providers, Dora is a delegate, Sam a stranger."""
KEYS = {name: SettlementKey(bytes([n + 1]) * 32) for n, name in enumerate(NAMES)}
IDENTITIES = {name: SigningKey(bytes([n + 101]) * 32) for n, name in enumerate(NAMES)}
WITNESSES = [SigningKey(bytes([n + 201]) * 32) for n in range(3)]
COSIGNERS = [SettlementKey(bytes([n + 231]) * 32) for n in range(3)]
"""What the witnesses sign with for a chain."""
BY_ADDRESS = {key.address: name for name, key in KEYS.items()}
START = 1_000_000
NO_SIGNATURE = bytes(65)
PARAMS = LedgerParams(
    DOMAIN,
    KEYS["operator"].address,
    witnesses=frozenset(key.public for key in WITNESSES),
    quorum=2,
    entry_fee=3,
    burn_ppm=10_000,
    min_disk_price=5,
    min_repair_price=7,
    min_collateral_ppm=11,
    max_free_leaves=100,
    min_dispute=2,
    min_bond=10,
    max_term=100,
    demand_epochs=3,
    vdf_iterations=1,
    vdf_bits=256,
    allocation=tuple((KEYS[name].address, START) for name in NAMES if name != "operator"),
)
check_params(PARAMS)
CHAIN_PARAMS = replace(
    PARAMS,
    domain=Domain(NETWORK, 31_337, Address(b"\x44" * 20)),
    cosigners=frozenset(key.address for key in COSIGNERS),
    allocation=(),
)
"""The same where all comes from a vault: see ``World.fund``."""
check_params(CHAIN_PARAMS)


@cache
def shard(number: int) -> Shard:
    """One of a few shards, of 1 to 4 leaves."""
    return Shard(data(f"ledger.{number}", 1_024 * (number % 4) + 1 + 97 * number))


@cache
def holdings(numbers: tuple[int, ...]) -> Holdings:
    return Holdings([shard(number) for number in numbers])


@cache
def inventory(deals: tuple[tuple[DealId, int, tuple[int, ...]], ...]) -> Inventory:
    return Inventory([(deal, number, holdings(shards)) for deal, number, shards in deals])


@cache
def openings(deals: Inventory, drawn: tuple[int, ...]) -> tuple[bytes, ...]:
    return tuple(deals.opening(index) for index in drawn)


Inventory.__hash__ = object.__hash__  # type: ignore[method-assign]


def address(name: str) -> Address:
    return KEYS[name].address


def terms(**changes: Any) -> Deal:
    """A deal between Alice and Paul, with Dora as delegate; ``changes`` by field."""
    usual = Deal(
        address("alice"),
        address("paul"),
        disk_price=3 * GIB + 7,
        ingress_price=1,
        egress_price=1,
        repair_price=40 * GIB + 1,
        open_by=50,
        end=20,
        grace=3,
        notice=2,
        miss_limit=6,
        dispute=5,
        disk_escrow=5_000,
        bandwidth_escrow=1_000,
        collateral_ppm=1_500_000,
        free_leaves=2,
        delegate=address("dora"),
        delegate_credits=200,
        delegate_leaves=12,
        salt=bytes(32),
    )
    return replace(usual, **changes)


class World:
    """A state, the log behind it, and what the parties need to know to move."""

    def __init__(self, params: LedgerParams = PARAMS, *, signed: bool = False) -> None:
        self.params, self.signed = params, signed
        self.state: State = genesis(params)
        self.leaves: list[LogLeaf] = []
        self.nodes: dict[Subtree, bytes] = {}
        self.frontier = Frontier()
        self.shut_head = TreeHead(0, params.domain.network)
        self.deposited = 0
        self.shards: dict[tuple[DealId, int], tuple[int, ...]] = {}
        self.known: dict[bytes, tuple[tuple[DealId, int, tuple[int, ...]], ...]] = {}
        self.values: dict[int, bytes] = {}
        self.answers: dict[tuple[str, int], tuple[int, Link, Inventory, tuple[bytes, ...]]] = {}

    @property
    def epoch(self) -> int:
        return self.state.network.epoch

    def deal(self, deal: DealId) -> DealCell:
        cell = self.state.cell(CellKind.DEAL, deal)
        assert isinstance(cell, DealCell)
        return cell

    def account(self, name: str) -> AccountCell:
        return self.state.account(address(name))

    def deals(self) -> list[DealCell]:
        return [cell for cell in self.state.cells.values() if isinstance(cell, DealCell)]

    def entry(self, name: str, body: Body, nonce: int = 0) -> Entry:
        nonce = nonce or self.account(name).nonce + 1
        return Entry(self.params.domain.network, address(name), nonce, body)

    def submit(self, entry: Entry, signature: bytes = b"") -> Changes:
        """Validate and apply; the log grows by one leaf."""
        if self.signed:
            key = KEYS[BY_ADDRESS[entry.signer]]
            signed = sign_entry(entry, self.params.domain, key)
            signed = SignedEntry(entry, signature or signed.signature)
            self.state, changes = step(self.state, signed, lambda before, body: None)
            signature = signed.signature
        else:
            check_rules(self.state, entry)
            self.state, changes = apply(self.state, entry)
        self.add(LogLeaf(entry.encode(), signature or NO_SIGNATURE, self.state.root))
        self._remember(changes)
        return changes

    def add(self, leaf: LogLeaf) -> None:
        """Put ``leaf`` into the log, whether any rule allowed it or not."""
        self.leaves.append(leaf)
        self.frontier, nodes = self.frontier.extend([leaf_hash(leaf.encode())])
        self.nodes |= nodes

    def _remember(self, changes: Changes) -> None:
        for provider, tree in changes.inventories.items():
            deals = (self.deal(DealId(key)) for key, _ in tree)
            self.known[tree.root] = tuple(
                (deal.deal, deal.number, self.shards[deal.deal, deal.number]) for deal in deals
            )
            assert self.state.account(provider).live == tree.root

    def do(self, name: str, body: Body) -> Changes:
        return self.submit(self.entry(name, body))

    def code(self, name: str, body: Body) -> str:
        """The code that ``body`` by ``name`` is refused with now; empty if it is not."""
        return self.entry_code(self.entry(name, body))

    def entry_code(self, entry: Entry) -> str:
        try:
            check_rules(self.state, entry)
        except DsnError as error:
            return error.detail_code
        return ""

    def sign(self, statement: Statement, name: str) -> bytes:
        if not self.signed:
            return NO_SIGNATURE
        return sign_typed(statement, self.params.domain, KEYS[name])

    def agreed(self, statement: S, deal: Deal) -> Agreed[S]:
        client, provider = BY_ADDRESS[deal.client], BY_ADDRESS[deal.provider]
        return Agreed(statement, self.sign(statement, client), self.sign(statement, provider))

    def fund(self) -> None:
        """Enter what everybody but the operator put into the vault: as much as at genesis."""
        for name in NAMES[1:]:
            self.deposited += START
            account = self.account(name)
            self.do("operator", Deposit(account.address, START, account.deposits + 1))

    # time

    def open_epoch(self) -> None:
        epoch = self.epoch
        value, evidence = self.beacon(epoch)
        self.do(
            "operator",
            OpenEpoch(epoch, self.shut_head, self.values.setdefault(epoch, value), evidence),
        )

    def beacon(self, epoch: int) -> tuple[bytes, bytes]:
        """What opens ``epoch``; squared for only where signatures count too."""
        if not self.signed:
            return data(f"beacon.{epoch}", 32), b""
        params = self.params
        return next_value(
            params.domain.network,
            epoch,
            self.shut_head.root,
            iterations=params.vdf_iterations,
            bits=params.vdf_bits,
        )

    def shut_epoch(self) -> None:
        epoch, salts = self.epoch, []
        for key in WITNESSES[:2] if self.params.quorum else []:
            salt = data(f"salt.{epoch}", 32)
            preimage = salt_preimage(self.params.domain.network, epoch, salt)
            signature = key.sign(preimage) if self.signed else bytes(64)
            salts.append(Salt(key.public, salt, signature))
        self.do("operator", ShutEpoch(epoch, tuple(salts)))
        self.shut_head = self.frontier.head

    def pass_epochs(self, count: int, *linkers: str) -> None:
        """Shut this epoch and the next ones, ``count`` in all, each with links by ``linkers``."""
        for _ in range(count):
            if self.state.network.phase is Phase.SHUT:
                self.open_epoch()
            for name in linkers:
                if self.can_link(name):
                    self.link(name)
            self.shut_epoch()
        self.open_epoch()

    # parties

    def binding(self, name: str, serial: int = 1, identity: str = "") -> SignedBinding:
        key = IDENTITIES[identity or name]
        binding = KeyBinding(key.public, address(name), self.params.domain.network, 0, serial)
        if not self.signed:
            return SignedBinding(binding, bytes(64), NO_SIGNATURE)
        return sign_binding(binding, self.params.domain, key.sign, KEYS[name])

    def bind(self, *names: str) -> None:
        for name in names:
            self.do(name, Bind(self.binding(name)))

    def open(self, deal: Deal) -> DealId:
        self.do(BY_ADDRESS[deal.client], Open(self.agreed(deal, deal)))
        deal_id = deal.deal_id(self.params.domain)
        self.shards[deal_id, 0] = ()
        return deal_id

    def pledge(
        self, deal: DealId, numbers: Sequence[int], *, number: int = 0, by_delegate: bool = False
    ) -> SignedPledge:
        """A revision of ``deal`` over the shards ``numbers``, signed by both."""
        cell, held = self.deal(deal), holdings(tuple(sorted(numbers)))
        number = number or cell.number + 1
        tree = held.tree
        pledge = Pledge(deal, number, tree.count, tree.total, tree.root)
        self.shards[deal, number] = tuple(sorted(numbers))
        author = BY_ADDRESS[cell.terms.delegate if by_delegate else cell.terms.client]
        provider = BY_ADDRESS[cell.terms.provider]
        return SignedPledge(
            pledge, by_delegate, self.sign(pledge, author), self.sign(pledge, provider)
        )

    def voucher(self, deal: DealId, credits: int, *, by_delegate: bool = False) -> SignedVoucher:
        cell, voucher = self.deal(deal), Voucher(deal, credits)
        author = cell.terms.delegate if by_delegate else cell.terms.client
        signer = BY_ADDRESS[author if author != NO_ADDRESS else cell.terms.client]
        return SignedVoucher(voucher, by_delegate, self.sign(voucher, signer))

    def hold(self, deal: DealId, *numbers: int) -> None:
        """The provider claims with a revision over the shards ``numbers``."""
        provider = BY_ADDRESS[self.deal(deal).terms.provider]
        self.do(provider, Claim(deal, self.pledge(deal, numbers), None))

    def held(self, deal: DealId) -> tuple[int, ...]:
        """The shards of the installed revision."""
        return self.shards[deal, self.deal(deal).number]

    # proofs

    def frozen(self, name: str) -> bytes:
        """The root that this epoch asks ``name`` about."""
        account = self.account(name)
        return account.frozen if account.rolled == self.epoch else account.live

    def can_link(self, name: str) -> bool:
        account = self.account(name)
        linked = account.rolled == self.epoch and account.proven(self.epoch)
        return any(self.frozen(name)) and not linked

    def answer(self, name: str) -> tuple[Link, Inventory, tuple[int, ...], tuple[bytes, ...]]:
        """What an honest provider answers this epoch with."""
        root, node = self.frozen(name), self.account(name).node
        held = inventory(self.known[root])
        total, beacon = held.tree.total, self.values[self.epoch]
        empty = Link(self.epoch, beacon_hash(beacon), root, total, leaves_asked(total), b"")
        drawn = drawn_indices(empty, beacon, network=self.params.domain.network, node=node)
        opened = openings(held, tuple(drawn))
        return replace(empty, answer_root=answer_root(opened)), held, tuple(drawn), opened

    def link(self, name: str, wrong: int | None = None) -> tuple[Changes, Entry]:
        """Link this epoch, with one byte of opening ``wrong`` changed if there is one."""
        link, held, _, opened = self.answer(name)
        if wrong is not None:
            wrong %= len(opened)
            bad = opened[wrong][:-1] + bytes([opened[wrong][-1] ^ 1])
            opened = (*opened[:wrong], bad, *opened[wrong + 1 :])
            link = replace(link, answer_root=answer_root(opened))
        entry = self.entry(name, SubmitLink(link))
        changes = self.submit(entry)
        self.answers[name, self.epoch] = (len(self.leaves) - 1, link, held, opened)
        return changes, entry

    def drawn(self, name: str, epoch: int, place: int) -> tuple[DrawnOpening, DealId]:
        """Opening ``place`` of a link in the closed log, and the deal that it falls in."""
        index, closed = self.answers[name, epoch][0], self.state.network.closed
        bracket, deal = self.bracket(name, epoch, place)
        path = build_inclusion_proof(self.nodes.__getitem__, index, closed.size)
        beacon = self.values[epoch]
        return DrawnOpening(self.leaves[index], index, tuple(path), beacon, place, bracket), deal

    def bracket(self, name: str, epoch: int, place: int) -> tuple[bytes, DealId]:
        """The way to the deal that opening ``place`` of a link falls in, and the deal."""
        _, link, held, _ = self.answers[name, epoch]
        node, beacon = self.account(name).node, self.values[epoch]
        leaf = drawn_indices(link, beacon, network=self.params.domain.network, node=node)[place]
        at = held.tree.locate(leaf)
        entry = held.entries[at.key]
        bracket = entry.deal + entry.number.to_bytes(8, "big") + entry.holdings_root
        bracket += entry.leaves.to_bytes(8, "big")
        bracket += b"".join(left.to_bytes(8, "big") + beside for left, beside in at.steps)
        return bracket, DealId(at.key)

    def served(self, name: str, epoch: int, place: int) -> ServedOpening:
        """What ``name`` answered with at ``place``."""
        _, _, _, opened = self.answers[name, epoch]
        return ServedOpening(opened[place], tuple(build_answer_path(opened, place)))

    def service(self, deal: DealId) -> ServedOpening:
        """The honest answer to the demand that is pending on ``deal``."""
        cell = self.deal(deal)
        assert cell.demand is not None
        if cell.demand.link is not None:
            name = BY_ADDRESS[cell.terms.provider]
            return self.served(name, cell.demand.link.epoch, cell.demand.place)
        return ServedOpening(holdings(self.held(deal)).opening(cell.demand.index), ())

    def loss(self, deal: DealId, *lost: int, number: int = 0) -> Loss:
        """A loss of the shards ``lost``, numbered as the next revision unless ``number`` is."""
        rest, proofs = list(self.held(deal)), []
        for each in lost:
            tree = holdings(tuple(rest)).tree
            proofs.append(build_deletion_proof(tree, shard(each).commit))
            rest.remove(each)
        number = number or self.deal(deal).number + 1
        self.shards[deal, number] = tuple(rest)
        return Loss(deal, number, tuple(proofs))

    def demanded(self, deal: DealId) -> int:
        """Which shard the demanded leaf of ``deal`` is in."""
        demand = self.deal(deal).demand
        assert demand is not None
        at = holdings(self.held(deal)).tree.locate(demand.index)
        return next(n for n in self.held(deal) if shard(n).commit == at.key)

    def shard_lost(self, deal: DealId, number: int = 0) -> ShardLost:
        """Service by loss of the shard that the demanded leaf is in."""
        body = self.loss(deal, self.demanded(deal), number=number)
        return ShardLost(body.number, body.deletions[0])


def locked(deal: DealCell) -> int:
    """What is in a deal and not burned."""
    return deal.disk_escrow + deal.bandwidth_escrow + deal.collateral + deal.refund + deal.bond


def money(cells: Iterable[Cell]) -> int:
    """All base units that ``cells`` account for."""
    total = 0
    for cell in cells:
        match cell:
            case AccountCell():
                total += cell.available + cell.burned + cell.withdrawn
            case DealCell():
                total += locked(cell) + cell.burned
    return total
