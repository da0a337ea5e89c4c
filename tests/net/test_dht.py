"""A network that knows one address to start from: real processes, nothing but the DHT."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dsn.ids import parse_base32
from tests.net.local import described, down, dsn

NODES = 10


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A running network; whatever runs there ends with the test."""
    folder = tmp_path / "net"
    dsn("devnet", "up", "--free", "--dir", folder, "--nodes", str(NODES)).check()
    yield folder
    down(folder)


def processes(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = described(folder)["processes"]
    return found


def trace(home: Path | str, *targets: str) -> list[dict[str, Any]]:
    done = dsn("net", "trace", *targets, "--json", home=Path(home))
    assert done.code in (0, 3), done.err
    found: list[dict[str, Any]] = done.fields["traces"]
    return found


def addresses(found: dict[str, Any]) -> set[str]:
    return {address for record in found["found"] for address in record["addresses"]}


def test_the_life_of_a_network_without_a_list(folder: Path, tmp_path: Path) -> None:
    """Each part needs the one before, and starting processes is what takes the time."""
    every_node_finds_every_node(folder)
    data = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(data)
    link = dsn("put", tmp_path / "file", home=folder / "client").check().text.strip()
    a_fresh_home_needs_only_the_link(folder, tmp_path, link, data)
    a_node_that_moved_is_found_where_it_is(folder)
    known = tmp_path / "known"
    dsn("init", "--network", folder / "network.toml", home=known).check()
    dsn("get", link, "-o", tmp_path / "first", home=known).check()
    the_bootstrap_node_is_killed(folder)
    dsn("get", link, "-o", tmp_path / "second", home=known).check()
    assert (tmp_path / "second").read_bytes() == data
    newcomers_without_it_are_told_what_to_do(folder, tmp_path, link)


def every_node_finds_every_node(folder: Path) -> None:
    """The network file names one of them."""
    network = (folder / "network.toml").read_text()
    assert network.count("[[contacts]]") == 1
    all_of_them = processes(folder)
    ids = [process["node_id"] for process in all_of_them]
    for process in all_of_them:
        for sought, found in zip(all_of_them, trace(process["home"], *ids), strict=True):
            assert addresses(found) == {sought["address"]}, (process["name"], sought["name"])


def a_fresh_home_needs_only_the_link(folder: Path, tmp_path: Path, link: str, data: bytes) -> None:
    fresh = tmp_path / "fresh"
    dsn("init", "--network", folder / "network.toml", home=fresh).check()
    dsn("get", link, "-o", tmp_path / "got", home=fresh).check()
    assert (tmp_path / "got").read_bytes() == data
    assert dsn("check", link, "--json", home=fresh).check().fields["state"] == "healthy"
    assert dsn("info", link, "--json", home=fresh).check().fields["size"] == len(data)
    shared = dsn("share", link, "--verify", home=fresh).check().text.strip()
    assert shared.startswith("dsn:verify:")
    (found,) = trace(fresh, link)
    assert {record["kind"] for record in found["found"]} == {"pointer"}


def a_node_that_moved_is_found_where_it_is(folder: Path) -> None:
    dsn("devnet", "stop", "node4", "--dir", folder).check()
    old = processes(folder)[3]["address"]
    host, _, port = old.rpartition(":")
    with socket.create_server((host, int(port))):
        dsn("devnet", "start", "node4", "--dir", folder).check()
    moved = processes(folder)[3]
    assert moved["address"] != old
    for process in processes(folder):
        (found,) = trace(process["home"], moved["node_id"])
        assert addresses(found) == {moved["address"]}, process["name"]


def the_bootstrap_node_is_killed(folder: Path) -> None:
    first = processes(folder)[0]
    assert described(folder)["bootstrap"] == first["address"]
    os.kill(first["pid"], signal.SIGKILL)


def newcomers_without_it_are_told_what_to_do(folder: Path, tmp_path: Path, link: str) -> None:
    late = tmp_path / "late"
    dsn("init", "--network", folder / "network.toml", home=late).check()
    done = dsn("get", link, "-o", tmp_path / "none", "--json", home=late).check(7)
    assert done.fields["error"]["code"] == "unreachable"
    assert "dsn doctor --net" in done.fields["error"]["hint"]
    assert not (tmp_path / "none").exists()


def test_a_node_of_another_network_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    """Its operator points at our bootstrap node; neither side takes the other in."""
    first = processes(folder)[0]
    key = dsn("provider", "status", "--json", home=Path(first["home"])).check().fields
    operator = tmp_path / "operator"
    dsn("init", home=operator).check()
    contact = f"{key['public_key']}@{first['address']}"
    made = dsn(
        "net", "create", "other", "-o", tmp_path / "other.toml", "--loopback",
        "--contact", contact, "--json", home=operator,
    ).check().fields  # fmt: skip
    dsn("join", tmp_path / "other.toml", home=operator).check()
    (tmp_path / "file").write_bytes(b"x" * 10_000)
    done = dsn("put", tmp_path / "file", "--json", home=operator).check(2)
    assert done.fields["error"]["code"] == "other_network"
    assert parse_base32(made["network"]).hex() in done.fields["error"]["message"]


def test_hostile_text_where_keys_are_expected(folder: Path) -> None:
    for text, code in (
        ("n" + "a" * 52, 3),
        ("dsn:read:aaaa:bbbb", 2),
        ("nobody", 2),
        ("ä" * 52, 2),
        ("n" * 5_000, 2),
    ):
        done = dsn("net", "trace", text, "--json", home=folder / "client").check(code)
        assert json.loads(done.out)
