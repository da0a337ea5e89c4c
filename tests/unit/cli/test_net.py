"""``dsn net``: what it writes and prints, and one line for everything that is wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from dsn.apps.bootstrap.dns import parse_txt
from dsn.apps.networks import format_contact
from dsn.apps.provider import identity
from dsn.cli.main import main
from dsn.dht.contact import Contact
from dsn.dht.network import Network, parse_network
from dsn.ids import format_base32, format_node_id
from dsn.runtime.control import control_socket
from dsn.store.home import Home
from tests.support.records import key, node, node_record

FIRST, SECOND = (Contact(key(number).public, f"127.0.0.{number}:7077") for number in (11, 12))
CLOSED = Contact(key(13).public, "127.0.0.1:1")
KEY = format_base32(node(1))


class Dsn:
    """``dsn`` on one home, in this process."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self._capsys = home, capsys

    def __call__(self, *args: str | Path) -> tuple[int, str, list[str]]:
        """Exit code, standard output and the lines on standard error."""
        code = main(["--home", str(self.home), *map(str, args)])
        out, err = self._capsys.readouterr()
        return code, out, err.splitlines()

    def fields(self, *args: str | Path) -> dict[str, Any]:
        """The object that a command which succeeds prints."""
        code, out, err = self(*args, "--json")
        assert code == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    def refused(self, code: str, *args: str | Path) -> int:
        """Exit code of a command that fails with ``code``, in one line and perhaps a hint."""
        exit_code, out, err = self(*args, "--json")
        assert json.loads(out)["error"]["code"] == code, out
        assert err[0].startswith("dsn: ")
        assert len(err) == 1 or (len(err) == 2 and err[1].startswith("hint: ")), err
        return exit_code


@pytest.fixture
def dsn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Dsn:
    Home.create(tmp_path / "home", b"r" * 32)
    return Dsn(tmp_path / "home", capsys)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "n.toml"


def read(file: Path) -> Network:
    return parse_network(file.read_text())


# create


def test_a_network_is_founded(dsn: Dsn, file: Path) -> None:
    made = dsn.fields(
        "net", "create", "mine", "-o", file, "--contact", format_contact(FIRST),
        "--contact", format_contact(SECOND), "--dns", "seed.example", "--group", "node",
        "--loopback", "--shard-records",
    )  # fmt: skip
    network = read(file)
    assert made == {
        "file": str(file),
        "name": "mine",
        "network": format_base32(network.network_id),
        "contacts": [FIRST.address, SECOND.address],
        "dns": ["seed.example"],
        "ledger": None,
        "witnesses": [],
    }
    genesis = network.genesis
    assert (network.contacts, network.dns) == ((FIRST, SECOND), ("seed.example",))
    assert (genesis.address_limits, genesis.shard_records) == (False, True)
    assert genesis.placement_group == "node"
    assert genesis.operator_public == identity(Home.open(dsn.home), None).public


def test_by_default_a_network_has_limits(dsn: Dsn, file: Path) -> None:
    code, out, err = dsn("net", "create", "mine", "-o", file)
    assert (code, out) == (0, f"{file}: mine, 0 contacts\n")
    assert err == ["nobody can find it yet: dsn net update FILE --contact KEY@HOST:PORT"]
    genesis = read(file).genesis
    assert (genesis.address_limits, genesis.shard_records) == (True, False)
    assert genesis.placement_group == "subnet"


def test_a_file_is_not_replaced_by_accident(dsn: Dsn, file: Path) -> None:
    dsn.fields("net", "create", "mine", "-o", file)
    before = read(file)
    assert dsn.refused("output_exists", "net", "create", "other", "-o", file) == 2
    assert read(file) == before
    dsn.fields("net", "create", "other", "-o", file, "--force")
    assert read(file).genesis.name == "other"


@pytest.mark.parametrize(
    ("code", "args"),
    [
        ("bad_network_file", ["two words"]),
        ("bad_network_file", ["x" * 65]),
        ("bad_network_file", ["ok", "--dns", "no name"]),
        ("bad_network_file", ["ok", *["--contact", format_contact(FIRST)] * 2]),
        ("bad_contact", ["ok", "--contact", FIRST.address]),
        ("bad_contact", ["ok", "--contact", format_contact(FIRST) + "1"]),
        ("usage", ["ok", "--group", "planet"]),
        ("usage", []),
    ],
)
def test_what_makes_no_network_leaves_no_file(
    dsn: Dsn, file: Path, code: str, args: list[str]
) -> None:
    assert dsn.refused(code, "net", "create", *args, "-o", file) == 2
    assert not file.exists()


