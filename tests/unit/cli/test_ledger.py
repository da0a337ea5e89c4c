"""``dsn ledger``: real entries from files, what it prints, and what it says of anything else."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import click
import pytest

from dsn.cli.lazy import LazyGroup
from dsn.cli.session import Session
from dsn.core.keys import SigningKey
from dsn.dht.network import Genesis, format_network, sign_network
from dsn.errors import DsnError
from dsn.ids import format_base32, format_node_id
from dsn.ledger.bodies import OpenEpoch, Transfer, Withdraw
from dsn.ledger.checkpoint import (
    Checkpoint,
    SignedCheckpoint,
    format_checkpoint,
    log_origin,
    sign_root,
)
from dsn.ledger.entry import Body, Entry, sign_entry
from dsn.ledger.log import EMPTY_ROOT, TreeHead
from dsn.ledger.params import LedgerParams
from dsn.ledger.params_text import format_params
from dsn.ledger.settlement import Address, SettlementKey, format_address
from dsn.ledger.typed import Domain
from dsn.proofs.beacon import next_value

ROOT = LazyGroup(name="dsn", sections={"Operators": {"ledger": ("dsn.cli.ledger:ledger", "")}})
OPERATOR, ANN, BEN = (SettlementKey(bytes([n]) * 32) for n in (1, 2, 3))
FOUNDER = SigningKey(b"\x07" * 32)
NETWORK = sign_network(
    Genesis("mine", 1_700_000_000, FOUNDER.public, "node", address_limits=False), [], FOUNDER.sign
)
DOMAIN = Domain(NETWORK.network_id, 0, Address(bytes(20)))
PARAMS = LedgerParams(
    DOMAIN,
    OPERATOR.address,
    vdf_iterations=10,
    vdf_bits=256,
    entry_fee=2,
    min_bond=2,
    allocation=((ANN.address, 1_000), (BEN.address, 50)),
)


def line(key: SettlementKey, nonce: int, body: Body, *, as_json: bool = True) -> str:
    signed = sign_entry(Entry(NETWORK.network_id, key.address, nonce, body), DOMAIN, key)
    entry, signature = signed.entry.encode().hex(), signed.signature.hex()
    return json.dumps({"entry": entry, "signature": signature}) if as_json else entry + signature


BEACON = next_value(NETWORK.network_id, 1, NETWORK.network_id, iterations=10, bits=256)
GOOD = [
    line(OPERATOR, 1, OpenEpoch(1, TreeHead(0, NETWORK.network_id), *BEACON)),
    line(ANN, 1, Transfer(BEN.address, 100)),
    line(BEN, 1, Transfer(ANN.address, 20), as_json=False),
    line(BEN, 2, Withdraw(7)),
]
BAD = [
    line(BEN, 9, Transfer(ANN.address, 20)),
    line(ANN, 2, Transfer(BEN.address, 10**6)),
    "ff" * 100,
]
BAD_CODES = ["nonce_gap", "not_enough_credit", "unknown_kind"]


class Dsn:
    """``dsn`` with the ledger's commands, on one home."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self._capsys = home, capsys

    def __call__(self, *args: str | Path) -> tuple[int, str]:
        """Exit code and standard output of a command that does not raise."""
        words = ["--home", str(self.home), "ledger", *map(str, args)]
        with ROOT.make_context("dsn", words, obj=Session()) as context:
            code = ROOT.invoke(context) or 0
        return code, self._capsys.readouterr().out

    def fields(self, *args: str | Path, code: int = 0) -> Any:
        """The object that a command prints."""
        found, out = self(*args, "--json")
        assert found == code, out
        return json.loads(out)

    def refused(self, code: str, *args: str | Path) -> None:
        with pytest.raises((DsnError, click.ClickException)) as caught:
            self(*args)
        self._capsys.readouterr()
        found = caught.value.detail_code if isinstance(caught.value, DsnError) else "usage"
        assert found == code, caught.value


@pytest.fixture
def dsn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Dsn:
    return Dsn(tmp_path / "home", capsys)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """The options that say which network it is."""
    network, params = tmp_path / "n.toml", tmp_path / "ledger.toml"
    network.write_text(format_network(NETWORK))
    params.write_text(format_params(PARAMS).partition("\n")[2])
    return ["--network", str(network), "--params", str(params)]


