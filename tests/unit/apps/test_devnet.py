"""What a local network writes down, before any process runs."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from dsn.apps import devnet, devnet_make, devnet_run
from dsn.apps.devnet import Devnet
from dsn.config import load
from dsn.core.keys import IdentityKeys, SigningKey, node_id_of
from dsn.dht.network import parse_network
from dsn.errors import ConfigError, NotFound, UsageError
from dsn.ids import format_base32, format_node_id
from dsn.ledger.settlement import SettlementKey
from dsn.rpc.evm_making import place_of
from dsn.runtime.clock import SystemClock
from dsn.store.home import Home


def create(
    directory, nodes=3, group="node", capacity_bytes=10**9, epoch_s=None, chain=False
) -> Devnet:
    directory.mkdir(exist_ok=True)
    return devnet_make.create(
        directory,
        nodes=nodes,
        group=group,
        capacity_bytes=capacity_bytes,
        epoch_s=epoch_s,
        chain=chain,
        clock=SystemClock(),
        entropy=os.urandom,
    )


def test_the_description_has_exactly_the_stable_fields(tmp_path):
    create(tmp_path)
    fields = json.loads((tmp_path / "devnet.json").read_text())
    assert set(fields) == {"client_home", "bootstrap", "network_file", "processes"}
    assert fields["bootstrap"] == fields["processes"][0]["address"]
    assert [one["name"] for one in fields["processes"]] == ["node1", "node2", "node3"]
    for one in fields["processes"]:
        assert set(one) == {"name", "role", "node_id", "address", "home", "volume", "pid"}
        assert (one["role"], one["pid"]) == ("node", None)


def test_a_ledger_and_its_witnesses_come_after_the_nodes_and_are_in_the_network_file(tmp_path):
    made = create(tmp_path, epoch_s=7)
    names = ["node1", "node2", "node3", "ledger", "witness1", "witness2", "verifier"]
    assert [one.name for one in made.processes] == names
    roles = ["ledger", "witness", "witness", "verifier"]
    assert [one.role for one in made.processes[3:]] == roles
    network = parse_network((tmp_path / "network.toml").read_text())
    params, operator = network.ledger_params, made.operator.load_root()
    assert params.operator == params.faucet == SettlementKey.derive(operator).address
    assert params.log_key == network.genesis.operator_public == network.ledger.public_key
    assert (params.epoch_s, params.quorum, params.domain.network) == (7, 2, network.network_id)
    assert params.witnesses == {each.public_key for each in network.witnesses}
    places = [network.ledger.address, *(each.address for each in network.witnesses)]
    assert places == [one.address for one in made.processes[3:6]]
    for one in made.processes[3:]:
        settings = load(Path(one.home), {}).settings
        assert getattr(settings, one.role).listen == one.address


def test_the_client_believes_the_verifier_wherever_it_listens(tmp_path, monkeypatch):
    made = create(tmp_path, epoch_s=7)
    verifier = made.named("verifier")
    root = Home.open(Path(verifier.home)).load_root()
    key = format_base32(SigningKey(IdentityKeys.derive(root).identity_seed).public)
    settings = load(made.client_home, {}).settings
    assert settings.client.verifiers == (f"{key}@{verifier.address}",)
    monkeypatch.setattr(devnet_run, "spawn", lambda home, command, log: 1)
    host, _, port = verifier.address.rpartition(":")
    with socket.create_server((host, int(port))):
        moved = devnet_run.launch(made, [verifier]).named("verifier")
    assert moved.address != verifier.address
    settings = load(made.client_home, {}).settings
    assert settings.client.verifiers == (f"{key}@{moved.address}",)
    assert load(Path(moved.home), {}).settings.verifier.listen == moved.address


@pytest.fixture
def anvil(tmp_path, monkeypatch):
    """Something in the place of the program; nothing here runs it."""
    path = tmp_path / "anvil"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setenv("DSN_ANVIL", str(path))


def test_a_network_with_a_chain_mints_nothing_and_names_its_vault(tmp_path, anvil):
    made = create(tmp_path / "d", epoch_s=7, chain=True)
    params = made.network().ledger_params
    operator = SettlementKey.derive(made.operator.load_root()).address
    witnesses = [Home(Path(one.home)) for one in made.of_role("witness")]
    keys = {SettlementKey.derive(home.load_root()).address for home in witnesses}
    assert (params.settles, params.allocation, params.cosigners) == (True, (), keys)
    assert (params.domain.chain_id, params.domain.vault) == (31337, place_of(operator, 1))
    assert params.faucet == operator


def test_the_chain_is_one_more_process_that_every_home_knows(tmp_path, monkeypatch, anvil):
    made = create(tmp_path / "d", epoch_s=7, chain=True)
    chain = made.processes[-1]
    assert (chain.name, chain.role, chain.node_id) == ("chain", "chain", "")
    assert Devnet.load(tmp_path / "d") == made
    assert chain.home not in [str(home.path) for home in made.homes()]
    monkeypatch.setattr(devnet_run, "start", lambda words, log: 1)
    host, _, port = chain.address.rpartition(":")
    with socket.create_server((host, int(port))):
        moved = devnet_run.launch(made, [chain]).named("chain")
    assert moved.address != chain.address
    assert len(made.homes()) == 3 + 2 + 3
    for home in made.homes():
        settings = load(home.path, {}).settings.chain
        assert settings.rpc == f"http://{moved.address}"
        assert (settings.finality, settings.anchor_epochs) == (2, 1)


def test_without_the_program_a_chain_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("DSN_ANVIL", str(tmp_path / "none"))
    with pytest.raises(ConfigError) as caught:
        create(tmp_path / "d", epoch_s=7, chain=True)
    assert caught.value.detail_code == "no_anvil"
    assert os.listdir(tmp_path / "d") == []


def test_a_chain_is_up_first_and_down_last(tmp_path, anvil):
    made = create(tmp_path / "d", nodes=1, epoch_s=7, chain=True)
    waves = [[one.name for one in wave] for wave in devnet_run._waves(made.processes)]
    assert waves == [["chain"], ["ledger", "witness1", "witness2"], ["node1", "verifier"]]


def test_what_is_written_is_read_back(tmp_path):
    made = create(tmp_path / "d")
    assert Devnet.load(tmp_path / "d") == made


def test_every_home_has_joined_a_network_that_names_one_node(tmp_path):
    made = create(tmp_path, group="subnet")
    network = parse_network((tmp_path / "network.toml").read_text())
    assert network.genesis.placement_group == "subnet"
    assert not network.genesis.address_limits
    assert [one.address for one in network.contacts] == [made.processes[0].address]
    for path in (made.client_home, *(tmp_path / one.name for one in made.processes)):
        assert Home.open(path).network() == network


def test_each_node_listens_where_the_list_says_and_owns_the_key_it_names(tmp_path):
    for number, process in enumerate(create(tmp_path).processes, start=1):
        home = tmp_path / process.name
        settings = load(home, {}).settings.provider
        assert (settings.listen, settings.capacity) == (process.address, 10**9)
        assert process.address.startswith(f"127.0.{number}.1:")
        root = Home.open(home).load_root()
        public = SigningKey(IdentityKeys.derive(root).identity_seed).public
        assert process.node_id == format_node_id(node_id_of(public))


def test_keys_are_for_their_owner_alone(tmp_path):
    create(tmp_path)
    for key in tmp_path.glob("*/keys/root.key"):
        assert key.stat().st_mode & 0o077 == 0, key


def test_a_dead_pid_is_forgotten(tmp_path):
    made = create(tmp_path)
    strangers = os.getppid()
    made.updated([replace(made.processes[1], pid=strangers)]).save()
    assert Devnet.load(tmp_path).named("node2").pid is None


def test_a_folder_that_holds_something_else_is_refused_and_stays_as_it_was(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UsageError) as caught:
        create(tmp_path)
    assert caught.value.detail_code == "not_empty"
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_no_network_there(tmp_path):
    with pytest.raises(NotFound):
        Devnet.load(tmp_path)
    with pytest.raises(NotFound):
        devnet.lock(tmp_path / "none")
    with pytest.raises(NotFound):
        create(tmp_path).named("node4")


def test_one_command_at_a_time(tmp_path):
    with devnet.lock(tmp_path), pytest.raises(ConfigError), devnet.lock(tmp_path):
        pass


@pytest.mark.parametrize("moving", [0, 1])
def test_only_the_node_to_start_from_is_named_again_when_its_port_was_taken(
    tmp_path, monkeypatch, moving
):
    made = create(tmp_path)
    before = made.network()
    monkeypatch.setitem(devnet_run.ROLES, "node", ("config", "show"))
    host, _, port = made.processes[moving].address.rpartition(":")
    with socket.create_server((host, int(port))):
        moved = devnet_run.launch(made, made.processes)
    devnet_run.stop(moved, moved.processes)
    addresses = [one.address for one in moved.processes]
    changed = [old.address != new for old, new in zip(made.processes, addresses, strict=True)]
    assert changed == [at == moving for at in range(3)]
    assert [one.address for one in moved.network().contacts] == addresses[:1]
    assert (moved.network() == before) is (moving != 0)
    assert Home.open(moved.client_home).network() == moved.network()
    settings = load(tmp_path / f"node{moving + 1}", {}).settings
    assert settings.provider.listen == addresses[moving]


async def test_a_node_that_cannot_start_is_named_with_its_last_words(tmp_path, monkeypatch):
    made = create(tmp_path, nodes=1)
    monkeypatch.setitem(devnet_run.ROLES, "node", ("provdier", "run"))
    with pytest.raises(ExceptionGroup) as caught:
        await devnet_run.bring_up(made, made.processes)
    (error,) = caught.value.exceptions
    assert isinstance(error, ConfigError)
    assert error.detail_code == "start_failed"
    assert error.message.endswith("no such command 'provdier'")
    assert str(tmp_path / "node1" / "log" / "node.log") in error.hint
    assert Devnet.load(tmp_path).alive() == []


def test_a_network_that_cannot_be_made_leaves_nothing(tmp_path):
    with pytest.raises(ConfigError) as caught:
        create(tmp_path, capacity_bytes=1 << 60)
    assert caught.value.detail_code == "capacity_too_large"
    assert os.listdir(tmp_path) == []


def test_a_port_is_one_that_no_connection_will_take(monkeypatch):
    assert devnet.free_port("127.0.0.1") in devnet.PORTS
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(devnet, "PORTS", range(port, port + 1))
        assert devnet.free_port("127.0.0.1") != port, "any other, where all of those are taken"
