"""The ledger's calls over real connections: what is promised, proven and refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from dsn.apps.devnet import free_port
from dsn.apps.witness.run import serving as witnessing
from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact
from dsn.errors import (
    ConfigError,
    InvalidProof,
    InvalidSignature,
    LimitReached,
    MalformedMessage,
    NotFound,
    PeerError,
    TooMany,
    TransportError,
)
from dsn.ledger.binding import KeyBinding, sign_binding
from dsn.ledger.bodies import Transfer
from dsn.ledger.cells import AccountCell, CellKind, Phase
from dsn.ledger.checkpoint import (
    SignedCheckpoint,
    format_checkpoint,
    parse_checkpoint,
    verify_growth,
)
from dsn.ledger.log import LogLeaf, leaf_hash, verify_consistency_proof, verify_inclusion_proof
from dsn.ledger.promise import Promise, verify_promise
from dsn.ledger.settlement import SettlementKey
from dsn.ledger.tiles import TILE_WIDTH, decode_bundle
from dsn.ledger.trust import Trust
from dsn.rpc.ledger import LedgerPeer
from dsn.runtime.clock import SystemClock
from dsn.runtime.entropy import system_entropy
from dsn.wire.ledger import Wanted, cells_from_wire
from tests.support.ledger_net import OPERATOR, Served, http_get, ledger_network, ledger_served

ANN, BEN, EVE = (SettlementKey(bytes([n]) * 32) for n in (1, 2, 3))
START = 1_000_000
ALLOCATION = {ANN.address: START, BEN.address: 5}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with ledger_served(tmp_path, allocation=ALLOCATION) as made:
        yield made


def pay(served: Served, first: int, count: int) -> list[tuple[bytes, bytes]]:
    """Payments of Ann's, numbered from ``first``."""
    body = Transfer(BEN.address, 1)
    return [served.signed(ANN, nonce, body) for nonce in range(first, first + count)]


async def checkpoint(peer: LedgerPeer, served: Served, old_size: int = 0) -> SignedCheckpoint:
    """The newest, its signatures checked."""
    signed = parse_checkpoint((await peer.get_checkpoint(old_size)).checkpoint)
    Trust.of(served.params).verify(signed, int(SystemClock().now_s()))
    return signed


# entries


async def test_what_is_accepted_is_promised_and_what_is_refused_says_why(served: Served) -> None:
    network = served.network.network_id
    good, again = pay(served, 1, 1)[0], pay(served, 1, 1)[0]
    poor = served.signed(EVE, 1, Transfer(ANN.address, 1))
    async with served.peer() as peer:
        outcomes = await peer.submit([good, again, poor, (b"\xff", good[1]), *pay(served, 2, 1)])
    assert [each.code for each in outcomes] == [
        "", "nonce_used", "not_enough_credit", "unknown_kind", "",
    ]  # fmt: skip
    assert [each.index for each in outcomes] == [1, 2, 2, 2, 2]
    for (entry, signature), outcome in ((good, outcomes[0]), (pay(served, 2, 1)[0], outcomes[4])):
        leaf = LogLeaf(entry, signature, outcome.state_root).encode()
        promise = Promise(outcome.index, leaf_hash(leaf), outcome.promise)
        verify_promise(promise, network, served.params.log_key)
        other = Promise(outcome.index + 1, leaf_hash(leaf), outcome.promise)
        with pytest.raises(InvalidSignature):
            verify_promise(other, network, served.params.log_key)
    assert {each.promise for each in outcomes if each.code} == {b""}


