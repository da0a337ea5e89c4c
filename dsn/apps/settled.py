"""Who paid whom on a local network, by three books that must agree: screens, wallet, ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dsn.apps.devnet import Devnet, Process
from dsn.apps.ledger.check import check_store
from dsn.apps.ledger.memory import load_cell
from dsn.apps.wallet import opened
from dsn.errors import DsnError
from dsn.ledger.cells import AccountCell, Cell, DealCell
from dsn.ledger.settlement import Address, SettlementKey
from dsn.runtime.control import ask_control
from dsn.store.home import Home
from dsn.store.ledger import open_ledger

PATIENCE_S: Final = 30.0
POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Earner:
    """One provider: what its screen says, and what the ledger has of its vouchers."""

    name: str
    ingress: int
    egress: int
    unclaimed: int
    on_ledger: int

    @property
    def earned(self) -> int:
        """What was redeemed, by the screen."""
        return self.ingress + self.egress


@dataclass(frozen=True, slots=True)
class Settlement:
    """All figures in credits.

    No voucher is redeemed for less than ``fee``. ``paid`` is what the client's wallet says it
    spent; ``supply`` what the ledger began with and ``sum`` what all its cells have now;
    ``entries`` were replayed from the beginning.
    """

    earners: tuple[Earner, ...]
    fee: int
    paid: int
    fees: int
    locked: int
    supply: int
    sum: int
    entries: int

    def table(self) -> Iterator[str]:
        """A line a provider, and their sum."""
        yield f"{'credits':10}{'for storing':>12}{'reading':>12}{'earned':>12}{'on ledger':>12}"
        rows = [(e.name, (e.ingress, e.egress, e.earned, e.on_ledger)) for e in self.earners]
        columns = zip(*(amounts for _, amounts in rows), strict=True)
        for name, amounts in (*rows, ("together", [sum(column) for column in columns])):
            yield f"{name:10}" + "".join(f"{amount:>12,}" for amount in amounts)

    @property
    def agrees(self) -> bool:
        """Whether all books say the same, to the unit, and nothing worth its fee waits."""
        earned = sum(each.earned for each in self.earners)
        settled = all(e.unclaimed <= self.fee and e.earned == e.on_ledger for e in self.earners)
        return settled and earned == self.paid and self.supply == self.sum


async def settlement(network: Devnet) -> Settlement:
    """Read all books, once nothing waits to be claimed: nodes claim every epoch.

    Raises:
        DsnError: A book cannot be read, or the ledger does not follow from its entries.
    """
    params = network.network().ledger_params
    assert params is not None
    screens = await _claimed(network, params.entry_fee)
    async with opened(Home.open(network.client_home)) as wallet:
        books = (await wallet.history()).accounting()
    (ledger,) = network.of_role("ledger")
    cells, entries = await asyncio.to_thread(_replayed, ledger.volume)
    paid = _paid_by_provider(cells)
    return Settlement(
        tuple(
            Earner(
                process.name,
                int(screens[process.name]["ingress"]),
                int(screens[process.name]["egress"]),
                int(screens[process.name]["unclaimed"]),
                paid.get(_address(process), 0),
            )
            for process in network.of_role("node")
        ),
        params.entry_fee,
        books.spent_bandwidth,
        books.fees,
        books.escrow,
        sum(amount for _, amount in params.allocation),
        sum(map(_credits, cells)),
        entries,
    )


async def _claimed(network: Devnet, fee: int) -> dict[str, dict[str, Any]]:
    """What each provider's screen says, if need be after ``PATIENCE_S``."""
    end_s = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        screens = {p.name: await _earnings(p) for p in network.of_role("node")}
        waits = any(int(screen["unclaimed"]) > fee for screen in screens.values())
        if not waits or asyncio.get_running_loop().time() > end_s:
            return screens
        await asyncio.sleep(POLL_S)


async def _earnings(process: Process) -> dict[str, Any]:
    return await ask_control(Home(Path(process.home)).control_socket, "earnings")


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
            so_far = paid.get(cell.terms.provider, 0)
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
