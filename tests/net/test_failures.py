"""Nodes die, freeze, rot and fill up while real processes store and read files."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dsn.apps.client import Client
from dsn.apps.results import CheckResult, FileState, Progress, PutResult
from dsn.apps.targets import PutItem
from dsn.core.capability import parse_capability
from dsn.core.layout import Scheme
from dsn.errors import NotEnoughShards, Unreachable, UsageError
from dsn.ids import format_node_id
from dsn.store.home import Home
from dsn.units import KIB, LEAF_BYTES, MIB
from tests.net.local import described, down, dsn

SCHEME = Scheme(3, 7)
NODES = 9
SIZE = 70 * MIB


class Net(NamedTuple):
    """A running network, and a place for files."""

    folder: Path
    base: Path

    def process(self, node: str) -> dict[str, Any]:
        """The process of a node, by name or id."""
        processes = described(self.folder)["processes"]
        return next(p for p in processes if node in (p["name"], p["node_id"]))

    def source(self, name: str, size: int = SIZE) -> Path:
        """A fresh file of random bytes."""
        path = self.base / name
        path.write_bytes(random.Random(name).randbytes(size))
        return path


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    base = tmp_path_factory.mktemp("failures")
    folder = base / "net"
    try:
        nodes, most = str(NODES), "3GB"
        dsn("devnet", "up", "--free", "--dir", folder, "--nodes", nodes, "--capacity", most).check()
        yield Net(folder, base)
    finally:
        down(folder)


def _ignore(_: object) -> None:
    return None


def open_client(
    net: Net,
    notice: Callable[[str], None] = _ignore,
    progress: Callable[[Progress], None] = _ignore,
) -> Client:
    home = Home(Path(described(net.folder)["client_home"]))
    return Client.open(home, notice=notice, progress=progress)


async def put(net: Net, path: Path, progress: Callable[[Progress], None] = _ignore) -> PutResult:
    async with open_client(net, progress=progress) as client:
        (result,) = await client.put([PutItem(path, path.name)], scheme=SCHEME)
        return result


async def check(net: Net, name: str, *, deep: bool = False) -> CheckResult:
    async with open_client(net) as client:
        return await client.check(name, deep=deep)


async def read(net: Net, name: str, notice: Callable[[str], None] = _ignore) -> bytes:
    out = net.base / "out"
    async with open_client(net, notice) as client:
        await client.get(name, out, force=True)
    return out.read_bytes()


async def holders(net: Net, name: str) -> list[str]:
    async with open_client(net) as client:
        return [holder.node for holder in (await client.info(name)).holders]


class Once:
    """Does something once, when a share of the work is done."""

    def __init__(self, share: float, act: Callable[[], None]) -> None:
        self.share, self.act, self.done = share, act, False

    def __call__(self, progress: Progress) -> None:
        if not self.done and progress.total and progress.done >= self.share * progress.total:
            self.done = True
            self.act()


def shards_on_disk(net: Net, node: str, newest: int) -> list[Path]:
    """The files of the large shards that a node stored last."""
    files = Path(net.process(node)["volume"], "shards").glob("*/*")
    return sorted(files, key=lambda path: path.stat().st_mtime_ns)[-newest:]


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 0x40]))
        file.flush()
        os.fsync(file.fileno())


async def test_spare_nodes_may_die_and_no_more(net: Net) -> None:
    path = net.source("dead")
    await put(net, path)
    names = [net.process(node)["name"] for node in await holders(net, "dead")]
    spare = SCHEME.total - SCHEME.required
    try:
        for name in names[:spare]:
            dsn("devnet", "stop", "--dir", net.folder, name).check()
        assert await read(net, "dead") == path.read_bytes()
        assert (await check(net, "dead")).state is FileState.AT_RISK
        dsn("devnet", "stop", "--dir", net.folder, names[spare]).check()
        with pytest.raises(NotEnoughShards) as caught:
            await read(net, "dead")
        assert caught.value.message == "segment 0: 2 shards found, 3 needed"
        assert caught.value.exit_code == 5
        assert (await check(net, "dead")).state is FileState.UNKNOWN
    finally:
        for name in names[: spare + 1]:
            dsn("devnet", "start", "--dir", net.folder, name).check()
    assert (await check(net, "dead")).state is FileState.HEALTHY


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_put_goes_on_with_full_redundancy(net: Net, how: signal.Signals) -> None:
    path = net.source(f"put-{how.name}")
    victim = net.process("node2")
    try:
        result = await put(net, path, Once(0.4, lambda: os.kill(victim["pid"], how)))
        assert result.placed == result.total == SCHEME.total
        assert victim["node_id"] not in await holders(net, path.name) or not result.warnings
    finally:
        if how is signal.SIGSTOP:
            os.kill(victim["pid"], signal.SIGCONT)
        else:
            dsn("devnet", "start", "--dir", net.folder, "node2").check()
    found = await check(net, path.name)
    assert found.state is FileState.HEALTHY, found
    assert await read(net, path.name) == path.read_bytes()


def used_bytes(net: Net, names: list[str]) -> list[int]:
    """What each node has stored."""
    homes = [net.process(name)["home"] for name in names]
    return [
        dsn("--home", home, "provider", "status", "--json").check().fields["used"] for home in homes
    ]


async def test_a_put_that_fails_frees_what_it_stored(net: Net) -> None:
    path = net.source("failing")
    dying, staying = [f"node{n}" for n in range(1, 6)], [f"node{n}" for n in range(6, 10)]
    before = used_bytes(net, staying)

    def kill() -> None:
        for name in dying:
            os.kill(net.process(name)["pid"], signal.SIGKILL)

    try:
        with pytest.raises(Unreachable) as caught:
            await put(net, path, Once(0.4, kill))
        assert caught.value.detail_code == "not_placed"
        grown = [b - a for a, b in zip(before, used_bytes(net, staying), strict=True)]
        assert max(grown) < 16 * KIB, "more is left than the catalogue's own runs"
        async with open_client(net) as client:
            assert "failing" not in {file.name for file in await client.ls()}
    finally:
        dsn("devnet", "up", "--dir", net.folder).check()


async def test_a_get_goes_on_around_a_frozen_node(net: Net) -> None:
    path = net.source("frozen")
    await put(net, path)
    victim = net.process((await holders(net, "frozen"))[0])["pid"]
    try:
        async with open_client(
            net, progress=Once(0.3, lambda: os.kill(victim, signal.SIGSTOP))
        ) as client:
            await client.get("frozen", net.base / "out", force=True)
        assert (net.base / "out").read_bytes() == path.read_bytes()
        assert await read(net, "frozen") == path.read_bytes()
    finally:
        os.kill(victim, signal.SIGCONT)


async def test_a_flipped_byte_is_read_around_named_and_remembered(net: Net) -> None:
    path = net.source("flipped", 20 * MIB)
    await put(net, path)
    node, commit = await _shard(net, "flipped", segment=0, index=1)
    volume = Path(net.process(node)["volume"])
    flip(volume / "shards" / commit[:2] / commit, 777_777)
    notices: list[str] = []
    assert await read(net, "flipped", notices.append) == path.read_bytes()
    assert any(node[:10] in notice and "shard 1 of segment 0" in notice for notice in notices)
    async with open_client(net) as client:
        listed = {file.name: file.state for file in await client.ls()}
    assert listed["flipped"] is FileState.DEGRADED
    sampled, deep = await check(net, "flipped"), await check(net, "flipped", deep=True)
    assert sampled.state is deep.state is FileState.DEGRADED
    assert deep.segments[0].good == SCHEME.total - 1


async def _shard(net: Net, name: str, segment: int, index: int) -> tuple[str, str]:
    """Who holds a shard, and its commit in hex."""
    async with open_client(net) as client:
        link = parse_capability((await client.share(name, "read")).capability)
        manifest = await client._manifests.fetch(link.file_id, link.keys())
    node = manifest.placement.holder(segment, index)
    assert node is not None
    return format_node_id(node), manifest.placement.rows[segment][index].commit.hex()


async def test_plain_check_finds_a_node_that_lost_a_twentieth(net: Net) -> None:
    path = net.source("rotten", 40 * MIB)
    await put(net, path)
    holder = (await holders(net, "rotten"))[0]
    rng = random.Random("rotten")
    for shard in shards_on_disk(net, holder, 2):
        leaves = shard.stat().st_size // LEAF_BYTES
        for leaf in rng.sample(range(leaves), leaves // 20):
            flip(shard, leaf * LEAF_BYTES + rng.randrange(LEAF_BYTES))
    found = await check(net, "rotten")
    assert found.state is not FileState.HEALTHY
    assert all(holder[:10] in fault for fault in found.faults) and found.faults
    assert found.leaves >= 459


async def test_a_source_that_shrinks_is_refused_and_freed(net: Net) -> None:
    path = net.source("shrinking", 4 * 32 * MIB)
    names = [f"node{n}" for n in range(1, 10)]
    before = used_bytes(net, names)
    with pytest.raises(UsageError) as caught:
        await put(net, path, Once(0.3, lambda: os.truncate(path, 40 * MIB)))
    assert caught.value.detail_code == "source_changed"
    grown = [b - a for a, b in zip(before, used_bytes(net, names), strict=True)]
    assert max(grown) < 16 * KIB, "shards of a failed put are left"


class Interrupted(BaseException):
    """Ctrl-C, as the client sees it."""


async def test_an_interrupted_put_goes_on_where_it_was(net: Net) -> None:
    path = net.source("resumed", 4 * 32 * MIB)

    def interrupt() -> None:
        raise Interrupted

    with pytest.raises((Interrupted, BaseExceptionGroup)):
        await put(net, path, Once(0.7, interrupt))
    began: list[int] = []
    result = await put(net, path, lambda progress: began.append(progress.done))
    assert result.placed == result.total
    assert result.uploaded_bytes < 2 * path.stat().st_size * 0.75
    assert await read(net, "resumed") == path.read_bytes()


async def test_an_interrupted_put_of_a_changed_file_starts_over(net: Net) -> None:
    path = net.source("changed", 3 * 32 * MIB)

    def interrupt() -> None:
        raise Interrupted

    with pytest.raises((Interrupted, BaseExceptionGroup)):
        await put(net, path, Once(0.7, interrupt))
    with path.open("r+b") as file:
        file.write(b"another beginning")
    await put(net, path)
    assert await read(net, "changed") == path.read_bytes()


async def test_an_interrupted_get_goes_on_where_it_was(net: Net) -> None:
    path = net.source("part", 4 * 32 * MIB)
    await put(net, path)
    out = net.base / "part.out"

    def interrupt() -> None:
        raise Interrupted

    with pytest.raises((Interrupted, BaseExceptionGroup)):
        async with open_client(net, progress=Once(0.6, interrupt)) as client:
            await client.get("part", out)
    assert not out.exists()
    (partial,) = net.base.glob(".part.out.*.part")
    read_bytes: list[int] = []
    async with open_client(net, progress=lambda p: read_bytes.append(p.total or 0)) as client:
        result = await client.get("part", out)
    assert read_bytes[0] < path.stat().st_size
    assert result.size == path.stat().st_size
    assert out.read_bytes() == path.read_bytes()
    assert not partial.exists()


async def test_a_directory_comes_back_as_it_was(net: Net) -> None:
    top = net.base / "tree"
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "void").mkdir()
    rng = random.Random("tree")
    for number in range(30):
        (top / "sub" / f"f{number}").write_bytes(rng.randbytes(rng.randrange(40_000)))
    (top / "large").write_bytes(rng.randbytes(3 * MIB))
    (top / "sub" / "deep" / "empty").touch()
    (top / "link").symlink_to("sub/f1")
    (top / "sub" / "f2").chmod(0o750)
    async with open_client(net) as client:
        (result,) = await client.put([PutItem(top, "tree", recursive=True)], scheme=SCHEME)
        await client.get("tree", net.base / "back")
    files = [path for path in top.rglob("*") if path.is_file() and not path.is_symlink()]
    assert result.size == sum(path.stat().st_size for path in files)
    for path in sorted(top.rglob("*")):
        other = net.base / "back" / path.relative_to(top)
        assert other.is_symlink() == path.is_symlink()
        if path.is_file():
            assert other.read_bytes() == path.read_bytes()
        assert path.is_symlink() or other.lstat().st_mode == path.lstat().st_mode
    async with open_client(net) as client:
        (gone,) = await client.rm(["tree"])
    assert gone.freed_bytes >= 2 * 3 * MIB
    assert not gone.pending_nodes


async def test_everything_is_there_after_down_and_up(net: Net) -> None:
    path = net.source("kept", 5 * MIB)
    await put(net, path)
    down(net.folder)
    dsn("devnet", "up", "--dir", net.folder).check()
    assert await read(net, "kept") == path.read_bytes()
    assert (await check(net, "kept")).state is FileState.HEALTHY


def test_a_full_node_is_left_out_and_said_so(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    try:
        up = ("devnet", "up", "--free", "--dir", folder, "--nodes", "4", "--capacity", "120MB")
        dsn(*up).check()
        home = Path(described(folder)["client_home"])
        big = tmp_path / "big"
        big.write_bytes(os.urandom(64 * MIB))
        assert dsn("put", big, "--scheme", "1/2", "--as", "one", home=home).check()
        assert dsn("put", big, "--scheme", "1/2", "--as", "two", home=home).check()
        done = dsn("put", big, "--scheme", "1/4", "--as", "three", home=home)
        assert done.code == 6
        assert done.err[-2].startswith("dsn: ") and "free" in done.err[-2]
        assert dsn("get", "one", "-o", tmp_path / "back", home=home).check()
        assert (tmp_path / "back").read_bytes() == big.read_bytes()
        names = [file["name"] for file in dsn("ls", "--json", home=home).check().fields]
        assert names == ["one", "two"]
    finally:
        down(folder)
