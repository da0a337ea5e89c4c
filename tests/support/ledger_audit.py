"""What must hold of every entry that a ledger takes, computed without the ledger's own rules."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from dsn.ids import DealId
from dsn.ledger import bodies, disputes
from dsn.ledger.cells import AccountCell, Cell, CellKind, DealCell, DealState, cell_digest
from dsn.ledger.entry import Entry
from dsn.ledger.radix import StateLeaf, StateTree
from dsn.ledger.settlement import Address
from dsn.ledger.state import Changes, State
from dsn.proofs.inventory import SumTree, inventory_leaf
from tests.support.ledger_world import World, holdings, locked, money

SLASHES = (
    disputes.SlashWrong,
    disputes.SlashMissed,
    disputes.SlashUnserved,
    disputes.SlashJudged,
)
RISING = (
    "number settled leaf_epochs missed disk_paid voucher_paid delegate_paid burned serial ended "
    "state"
).split()


@dataclass
class Audit:
    """Watches a world entry by entry.

    ``proven`` is the oracle: at every link, each deal that runs earns its leaves in the inventory
    that the link is over, less what was taken out since. ``locked_in`` is what clients signed
    away, by deal.
    """

    world: World
    proven: Counter[DealId] = field(default_factory=Counter)
    locked_in: Counter[DealId] = field(default_factory=Counter)
    bandwidth_in: Counter[DealId] = field(default_factory=Counter)
    slashed: set[DealId] = field(default_factory=set)

    def watch(self, before: State, entry: Entry, changes: Changes) -> None:
        """Check one accepted entry; ``before`` is the state it was validated against."""
        after = self.world.state
        pairs = [(_was(before, cell), cell) for cell in changes.cells]
        counted = [pair for pair in pairs if pair[1].kind is not CellKind.NETWORK]
        most = 5 if isinstance(entry.body, disputes.SlashJudged) else 4
        assert len(counted) <= most, f"{entry.body.kind.name} touched {len(counted)} cells"
        self._check_conservation(entry, pairs)
        self._learn(before, entry)
        for old, new in pairs:
            if isinstance(new, DealCell):
                self._check_deal(old if isinstance(old, DealCell) else None, new)
        self._check_debits(before, after, entry, pairs)

    def _check_conservation(self, entry: Entry, pairs: list[tuple[Cell | None, Cell]]) -> None:
        rise = money(new for _, new in pairs) - money(old for old, _ in pairs if old)
        body = entry.body
        assert rise == (body.amount if isinstance(body, bodies.Deposit) else 0)

    def _learn(self, before: State, entry: Entry) -> None:
        """What was signed, and what was proven."""
        match entry.body:
            case bodies.Open(agreed=agreed):
                deal = agreed.statement.deal_id(self.world.params.domain)
                self.locked_in[deal] += agreed.statement.disk_escrow
                self.bandwidth_in[deal] += agreed.statement.bandwidth_escrow
            case bodies.TopUp() as top_up:
                self.locked_in[top_up.deal] += top_up.disk
                self.bandwidth_in[top_up.deal] += top_up.bandwidth
            case bodies.SubmitLink(link=link):
                for deal_id, _, numbers in self.world.known[link.root]:
                    cell, asked = self.world.deal(deal_id), holdings(numbers).tree.total
                    assert cell.terms.provider == entry.signer
                    if cell.state is DealState.OPEN and link.epoch <= cell.end + cell.grace:
                        self.proven[deal_id] += min(asked, cell.leaves)
            case (
                disputes.SlashWrong()
                | disputes.SlashMissed()
                | disputes.SlashUnserved()
                | disputes.SlashJudged()
            ) as body:
                assert body.deal not in self.slashed
                self.slashed.add(body.deal)

    def _check_deal(self, old: DealCell | None, new: DealCell) -> None:
        """Never twice, never more than was locked, never for more than was proven."""
        due = new.terms.disk_price * self.proven[new.deal] // (1 << 20)
        assert new.disk_paid <= due
        if new.state is DealState.ENDED and old is not None and old.state is DealState.OPEN:
            assert new.disk_paid == due, "all that was proven is paid in the end"
        if new.state is DealState.OPEN:
            assert new.disk_paid + new.disk_escrow == self.locked_in[new.deal]
            spent = new.voucher_paid + new.delegate_paid
            assert spent + new.bandwidth_escrow == self.bandwidth_in[new.deal]
        if new.state is DealState.CLOSED:
            assert locked(new) == 0
        assert new.delegate_paid <= new.terms.delegate_credits
        assert (new.demand is None) == (new.bond == 0)
        if old is not None:
            for name in RISING:
                assert getattr(old, name) <= getattr(new, name), name

    def _check_debits(
        self, before: State, after: State, entry: Entry, pairs: list[tuple[Cell | None, Cell]]
    ) -> None:
        """Nobody but the signer loses anything that it did not sign away before."""
        deals = [(old, new) for old, new in pairs if isinstance(new, DealCell)]
        concerned = {new.address for _, new in pairs if isinstance(new, AccountCell)}
        for _, deal in deals:
            concerned |= {deal.terms.client, deal.terms.provider}
        for address in concerned - {entry.signer}:
            fall = self._wealth(before, address, pairs, 0) - self._wealth(after, address, pairs, 1)
            if fall > 0:
                assert fall <= _signed_away(address, entry, deals), f"{address.hex()} lost {fall}"

    def _wealth(
        self, state: State, address: Address, pairs: list[tuple[Cell | None, Cell]], side: int
    ) -> int:
        """What is an account's own: in it, or reserved for it in the deals that changed."""
        account = state.account(address)
        wealth = account.available + account.withdrawn
        for pair in pairs:
            deal = pair[side]
            if isinstance(deal, DealCell):
                if deal.terms.client == address:
                    wealth += deal.disk_escrow + deal.bandwidth_escrow + deal.refund
                if deal.terms.provider == address:
                    wealth += deal.collateral
                if deal.demand is not None and deal.demand.asker == address:
                    wealth += deal.bond
        return wealth

    def check_all(self) -> None:
        """What holds of the state as a whole."""
        state, world = self.world.state, self.world
        allocated = sum(amount for _, amount in world.params.allocation)
        assert money(state.cells.values()) == allocated + world.deposited
        leaves = [StateLeaf(cell.key, cell_digest(cell)) for cell in state.cells.values()]
        assert StateTree.build(leaves).root == state.root
        deals = world.deals()
        for account in [c for c in state.cells.values() if isinstance(c, AccountCell)]:
            mine = [d for d in deals if account.address in (d.terms.client, d.terms.provider)]
            assert account.deals == sum(deal.state is not DealState.CLOSED for deal in mine)
            live = [
                (d.deal, inventory_leaf(d.deal, d.number, d.root, d.leaves), d.leaves)
                for d in mine
                if d.terms.provider == account.address and d.state is DealState.OPEN and d.leaves
            ]
            tree = SumTree.build(live)
            assert (account.live, account.live_leaves) == (tree.root, tree.total)


def _was(state: State, cell: Cell) -> Cell | None:
    return state.cells.get(cell.key)


def _signed_away(address: Address, entry: Entry, deals: list[tuple[Cell | None, Cell]]) -> int:
    """What ``address`` may lose by another's entry: each case rests on its own signature."""
    most = 0
    for old, new in deals:
        assert isinstance(new, DealCell)
        if not isinstance(old, DealCell):
            continue
        if new.terms.client == address:  # the deal, and vouchers
            most += new.disk_paid - old.disk_paid
            most += new.voucher_paid + new.delegate_paid - old.voucher_paid - old.delegate_paid
        if new.terms.provider == address and isinstance(entry.body, SLASHES):
            most += old.collateral + new.disk_paid - old.disk_paid
        if old.demand is not None and old.demand.asker == address:
            served = getattr(entry.body, "service", None)
            most += old.bond if isinstance(served, disputes.ServedOpening) else 0
    return most
