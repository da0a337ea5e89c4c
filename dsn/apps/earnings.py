"""What a provider has earned: by the ledger's cells, and split by what its node counted.

Disk is paid for epochs that were proven, bandwidth by vouchers. The ledger pays when a deal is
claimed: what was proven or promised since then is unclaimed, and counts as such.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from dsn.ids import DealId, NodeId, format_node_id
from dsn.ledger.bandwidth import egress_due, ingress_due
from dsn.ledger.cells import KEPT_BITS, AccountCell, DealCell, DealState
from dsn.ledger.money import burned_of
from dsn.ledger.rules.settling import Parties, settle
from dsn.ports import Clock
from dsn.store.deals import DealStore, StoredDeal, StoredTab

DAY_S: Final = 86_400
SAMPLE_S: Final = 3_600
"""How often what was earned is noted, for the forecast."""


@dataclass(frozen=True, slots=True)
class Earned:
    """What one deal brought, in credits; ``total`` is settled on the ledger.

    Attributes:
        disk: For proven epochs; what is burned of it is taken off.
        ingress: Of the redeemed vouchers, the part for bytes stored.
        egress: The part for bytes read.
        slashed: Lost as a penalty, of what ``total`` would be.
        unclaimed: For epochs that are not settled yet, and by vouchers that were not redeemed.
    """

    disk: int = 0
    ingress: int = 0
    egress: int = 0
    slashed: int = 0
    unclaimed: int = 0

    @property
    def total(self) -> int:
        """What the ledger has settled."""
        return self.disk + self.ingress + self.egress - self.slashed

    def __add__(self, other: Earned) -> Earned:
        """Of both."""
        return Earned(
            self.disk + other.disk,
            self.ingress + other.ingress,
            self.egress + other.egress,
            self.slashed + other.slashed,
            self.unclaimed + other.unclaimed,
        )


class Row(NamedTuple):
    """One deal on the screen."""

    deal: DealId
    client: NodeId
    state: str
    end: int
    earned: Earned


@dataclass(frozen=True, slots=True)
class Earnings:
    """All deals of a provider; ``forecast`` is what ``total`` will be when the month ends."""

    rows: tuple[Row, ...]
    sum: Earned
    epochs_proven: int
    epochs_missed: int
    forecast: int

    def fields(self) -> dict[str, Any]:
        """What ``--json`` prints: credits as decimal strings."""
        parts = {name: str(value) for name, value in asdict(self.sum).items()}
        unclaimed = parts.pop("unclaimed")
        return {
            "epochs_proven": self.epochs_proven,
            "epochs_missed": self.epochs_missed,
            **parts,
            "relay": "0",
            "total": str(self.sum.total),
            "unclaimed": unclaimed,
            "forecast": str(self.forecast),
            "deals": [_row_fields(row) for row in self.rows],
        }


class Proofs(NamedTuple):
    """How a node did in the last 720 epochs; the one that is under way counts once it is proven.

    Attributes:
        proven: Epochs with a link.
        missed: Epochs that asked for something and got none.
        last: The newest epoch with a link, or 0.
    """

    proven: int
    missed: int
    last: int


def count_proofs(account: AccountCell, links: Collection[int]) -> Proofs:
    """Count an account's epochs.

    A bit that is set says that the epoch was proven or asked for nothing; one that is not, that
    it was missed.

    Args:
        account: The provider's, rolled to the network's epoch.
        links: The epochs that its home knows a link of.
    """
    first = max(1, account.rolled - KEPT_BITS + 1)
    proven = [
        epoch for epoch in links if first <= epoch <= account.rolled and account.proven(epoch)
    ]
    missed = sum(not account.proven(epoch) for epoch in range(first, account.rolled))
    return Proofs(len(proven), missed, max(proven, default=0))


def earned(signed: StoredDeal, burn_ppm: int, account: AccountCell | None = None) -> Earned:
    """What one deal brought so far.

    Args:
        signed: The deal, with the ledger's cell as it was seen last.
        burn_ppm: The network's.
        account: The provider's, rolled to the network's epoch, to know which epochs are proven
            and not settled; without it they are left out.
    """
    cell = signed.cell
    if cell is None:
        return Earned()
    burned = burned_of(cell.disk_paid, burn_ppm)
    result = Earned(disk=cell.disk_paid - burned, slashed=cell.burned - burned)
    if account is not None and cell.state is DealState.OPEN:
        due = settle(Parties(cell, account), account.rolled, burn_ppm).deal.disk_paid
        result += Earned(unclaimed=due - burned_of(due, burn_ppm) - result.disk)
    for by_delegate, paid in ((False, cell.voucher_paid), (True, cell.delegate_paid)):
        result += _bandwidth(cell, signed.tabs.get(by_delegate, StoredTab()), paid)
    return result


def _bandwidth(cell: DealCell, tab: StoredTab, paid: int) -> Earned:
    """One payer's part; what is paid is split as what is due, and sums up exactly."""
    stored, read = ingress_due(cell.terms, tab.traffic), egress_due(cell.terms, tab.traffic)
    ingress = paid * stored // (stored + read) if stored + read else 0
    open_still = cell.state is DealState.OPEN
    unclaimed = max(0, tab.credits - paid) if open_still else 0
    return Earned(ingress=ingress, egress=paid - ingress, unclaimed=unclaimed)


