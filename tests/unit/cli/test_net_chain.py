"""``dsn net create`` for a network that settles on a chain: what it refuses before it asks it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.unit.cli.test_net import Dsn, dsn, file

__all__ = ["dsn", "file"]
ERC20 = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
NOBODY = "http://127.0.0.1:1/v3/secret-key"


def create(file: Path, *more: str | Path) -> tuple[str | Path, ...]:
    return ("net", "create", "toy", "-o", file, *more)


def test_options_of_a_chain_need_one(dsn: Dsn, file: Path) -> None:
    for option in ("--chain", "--cosigner"):
        dsn.refused("usage", *create(file, "--witnesses", "1", option, NOBODY))


def test_a_chain_needs_a_ledger(dsn: Dsn, file: Path) -> None:
    dsn.refused("usage", *create(file, "--erc20", ERC20, "--chain", NOBODY))


def test_nothing_is_minted_beside_a_vault(dsn: Dsn, file: Path) -> None:
    more = ("--witnesses", "1", "--supply", "5", "--erc20", ERC20, "--chain", NOBODY)
    dsn.refused("usage", *create(file, *more))


def test_an_address_is_whole(dsn: Dsn, file: Path) -> None:
    more = ("--witnesses", "1", "--erc20", ERC20[:-1] + "4", "--chain", NOBODY)
    dsn.refused("bad_settlement_address", *create(file, *more))


def test_an_endpoint_is_named_there_or_in_the_home(dsn: Dsn, file: Path) -> None:
    more = ("--witnesses", "1", "--erc20", ERC20)
    dsn.refused("no_endpoint", *create(file, *more))
    (dsn.home / "dsn.toml").write_text(f'[chain]\nrpc = "{NOBODY}"\n')
    dsn.refused("chain_unreachable", *create(file, *more))
    assert not file.exists()


def test_spans_of_the_contracts_are_looked_at(dsn: Dsn, file: Path, tmp_path: Path) -> None:
    params = tmp_path / "chain.toml"
    params.write_text("challenge_s = 0\n")
    more = ("--witnesses", "1", "--erc20", ERC20, "--chain", NOBODY, "--chain-params", params)
    dsn.refused("bad_chain_params", *create(file, *more))


def test_what_is_not_reached_shows_no_key(dsn: Dsn, file: Path) -> None:
    more = ("--witnesses", "1", "--erc20", ERC20, "--chain", NOBODY)
    code, _, err = dsn(*create(file, *more))
    assert code == 7
    assert "http://127.0.0.1:1" in err[0]
    assert "secret-key" not in " ".join(err)


def test_without_the_library(dsn: Dsn, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "web3", None)
    more = ("--witnesses", "1", "--erc20", ERC20, "--chain", NOBODY)
    dsn.refused("missing_extra", *create(file, *more))
