"""``dsn ledger run`` as a process: killed, stopped, copied, and on homes that are not its own."""

from __future__ import annotations

import asyncio
import json
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from dsn.apps.devnet import free_port
from dsn.apps.ledger.check import check_store
from dsn.apps.ledgerd.backup import CHECKPOINT_FILE
from dsn.config import FILE_NAME
from dsn.core.keys import SigningKey
from dsn.dht.network import Genesis, Network, format_network, sign_network
from dsn.ledger.bodies import Transfer
from dsn.ledger.checkpoint import parse_checkpoint
from dsn.ledger.entry import Entry, sign_entry
from dsn.ledger.settlement import SettlementKey
from dsn.rpc.channel import Connections
from dsn.rpc.ledger import LedgerPeer
from dsn.runtime.control import ask_control
from dsn.store.home import Home
from dsn.store.ledger import open_ledger
from tests.net.local import dsn as run_dsn
from tests.support.ledger_net import LOG_KEY, ROOT, http_get, ledger_network
from tests.support.node_process import START_S, dsn, environment

ANN, BEN = (SettlementKey(bytes([n]) * 32) for n in (1, 2))
ALLOCATION = {ANN.address: 1_000, BEN.address: 5}


@dataclass
class LedgerProcess:
    """``dsn ledger run`` on a home."""

    process: asyncio.subprocess.Process
    ready: dict[str, str]

    async def end(self, number: signal.Signals) -> int:
        """Signal it and wait; gives its exit code."""
        self.process.send_signal(number)
        return await self.process.wait()


@asynccontextmanager
async def ledger_process(home: Path, *words: str) -> AsyncIterator[LedgerProcess]:
    """Run the ledger of ``home``; it is killed if the block leaves it alive."""
    process = await asyncio.create_subprocess_exec(
        *dsn(Home(home), "--json", "ledger", "run", *words), stdout=PIPE, env=environment()
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_S):
            ready = json.loads(await process.stdout.readline())
        yield LedgerProcess(process, ready)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def opened(home: Home) -> None:
    """Return once epoch 1 is open, and published."""
    async with asyncio.timeout(START_S):
        while True:
            if (await ask_control(home.control_socket, "status"))["published"]:
                return
            await asyncio.sleep(0.02)


def operator_home(path: Path) -> tuple[Home, Network]:
    """The operator's home, joined to a network whose ledger it runs."""
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    network = ledger_network(address, allocation=ALLOCATION)
    home = Home.create(path, ROOT)
    home.save_network(format_network(network))
    (path / FILE_NAME).write_text(f'[ledger]\nlisten = "{address}"\nhttp = "127.0.0.1:0"\n')
    return home, network


@asynccontextmanager
async def client_of(network: Network) -> AsyncIterator[LedgerPeer]:
    assert network.ledger is not None
    key = SigningKey(b"\x09" * 32)
    async with Connections(key, network.network_id) as connections:
        yield LedgerPeer(connections.line(network.ledger))


def payments(network: Network, first: int, count: int) -> list[tuple[bytes, bytes]]:
    params = network.ledger_params
    assert params is not None
    entries = [
        Entry(network.network_id, ANN.address, nonce, Transfer(BEN.address, 1))
        for nonce in range(first, first + count)
    ]
    return [(each.encode(), sign_entry(each, params.domain, ANN).signature) for each in entries]


async def test_what_was_acknowledged_survives_any_end(tmp_path: Path) -> None:
    home, network = operator_home(tmp_path / "home")
    record = tmp_path / "record.jsonl"
    words = ("--record", str(record))
    async with ledger_process(home.path, *words) as process, client_of(network) as peer:
        await opened(home)
        outcomes = await peer.submit([*payments(network, 1, 3), *payments(network, 1, 1)])
        assert [each.code for each in outcomes] == ["", "", "", "nonce_used"]
        assert await process.end(signal.SIGKILL) == -signal.SIGKILL
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [each["kind"] for each in lines] == ["open_epoch", *["transfer"] * 4]
    assert [each.get("refused") for each in lines] == [None, None, None, None, "nonce_used"]
    async with ledger_process(home.path, *words) as process, client_of(network) as peer:
        assert [each.code for each in await peer.submit(payments(network, 3, 2))] == [
            "nonce_used",
            "",
        ]
        await opened(home)
        status = await ask_control(home.control_socket, "status")
        assert (status["size"], status["epoch"], status["phase"]) == (5, 1, "open")
        assert status["refused"] == {"nonce_used": 1}
        assert (await http_get(process.ready["http"], "/checkpoint"))[0] == 200
        assert await process.end(signal.SIGTERM) == 0
    note = parse_checkpoint((home.state / CHECKPOINT_FILE).read_bytes())
    assert note.checkpoint.size == 5, "the last checkpoint covers all that was taken"
    with closing(open_ledger(str(home.path / "ledger"), signer=False)) as store:
        assert check_store(store, note.checkpoint).fault is None


async def test_a_copy_is_made_while_it_runs_and_an_old_one_is_not_gone_on_with(
    tmp_path: Path,
) -> None:
    home, network = operator_home(tmp_path / "home")
    old, new = tmp_path / "old", tmp_path / "new"
    async with ledger_process(home.path) as process, client_of(network) as peer:
        await opened(home)
        await peer.submit(payments(network, 1, 2))
        assert run_dsn("ledger", "backup", old, home=home.path).check().text.endswith("3 entries\n")
        await peer.submit(payments(network, 3, 2))
        assert await process.end(signal.SIGTERM) == 0
    run_dsn("ledger", "backup", new, home=home.path).check()
    assert (
        "ledger_exists" in run_dsn("--json", "ledger", "backup", new, home=home.path).check(2).text
    )
    assert (
        "ledger_exists" in run_dsn("--json", "ledger", "restore", new, home=home.path).check(2).text
    )
    (home.path / "ledger").rename(tmp_path / "lost")
    run_dsn("ledger", "restore", old, home=home.path).check()
    refused = run_dsn("--json", "ledger", "run", home=home.path).check(2)
    assert "ledger_behind" in refused.text
    (home.path / "ledger").rename(tmp_path / "old again")
    run_dsn("ledger", "restore", new, home=home.path).check()
    assert run_dsn("--json", "ledger", "check", home=home.path).check().fields["entries"] == 5
    async with ledger_process(home.path) as process, client_of(network) as peer:
        assert [each.code for each in await peer.submit(payments(network, 5, 1))] == [""]
        assert await process.end(signal.SIGTERM) == 0


def test_only_the_operators_home_runs_a_ledger(tmp_path: Path) -> None:
    _, network = operator_home(tmp_path / "home")
    other = Home.create(tmp_path / "other", b"X" * 32)
    other.save_network(format_network(network))
    assert "not_operator" in run_dsn("--json", "ledger", "run", home=other.path).check(2).text
    plain = Genesis("plain", 0, LOG_KEY.public, "node", address_limits=False)
    other.save_network(format_network(sign_network(plain, (), LOG_KEY.sign)))
    assert "no_ledger_here" in run_dsn("--json", "ledger", "run", home=other.path).check(2).text
