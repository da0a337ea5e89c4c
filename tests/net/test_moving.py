"""A running process finds ledger and witnesses again once its home has a newer network file."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from dsn.apps.devnet import free_port
from dsn.apps.ledger.light import LightClient
from dsn.apps.moving import Moving, moves
from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact
from dsn.dht.network import Network, format_network, sign_network
from dsn.errors import ConfigError, DsnError, Unreachable
from dsn.ledger.bodies import Transfer
from dsn.ledger.settlement import Address
from dsn.rpc.channel import Connections
from dsn.runtime.clock import SystemClock
from dsn.runtime.control import ask_control, control_socket
from dsn.store.home import Home
from tests.net.test_provider import call
from tests.support.ledger_net import LOG_KEY, OPERATOR, Witness, ledger_network, ledger_served
from tests.support.paid_node import node_home, node_of, paid_ledger, process_of

SOMEBODY = Address(b"\x07" * 20)


def elsewhere() -> str:
    return f"127.0.0.1:{free_port('127.0.0.1')}"


def at(network: Network, ledger: str = "", witness: str = "") -> Network:
    """The same network with its ledger, or its witnesses, somewhere else."""
    assert network.ledger is not None
    return sign_network(
        network.genesis,
        network.contacts,
        LOG_KEY.sign,
        ledger=replace(network.ledger, address=ledger) if ledger else network.ledger,
        witnesses=[replace(each, address=witness or each.address) for each in network.witnesses],
    )


def home_of(folder: Path, network: Network) -> Home:
    home = Home.create(folder / "home", b"H" * 32)
    home.save_network(format_network(network))
    return home


async def test_a_reader_follows_the_ledger(tmp_path: Path) -> None:
    """To another place and on to a third, though it was only ever told of the first."""
    first, *others = (elsewhere() for _ in range(3))
    network = ledger_network(first, allocation={OPERATOR.address: 1_000})
    home, root = home_of(tmp_path, network), tmp_path / "ledger"
    async with Connections(SigningKey(b"R" * 32), network.network_id) as connections:
        file, clock = tmp_path / "checkpoint", SystemClock()
        light = LightClient(network, connections, file, clock, patience_s=1)
        moving = Moving(home, network, connections)
        async with ledger_served(root, network=network):
            assert (await light.account(OPERATOR.address)).available == 1_000
            assert moving.look() == {"moved": 0}
        for number, place in enumerate(others, 1):
            async with ledger_served(root, network=at(network, place)) as served:
                with pytest.raises(Unreachable):
                    await light.refresh()
                home.save_network(format_network(served.network))
                assert moving.look() == {"moved": 1}
                await served.enter(OPERATOR, Transfer(SOMEBODY, 100))
                assert (await light.account(SOMEBODY)).available == 100 * number


async def test_a_ledger_follows_its_witnesses(tmp_path: Path) -> None:
    async with ledger_served(
        tmp_path / "ledger", witnesses=1, quorum=1, allocation={OPERATOR.address: 1_000}
    ) as served:
        (old,) = served.witnesses
        home, new = home_of(tmp_path, served.network), Witness(old.key)
        old.refusal = lambda: DsnError("not here any more")
        moving = Moving(home, served.network, served.ledger.connections)
        place = elsewhere()
        async with new.serving(served.network.network_id, place):
            home.save_network(format_network(at(served.network, witness=place)))
            assert moving.look() == {"moved": 1}
            await served.enter(OPERATOR, Transfer(SOMEBODY, 100))
        assert new.asked


async def test_join_tells_a_running_node(tmp_path: Path) -> None:
    async with paid_ledger(tmp_path) as served:
        home, network = node_home(tmp_path, served), served.network
        newer, file = at(network, elsewhere()), tmp_path / "newer.toml"
        file.write_text(format_network(newer))
        async with process_of(home, served):
            assert await ask_control(home.control_socket, "network") == {"moved": 0}
            run = await asyncio.to_thread(call, home, "join", str(file), "--no-wallet")
            assert "the process that runs on this home goes by it" in run.stderr
            assert await ask_control(home.control_socket, "network") == {"moved": 1}
        run = await asyncio.to_thread(call, home, "join", str(file), "--no-wallet")
        assert "process" not in run.stderr


async def test_a_node_begins_from_newer_contacts(tmp_path: Path) -> None:
    async with paid_ledger(tmp_path) as served:
        home, network = node_home(tmp_path, served), served.network
        async with node_of(home, served) as world:
            node, contact = world.node, Contact(LOG_KEY.public, elsewhere())
            assert node is not None and contact not in node.dht.seeds()
            moving = Moving(home, network, node.connections, node.know)
            newer = sign_network(network.genesis, [contact], LOG_KEY.sign, ledger=network.ledger)
            home.save_network(format_network(newer))
            async with control_socket(home.control_socket, moving.answering(node.answer)):
                assert await ask_control(home.control_socket, "network") == {"moved": 0}
                assert (await ask_control(home.control_socket, "status"))["bound"] is True
            assert contact in node.dht.seeds()


async def test_a_file_that_is_wrong_moves_nobody(tmp_path: Path) -> None:
    network = ledger_network(elsewhere())
    home = home_of(tmp_path, network)
    async with Connections(LOG_KEY, network.network_id) as connections:
        moving = Moving(home, network, connections)
        other = ledger_network(elsewhere(), entry_fee=9, min_bond=9)
        home.save_network(format_network(other))
        assert moving.look() == {"error": "another network"}
        home.network_file.write_text("nothing")
        with pytest.raises(ConfigError):
            moving.look()


def test_only_those_who_moved_are_named() -> None:
    network = ledger_network("127.0.0.1:1")
    assert moves(network, network) == {}
    there = at(network, "127.0.0.1:2")
    assert moves(network, there) == {network.ledger: there.ledger}
    gone = sign_network(network.genesis, [], LOG_KEY.sign)
    assert moves(network, gone) == moves(gone, network) == {}
