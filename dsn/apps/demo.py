"""The story of a file on a network of real processes: stored, damaged in every way, read back.

Each step does what it says and checks the outcome; the first that does not hold ends the
story with an error. Every figure is measured in this run.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

from dsn.apps import devnet_make, devnet_run
from dsn.apps.auditing import LEAVES
from dsn.apps.cheats import Cheats
from dsn.apps.client import Client
from dsn.apps.damage import kill_now, rot
from dsn.apps.devnet import Devnet, Process, exists
from dsn.apps.processes import Activity
from dsn.apps.results import CheckResult, FileState, Progress, PutResult
from dsn.apps.sample import sample_tar
from dsn.apps.settled import Settlement, settlement
from dsn.apps.targets import PutItem
from dsn.apps.telling import StoryBroken, Tell, Teller
from dsn.apps.verifying import verify_file
from dsn.core.layout import Scheme, default_scheme
from dsn.errors import UsageError
from dsn.ids import format_base32, parse_node_id, short
from dsn.ports import Clock, Entropy
from dsn.runtime.control import ask_control
from dsn.store.home import Home
from dsn.units import MIB, SMALL_SHARD_BYTES, format_size

EPOCH_S = 3
SAMPLE_NAME = "python-library.tar"
NETWORK_FOLDER = "network"

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures of a story whose every step held."""

    nodes: int
    killed: int
    name: str
    size: int
    sha256: str
    scheme: str
    put_seconds: float
    get_seconds: float
    get_with_dead_seconds: float
    rotten_node: str
    paid: str
    """Credits, for bandwidth, by every book."""
    entries: int
    """Of the ledger, replayed from its beginning."""
    seconds: float