def test_a_network_needs_keys_and_a_place(dsn: Dsn, file: Path) -> None:
    assert dsn.refused("not_found", "net", "create", "mine", "-o", file.parent / "no" / "x") == 3
    dsn.home = dsn.home / "none"
    assert dsn.refused("no_keys", "net", "create", "mine", "-o", file) == 2
    assert not file.exists()


# update


def test_ways_in_are_changed(dsn: Dsn, file: Path) -> None:
    made = dsn.fields("net", "create", "mine", "-o", file, "--contact", format_contact(FIRST))
    changed = dsn.fields(
        "net", "update", file, "--contact", format_contact(SECOND), "--dns", "seed.example",
        "--drop", FIRST.address,
    )  # fmt: skip
    assert changed == made | {"contacts": [SECOND.address], "dns": ["seed.example"]}
    assert read(file).contacts == (SECOND,)


def test_what_changes_nothing_is_refused(dsn: Dsn, file: Path) -> None:
    dsn.fields("net", "create", "mine", "-o", file, "--contact", format_contact(FIRST))
    before = file.read_bytes()
    assert dsn.refused("not_found", "net", "update", file, "--drop", SECOND.address) == 3
    assert dsn.refused("bad_contact", "net", "update", file, "--contact", "x") == 2
    Home.create(dsn.home.parent / "stranger", b"s" * 32)
    dsn.home = dsn.home.parent / "stranger"
    assert dsn.refused("not_operator", "net", "update", file, "--drop", FIRST.address) == 2
    assert file.read_bytes() == before


def test_a_file_that_is_no_network(dsn: Dsn, file: Path) -> None:
    assert dsn.refused("not_found", "net", "update", file) == 3
    for raw in (b"", b"\xff\xfe", b"[genesis]\n", b"\x00" * 100):
        file.write_bytes(raw)
        assert dsn.refused("bad_network_file", "net", "update", file) == 2
        assert file.read_bytes() == raw
    dsn.fields("net", "create", "mine", "-o", file, "--force")
    file.write_text(file.read_text().replace('"mine"', '"ours"'))
    assert dsn.refused("bad_network_signature", "net", "update", file) == 2


# peers, trace and txt: of the node that runs