@pytest.fixture
def filled(dsn: Dsn, files: list[str], tmp_path: Path) -> Dsn:
    dsn("init", *files)
    (tmp_path / "good").write_text("\n".join(GOOD) + "\n\n")
    assert dsn.fields("apply", tmp_path / "good")["accepted"] == len(GOOD)
    return dsn


# init


def test_a_ledger_begins_with_its_parameters(dsn: Dsn, files: list[str]) -> None:
    made = dsn.fields("init", *files)
    assert made["ledger"] == str(dsn.home / "ledger")
    assert dsn.fields("check") == {
        "entries": 0,
        "size": 0,
        "root": EMPTY_ROOT.hex(),
        "ok": True,
    }
    dsn.refused("ledger_exists", "init", *files)
    elsewhere = dsn.home / "elsewhere"
    assert dsn.fields("init", *files, "--ledger", elsewhere)["state_root"] == made["state_root"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "bad_ledger_params"),
        ("operator = 7", "bad_ledger_params"),
        ("[", "bad_ledger_params"),
        (f'network = "{format_base32(bytes(32))}"', "bad_ledger_params"),
    ],
)
def test_no_ledger_is_made_of_bad_parameters(
    dsn: Dsn, files: list[str], text: str, code: str
) -> None:
    Path(files[3]).write_text(text)
    dsn.refused(code, "init", *files)
    dsn.refused("usage", "init", *files[:2])
    dsn.refused("usage", "init", *files[2:])
    assert not (dsn.home / "ledger").exists()


# apply


def test_entries_are_applied_in_their_order(dsn: Dsn, files: list[str], tmp_path: Path) -> None:
    dsn("init", *files)
    mixed = [GOOD[0], BAD[0], GOOD[1], BAD[1], GOOD[2], BAD[2], GOOD[3]]
    (tmp_path / "mixed").write_text("\n".join(mixed))
    code, out = dsn("apply", tmp_path / "mixed", "--record", tmp_path / "record")
    assert code == 1
    assert "4 accepted, 3 refused; 4 entries" in out
    for each in BAD_CODES:
        assert each in out
    record = [json.loads(each) for each in (tmp_path / "record").read_text().splitlines()]
    assert [each.get("refused", "") for each in record] == [
        "", "nonce_gap", "", "not_enough_credit", "", "unknown_kind", "",
    ]  # fmt: skip
    assert [each["index"] for each in record] == [0, 1, 1, 2, 2, 3, 3]
    assert record[3]["body"] == {"to": format_address(BEN.address), "amount": 10**6}
    assert "kind" not in record[5], "its bytes say nothing"


def test_what_was_recorded_can_be_replayed_with_the_same_outcome(
    dsn: Dsn, files: list[str], tmp_path: Path
) -> None:
    dsn("init", *files)
    (tmp_path / "mixed").write_text("\n".join([*BAD[:1], *GOOD, *BAD[1:]]))
    first = dsn.fields("apply", tmp_path / "mixed", "--record", tmp_path / "record", code=1)
    assert [each["code"] for each in first["refused"]] == BAD_CODES
    dsn("init", *files, "--ledger", tmp_path / "again")
    again = dsn.fields(
        "apply", tmp_path / "record", "--ledger", tmp_path / "again", "--record",
        tmp_path / "record2", code=1,
    )  # fmt: skip
    assert again == first
    assert (tmp_path / "record2").read_text() == (tmp_path / "record").read_text()


def test_entries_come_from_standard_input(
    dsn: Dsn, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn("init", *files)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(GOOD).encode())))
    assert dsn.fields("apply", "-")["size"] == len(GOOD)


@pytest.mark.parametrize(
    "bad",
    ["x", "{}", '{"entry": 7, "signature": ""}', "{", "00" * 65, "[" * 9_999, "ab" * (1 << 20)],
)
def test_a_line_that_is_none_stops_it(dsn: Dsn, files: list[str], tmp_path: Path, bad: str) -> None:
    dsn("init", *files)
    (tmp_path / "lines").write_text("\n".join([GOOD[0], bad, GOOD[1]]))
    dsn.refused("bad_line", "apply", tmp_path / "lines")
    assert dsn.fields("check")["size"] == 0, "nothing of its batch counts"
    dsn.refused("no_ledger", "apply", tmp_path / "lines", "--ledger", tmp_path)


