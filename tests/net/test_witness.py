"""Real witnesses of a real ledger, over real ports, and one in a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dsn.apps.ledger.asking import Asking
from dsn.apps.witness.source import LedgerSource
from dsn.core.hashing import sha256
from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact
from dsn.dht.network import format_network
from dsn.errors import (
    ConfigError,
    DataLost,
    DsnError,
    MalformedMessage,
    NotFound,
    PeerError,
    UsageError,
)
from dsn.ids import NetworkId
from dsn.ledger.bodies import Transfer
from dsn.ledger.checkpoint import (
    NoteSignature,
    SignedCheckpoint,
    format_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
    sign_root,
)
from dsn.ledger.cosignature import cosigned_at
from dsn.ledger.evidence import convict, decode_evidence
from dsn.ledger.tiles import decode_bundle
from dsn.ledger.trust import witness_key
from dsn.rpc.channel import Connections
from dsn.rpc.ledger import LEDGER_SERVICE
from dsn.rpc.limits import Limits
from dsn.rpc.server import Server, Unary
from dsn.rpc.tls import Caller
from dsn.runtime.clock import SystemClock
from dsn.runtime.control import ask_control
from dsn.store.home import Home
from dsn.v1 import ledger_pb2
from tests.net.local import dsn
from tests.support.ledger_net import (
    LOG_KEY,
    OPERATOR,
    PATIENCE_S,
    ledger_served,
)
from tests.support.witness_town import KEYS, PAYEE, PAYER, ROOTS, Town, living, reaches, town_of


async def test_a_ledger_is_published_because_its_witnesses_replayed_it(tmp_path: Path) -> None:
    async with living(tmp_path, 2, 2) as (town, served):
        await served.enter(PAYER, *[Transfer(PAYEE.address, 1)] * 200)
        await served.enter(PAYER, *[Transfer(PAYEE.address, 1)] * 50)
        assert await served.next_epoch(2) == 3
        for number in range(2):
            status = await reaches(town, number, served.ledger.desk.size)
            assert (status["epoch"], status["undated"], status["let_through"]) == (3, [], 0)
            assert not (town.folder(number) / "evidence").exists()
        async with served.peer() as peer:
            published = parse_checkpoint((await peer.get_checkpoint()).checkpoint)
        town.trust.verify(published, int(SystemClock().now_s()))


async def test_one_witness_of_three_may_be_away_and_catches_up(tmp_path: Path) -> None:
    async with living(tmp_path, 3, 2) as (town, served):
        await served.enter(PAYER, Transfer(PAYEE.address, 1))
        await town.stop(2)
        await served.next_epoch(2)
        await served.enter(PAYER, *[Transfer(PAYEE.address, 1)] * 200)
        await served.enter(PAYER, *[Transfer(PAYEE.address, 1)] * 50)
        await town.start(2)
        status = await reaches(town, 2, served.ledger.desk.size)
        assert (status["epoch"], status["undated"], status["let_through"]) == (3, [], 0)
        await served.next_epoch()


async def test_anybody_may_bring_a_checkpoint_and_a_forked_one_convicts(tmp_path: Path) -> None:
    stranger = SigningKey(b"\x77" * 32)
    async with living(tmp_path, 2, 2) as (town, served):
        await served.enter(PAYER, Transfer(PAYEE.address, 1))
        async with served.peer() as peer:
            published = parse_checkpoint((await peer.get_checkpoint()).checkpoint)
        async with town.peer(0, stranger) as witness:
            reply = await witness.cosign(format_checkpoint(published))
            line = NoteSignature(reply.name, reply.key_id, reply.signature)
            assert cosigned_at(published.signed(line), witness_key(KEYS[0].public)) is not None
            forked = _operator_says(town, published, root=sha256(b"another log"))
            with pytest.raises(PeerError) as failure:
                await witness.cosign(format_checkpoint(forked))
            unsigned = SignedCheckpoint(forked.checkpoint, published.signatures[:1])
            with pytest.raises(DsnError) as spoiled:
                await witness.cosign(format_checkpoint(unsigned))
            with pytest.raises(DsnError) as asked:
                await witness.get_salt(1)
        assert failure.value.detail_code == "forked_ledger"
        conviction = convict(decode_evidence(failure.value.evidence), town.trust)
        assert conviction.accused == town.trust.operator
        [kept] = (town.folder(0) / "evidence").iterdir()
        assert kept.read_bytes() == failure.value.evidence
        assert spoiled.value.detail_code in ("invalid_signature", "unsigned_checkpoint")
        assert asked.value.detail_code == "not_the_operator"
        await served.next_epoch()


def _operator_says(town: Town, true: SignedCheckpoint, *, root: bytes) -> SignedCheckpoint:
    said = replace(true.checkpoint, root=root)
    lines = (
        sign_checkpoint(said, town.trust.operator, LOG_KEY.sign),
        sign_root(said, town.trust.params.domain, OPERATOR),
    )
    return SignedCheckpoint(said, lines)


class Meagre:
    """A ledger whose bundles are too large for any call; its leaves come one at a time."""

    def __init__(self, leaves: list[bytes], refusal: DsnError) -> None:
        self.leaves, self._refusal = leaves, refusal

    def methods(self) -> tuple[Unary, ...]:
        at = f"/{LEDGER_SERVICE}/"
        return (
            Unary(at + "GetTile", ledger_pb2.GetTileRequest, self._tile),
            Unary(at + "GetProof", ledger_pb2.GetProofRequest, self._proof),
            Unary(at + "GetCheckpoint", ledger_pb2.GetCheckpointRequest, self._checkpoint),
        )

    async def _tile(self, *_: object) -> ledger_pb2.GetTileReply:
        raise self._refusal

    async def _checkpoint(self, *_: object) -> ledger_pb2.GetCheckpointReply:
        raise NotFound("nothing yet")

    async def _proof(
        self, caller: Caller, request: ledger_pb2.GetProofRequest
    ) -> ledger_pb2.GetProofReply:
        assert request.size == len(self.leaves)
        return ledger_pb2.GetProofReply(leaf=self.leaves[request.index])


@asynccontextmanager
async def source_of(ledger: Meagre) -> AsyncIterator[LedgerSource]:
    """What a witness reads it through."""
    network = NetworkId(bytes(32))
    server = Server(LOG_KEY, network, ledger.methods(), Limits(address_limits=False))
    contact = Contact(LOG_KEY.public, await server.start("127.0.0.1:0"))
    try:
        async with Connections(KEYS[0], network) as connections:
            yield LedgerSource(Asking(contact, connections, SystemClock(), 0.0))
    finally:
        await server.stop(0)


async def test_leaves_too_large_for_one_message_come_one_by_one() -> None:
    leaves = [bytes([n]) * 20_000 for n in range(5)]
    ledger = Meagre(leaves, MalformedMessage("1,500,000 bytes", code="too_large"))
    async with source_of(ledger) as source:
        assert decode_bundle(await source.read("tile/entries/000.p/5"), 5) == leaves
        assert await source.read("checkpoint") == b""
        ledger.leaves[3] = bytes(1 << 16)
        with pytest.raises(PeerError) as failure:
            await source.read("tile/entries/000.p/5")
    assert failure.value.detail_code == "malformed_message"


async def test_what_a_ledger_refuses_with_is_never_taken_for_a_fault_of_this_disk() -> None:
    for refusal in (DataLost("x"), ConfigError("x"), UsageError("x")):
        async with source_of(Meagre([], refusal)) as source:
            with pytest.raises(PeerError) as failure:
                await source.read("tile/0/000")
            assert failure.value.detail_code == "ledger_refused"


async def test_a_killed_witness_process_goes_on_and_never_contradicts_itself(
    tmp_path: Path,
) -> None:
    town = town_of(tmp_path, 1, 1)
    home = Home.create(tmp_path / "home", ROOTS[0])
    home.save_network(format_network(town.network))
    async with AsyncExitStack() as held:
        process = await _run(home, town, held)
        served = await held.enter_async_context(
            ledger_served(tmp_path / "op", network=town.network)
        )
        for _ in range(2):
            entering = asyncio.create_task(served.enter(PAYER, *[Transfer(PAYEE.address, 1)] * 100))
            await asyncio.sleep(0)
            process.send_signal(signal.SIGKILL)
            await process.wait()
            process = await _run(home, town, held)
            await entering
        status = await ask_control(home.control_socket, "status")
        assert status["size"] == served.ledger.desk.size
        assert not (home.path / "evidence").exists()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def _run(home: Home, town: Town, held: AsyncExitStack) -> Process:
    """``dsn witness run``, once it serves."""
    listen = town.network.witnesses[0].address
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "dsn", "--home", str(home.path), "--json"],
        *["witness", "run", "--listen", listen],
        stdout=PIPE,
    )
    held.callback(_kill, process)
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        ready = json.loads(await process.stdout.readline())
    assert ready["address"] == listen
    return process


def _kill(process: Process) -> None:
    if process.returncode is None:
        process.kill()


def test_a_home_that_is_no_witness_is_told_so(tmp_path: Path) -> None:
    town = town_of(tmp_path, 1, 1)
    home = Home.create(tmp_path / "home", ROOTS[1])
    home.save_network(format_network(town.network))
    done = dsn("--json", "witness", "run", "--listen", "127.0.0.1:0", home=home.path)
    assert done.check(2).fields["error"]["code"] == "not_a_witness"
    assert not (home.path / "ledger").exists()