async def test_too_much_at_once_is_refused_before_it_is_looked_at(served: Served) -> None:
    async with served.peer() as peer:
        with pytest.raises(TooMany):
            await peer.submit([(b"", b"")] * 257)
        with pytest.raises(LimitReached) as caught:
            await peer.submit([(bytes(1 << 19), bytes(65))] * 2)
        assert caught.value.detail_code == "too_many_bytes"
        assert len(await peer.submit([])) == 0
        with pytest.raises(TooMany):
            await peer.get_deals([bytes(32)] * 257)
        with pytest.raises(MalformedMessage):
            await peer.get_deals([bytes(31)])
        with pytest.raises(MalformedMessage):
            await peer.get_accounts([bytes(32)])
        with pytest.raises(MalformedMessage):
            await peer.get_inventory(b"")


async def test_a_caller_that_floods_is_told_to_wait_and_others_are_served(served: Served) -> None:
    flood = [(b"\xff" * 10, bytes(65))] * 256
    async with served.peer(seed=2) as peer, served.peer(seed=3) as other:
        assert len(await peer.submit(flood)) == 256
        with pytest.raises(TooMany) as caught:
            await peer.submit(flood)
        assert caught.value.detail_code == "ledger_busy"
        assert 0 < caught.value.retry_after_s < 10  # type: ignore[attr-defined]
        assert [each.code for each in await other.submit(pay(served, 1, 3))] == [""] * 3
    status = await served.ledger.answer("status")
    assert status["refused"] == {"unknown_kind": 256}


# what readers get


async def test_a_checkpoint_grows_out_of_the_one_before(served: Served) -> None:
    async with served.peer() as peer:
        old = await checkpoint(peer, served)
        await served.enter(ANN, *[Transfer(BEN.address, 1)] * 5)
        reply = await peer.get_checkpoint(old.checkpoint.size)
        new = parse_checkpoint(reply.checkpoint)
        assert (old.checkpoint.size, new.checkpoint.size) == (1, 6)
        verify_growth(old.checkpoint, new.checkpoint, reply.consistency)
        assert not (await peer.get_checkpoint(6)).consistency
        assert not (await peer.get_checkpoint(7)).consistency
        path = (await peer.get_consistency(3, 6)).path
        head = (await checkpoint(peer, served)).checkpoint.head
        with pytest.raises(InvalidProof):
            verify_consistency_proof(old.checkpoint.head, head, path)
        for call in (peer.get_consistency(3, 7), peer.get_consistency(7, 6)):
            with pytest.raises(NotFound):
                await call


async def test_cells_are_those_of_the_checkpoint_they_come_with(served: Served) -> None:
    await served.enter(ANN, Transfer(EVE.address, 30))
    addresses = [ANN.address, EVE.address, bytes(20)]
    async with served.peer() as peer:
        reply = await peer.get_accounts(addresses, [bytes(32)])
        root = parse_checkpoint(reply.checkpoint).checkpoint.state_root
        wanted = [
            *(Wanted(CellKind.ACCOUNT, each) for each in addresses),
            Wanted(CellKind.NODE, bytes(32)),
        ]
        ann, eve, *nobody = cells_from_wire(reply.cells, wanted, root)
    assert isinstance(ann, AccountCell) and isinstance(eve, AccountCell)
    assert (ann.available, ann.nonce, eve.available, nobody) == (START - 30, 1, 30, [None, None])


async def test_entries_and_tiles_lead_to_the_checkpoint(served: Served) -> None:
    await served.enter(ANN, *[Transfer(BEN.address, 1)] * 256)
    async with served.peer() as peer:
        head = (await checkpoint(peer, served)).checkpoint.head
        assert head.size == 257
        for index in (0, 255, 256):
            reply = await peer.get_inclusion(index, 257)
            verify_inclusion_proof(head, index, leaf_hash(reply.leaf), reply.path)
        leaves = decode_bundle(await peer.get_tile("tile/entries/000"), TILE_WIDTH)
        leaves += decode_bundle(await peer.get_tile("tile/entries/001.p/1"), 1)
        hashes = await peer.get_tile("tile/0/000") + await peer.get_tile("tile/0/001.p/1")
        assert b"".join(map(leaf_hash, leaves)) == hashes
        for path, error in (
            ("tile/entries/001", NotFound),
            ("tile/0/002.p/1", NotFound),
            ("../etc/passwd", PeerError),
        ):
            with pytest.raises(error):
                await peer.get_tile(path)
        for call in (peer.get_inclusion(257, 257), peer.get_inclusion(0, 258)):
            with pytest.raises(NotFound):
                await call


