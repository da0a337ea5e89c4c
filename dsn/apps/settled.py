"""Who paid whom on a local network, by three books that must agree: screens, wallet, ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dsn.apps.devnet import Devnet, Process
from dsn.apps.devnet_run import wait_epochs
from dsn.apps.earnings import Earned
from dsn.apps.ledger.check import check_store
from dsn.apps.ledger.memory import load_cell
from dsn.apps.node.money import earnings_at_home
from dsn.apps.wallet import opened
from dsn.errors import DsnError
from dsn.ledger.cells import AccountCell, Cell, DealCell
from dsn.ledger.settlement import Address, SettlementKey
from dsn.runtime.clock import SystemClock
from dsn.store.home import Home
from dsn.store.ledger import open_ledger


@dataclass(frozen=True, slots=True)
class Earner:
    """One provider: what its screen says, and what the ledger has of its deals."""

    name: str
    disk: int
    ingress: int
    egress: int
    slashed: int
    unclaimed: int
    on_ledger: int

    @property
    def earned(self) -> int:
        """What is settled, by the screen."""
        return self.disk + self.ingress + self.egress - self.slashed


@dataclass(frozen=True, slots=True)
class Settlement:
    """All figures in credits.

    ``paid`` is what the client's wallet says it spent, ``burned`` the part of it that nobody got;
    ``supply`` what the ledger began with and ``sum`` what all its cells have now; ``entries`` were
    replayed from the beginning.
    """

    earners: tuple[Earner, ...]
    paid: int
    burned: int
    fees: int
    locked: int
    supply: int
    sum: int
    entries: int

    def table(self) -> Iterator[str]:
        """A line a provider, and their sum."""
        titles = ("for disk", "storing", "reading", "earned", "on ledger")
        yield f"{'credits':10}" + "".join(f"{title:>12}" for title in titles)
        rows = [
            (e.name, (e.disk, e.ingress, e.egress, e.earned, e.on_ledger)) for e in self.earners
        ]
        columns = zip(*(amounts for _, amounts in rows), strict=True)
        for name, amounts in (*rows, ("together", [sum(column) for column in columns])):
            yield f"{name:10}" + "".join(f"{amount:>12,}" for amount in amounts)

    @property
    def agrees(self) -> bool:
        """Whether all books say the same, to the unit."""
        earned = sum(each.earned for each in self.earners)
        settled = all(each.earned == each.on_ledger for each in self.earners)
        return settled and earned + self.burned == self.paid and self.supply == self.sum


async def settlement(network: Devnet) -> Settlement:
    """Read all books of a network whose nodes have ended: each claimed what it could.

    Raises:
        DsnError: A book cannot be read, or the ledger does not follow from its entries.
    """
    (ledger,) = network.of_role("ledger")
    nodes = network.of_role("node")
    await wait_epochs(network, 1)  # what the last claims did is published by then
    screens = [await _earnings(process) for process in nodes]
    async with opened(Home.open(network.client_home)) as wallet:
        books = (await wallet.history()).accounting()
    cells, entries = await asyncio.to_thread(_replayed, ledger.volume)
    paid = _paid_by_provider(cells)
    params = network.network().ledger_params
    assert params is not None
    return Settlement(
        tuple(
            Earner(
                process.name,
                screen.disk,
                screen.ingress,
                screen.egress,
                screen.slashed,
                screen.unclaimed,
                paid.get(_address(process), 0),
            )
            for process, screen in zip(nodes, screens, strict=True)
        ),
        books.spent_bandwidth + books.spent_disk,
        sum(cell.burned for cell in cells if isinstance(cell, DealCell)),
        books.fees,
        books.escrow,
        sum(amount for _, amount in params.allocation),
        sum(map(_credits, cells)),
        entries,
    )


async def _earnings(process: Process) -> Earned:
    """What the screen of a provider says, whose node has ended."""
    home = Home(Path(process.home))
    return (await earnings_at_home(home, home.network(), home.load_root(), SystemClock())).sum


def _replayed(place: str) -> tuple[list[Cell], int]:
    """The cells of a ledger that follow from its entries, and how many those are."""
    with closing(open_ledger(place, signer=False)) as store:
        report = check_store(store, None)
        if report.fault is not None:
            raise DsnError(report.fault.message, code=report.fault.detail_code)
        return [load_cell(stored) for stored in store.all_cells()], report.entries


def _paid_by_provider(cells: Iterable[Cell]) -> dict[Address, int]:
    paid: dict[Address, int] = {}
    for cell in cells:
        if isinstance(cell, DealCell):
            so_far = paid.get(cell.terms.provider, 0) + cell.disk_paid - cell.burned
            paid[cell.terms.provider] = so_far + cell.voucher_paid + cell.delegate_paid
    return paid


def _credits(cell: Cell) -> int:
    """What a cell has; the sum over all of them never changes without a deposit."""
    if isinstance(cell, AccountCell):
        return cell.available + cell.burned + cell.withdrawn
    if isinstance(cell, DealCell):
        locked = cell.disk_escrow + cell.bandwidth_escrow + cell.collateral
        return locked + cell.refund + cell.bond + cell.burned
    return 0


def _address(process: Process) -> Address:
    return SettlementKey.derive(Home(Path(process.home)).load_root()).address
