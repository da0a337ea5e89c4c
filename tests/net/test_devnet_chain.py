"""A local network that settles on a local EVM node: up, paid for, down, killed, up again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.net.local import described, down, dsn
from tests.support.evm import anvil_program, missing


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the network goes; whatever runs there ends with the test."""
    program = anvil_program()
    if program is None or missing():
        pytest.skip(missing())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "anvil").symlink_to(Path(program).resolve())
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    yield tmp_path / "net"
    down(tmp_path / "net")


def chain_of(folder: Path) -> dict[str, Any]:
    """The local chain's process."""
    found: dict[str, Any] = next(
        each for each in described(folder)["processes"] if each["role"] == "chain"
    )
    return found


def test_a_network_on_a_chain_pays_from_what_was_deposited(folder: Path, tmp_path: Path) -> None:
    """Each part needs the one before, and starting processes is what takes the time."""
    words = ("--nodes", "2", "--capacity", "1GB", "--epoch-s", "4", "--chain")
    fields = dsn("devnet", "up", "--dir", folder, *words, "--json").check().fields
    assert fields == described(folder)
    assert [each["role"] for each in fields["processes"]].count("chain") == 1
    client = Path(fields["client_home"])
    everybody_has_credits_of_the_deposit(folder)
    stores_a_file(client, tmp_path)
    what_stands_survives_the_end_of_the_chain(folder)


def everybody_has_credits_of_the_deposit(folder: Path) -> None:
    for home in (folder / "client", folder / "node1"):
        balance = dsn("wallet", "balance", "--json", home=home).check().fields
        assert int(balance["available"]) > 0
    history = dsn("wallet", "history", home=folder / "operator").check().text
    assert "deposit" in history


def stores_a_file(client: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(100_000))
    stored = dsn("put", tmp_path / "file", "--scheme", "1/2", "--json", home=client).check().fields
    assert stored["placed"] == 2


def what_stands_survives_the_end_of_the_chain(folder: Path) -> None:
    """Also one that nobody asked to stop: the contracts are where they were."""
    dsn("devnet", "wait", "--dir", folder, "--epochs", "1").check()
    before = chain_of(folder)
    os.kill(before["pid"], signal.SIGKILL)
    dsn("devnet", "up", "--dir", folder).check()
    after = chain_of(folder)
    assert after["pid"] != before["pid"]
    assert after["address"] == before["address"]
    dsn("devnet", "wait", "--dir", folder, "--epochs", "1").check()
    dsn("devnet", "down", "--dir", folder).check()
    assert chain_of(folder)["pid"] is None
