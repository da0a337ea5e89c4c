"""``dsn net create`` for a network where disk and bandwidth are paid, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsn.apps.networks import format_contact
from dsn.config import load
from dsn.core.keys import IdentityKeys, SigningKey
from dsn.dht.contact import Contact
from dsn.ledger.settlement import SettlementKey
from dsn.store.home import Home
from tests.support.records import key
from tests.unit.cli.test_net import Dsn, dsn, file, read

__all__ = ["dsn", "file"]
WITNESS = Contact(key(21).public, "127.0.0.21:7079")


def test_witnesses_get_homes_that_have_joined(dsn: Dsn, file: Path, tmp_path: Path) -> None:
    made = dsn.fields("net", "create", "toy", "--witnesses", "3", "-o", file)
    network = read(file)
    params = network.ledger_params
    assert params is not None and network.ledger is not None
    assert (params.quorum, params.epoch_s, params.domain.network) == (2, 3600, network.network_id)
    assert params.operator == SettlementKey.derive(b"r" * 32).address
    assert params.allocation == ((params.operator, 10**15),)
    assert network.ledger.public_key == params.log_key == network.genesis.operator_public
    assert made["ledger"] == network.ledger.address
    assert made["witnesses"] == [each.address for each in network.witnesses]
    for number, witness in enumerate(network.witnesses, 1):
        home = Home.open(tmp_path / f"n-witness{number}")
        assert home.network() == network
        seed = IdentityKeys.derive(home.load_root()).identity_seed
        assert SigningKey(seed).public == witness.public_key
        port = witness.address.rpartition(":")[2]
        assert load(home.path, {}).settings.witness.listen == f"0.0.0.0:{port}"


def test_others_may_be_witnesses(dsn: Dsn, file: Path, tmp_path: Path) -> None:
    params = tmp_path / "p.toml"
    params.write_text("burn_ppm = 5\nmin_disk_price = 9\n")
    dsn.fields(
        "net", "create", "toy", "-o", file, "--ledger", "ledger.example:99", "--faucet",
        "--witness", format_contact(WITNESS), "--params", params, "--epoch-s", "60",
    )  # fmt: skip
    network = read(file)
    found = network.ledger_params
    assert found is not None and network.ledger is not None
    assert (network.ledger.address, network.witnesses) == ("ledger.example:99", (WITNESS,))
    assert (found.quorum, found.faucet) == (1, found.operator)
    assert (found.burn_ppm, found.min_disk_price, found.epoch_s, found.open_s) == (5, 9, 60, 30)
    moved = Contact(WITNESS.public_key, "127.0.0.9:9")
    dsn.fields(
        "net", "update", file, "--ledger", "10.0.0.1:7078", "--witness", format_contact(moved)
    )
    changed = read(file)
    assert changed.network_id == network.network_id
    assert changed.ledger is not None
    assert (changed.ledger.address, changed.witnesses) == ("10.0.0.1:7078", (moved,))


@pytest.mark.parametrize(
    ("code", "args"),
    [
        ("bad_ledger_params", ["--witnesses", "2", "--quorum", "3"]),
        ("bad_contact", ["--witness", "nobody"]),
        ("bad_address", ["--ledger", "nowhere"]),
        ("bad_address", ["--ledger", "0.0.0.0:7078"]),
    ],
)
def test_what_cannot_be_founded_leaves_nothing(
    dsn: Dsn, file: Path, tmp_path: Path, code: str, args: list[str]
) -> None:
    dsn.refused(code, "net", "create", "toy", "-o", file, *args)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize(
    ("text", "named"),
    [("burn_pmm = 1", "burn_pmm"), ('network = "aa"', "network"), ("= 1", "TOML")],
)
def test_parameters_are_checked(
    dsn: Dsn, file: Path, tmp_path: Path, text: str, named: str
) -> None:
    params = tmp_path / "p.toml"
    params.write_text(text)
    code, _, err = dsn("net", "create", "toy", "-o", file, "--params", params)
    assert code == 2 and named in err[0] and not file.exists()


def test_a_network_where_nobody_pays_gets_no_ledger(dsn: Dsn, file: Path) -> None:
    dsn.fields("net", "create", "toy", "-o", file)
    assert read(file).ledger_params is None
    dsn.refused("no_ledger_here", "net", "update", file, "--ledger", "127.0.0.1:1")
    stranger = format_contact(WITNESS)
    dsn.refused("no_ledger_here", "net", "update", file, "--witness", stranger)