# witnesses


async def test_readers_see_nothing_that_no_quorum_cosigned(tmp_path: Path) -> None:
    refused = lambda: PeerError("not today", code="salt_stale")  # noqa: E731
    async with ledger_served(tmp_path, allocation=ALLOCATION, witnesses=2, quorum=2) as served:
        silent = served.witnesses[1]
        silent.refusal = refused
        async with served.peer() as peer:
            before = await checkpoint(peer, served)
            await peer.submit(pay(served, 1, 2))
            async with asyncio.timeout(20):
                while not served.ledger.publisher.refusals["salt_stale"]:
                    await served.ledger.desk.ask(lambda: None)
            assert (await checkpoint(peer, served)).checkpoint == before.checkpoint
            silent.refusal = None
            await served.published()
            assert (await checkpoint(peer, served)).checkpoint.size == 3


async def test_one_witness_that_is_away_holds_up_nobody(tmp_path: Path) -> None:
    async with ledger_served(tmp_path, allocation=ALLOCATION, witnesses=3, quorum=2) as served:
        served.witnesses[0].refusal = lambda: TransportError("gone", code="stopping")
        await served.enter(ANN, Transfer(BEN.address, 1))
        assert await served.next_epoch() == 2
        status = await served.ledger.answer("status")
    assert status["published"] == status["size"] == 4
    assert (status["epoch"], status["phase"]) == (2, "open")


async def test_a_ledger_that_its_witnesses_saw_further_refuses_to_start(tmp_path: Path) -> None:
    """An older copy would fork from what was signed; the operator's own word stops it."""
    async with ledger_served(
        tmp_path / "full", allocation=ALLOCATION, witnesses=1, quorum=1
    ) as served:
        network, (witness,) = served.network, served.witnesses
        await served.enter(ANN, Transfer(BEN.address, 1))
        note = format_checkpoint(served.ledger.views.published())
    witness.refusal = lambda: PeerError("you had more", code="ledger_behind", evidence=note)
    async with witness.serving(network.network_id, witness.contact.address):
        with pytest.raises(ConfigError, match="a checkpoint of 2 was signed") as caught:
            async with ledger_served(tmp_path / "old", network=network):
                pass
    assert caught.value.detail_code == "ledger_behind"


async def test_a_copy_older_than_what_this_home_published_is_not_gone_on_with(
    tmp_path: Path,
) -> None:
    """Even where there is no witness to say so."""
    async with ledger_served(tmp_path, allocation=ALLOCATION) as served:
        network = served.network
    (tmp_path / "ledger").rename(tmp_path / "newer")
    with pytest.raises(ConfigError) as caught:
        async with ledger_served(tmp_path, network=network):
            pass
    assert caught.value.detail_code == "ledger_behind"


async def test_witnesses_that_replay_follow_from_epoch_to_epoch(tmp_path: Path) -> None:
    """Real ones, over several epochs and a restart of the ledger."""
    keys = [SigningKey(bytes([n]) * 32) for n in (11, 12)]
    contacts = [Contact(key.public, f"127.0.0.1:{free_port('127.0.0.1')}") for key in keys]
    network = ledger_network(
        f"127.0.0.1:{free_port('127.0.0.1')}",
        allocation=ALLOCATION,
        witnesses=contacts,
        quorum=2,
        entry_fee=1,
        min_bond=1,
    )
    clock = SystemClock()
    async with AsyncExitStack() as held:
        for number, (key, contact) in enumerate(zip(keys, contacts, strict=True)):
            folder = tmp_path / f"w{number}"
            folder.mkdir()
            witness = witnessing(
                network, key, folder, contact.address, clock=clock, entropy=system_entropy
            )
            await held.enter_async_context(witness)
        for epoch in (1, 3):
            async with ledger_served(tmp_path / "ledger", network=network) as served:
                assert served.time().epoch == epoch
                await served.enter(ANN, *[Transfer(BEN.address, 1)] * 200)
                assert await served.next_epoch(2) == epoch + 2
                await served.published()
                async with served.peer() as peer:
                    await checkpoint(peer, served)
                status = await served.ledger.answer("status")
                assert status["published"] == status["size"], status


