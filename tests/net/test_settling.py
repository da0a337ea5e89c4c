"""A ledger and witnesses that settle on a chain, over real ports; the chain is in memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dsn.apps.witness.run import serving
from dsn.core.keys import SigningKey
from dsn.errors import ConfigError, DsnError
from dsn.ids import NetworkId
from dsn.ledger.bodies import Deposit, Transfer
from dsn.ledger.checkpoint import cosigned_roots, parse_checkpoint
from dsn.ledger.log import LogLeaf
from dsn.ledger.settlement import SettlementKey
from dsn.ledger.tiles import decode_bundle
from dsn.ledger.trust import Trust
from dsn.ledger.typed import Domain
from dsn.runtime.clock import SystemClock
from dsn.runtime.entropy import system_entropy
from tests.support.dht_world import eventually, until
from tests.support.ledger_net import OPERATOR, PATIENCE_S, Served, ledger_served
from tests.support.memory_chain import VAULT, MemoryChain, silence
from tests.support.witness_town import KEYS, PAYEE, PAYER, Town, living, town_of

STRANGER = SigningKey(b"\x77" * 32)


async def available(served: Served, key: SettlementKey, amount: int) -> None:
    """Return once an account has that much."""
    books, ask = served.ledger.desk.books, served.ledger.desk.ask

    async def is_there() -> bool:
        return (await ask(books.account, key.address)).available == amount

    await eventually(is_there, f"{amount} base units are there")


async def refused(served: Served, code: str, count: int) -> None:
    """Return once witnesses refused to cosign so often for that reason."""
    refusals = served.ledger.publisher.refusals
    await until(lambda: refusals[code] >= count, f"{code} {count} times")


async def test_deposits_come_in_and_anchors_go_out(tmp_path: Path) -> None:
    chain = MemoryChain()
    settled = living(tmp_path, 3, 2, vault=VAULT, settling=chain.settling)
    async with settled as (town, served):
        chain.params = served.params
        chain.deposit(PAYER.address, 100)
        chain.deposit(PAYER.address, 20)
        await available(served, PAYER, 120)
        await served.enter(PAYER, Transfer(PAYEE.address, 50))
        await served.next_epoch(3)
        async with asyncio.timeout(PATIENCE_S):
            await chain.anchored(1)
        status = await served.ledger.answer("status")
        assert status["anchor"]["size"] == chain.anchors[-1].size
        async with served.peer() as peer:
            signed = parse_checkpoint((await peer.get_checkpoint()).checkpoint)
        Trust.of(served.params).verify(signed, int(SystemClock().now_s()))
        found = cosigned_roots(signed, served.params.domain, served.params.cosigners)
        assert len(found) >= 2
        await check_tiles(town, served)
    again = ledger_served(tmp_path / "op", network=town.network, settling=chain.settling)
    await town.start(0)
    await town.start(1)
    async with again as served:
        await available(served, PAYER, 70)
    for number in (0, 1):
        await town.stop(number)


async def check_tiles(town: Town, served: Served) -> None:
    """A witness gives the whole log, in bundles and leaf by leaf, to a stranger."""
    size = served.ledger.desk.size
    await served.published()
    for number in range(2):
        async with town.peer(number, STRANGER) as peer:
            width = int((await town.status(number))["size"])  # type: ignore[call-overload]
            assert 0 < width <= size
            bundle = decode_bundle(await peer.get_tile(f"tile/entries/000.p/{width}"), width)
            leaves = [LogLeaf.decode(each) for each in bundle]
            assert [await peer.get_tile(f"leaf/{n}") for n in range(width)] == [
                each.encode() for each in leaves
            ]
            hashes = await peer.get_tile(f"tile/0/000.p/{width}")
            assert len(hashes) == 32 * width
            for path, code in (
                ("tile/entries/001", "no_such_tile"),
                (f"leaf/{size + 9}", "unknown_entry"),
                ("leaf/x", "bad_tile_path"),
                ("leaf/" + "9" * 19, "bad_tile_path"),
                ("chain/deposit/00/1", "bad_tile_path"),
            ):
                with pytest.raises(DsnError) as caught:
                    await peer.get_tile(path)
                assert caught.value.detail_code == code, path


async def test_what_the_chain_does_not_say_is_never_published(tmp_path: Path) -> None:
    chain = MemoryChain()
    settled = living(tmp_path, 2, 2, vault=VAULT, settling=chain.settling)
    async with settled as (town, served):
        size = served.ledger.views.size
        await served.ledger.operator.enter(Deposit(PAYEE.address, 10**9, 1))
        await refused(served, "unknown_deposit", 2)
        assert served.ledger.views.size == size
        said = [(await town.status(n))["refused"] for n in range(2)]
        assert all("unknown_deposit" in each for each in said)  # type: ignore[operator]


async def test_while_the_chain_is_silent_deposits_wait(tmp_path: Path) -> None:
    """Witnesses wait with those that the ledger saw, and with nothing else."""
    chain, deaf = MemoryChain(), MemoryChain()
    async with living(tmp_path, 2, 2, vault=VAULT, settling=deaf.settling) as (_, served):
        await served.ledger.operator.enter(Deposit(PAYEE.address, 7, 1))
        chain.deposit(PAYEE.address, 7)
        deaf.refusal = silence
        await refused(served, "chain_unreachable", 2)
        deaf.deposits, deaf.height = chain.deposits, chain.height
        deaf.refusal = lambda: None
        await served.published()


@pytest.mark.parametrize("root", ["none", "stranger", "other domain"])
async def test_a_witness_that_signs_nothing_for_the_chain_does_not_count(
    tmp_path: Path, root: str
) -> None:
    chain = MemoryChain()
    async with ledger_served(
        tmp_path, witnesses=2, quorum=1, vault=VAULT, settling=chain.settling
    ) as served:
        bad = served.witnesses[0]
        if root == "none":
            bad.domain = None
        elif root == "stranger":
            bad.root_key = OPERATOR
        else:
            bad.domain = Domain(NetworkId(bytes(32)), 1, VAULT)
        chain.deposit(PAYER.address, 5)
        await available(served, PAYER, 5)
        await served.published()
        await refused(served, "invalid_signature", 1)


async def test_without_an_endpoint_nobody_serves(tmp_path: Path) -> None:
    chain = MemoryChain()
    town = town_of(tmp_path, 1, 1, vault=VAULT, settling=chain.settling)
    contact = town.network.witnesses[0]
    for witness in (
        serving(
            town.network,
            KEYS[0],
            town.folder(0),
            contact.address,
            clock=SystemClock(),
            entropy=system_entropy,
            root_key=town.root_key(0),
        ),
        ledger_served(tmp_path / "op", network=town.network),
    ):
        with pytest.raises(ConfigError) as caught:
            async with witness:
                pass
        assert caught.value.detail_code == "no_endpoint"


async def test_a_home_that_is_no_cosigner_is_no_witness(tmp_path: Path) -> None:
    chain = MemoryChain()
    town = town_of(tmp_path, 1, 1, vault=VAULT, settling=chain.settling)
    for root_key in (None, OPERATOR):
        witness = serving(
            town.network,
            KEYS[0],
            town.folder(0),
            town.network.witnesses[0].address,
            clock=SystemClock(),
            entropy=system_entropy,
            root_key=root_key,
            settling=chain.settling,
        )
        with pytest.raises(ConfigError) as caught:
            async with witness:
                pass
        assert caught.value.detail_code == "not_a_witness"