@contextmanager
def node_answers(home: Path, answer: Callable[[str], Any]) -> Iterator[list[str]]:
    """A process on the control socket of ``home``; gives the questions it was asked."""
    asked: list[str] = []

    async def reply(question: str) -> Any:
        asked.append(question)
        return answer(question)

    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    path = Home.open(home).control_socket
    opened = control_socket(path, reply)
    try:
        asyncio.run_coroutine_threadsafe(opened.__aenter__(), loop).result()
        yield asked
        asyncio.run_coroutine_threadsafe(opened.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


PEER = {
    "node_id": format_node_id(node(1)),
    "address": "127.0.0.1:7077",
    "bucket": 255,
    "source": "lan",
    "latency_ms": None,
    "score": 0.5,
    "answered_s": None,
}
HOP = {
    "node_id": format_node_id(node(2)),
    "address": "127.0.0.2:7077",
    "path": 0,
    "depth": 1,
    "shared_bits": 3,
    "asked_ms": 0.1,
    "took_ms": 1.25,
    "outcome": "answered",
    "records": 1,
}
FOUND = {
    "key": KEY,
    "found": [{"kind": "node", "addresses": ["127.0.0.9:1"], "roles": [], "sequence": 1}],
    "depth": 1,
    "calls": 1,
    "milliseconds": 1.5,
    "hops": [HOP],
}


def test_the_nodes_contacts_are_listed(dsn: Dsn) -> None:
    with node_answers(dsn.home, lambda _: {"peers": [PEER, PEER | {"latency_ms": 1.5}]}) as asked:
        code, out, err = dsn("net", "peers")
        assert dsn.fields("net", "peers") == {"peers": [PEER, PEER | {"latency_ms": 1.5}]}
    assert (code, err, asked) == (0, ["2 nodes"], ["peers", "peers"])
    assert PEER["address"] in out and "lan" in out and "1.5 ms" in out
    assert str(PEER["node_id"])[:16] in out


def test_each_step_is_shown(dsn: Dsn) -> None:
    nothing = FOUND | {"found": [], "hops": [HOP | {"outcome": "failed", "records": 0}]}
    with node_answers(dsn.home, lambda _: {"traces": [FOUND, nothing]}) as asked:
        code, out, err = dsn("net", "trace", format_node_id(node(1)), KEY, "--paths", "4")
        assert dsn("net", "trace", KEY, KEY, "--json")[0] == 3
    assert (code, err) == (3, []), "one of them is not found"
    assert asked == [f"trace 4 {KEY} {KEY}", f"trace 1 {KEY} {KEY}"]
    assert f"n{KEY}"[:16] + ": node at 127.0.0.9:1, 1 call in 1.5 ms" in out
    assert f"{KEY[:16]}: nothing, 1 call" in out
    assert "record" in out and "failed" in out and HOP["address"] in out
    with node_answers(dsn.home, lambda _: {"traces": [FOUND]}):
        assert dsn("net", "trace", KEY, "--json")[0] == 0


def test_the_txt_record_holds_the_nodes_own(dsn: Dsn) -> None:
    raw = node_record(3).encode()
    with node_answers(dsn.home, lambda _: {"record": format_base32(raw)}):
        code, out, _ = dsn("net", "txt")
        assert dsn.fields("net", "txt") == {"txt": out.strip()}
    assert code == 0
    strings = [part.strip('"').encode() for part in out.strip().split('" "')]
    assert parse_txt(strings) == raw


@pytest.mark.parametrize("damaged", [{"error": "unknown command"}, {}, [], "peers", None])
@pytest.mark.parametrize("args", [("peers",), ("trace", KEY), ("txt",)])
def test_an_answer_that_is_none_is_refused(
    dsn: Dsn, damaged: object, args: tuple[str, ...]
) -> None:
    with node_answers(dsn.home, lambda _: damaged):
        assert dsn.refused("malformed_message", "net", *args) == 4


@pytest.mark.parametrize(
    "text", ["", "nobody", KEY + "a", "ä" * 52, "n" * 5_000, "dsn:read:aaaa:bbbb"]
)
def test_nothing_is_asked_for_what_is_no_key(dsn: Dsn, text: str) -> None:
    with node_answers(dsn.home, lambda _: {"traces": []}) as asked:
        code, out, err = dsn("net", "trace", KEY, text, "--json")
    assert (code, asked) == (2, [])
    assert json.loads(out)["error"]["code"] in ("bad_key", "bad_capability")
    assert len(err) == 2
    assert dsn.refused("usage", "net", "trace", KEY, "--paths", "9") == 2
    assert dsn.refused("usage", "net", "trace") == 2


# without a node: the home's client


@pytest.mark.parametrize("args", [("peers",), ("trace", KEY)])
def test_without_a_node_the_client_looks_itself(
    dsn: Dsn, file: Path, args: tuple[str, ...]
) -> None:
    """Nobody answers here: peers has nothing to show, and a key is not found."""
    assert dsn.refused("no_network", "net", *args) == 2
    contact = format_contact(CLOSED)
    dsn.fields("net", "create", "mine", "-o", file, "--loopback", "--contact", contact)
    dsn.fields("join", file)
    if args[0] == "peers":
        assert dsn.refused("unreachable", "net", *args) == 7
        return
    code, out, _ = dsn("net", *args, "--json")
    (found,) = json.loads(out)["traces"]
    assert (code, found["found"]) == (3, [])
    assert [(hop["address"], hop["outcome"]) for hop in found["hops"]] == [
        (CLOSED.address, "failed")
    ]


def test_a_dead_nodes_socket_is_nobody(dsn: Dsn, file: Path) -> None:
    Home.open(dsn.home).control_socket.touch()
    assert dsn.refused("not_running", "net", "txt") == 7
    assert dsn.refused("no_network", "net", "peers") == 2
    Home.open(dsn.home).control_socket.unlink()
    assert dsn.refused("not_running", "net", "txt") == 7