# epochs


async def test_the_operators_clock_goes_on_where_it_was(tmp_path: Path) -> None:
    async with ledger_served(tmp_path, allocation=ALLOCATION, witnesses=2, quorum=2) as served:
        network, witnesses = served.network, served.witnesses
        assert await served.next_epoch(2) == 3
        size = served.ledger.desk.size
    (one, other), network_id = witnesses, network.network_id
    async with (
        one.serving(network_id, one.contact.address),
        other.serving(network_id, other.contact.address),
        ledger_served(tmp_path, network=network) as served,
    ):
        assert (served.time().epoch, served.time().phase) == (3, Phase.OPEN)
        assert served.ledger.desk.size == size
        assert await served.next_epoch() == 4


# the faucet


async def test_the_faucet_pays_a_new_identity_once(tmp_path: Path) -> None:
    allocation = {OPERATOR.address: 10**9}
    async with ledger_served(tmp_path, allocation=allocation, faucet=OPERATOR.address) as served:
        key = SigningKey(b"\x05" * 32)

        def binding(settlement: SettlementKey) -> bytes:
            fields = KeyBinding(key.public, settlement.address, served.network.network_id, 0, 1)
            return sign_binding(fields, served.params.domain, key.sign, settlement).encode()

        async with served.peer(seed=5) as peer, served.peer(seed=6) as stranger:
            drawn = await asyncio.gather(*(peer.draw(binding(ANN)) for _ in range(4)))
            assert sorted(drawn) == [0, 0, 0, 10**5]
            assert await peer.draw(binding(BEN)) == 0
            with pytest.raises(InvalidSignature):
                await stranger.draw(binding(EVE))
            with pytest.raises(MalformedMessage):
                await peer.draw(b"x")
        await served.published()
        assert served.ledger.desk.size == 2


# HTTP


async def test_checkpoint_and_tiles_are_served_over_http_too(tmp_path: Path) -> None:
    async with ledger_served(tmp_path, allocation=ALLOCATION, http="127.0.0.1:0") as served:
        await served.enter(ANN, *[Transfer(BEN.address, 1)] * 3)
        where = served.ledger.ready.http
        status, headers, note = await http_get(where, "/checkpoint")
        assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert headers["cache-control"] == "no-cache"
        assert parse_checkpoint(note).checkpoint.size == 4
        async with served.peer() as peer:
            for path in ("tile/entries/000.p/4", "tile/0/000.p/4"):
                status, headers, tile = await http_get(where, f"/{path}")
                assert (status, headers["content-type"]) == (200, "application/octet-stream")
                assert "immutable" in headers["cache-control"]
                assert tile == await peer.get_tile(path)
        for path, method, expected in (
            ("/tile/0/000.p/5", "GET", 404),
            ("/../ledger.db", "GET", 404),
            ("/", "GET", 404),
            ("/checkpoint", "POST", 405),
            ("/checkpoint x", "GET", 400),
        ):
            assert (await http_get(where, path, method))[0] == expected, path


async def test_a_request_without_an_end_is_cut_off(tmp_path: Path) -> None:
    async with ledger_served(tmp_path, allocation=ALLOCATION, http="127.0.0.1:0") as served:
        host, _, port = served.ledger.ready.http.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /" + b"x" * 100_000)
        assert await reader.read() == b""
        writer.close()
