"""``dsn provider status`` and ``takeover``: what people read, and what a program reads."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from dsn.cli.main import main
from dsn.dht.network import format_network
from dsn.runtime.control import control_socket
from dsn.store.answers import open_answers
from dsn.store.home import Home
from tests.support.ledger_net import ledger_network

ROOT = b"paula".ljust(32, b"_")
STATUS: dict[str, Any] = {
    "node_id": "abc",
    "joined": True,
    "reachable": False,
    "refused_records": {},
    "used": 3 << 20,
    "epoch": 17,
    "last_link": 16,
    "epochs_proven": 15,
    "epochs_missed": 1,
    "next_proof_s": 42,
    "answers_bytes": 45 << 10,
    "earned": "1234567",
    "settlement": None,
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.create(tmp_path / "home", ROOT)
    home.save_network(format_network(ledger_network("127.0.0.1:1")))
    return home


async def status(
    home: Home, capsys: pytest.CaptureFixture[str], *options: str, **changes: Any
) -> str:
    """What is printed if the node says ``STATUS`` with ``changes``."""

    async def answer(command: str) -> dict[str, Any]:
        assert command == "status"
        return STATUS | changes

    call = ["--home", str(home.path), *options, "provider", "status"]
    async with control_socket(home.control_socket, answer):
        assert await asyncio.to_thread(main, call) == 0
    return capsys.readouterr().out


async def test_no_raw_values_on_the_screen(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split("  ", 1) for line in (await status(home, capsys)).splitlines()]
    shown = {name: value.strip() for name, value in lines}
    assert shown == {
        "node id": "abc",
        "joined": "yes",
        "reachable": "no",
        "refused records": "none",
        "used": "3 MiB",
        "epoch": "17",
        "last link": "16",
        "epochs proven": "15",
        "epochs missed": "1",
        "next proof": "in 42 s",
        "answers": "45 KiB",
        "earned": "1,234,567",
        "settlement": "unknown",
        "scores": "none",
    }


@pytest.mark.parametrize(("left_s", "text"), [(None, "nothing is held"), (0, "now"), (7, "in 7 s")])
async def test_when_the_next_proof_is_due(
    home: Home, capsys: pytest.CaptureFixture[str], left_s: int | None, text: str
) -> None:
    refused = {"stale_record": 3, "bad_expiry": 1}
    out = await status(home, capsys, next_proof_s=left_s, refused_records=refused)
    assert f"next proof       {text}\n" in out
    assert "refused records  stale_record 3, bad_expiry 1\n" in out


async def test_a_program_gets_the_values(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(await status(home, capsys, "--json")) == STATUS | {"scores": {}}


def takeover(home: Home, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code = main(["--home", str(home.path), "--json", "provider", "takeover"])
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert said.get("error", {}).get("exit", 0) == code
    return said


def test_a_takeover_waits(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert takeover(home, capsys) == {"home": str(home.path), "waiting": True}
    assert open_answers(home.state / "answers").waiting


async def test_no_takeover_while_the_node_runs(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    async with home.lock(wait=False):
        said = await asyncio.to_thread(takeover, home, capsys)
    assert said["error"]["code"] == "home_in_use"
    assert not (home.state / "answers").exists()


def test_no_takeover_where_nobody_proves(
    tmp_path: Path, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    from dsn.core.keys import SigningKey
    from dsn.dht.network import Genesis, sign_network

    key = SigningKey(b"f" * 32)
    bare = Home.create(tmp_path / "bare", ROOT)
    genesis = Genesis("bare", 0, key.public, "node", address_limits=False)
    bare.save_network(format_network(sign_network(genesis, [], key.sign)))
    assert takeover(bare, capsys)["error"]["code"] == "no_ledger_here"