async def read_earnings(
    store: DealStore, account: AccountCell, links: Collection[int], burn_ppm: int, clock: Clock
) -> Earnings:
    """Sum up every deal there ever was.

    Args:
        store: The deals, with the ledger's cells as they were seen last.
        account: The provider's, rolled to the network's epoch.
        links: The epochs that its home knows a link of.
        burn_ppm: The network's.
        clock: Dates the forecast.

    Cost: linear in the deals.
    """
    signed = [deal for deal in await store.all() if deal.cell is not None]
    rows = tuple(_row(deal, burn_ppm, account) for deal in signed)
    total = sum((row.earned for row in rows), Earned())
    proofs = count_proofs(account, links)
    return Earnings(
        rows,
        total,
        epochs_proven=proofs.proven,
        epochs_missed=proofs.missed,
        forecast=await _forecast(store, total, clock.now_s()),
    )


async def sample_earnings(
    store: DealStore, account: AccountCell, burn_ppm: int, clock: Clock
) -> None:
    """Note what was earned by now, so that a forecast can be made; as ``read_earnings``."""
    sums = (earned(deal, burn_ppm, account) for deal in await store.all())
    so_far = sum(sums, Earned())
    await store.sample(int(clock.now_s()), so_far.total + so_far.unclaimed, keep_s=DAY_S)


async def _forecast(store: DealStore, so_far: Earned, now_s: float) -> int:
    """What will be earned by the end of the month (UTC) at the last day's rate, if it is known."""
    amount, oldest = so_far.total + so_far.unclaimed, await store.oldest_sample()
    if oldest is None or int(now_s) - oldest[0] < SAMPLE_S:
        return amount
    at_s, before = oldest
    left_s = month_end_s(now_s) - int(now_s)
    return amount + max(0, amount - before) * left_s // (int(now_s) - at_s)


def month_end_s(now_s: float) -> int:
    """When the month of ``now_s`` is over, both in Unix seconds (UTC)."""
    now = datetime.fromtimestamp(now_s, UTC)
    year, month = now.year + now.month // 12, now.month % 12 + 1
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp())


def _row(signed: StoredDeal, burn_ppm: int, account: AccountCell) -> Row:
    assert signed.cell is not None
    state, end = signed.cell.state.name.lower(), signed.cell.end
    return Row(signed.deal, signed.owner, state, end, earned(signed, burn_ppm, account))


def _row_fields(row: Row) -> dict[str, Any]:
    amounts = {name: str(value) for name, value in asdict(row.earned).items()}
    return {
        "deal": row.deal.hex(),
        "client": format_node_id(row.client),
        "state": row.state,
        "end": row.end,
        **amounts,
        "total": str(row.earned.total),
    }