class Demo:
    """One run of the story in a folder of its own."""

    def __init__(
        self,
        directory: Path,
        *,
        source: Path | None,
        nodes: int,
        kill: int,
        keep: bool = False,
        tell: Tell,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """Check that the story can hold; nothing starts before ``run``.

        Args:
            directory: Where everything goes; empty.
            source: The file the story is about; ``None`` packs the standard library.
            nodes: How many processes.
            kill: How many of them are killed.
            keep: Whether all processes run when it ends.
            tell: Takes each line.
            clock: Dates and times.
            entropy: Makes keys.

        Raises:
            UsageError: Too few nodes, too many to kill, or too small a file.
        """
        self._directory, self._nodes, self._kill, self._keep = directory, nodes, kill, keep
        self._teller, self._clock, self._entropy = Teller(tell), clock, entropy
        self._chapter, self._fact = self._teller.chapter, self._teller.fact
        self._hold = self._teller.hold
        self._scheme = default_scheme(nodes)
        self._source = source
        self._name = SAMPLE_NAME if source is None else source.absolute().name
        _check_kill(self._scheme, kill)
        if source is not None:
            _check_size(source, self._scheme)

    async def run(self) -> Outcome:
        """Tell the whole story; the network runs on when it ends.

        Raises:
            StoryBroken: A step did not hold.
            DsnError: A step could not be done.
        """
        began_s = self._clock.monotonic_s()
        source = self._prepare()
        network = await self._start()
        wanted = _sha256(source)
        put = await self._put(network, source)
        await self._audit(network, put)
        holders = await self._holders(network)
        with_dead_s = await self._read_with_dead(network, holders[: self._kill], wanted)
        network = await self._revive(network)
        get_s = await self._read_rotten(network, holders[-1], wanted)
        await self._repair(network)
        cheats = Cheats(self._teller, self._clock, self._entropy)
        network, liar = await cheats.run(network, holders)
        await self._remove(network, put, liar)
        network, settled = await self._settle(network)
        if self._keep:
            await devnet_run.bring_up(network, network.processes)
        return Outcome(
            nodes=self._nodes,
            killed=self._kill,
            name=put.name,
            size=put.size,
            sha256=wanted,
            scheme=put.scheme,
            put_seconds=put.seconds,
            get_seconds=get_s,
            get_with_dead_seconds=with_dead_s,
            rotten_node=holders[-1].node_id,
            paid=str(settled.paid),
            entries=settled.entries,
            seconds=self._clock.monotonic_s() - began_s,
        )

    def _prepare(self) -> Path:
        self._chapter("The file")
        if self._source is not None:
            self._fact(f"{self._source}, {format_size(self._source.stat().st_size)}")
            return self._source
        path = self._directory / SAMPLE_NAME
        files = sample_tar(path)
        size = format_size(path.stat().st_size)
        self._fact(f"{files:,} files of this machine's Python library in one tar, {size}")
        return path

    async def _start(self) -> Devnet:
        self._chapter("The network")
        began_s = self._clock.monotonic_s()
        folder = self._directory / NETWORK_FOLDER
        folder.mkdir()
        network = devnet_make.create(
            folder,
            nodes=self._nodes,
            group="node",
            capacity_bytes=None,
            epoch_s=EPOCH_S,
            clock=self._clock,
            entropy=self._entropy,
        )
        network = await devnet_run.bring_up(network, network.processes)
        took_s = self._clock.monotonic_s() - began_s
        witnesses = len(network.of_role("witness"))
        self._fact(f"{self._nodes} storage nodes, each its own process, serve after {took_s:.1f} s")
        self._fact(f"so do a ledger and its {witnesses} witnesses; an epoch lasts {EPOCH_S} s")
        await self._find_all(network)
        return network

    async def _find_all(self, network: Devnet) -> None:
        """All that a node was told is one address; the others it finds itself."""
        *sought, seeker = network.of_role("node")
        keys = " ".join(format_base32(parse_node_id(each.node_id)) for each in sought)
        answer = await ask_control(Home(Path(seeker.home)).control_socket, f"trace 1 {keys}")
        traces = answer["traces"]
        found = sum(bool(each["found"]) for each in traces)
        first = network.network().contacts[0].address
        typical_ms = median(each["milliseconds"] for each in traces) if traces else 0.0
        self._fact(f"all that they were told is one address: {first}")
        self._hold(
            found == len(sought),
            f"{seeker.name} finds the {found} others through the DHT, {typical_ms:.1f} ms each",
        )

    async def _put(self, network: Devnet, source: Path) -> PutResult:
        self._chapter("Stored")
        item = PutItem(path=source, name=self._name)
        put = (await self._ask(network, lambda c: c.put([item], scheme=self._scheme)))[0]
        for warning in put.warnings:
            self._fact(f"warning: {warning}")
        self._fact(
            f"encrypted, cut into {put.segments} segment{'s' * (put.segments > 1)}, each coded "
            f"into {self._scheme.total} shards of which any {self._scheme.required} suffice"
        )
        sent = format_size(put.uploaded_bytes)
        self._fact(f"{sent} sent for {_pace(put.size, put.seconds)}")
        self._hold(put.placed == put.total, f"{put.placed} of {put.total} shards acknowledged")
        self._fact(f"read link: {put.read}")
        return put

    async def _audit(self, network: Devnet, put: PutResult) -> None:
        self._chapter("Audited by a stranger")
        stranger = devnet_make.create_client(
            self._directory / "stranger", network.network(), self._entropy
        )
        self._fact(f"a second home gets the verify link: {put.verify}")
        audited = await self._ask(network, lambda c: c.audit(put.verify, leaves=LEAVES), stranger)
        moved = format_size(audited.moved_bytes)
        self._fact(f"{audited.leaves} leaves drawn, {moved} moved in {audited.seconds:.2f} s")
        all_held = audited.held == len(audited.holders)
        self._hold(all_held, f"{audited.held} holders proved it; {audited.confidence}")
        report = await asyncio.to_thread(verify_file, audited.bundle, network.network())
        bundle = format_size(len(audited.bundle))
        self._hold(report.ok, f"its bundle, {bundle}, shows it to anybody, with all of them gone")
        try:
            out = self._directory / "stolen"
            await self._ask(network, lambda c: c.get(put.verify, out), stranger)
        except UsageError as refusal:
            self._hold(not out.exists(), f"reading with it is refused: {refusal.message}")
        else:
            raise StoryBroken("the verify link opened the file")

    async def _read_with_dead(
        self, network: Devnet, victims: Sequence[Process], wanted: str
    ) -> float:
        self._chapter(f"Killed: {', '.join(process.name for process in victims)}")
        kill_now(victims)
        nodes = network.of_role("node")
        left = sum(process.activity is not Activity.STOPPED for process in nodes)
        self._hold(left == self._nodes - self._kill, f"SIGKILL; {left} of {self._nodes} nodes left")
        checked = await self._check(network, deep=False)
        good = min(segment.good for segment in checked.segments)
        damaged = checked.state in (FileState.DEGRADED, FileState.AT_RISK)
        total = self._scheme.total
        self._hold(damaged, f"{good} of {total} shards answer; state: {checked.state.value}")
        return await self._read(network, wanted, "dead")

    async def _revive(self, network: Devnet) -> Devnet:
        self._chapter("Back again")
        network = await devnet_run.bring_up(network, network.processes)
        checked = await self._check(network, deep=False)
        healthy = checked.state is FileState.HEALTHY
        self._hold(healthy, f"the killed nodes are back with their shards: {checked.state.value}")
        return network

    async def _read_rotten(self, network: Devnet, victim: Process, wanted: str) -> float:
        node = parse_node_id(victim.node_id)
        self._chapter("One byte rots")
        path, offset = rot(Path(victim.volume))
        self._fact(f"{victim.name} ({short(node)}): byte {offset:,} of {path.name[:16]} flipped")
        checked = await self._check(network, deep=True)
        self._fact(f"{checked.leaves:,} leaves read, {format_size(checked.bytes)}")
        named = [fault for fault in checked.faults if short(node) in fault]
        self._hold(bool(named), f"caught: {', '.join(named)}")
        degraded = checked.state is FileState.DEGRADED
        self._hold(degraded, f"state: {checked.state.value}, and not healthy")
        return await self._read(network, wanted, "rotten")

    async def _repair(self, network: Devnet) -> None:
        self._chapter("Repaired")
        repaired = await self._ask(
            network, lambda c: c.repair(self._name, dry_run=False, days=None, budget=None)
        )
        moved = format_size(repaired.bytes)
        self._fact(
            f"{repaired.leaves} leaves given back, {repaired.rebuilt} shards rebuilt; {moved} moved"
        )
        whole = repaired.state is FileState.HEALTHY
        self._hold(whole, f"state: {repaired.state.value}, without the plaintext")

    async def _holders(self, network: Devnet) -> list[Process]:
        """The processes that hold shards of the file, not only copies of its manifest."""
        info = await self._ask(network, lambda c: c.info(self._name))
        shard_bytes = info.size // self._scheme.required
        held = {holder.node for holder in info.holders if holder.bytes >= shard_bytes}
        return [process for process in network.processes if process.node_id in held]

    async def _remove(self, network: Devnet, put: PutResult, liar: Process) -> None:
        self._chapter("Removed")
        removed = (await self._ask(network, lambda c: c.rm([put.name])))[0]
        told = not set(removed.pending_nodes) - {liar.node_id}
        freed = format_size(removed.freed_bytes)
        self._hold(told, f"{freed} freed, every holder told that still has a deal")
        left = await self._ask(network, lambda c: c.ls())
        self._hold(not left, "no name is left in the catalogue")

    async def _settle(self, network: Devnet) -> tuple[Devnet, Settlement]:
        self._chapter("Settled")
        network, _ = devnet_run.stop(network, network.of_role("node"))
        self._fact("all nodes claim what they were promised, and stop")
        found = await settlement(network)
        for line in found.table():
            self._fact(line)
        self._hold(
            found.agrees,
            f"the client's wallet says it paid {found.paid:,}, {found.burned:,} of it burned, and "
            f"{found.fees:,} in fees; {found.locked:,} are locked",
        )
        self._hold(
            found.sum == found.supply,
            f"{found.entries:,} entries replayed, every signature, rule and root; all cells "
            f"together have the {found.supply:,} credits of the beginning",
        )
        return network, found

    async def _read(self, network: Devnet, wanted: str, label: str) -> float:
        out = self._directory / f"read-{label}"
        got = await self._ask(network, lambda c: c.get(self._name, out))
        self._fact(f"read back: {_pace(got.size, got.seconds)}")
        same = _sha256(out) == wanted
        out.unlink()
        self._hold(same, f"same SHA-256 as the original: {wanted[:16]}...")
        return got.seconds

    async def _check(self, network: Devnet, *, deep: bool) -> CheckResult:
        return await self._ask(network, lambda c: c.check(self._name, deep=deep))

    async def _ask(
        self,
        network: Devnet,
        work: Callable[[Client], Awaitable[Result]],
        home: Home | None = None,
    ) -> Result:
        """One command of a client, as the command line runs it: open, do, close."""
        opened = Client.open(
            home or Home.open(network.client_home), notice=self._fact, progress=_unseen
        )
        async with opened as client:
            return await work(client)


def end_network(directory: Path) -> None:
    """End every process of the story in ``directory``, killed if need be."""
    network = directory / NETWORK_FOLDER
    if exists(network):
        stored = Devnet.load(network)
        devnet_run.stop(stored, stored.alive())


def _unseen(_: Progress) -> None:
    """The story tells figures, not progress."""


def _check_kill(scheme: Scheme, kill: int) -> None:
    """Refuse what leaves too few shards, one more of which will rot."""
    most = scheme.total - scheme.required
    if not 1 <= kill <= most:
        raise UsageError(
            f"{kill} nodes to kill, 1 to {most} leave {scheme.required} of {scheme.total} shards",
            hint=f"--kill {min(most, 3)}",
            code="bad_kill",
        )


def _check_size(source: Path, scheme: Scheme) -> None:
    """Refuse a file whose shards would share files on disk: none of them could be rotted alone."""
    if source.is_dir():
        raise UsageError(f"{source} is a directory", hint="name a file", code="is_directory")
    size, least = source.stat().st_size, scheme.required * 2 * SMALL_SHARD_BYTES
    if size < least:
        raise UsageError(
            f"{source} has {format_size(size)}, the story needs {format_size(least)}",
            hint="choose a larger file, or none for the Python library",
            code="too_small",
        )


def _pace(size_bytes: int, seconds: float) -> str:
    speed = size_bytes / MIB / max(seconds, 1e-6)
    return f"{format_size(size_bytes)} in {seconds:.2f} s, {speed:.0f} MiB/s"


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
