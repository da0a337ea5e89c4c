"""A local network of real processes: up, down, stopped, frozen, killed, moved."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.net.local import Done, described, down, dsn

NODES = 6


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the network goes; whatever runs there ends with the test."""
    yield tmp_path / "net"
    down(tmp_path / "net")


def up(folder: Path, *more: str) -> Done:
    return dsn(
        "devnet", "up", "--free", "--dir", folder, "--nodes", str(NODES), "--capacity", "1GB", *more
    ).check()


def pids(folder: Path) -> dict[str, int | None]:
    return {one["name"]: one["pid"] for one in described(folder)["processes"]}


def alive(pid: int | None) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def states(folder: Path) -> dict[str, str]:
    fields: dict[str, str] = dsn("devnet", "status", "--dir", folder, "--json").fields["states"]
    return fields


def test_the_life_of_a_network(folder: Path, tmp_path: Path) -> None:
    """Each part needs the one before, and starting processes is what takes the time."""
    fields = up(folder, "--json").fields
    assert fields == described(folder)
    first = pids(folder)
    assert all(alive(pid) for pid in first.values())
    listens_where_it_says(fields)
    client = Path(fields["client_home"])
    name = stores_a_file(client, tmp_path)
    a_second_up_says_so(folder, first)
    a_node_stops_and_starts(folder, first)
    a_frozen_node_is_seen_and_goes_on(folder)
    reads_it_back(client, name, tmp_path)
    everything_ends(folder)
    data_survives_even_a_moved_port(folder, client, name, tmp_path)


def listens_where_it_says(fields: dict[str, Any]) -> None:
    for number, process in enumerate(fields["processes"], start=1):
        host, _, port = process["address"].rpartition(":")
        assert host == f"127.0.{number}.1"
        socket.create_connection((host, int(port)), timeout=5).close()
        assert Path(process["volume"]).is_dir()


def stores_a_file(client: Path, tmp_path: Path) -> str:
    (tmp_path / "file").write_bytes(os.urandom(3_000_000))
    stored = dsn("put", tmp_path / "file", "--scheme", "2/5", "--json", home=client).check().fields
    assert (stored["placed"], stored["total"]) == (5, 5)
    name: str = stored["name"]
    return name


def a_second_up_says_so(folder: Path, before: dict[str, int | None]) -> None:
    again = up(folder)
    assert "already running: 6 nodes" in again.text
    assert "do nothing now" in again.err[0]
    assert pids(folder) == before


def a_node_stops_and_starts(folder: Path, before: dict[str, int | None]) -> None:
    dsn("devnet", "stop", "node2", "--dir", folder).check()
    assert not alive(before["node2"])
    assert pids(folder) == before | {"node2": None}
    assert states(folder)["node2"] == "stopped"
    assert dsn("devnet", "stop", "node2", "--dir", folder).check(2).err[0].startswith("dsn: node2")
    dsn("devnet", "start", "node2", "--dir", folder).check()
    assert alive(pids(folder)["node2"])
    assert dsn("devnet", "start", "node9", "--dir", folder).check(3).err[0].startswith("dsn: no")


def a_frozen_node_is_seen_and_goes_on(folder: Path) -> None:
    pid = pids(folder)["node3"]
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    assert states(folder)["node3"] == "frozen"
    dsn("devnet", "start", "node3", "--dir", folder).check()
    assert states(folder)["node3"] == "running"
    assert pids(folder)["node3"] == pid


def reads_it_back(client: Path, name: str, tmp_path: Path) -> None:
    out = tmp_path / "back"
    dsn("get", name, "-o", out, "--force", home=client).check()
    assert out.read_bytes() == (tmp_path / "file").read_bytes()


def everything_ends(folder: Path) -> None:
    """One is frozen and one was killed without anybody noticing."""
    before = pids(folder)
    os.kill(before["node1"] or 0, signal.SIGSTOP)
    os.kill(before["node4"] or 0, signal.SIGKILL)
    ended = dsn("devnet", "down", "--dir", folder).check()
    assert not any(alive(pid) for pid in before.values())
    assert set(pids(folder).values()) == {None}
    assert any("node1" in line for line in ended.err)
    assert "0 processes stopped" in dsn("devnet", "down", "--dir", folder).check().text


def data_survives_even_a_moved_port(folder: Path, client: Path, name: str, tmp_path: Path) -> None:
    old = described(folder)["processes"]
    host, _, port = old[4]["address"].rpartition(":")
    with socket.create_server((host, int(port))):
        up(folder)
    new = described(folder)["processes"]
    moved = [a["name"] for a, b in zip(old, new, strict=True) if a["address"] != b["address"]]
    assert moved == ["node5"]
    for one in new[:3]:
        dsn("devnet", "stop", one["name"], "--dir", folder).check()
    reads_it_back(client, name, tmp_path)  # two of five shards: node5's among them, if placed there


def test_a_folder_with_other_things_is_left_alone(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").touch()
    refused = dsn("devnet", "up", "--free", "--dir", folder).check(2)
    assert len(refused.err) == 2
    assert [path.name for path in folder.iterdir() if path.name != "devnet.lock"] == ["thesis.tex"]


@pytest.mark.parametrize("command", [("down",), ("status",), ("stop", "node1"), ("start", "node1")])
def test_no_network_there(folder: Path, command: tuple[str, ...]) -> None:
    refused = dsn("devnet", *command, "--dir", folder).check(3)
    assert refused.err[1] == f"hint: create one: dsn devnet up --dir {folder}"
    assert not folder.exists()


@pytest.mark.parametrize("flag", [("--chain",), ("--epoch-s", "5")], ids=" ".join)
def test_what_is_the_ledgers_has_no_place_without_one(folder: Path, flag: tuple[str, ...]) -> None:
    refused = dsn("devnet", "up", "--free", "--dir", folder, "--nodes", "1", *flag).check(2)
    assert "--free has none" in refused.err[0]
    assert not (folder / "devnet.json").exists()
