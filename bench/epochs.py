"""Whether every honest epoch is proven and paid while processes are restarted, as one JSON line.

    python bench/epochs.py [--minutes 10] [--nodes 12] [--epoch-s 15] [--seed 1] [--dir KEPT]

A local network with a ledger, two witnesses and a verifier, on which every node holds something.
In each epoch a node, and in turn the ledger, the verifier and the witnesses, is stopped or killed
and started again; one node is away for three whole epochs. At the end the ledger's entries
say who was asked and who proved, and with that what each claim must have paid: cells, screens and
the verifier's verdicts must say the same. ``agrees`` is whether they do, ``reasons`` why not;
``late`` are restarts that did not fit their epoch, because the machine was busy: they excuse.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.calibration import calibrate
from bench.epoch_books import EpochBooks
from dsn.apps.devnet import Devnet, Process
from dsn.apps.devnet_run import bring_up, stop, wait_epochs
from dsn.apps.ledger.check import check_store
from dsn.apps.ledger.memory import load_cell
from dsn.apps.node.money import earnings_at_home
from dsn.apps.processes import send, wait_for_end
from dsn.apps.verifier.run import VERDICTS
from dsn.core.keys import IdentityKeys, SigningKey, node_id_of
from dsn.errors import Unreachable
from dsn.ids import NodeId
from dsn.ledger.cells import AccountCell, Cell, DealCell
from dsn.ledger.rules.settling import roll
from dsn.ledger.settlement import Address, SettlementKey
from dsn.proofs.verdict import Outcome, Verdict
from dsn.runtime.clock import SystemClock
from dsn.runtime.control import ask_control
from dsn.store.home import Home
from dsn.store.ledger import open_ledger
from dsn.store.verdicts import open_verdicts

MIB = 1 << 20
AWAY = 3
"""Whole epochs that one node is away for."""
LATEST_BLOW = 0.35
"""Of an epoch: so there is time to be back in it."""
POLL_S = 0.1
SETTLE_EPOCHS = 2
"""After a put until all of it is asked for."""


def main() -> None:
    """Run what the flags ask for; print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--nodes", type=int, default=12)
    parser.add_argument("--epoch-s", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", type=int, default=12, help="of 16 MiB each, stored as 4/8")
    parser.add_argument("--dir", type=Path, help="keep the network there, and its logs")
    args = parser.parse_args()
    arguments = {name: value for name, value in vars(args).items() if name != "dir"}
    with tempfile.TemporaryDirectory() as name:
        folder = (args.dir or Path(name)).absolute() / "net"
        folder.parent.mkdir(exist_ok=True)
        up(folder, args.nodes, args.epoch_s)
        try:
            fill(folder, args.files, 16 * MIB, "4/8", args.seed)
            result = asyncio.run(run(folder, args.minutes * 60, args.epoch_s, args.seed))
        finally:
            dsn("devnet", "down", "--dir", folder)
    load = {"load_1m": round(os.getloadavg()[0], 1), "cores": os.cpu_count()}
    said = {"bench": "epochs", **arguments, **load, "calibration": calibrate(), **result}
    print(json.dumps(said))


def up(folder: Path, nodes: int, epoch_s: int) -> None:
    """Start a network."""
    dsn(
        "devnet", "up", "--dir", folder, "--nodes", nodes, "--capacity", "1GB",
        "--epoch-s", epoch_s,
    )  # fmt: skip


def fill(folder: Path, files: int, size_bytes: int, scheme: str, seed: int) -> None:
    """Store so many files, so that every node holds something."""
    home, rng = Devnet.load(folder).client_home, random.Random(seed)
    for number in range(files):
        path = folder.parent / f"file{number}"
        path.write_bytes(rng.randbytes(size_bytes))
        dsn("--home", home, "put", path, "--scheme", scheme, "--days", 1)


async def run(folder: Path, seconds: float, epoch_s: float, seed: int) -> dict[str, Any]:
    """The restarts, and what all books say after them."""
    net = Devnet.load(folder)
    began = await wait_epochs(net, SETTLE_EPOCHS)
    trouble = Trouble(folder, epoch_s, random.Random(seed), began)
    await trouble.make(seconds)
    last = await judged_until(net)
    screens = {each.name: await status(each) for each in net.of_role("node")}
    nodes = Devnet.load(folder).of_role("node")
    net, _ = await asyncio.to_thread(stop, Devnet.load(folder), nodes)
    await wait_epochs(net, 1)  # what the last claims did is published by then
    earned = {each.name: await disk_earned(each) for each in nodes}
    net, _ = await asyncio.to_thread(stop, net, net.processes)
    audit = Audit(net, trouble, began, last)
    await asyncio.to_thread(audit.replay)
    await audit.hear()
    for each in nodes:
        audit.compare(each, screens[each.name], earned[each.name])
    return audit.result()


@dataclass
class Trouble:
    """Restarts on a schedule that a seed gives: one blow in each epoch."""

    folder: Path
    epoch_s: float
    rng: random.Random
    began: int
    counts: Counter[str] = field(default_factory=Counter)
    late: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """By name, the epochs that left too little time for a restart within them."""
    down_s: list[float] = field(default_factory=list)
    away: str = ""
    left: int = 0
    """The epoch in which ``away`` was stopped, after its link."""

    async def make(self, seconds: float) -> None:
        """Go on for so long; everything runs at the end."""
        names = [each.name for each in Devnet.load(self.folder).of_role("node")]
        self.away = self.rng.choice(names)
        names.remove(self.away)
        services = self._services()
        end_s, epoch = time.monotonic() + seconds, self.began
        blow, back_s, is_whole = list[str](), 0.0, False
        while time.monotonic() < end_s or not is_whole:
            before, epoch = epoch, await epoch_after(self.folder, epoch)
            if time.monotonic() - back_s < self.epoch_s / 4:
                self._excuse(blow, before, epoch)
            blow = [self.rng.choice(names), *next(services)]
            if self.left and not is_whole and epoch > self.left + AWAY:
                self._excuse([self.away], self.left + AWAY + 1, epoch)
                blow, is_whole = [self.away], True
            await asyncio.sleep(self.rng.uniform(0.0, LATEST_BLOW) * self.epoch_s)
            if not self.left:
                await self._leave(epoch)
            await self._strike(blow)
            back_s, now = time.monotonic(), await epoch_of(self.folder)
            self._excuse(blow, epoch, now)
            epoch = now

    @property
    def _net(self) -> Devnet:
        return Devnet.load(self.folder)

    def _services(self) -> Any:
        """One of them an epoch, or none, each in turn."""
        each = [[one.name] for one in self._net.processes if one.role != "node"]
        while True:
            yield from self.rng.sample([*each, []], len(each) + 1)

    async def _leave(self, epoch: int) -> None:
        """Stop the chosen node once it has proven ``epoch``."""
        process = self._net.named(self.away)
        while (await status(process))["last_link"] < epoch == await epoch_of(self.folder):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        await asyncio.to_thread(stop, self._net, [process])
        self.left = await epoch_of(self.folder)
        self._excuse([self.away], epoch + 1, self.left + 1)

    def _excuse(self, names: list[str], first: int, end: int) -> None:
        """Note that the epochs ``[first, end)`` left no time for a restart within them."""
        for name in names:
            self.late[name].update(range(first, end))

    async def _strike(self, names: list[str]) -> None:
        """Stop or kill, and start again."""
        began_s = time.monotonic()
        gentle = list[Process]()
        for process in map(self._net.named, names):
            if process.pid is None:
                continue
            kill = self.rng.random() < 0.5
            self.counts[f"{'killed' if kill else 'stopped'} {process.role}"] += 1
            if kill:
                send(process.pid, Path(process.home), signal.SIGKILL)
                wait_for_end([(process.pid, Path(process.home))], timeout_s=10)
            else:
                gentle.append(process)
        await asyncio.to_thread(stop, self._net, gentle)
        net = self._net
        await bring_up(net, [net.named(name) for name in names])
        self.down_s.append(round(time.monotonic() - began_s, 1))


class Audit:
    """What the ledger's entries say against everything else that speaks of the same."""

    def __init__(self, net: Devnet, trouble: Trouble, began: int, last: int) -> None:
        """Judge the epochs up to ``last`` of a network that has ended."""
        self._net, self._trouble, self._began, self._last = net, trouble, began, last
        params = net.network().ledger_params
        assert params is not None
        self._params, self._books = params, EpochBooks(params.domain)
        self._cells: list[Cell] = []
        self._verdicts: list[Verdict] = []
        self.reasons: list[str] = []
        self.rows: list[dict[str, Any]] = []

    def replay(self) -> None:
        """Check the ledger from its beginning, and read its entries."""
        (ledger,) = self._net.of_role("ledger")
        with closing(open_ledger(ledger.volume, signer=False)) as store:
            fault = check_store(store).fault
            self._expect("the ledger's fault", None if fault is None else fault.message, None)
            self._books.read(store.leaves(0, store.head().size))
            self._cells = [load_cell(stored) for stored in store.all_cells()]
        self._expect("strange entries", self._books.strange, [])
        for cell in self._cells:
            if isinstance(cell, DealCell):
                held, name = self._books.deals[cell.deal], cell.deal.hex()[:8]
                self._expect(f"deal {name}: leaf-epochs", cell.leaf_epochs, held.settled)
                self._expect(f"deal {name}: paid", cell.disk_paid, held.pay(held.settled))

    async def hear(self) -> None:
        """Read the verifier's verdicts."""
        (verifier,) = self._net.of_role("verifier")
        async with open_verdicts(Home(Path(verifier.home)).state / VERDICTS) as store:
            self._verdicts = [each.signed.verdict for each in await store.page()]

    def compare(self, process: Process, screen: dict[str, Any], earned: int) -> None:
        """Compare all that is said of one node, and what it was due."""
        node, address = who(process)
        name, books, until = process.name, self._books, self._last
        missed, proven = books.missed(address, until), books.proven(address, until)
        away = self._away(process)
        excused = self._trouble.late.get(name, set())
        self._expect(f"{name}: epochs without a link", sorted({*missed} - excused), away)
        self._expect(f"{name}: bits", self._bits(address), missed)
        seen = screen["epoch"]
        self._expect(
            f"{name}: missed on its screen",
            screen["epochs_missed"],
            len(books.missed(address, seen - 1)),
        )
        self._expect(
            f"{name}: earned on its screen", earned, books.paid(address, self._params.burn_ppm)
        )
        self._expect(f"{name}: holds something", bool(proven), True)
        deals = books.deals_of(address)
        full = sum(each.pay(_sum(each.asked, until)) for each in deals)
        due = sum(each.pay(_sum(each.proven, until)) for each in deals)
        without = sum(each.pay(_sum(each.asked, until, missed)) for each in deals)
        self._expect(f"{name}: due", due, without)
        self._judge_verdicts(name, node, proven, missed)
        row = {"node": name, "proven": len(proven), "missed": missed, "due": due}
        self.rows.append(row | {"lost": full - due, "earned": earned})

    def result(self) -> dict[str, Any]:
        """What came of it."""
        judged = (each for each in self._verdicts if each.epoch <= self._last)
        said = Counter(f"{each.outcome.name.lower()} {each.reason}".strip() for each in judged)
        down_s = sorted(self._trouble.down_s)
        return {
            "epochs": self._last - self._began + 1,
            "restarts": dict(self._trouble.counts),
            "down_s": {"median": down_s[len(down_s) // 2], "most": down_s[-1]},
            "late": {name: sorted(epochs) for name, epochs in self._trouble.late.items() if epochs},
            "away": self._trouble.away,
            "verdicts": dict(said),
            "nodes": self.rows,
            "agrees": not self.reasons,
            "reasons": self.reasons,
        }

    def _away(self, process: Process) -> list[int]:
        left = self._trouble.left
        return [left + n for n in range(1, AWAY + 1)] if process.name == self._trouble.away else []

    def _bits(self, address: Address) -> list[int]:
        """The epochs that the account's cell calls missed."""
        accounts = [cell for cell in self._cells if isinstance(cell, AccountCell)]
        (cell,) = (cell for cell in accounts if cell.address == address)
        rolled = roll(cell, self._books.epoch)
        return [epoch for epoch in range(1, self._last + 1) if not rolled.proven(epoch)]

    def _judge_verdicts(
        self, name: str, node: NodeId, proven: list[int], missed: list[int]
    ) -> None:
        """One on each epoch that asked; silence only of who was away."""
        of_node = (each for each in self._verdicts if each.node == node)
        said = {each.epoch: each for each in of_node if each.epoch <= self._last}
        self._expect(f"{name}: epochs with a verdict", sorted(said), sorted({*proven, *missed}))
        late = self._trouble.late.get(name, set())
        was_down = {*late, *(epoch - 1 for epoch in late)}
        if name == self._trouble.away:
            was_down.add(self._trouble.left)
        for epoch, verdict in sorted(said.items()):
            wanted = Outcome.SILENT if epoch in missed else Outcome.HELD
            silent = verdict.outcome is Outcome.SILENT
            if verdict.outcome is not wanted and not (silent and epoch in was_down):
                found = f"{verdict.outcome.name.lower()} {verdict.reason}"
                self.reasons.append(f"{name}: epoch {epoch} is {found} by the verifier")

    def _expect(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            self.reasons.append(f"{what}: {found}, expected {expected}")


def _sum(leaves: dict[int, int], until: int, without: list[int] | None = None) -> int:
    return sum(n for epoch, n in leaves.items() if epoch <= until and epoch not in (without or ()))


def who(process: Process) -> tuple[NodeId, Address]:
    """A node's id and its account."""
    root = Home(Path(process.home)).load_root()
    public = SigningKey(IdentityKeys.derive(root).identity_seed).public
    return node_id_of(public), SettlementKey.derive(root).address


async def status(process: Process) -> dict[str, Any]:
    """What a process says of itself."""
    return await ask_control(Home(Path(process.home)).control_socket, "status")


async def disk_earned(process: Process) -> int:
    """Credits for disk on the screen of a node that has ended."""
    home = Home(Path(process.home))
    shown = await earnings_at_home(home, home.network(), home.load_root(), SystemClock())
    return shown.sum.disk


async def epoch_of(folder: Path) -> int:
    """The network's epoch, once its ledger answers."""
    (ledger,) = Devnet.load(folder).of_role("ledger")
    while True:
        try:
            return int((await status(ledger))["epoch"])
        except Unreachable:
            await asyncio.sleep(POLL_S)


async def epoch_after(folder: Path, epoch: int) -> int:
    """The first epoch after ``epoch`` that is open."""
    (ledger,) = Devnet.load(folder).of_role("ledger")
    while True:
        shown = await status(ledger)
        if int(shown["epoch"]) > epoch and shown["phase"] == "open":
            return int(shown["epoch"])
        await asyncio.sleep(POLL_S)


async def judged_until(net: Devnet) -> int:
    """The last epoch that is over, once the verifier has looked at it."""
    (verifier,) = net.of_role("verifier")
    last = await wait_epochs(net, 1) - 1
    while int((await status(verifier))["looked"]) < last:  # noqa: ASYNC110
        await asyncio.sleep(POLL_S)
    return last


def dsn(*words: object) -> None:
    """Run a command to its end."""
    line = [sys.executable, "-P", "-m", "dsn", *map(str, words), "--json"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run(line, stdout=subprocess.DEVNULL, check=True, env=environment)


if __name__ == "__main__":
    main()
