"""``dsn provider`` as a real process: it starts, stops, crashes and comes back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dsn.apps.node.service import SERVICE
from dsn.cli.main import main
from dsn.errors import DsnError
from dsn.ids import NO_DEAL
from dsn.ledger.revision import first_revision
from dsn.store.home import Home
from dsn.units import MIB
from tests.support.node_process import (
    NodeProcess,
    dsn,
    environment,
    prepare,
    running_process,
)
from tests.support.node_world import Client, Shard, shards


def call(home: Home, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        dsn(home, *words), capture_output=True, text=True, check=False, env=environment()
    )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return prepare(tmp_path / "home")


async def test_a_node_serves_until_it_is_told_to_stop(home: Home) -> None:
    (shard,) = shards(100_000)
    async with running_process(home) as node:
        async with node.client() as client:
            await client.put(shard)
        status = json.loads(
            (await asyncio.to_thread(call, home, "--json", "provider", "status")).stdout
        )
        assert status["address"] == node.contact.address
        assert status["shards"] == 1
        parts = ("used", "reserved", "trash", "overhead", "free", "withheld")
        assert sum(status[part] for part in parts) == status["capacity"]
        assert await node.end(signal.SIGTERM) == 0
    gone = await asyncio.to_thread(call, home, "--json", "provider", "status")
    assert json.loads(gone.stdout)["error"]["code"] == "not_running"
    assert gone.returncode == 7


async def test_health_is_served_to_standard_tools(home: Home) -> None:
    async with running_process(home) as node, node.client() as client:
        health = health_pb2_grpc.HealthStub(client.peer._line._channel)
        for name in ("", SERVICE):
            reply = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_log_is_structured_and_holds_no_secret(tmp_path: Path) -> None:
    home = prepare(tmp_path / "home")
    log = tmp_path / "node.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *dsn(home, "provider", "run"),
            stdout=asyncio.subprocess.PIPE,
            stderr=out,
            env=environment(),
        )
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line.startswith("node n")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    events = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert [event["event"] for event in events] == ["started", "joined", "stopped"]
    assert (b"R" * 32).hex() not in log.read_text("utf-8")


async def test_a_second_process_on_the_same_home_is_refused(home: Home) -> None:
    async with running_process(home) as node:
        second = await asyncio.to_thread(call, home, "--json", "provider", "run")
        error = json.loads(second.stdout)["error"]
        assert error["code"] == "home_in_use"
        assert error["message"].startswith(f"the home {home.path} ")
        assert second.returncode == 2
        async with node.client() as client:
            await client.peer.get_terms()


async def test_a_port_in_use_is_one_line(home: Home, tmp_path: Path) -> None:
    async with running_process(home) as node:
        other = prepare(tmp_path / "other", listen=node.contact.address)
        second = await asyncio.to_thread(call, other, "provider", "run")
    assert second.returncode == 2
    first, *_ = second.stderr.splitlines()
    assert first == f"dsn: {node.contact.address} is in use by another process"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--capacity", "900000TB"), "capacity_too_large"),
        (("--capacity", "1MB"), "bad_capacity"),
        (("--capacity", "much"), "bad_size"),
        (("--capacity", "1GB", "--listen", "nowhere"), "bad_address"),
    ],
)
def test_an_offer_that_cannot_be_kept(
    home: Home, words: tuple[str, ...], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (home.path / "dsn.toml").read_text()
    assert main(["--home", str(home.path), "--json", "provider", "init", *words]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert (home.path / "dsn.toml").read_text() == before


def test_init_says_who_the_node_is_and_keeps_other_settings(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = home.path / "dsn.toml"
    settings.write_text('[client]\nscheme = "4/6"\n')
    words = ["--home", str(home.path), "--json", "provider", "init", "--capacity", "1GB"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["node_id"].startswith("n")
    assert said["capacity"] == 10**9
    assert 'scheme = "4/6"' in settings.read_text()


def test_a_home_that_offers_nothing_does_not_run(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    (home.path / "dsn.toml").unlink()
    assert main(["--home", str(home.path), "--json", "provider", "run"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "no_capacity"


# crashes


async def put_until_killed(
    client: Client, group: list[Shard], node: NodeProcess, after: int
) -> int:
    """Put over one stream, kill the node at receipt ``after``; gives how many receipts came."""
    stream = client.peer.put_shards()

    async def send() -> None:
        for shard in group:
            for message in shard.messages():
                await stream.write(message)

    receipts = 0
    sending = asyncio.create_task(send())
    try:
        while True:
            (receipt,) = await client.receipts(stream)
            assert receipt.commit == group[receipts].commit
            receipts += 1
            if receipts == after:
                os.kill(node.process.pid, signal.SIGKILL)
    except DsnError:
        return receipts
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.parametrize(("size", "after"), [(3_000, 40), (2 * MIB + 5, 3)])
async def test_every_receipt_outlives_a_kill(home: Home, size: int, after: int) -> None:
    group = shards(*[size] * (after * 3))
    async with running_process(home) as node, node.client() as client:
        receipts = await put_until_killed(client, group, node, after)
    assert after <= receipts < len(group)
    async with running_process(home) as node, node.client() as client:
        for shard in group[:receipts]:
            assert await client.get(shard.commit, 0, size) == shard.data


async def test_a_countersigned_revision_outlives_a_kill(home: Home) -> None:
    group = shards(700, 70_000)
    async with running_process(home) as node, node.client() as client:
        await client.put(*group)
        request = client.request(first_revision(NO_DEAL), group, group)
        first = await client.peer.revise(request)
        await node.end(signal.SIGKILL)
    async with running_process(home) as node, node.client() as client:
        again = await client.peer.revise(request)
    assert again.SerializeToString() == first.SerializeToString()
