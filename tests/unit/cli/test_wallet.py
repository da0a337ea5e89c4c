"""``dsn wallet`` as far as it goes without a ledger that answers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsn.apps.wallet import settlement_seed
from dsn.cli.main import main
from dsn.core.keys import SigningKey
from dsn.dht.network import Network, format_network, sign_network
from dsn.ids import format_base32
from dsn.ledger.settlement import Address, SettlementKey, format_address
from dsn.store.home import Home
from tests.support.ledger_net import LOG_KEY, ledger_network

Run = Callable[..., tuple[int, str, list[str]]]
ROOT = b"alice".ljust(32, b"_")
OWN = format_address(SettlementKey.derive(ROOT).address)
OTHER = format_address(Address(b"\xab" * 20))


@pytest.fixture
def network() -> Network:
    return ledger_network("127.0.0.1:1")


@pytest.fixture
def dsn(
    network: Network,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Run one command in a home that has joined; its code, its output and its remarks."""
    home = Home.create(tmp_path / "home", ROOT)
    home.save_network(format_network(network))

    def run(*args: str | Path, json: bool = True) -> tuple[int, str, list[str]]:
        monkeypatch.setattr("sys.stdin", io.StringIO())
        options = ["--home", str(home.path), *(["--json"] if json else [])]
        code = main([*options, *map(str, args)])
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return run


def refused(done: tuple[int, str, list[str]], exit_code: int = 2) -> str:
    """The code of a failure that is told as all are: a line and a hint."""
    code, out, err = done
    said: dict[str, Any] = json.loads(out)["error"]
    assert code == said["exit"] == exit_code
    assert err == [f"dsn: {said['message']}", f"hint: {said['hint']}"]
    return str(said["code"])


@pytest.mark.parametrize(
    ("code", "args"),
    [
        ("usage", ("send", OTHER)),
        ("bad_amount", ("send", OTHER, "1.5", "--yes")),
        ("bad_amount", ("send", OTHER, "0", "--yes")),
        ("bad_amount", ("request", "1,000")),
        ("bad_note", ("request", "5", "--note", "x" * 201)),
        ("bad_note", ("request", "5", "--note", "two\nlines")),
        ("bad_settlement_address", ("send", "bob", "5", "--yes")),
        ("bad_settlement_address", ("send", OTHER.swapcase(), "5", "--yes")),
        ("bad_settlement_address", ("send", OTHER.lower(), "5", "--yes")),
        ("bad_request", ("send", "dsn:pay?to=bob", "--yes")),
        ("usage", ("export", "--passphrase-file", "secret")),
        ("not_found", ("export", "sealed", "--passphrase-file", "nowhere")),
    ],
)
def test_mistakes_get_a_line_a_hint_and_a_code(dsn: Run, code: str, args: tuple[str, ...]) -> None:
    assert refused(dsn("wallet", *args), 3 if code == "not_found" else 2) == code


def test_a_request_is_the_line_alone(dsn: Run, network: Network) -> None:
    code, out, err = dsn("wallet", "request", "700", "--note", "rent & tea", json=False)
    assert code == 0
    [line] = out.splitlines()
    assert line.startswith(f"dsn:pay?to={OWN}&amount=700&network=")
    assert err == ["whoever has this line can pay it: dsn wallet send 'LINE'"]
    code, out, _ = dsn("wallet", "request", "700", "--note", "rent & tea")
    assert json.loads(out) == {"request": line}


def test_a_request_is_paid_as_it_is_and_on_its_network(dsn: Run, network: Network) -> None:
    _, out, _ = dsn("wallet", "request", "700", json=False)
    line = out.strip()
    assert refused(dsn("wallet", "send", line, "701", "--yes")) == "bad_amount"
    other = sign_network(replace(network.genesis, name="other"), [], LOG_KEY.sign)
    [mine, theirs] = [format_base32(each.network_id) for each in (network, other)]
    foreign = line.replace(mine, theirs)
    assert refused(dsn("wallet", "send", foreign, "--yes")) == "other_network"


@pytest.mark.parametrize(
    "args", [("address",), ("balance",), ("history",), ("request", "5"), ("bind",)]
)
def test_without_a_ledger_there_is_no_wallet(
    dsn: Run, network: Network, tmp_path: Path, args: tuple[str, ...]
) -> None:
    free = sign_network(replace(network.genesis, ledger=None), [], LOG_KEY.sign)
    Home.open(tmp_path / "home").save_network(format_network(free))
    assert refused(dsn("wallet", *args)) == "no_ledger_here"


def test_joining_where_nobody_pays_says_nothing_of_credits(
    dsn: Run, network: Network, tmp_path: Path
) -> None:
    free = sign_network(
        replace(network.genesis, ledger=None, operator_public=SigningKey(b"\x05" * 32).public),
        [],
        SigningKey(b"\x05" * 32).sign,
    )
    (tmp_path / "home" / "network.toml").unlink()
    (tmp_path / "free.toml").write_text(format_network(free))
    code, out, err = dsn("join", tmp_path / "free.toml")
    assert (code, err) == (0, [])
    assert json.loads(out).keys() == {"home", "network", "contacts"}


def test_keys_are_exported_and_not_shown(dsn: Run, tmp_path: Path) -> None:
    secret, seed = tmp_path / "secret", settlement_seed(ROOT).hex()
    secret.touch(0o600)
    secret.write_text("correct horse\n")
    plain, sealed = tmp_path / "plain.key", tmp_path / "sealed.json"
    said = [
        dsn("wallet", "export", json=False),
        dsn("wallet", "export"),
        dsn("wallet", "export", plain, json=False),
        dsn("wallet", "export", sealed, "--passphrase-file", secret),
    ]
    for code, out, err in said:
        assert code == 0
        assert OWN in out
        assert seed not in out + "".join(err)
        assert any("recovery phrase" in line for line in err)
    assert plain.read_text().splitlines()[-1] == seed
    assert json.loads(sealed.read_text())["version"] == 3
    assert plain.stat().st_mode & 0o077 == sealed.stat().st_mode & 0o077 == 0
    assert refused(dsn("wallet", "export", plain)) == "output_exists"
    assert json.loads(dsn("wallet", "export", "--show")[1])["key"] == seed
    assert seed in dsn("wallet", "export", "--show", json=False)[1]