# export and check


def test_an_export_is_checked_without_the_ledger(
    filled: Dsn, files: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    filled("export", out)
    assert len(out.read_text().splitlines()) == len(GOOD)
    good = filled.fields("check", "--from", out, *files)
    assert good == filled.fields("check", filled.home / "ledger")
    assert (good["entries"], good["size"], good["ok"]) == (4, 4, True)
    code, text = filled("export", "-")
    assert (code, text) == (0, out.read_text())
    filled("init", *files, "--ledger", tmp_path / "copy")
    copy = filled.fields("apply", out, "--ledger", tmp_path / "copy")
    assert copy["root"] == good["root"]


def test_a_changed_export_is_found(filled: Dsn, files: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    filled("export", out)
    lines = out.read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace('"amount":20', '"amount":21')
    out.write_text("".join(lines))
    found = filled.fields("check", "--from", out, *files, code=1)
    assert (found["entries"], found["ok"]) == (2, False)
    assert found["fault"]["index"] == 2
    assert found["fault"]["code"] == "line_differs"
    code, text = filled("check", "--from", out, *files)
    assert code == 1
    assert text.startswith("fault: entry 2: ")
    filled.refused("usage", "check", filled.home / "ledger", "--from", out, *files)
    filled.refused("usage", "check", "--from", out)
    filled.refused("no_ledger", "check", tmp_path)


def test_a_checkpoint_by_the_operator_is_met_or_not(
    filled: Dsn, files: list[str], tmp_path: Path
) -> None:
    root = bytes.fromhex(filled.fields("check")["root"])
    state_root = bytes.fromhex(filled.fields("show", "3")["state_root"])
    out = tmp_path / "note"
    for epoch, key, code in [(1, OPERATOR, 0), (2, OPERATOR, 1), (1, ANN, None)]:
        says = Checkpoint(log_origin(NETWORK.network_id), 4, root, state_root, epoch)
        note = SignedCheckpoint(says, (sign_root(says, DOMAIN, key),))
        out.write_bytes(format_checkpoint(note))
        if code is None:
            filled.refused("unsigned_checkpoint", "check", "--checkpoint", out)
        else:
            filled.fields("check", "--checkpoint", out, code=code)
    out.write_bytes(b"\xff" * 100_000)
    filled.refused("malformed_message", "check", "--checkpoint", out)


# show


def test_accounts_entries_and_the_whole_are_shown(filled: Dsn) -> None:
    ben = filled.fields("show", format_address(BEN.address))
    assert (ben["available"], ben["withdrawn"], ben["burned"], ben["nonce"]) == (119, 7, 4, 2)
    whole = filled.fields("show")
    assert (whole["size"], whole["signed"], whole["epoch"], whole["phase"]) == (4, 0, 1, "open")
    assert whole["operator"] == format_address(OPERATOR.address)
    entry = filled.fields("show", "1")
    assert entry["signer"] == format_address(ANN.address)
    assert entry["body"] == {"to": format_address(BEN.address), "amount": 100}
    code, text = filled("show", "1")
    assert code == 0
    assert "\nbody amount" in text


@pytest.mark.parametrize(
    ("subject", "code"),
    [
        ("4", "unknown_entry"),
        ("9" * 30, "unknown_entry"),
        (format_address(FOUNDER_ADDRESS := Address(b"\x05" * 20)), "unknown_account"),
        (format_address(FOUNDER_ADDRESS)[:-1], "bad_settlement_address"),
        ("0" * 64, "unknown_deal"),
        (format_node_id(bytes(32)), "unknown_node"),  # type: ignore[arg-type]
        ("nobody", "bad_id"),
        ("n0", "bad_base32"),
        ("x", "bad_subject"),
        ("ab", "bad_subject"),
    ],
)
def test_what_is_not_there_is_not_shown(filled: Dsn, subject: str, code: str) -> None:
    filled.refused(code, "show", subject)
