"""Commands that need the chain, as far as they go where it does not answer; and what they print."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsn.apps.chain.accusing import Convicted
from dsn.apps.chain.auditing import Audit, Finding
from dsn.apps.chain.escape import Left, Waiting
from dsn.apps.chain.paying_out import Withdrawn
from dsn.apps.chain.vault import Anchored
from dsn.cli import dispute, escape, wallet
from dsn.cli.main import main
from dsn.cli.onchain import parse_deal, units
from dsn.dht.network import Genesis, format_network, sign_network
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.settlement import Address
from dsn.ledger.typed import Domain
from dsn.store.home import Home
from tests.support.ledger_net import LOG_KEY, ledger_network

Run = Callable[..., tuple[int, dict[str, Any], list[str]]]
ROOT = b"alice".ljust(32, b"_")
DEAL = "ab" * 32
COMMANDS = [
    ("wallet", "deposit", "500"),
    ("wallet", "withdraw", "500"),
    ("wallet", "withdraw"),
    ("ledger", "anchor"),
    ("ledger", "bond"),
    ("dispute", "open", DEAL),
    ("dispute", "slash", DEAL),
    ("dispute", "ls"),
    ("dispute", "audit"),
    ("dispute", "audit", "--convict"),
    ("escape",),
]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.create(tmp_path / "home", ROOT)
    home.save_network(format_network(ledger_network("127.0.0.1:1")))
    return home


def settling(home: Home) -> None:
    """Have the home's network settle on a chain."""
    free = ledger_network("127.0.0.1:1")
    assert free.genesis.ledger is not None
    domain = Domain(free.genesis.ledger.domain.network, 31_337, Address(b"\x44" * 20))
    genesis: Genesis = replace(free.genesis, ledger=replace(free.genesis.ledger, domain=domain))
    network = sign_network(genesis, [], LOG_KEY.sign, ledger=free.ledger, witnesses=[])
    home.save_network(format_network(network))


@pytest.fixture
def dsn(home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*args: str | Path) -> tuple[int, dict[str, Any], list[str]]:
        monkeypatch.setattr("sys.stdin", io.StringIO())
        code = main(["--home", str(home.path), "--json", *map(str, args)])
        out, err = capsys.readouterr()
        return code, json.loads(out), err.splitlines()

    return run


def refused(done: tuple[int, dict[str, Any], list[str]], exit_code: int = 2) -> str:
    """The code of a failure that is told as all are: a line and a hint."""
    code, out, err = done
    said = out["error"]
    assert code == said["exit"] == exit_code
    assert said["hint"] and err[-2:] == [f"dsn: {said['message']}", f"hint: {said['hint']}"]
    return str(said["code"])


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_a_network_without_a_chain_is_told(dsn: Run, args: tuple[str, ...]) -> None:
    assert refused(dsn(*args)) == "no_chain"


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_a_home_without_an_endpoint_is_told(home: Home, dsn: Run, args: tuple[str, ...]) -> None:
    settling(home)
    assert refused(dsn(*args)) == "no_endpoint"


@pytest.mark.parametrize(
    ("code", "args"),
    [
        ("bad_amount", ("wallet", "deposit", "1.5")),
        ("bad_amount", ("wallet", "withdraw", "0")),
        ("bad_settlement_address", ("wallet", "deposit", "5", "--to", "0x12")),
        ("bad_id", ("dispute", "slash", "abc")),
        ("bad_id", ("dispute", "answer", "ab" * 31)),
        ("usage", ("dispute", "open", DEAL, "--leaf", "-1")),
        ("usage", ("escape", "--log", "/does/not/exist")),
        ("usage", ("dispute", "audit", "--log", "/does/not/exist")),
    ],
)
def test_bad_input(dsn: Run, code: str, args: tuple[str, ...]) -> None:
    assert refused(dsn(*args)) == code


def test_an_answer_needs_the_running_node(dsn: Run) -> None:
    assert refused(dsn("dispute", "answer", DEAL), 7) == "not_running"


def test_evidence_that_is_none(dsn: Run, home: Home, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"nothing")
    assert refused(dsn("dispute", "convict", tmp_path / "file")) == "no_chain"


def test_notes_that_are_none(dsn: Run, home: Home, tmp_path: Path) -> None:
    (tmp_path / "note").write_bytes(b"nothing")
    assert (
        refused(dsn("dispute", "equivocation", tmp_path / "note", tmp_path / "note")) == "no_chain"
    )
    assert refused(dsn("dispute", "equivocation", tmp_path / "note", tmp_path / "gone")) == "usage"


def test_every_command_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    for args in [*COMMANDS, ("dispute", "answer"), ("dispute", "convict")]:
        words = [each for each in args if each.isalpha()]
        assert main([*words, "--help"]) == 0
        text, _ = capsys.readouterr()
        first = next(line for line in text.splitlines()[2:] if line.strip())
        assert first.strip().endswith(".") and len(text.splitlines()) > 8, words


def test_deals_are_64_digits() -> None:
    assert parse_deal(DEAL) == bytes.fromhex(DEAL)
    assert [parse_deal(text) for text in ("", "xy" * 32, "ab" * 33, "dsn:read:ab")] == [None] * 4
    assert [units(n) for n in (0, 1, 2_000)] == ["0 units", "1 unit", "2,000 units"]


WITHDRAWN = Withdrawn(
    collected=0, withdrawn=900, paid=400, units=7, gas=0, due_s=None, challenge_s=3_600
)


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, ["500 units can be fetched 1 h 00 min after the next anchor"]),
        ({"due_s": 1_700_000_000}, ["500 units can be fetched from 2023-11-14 22:13 UTC on"]),
        ({"paid": 900}, []),
    ],
)
def test_a_withdrawal_shows_both_sides(changes: dict[str, int], lines: list[str]) -> None:
    done = replace(WITHDRAWN, **changes)
    both = f"withdrawn on the ledger 900, paid by the vault {done.paid}; 7 units on the chain"
    assert list(wallet._withdrawn_lines(done)) == [both, *lines]
    first, *rest = wallet._withdrawn_lines(replace(done, collected=12, gas=89_209))
    assert (first, rest) == ("12 units came, gas 89,209", [both, *lines])


def test_an_escape_ends_with_figures() -> None:
    left = Left(
        frozen_s=1_700_000_000,
        size=103,
        credited=Counter({"account": 900, f"deal {DEAL}": 70}),
        owed=0,
        paid=970,
        units=1_000,
        waiting=(Waiting("5 units come back", 1_700_003_600), Waiting("more", 0)),
        gas=5,
    )
    assert escape._fields(left) == {
        "frozen_s": 1_700_000_000,
        "size": 103,
        "credited": {"account": "900", f"deal {DEAL}": "70"},
        "owed": "0",
        "paid": "970",
        "units": "1000",
        "waiting": [
            {"what": "5 units come back", "since_s": 1_700_003_600},
            {"what": "more", "since_s": None},
        ],
        "gas": 5,
    }
    lines = list(escape._lines(left))
    assert lines[0].split(maxsplit=1) == ["frozen", "2023-11-14 22:13 UTC"]
    assert [line.split()[:2] for line in lines if "abab" in line] == [["deal", DEAL[:16]]]
    assert lines[-2:] == [
        "from 2023-11-14 23:13 UTC on: 5 units come back; run this again then",
        "later: more; run this again then",
    ]
    none = escape._fields(replace(left, frozen_s=0, size=None))
    assert (none["frozen_s"], none["size"]) == (None, None)


ANCHOR = Anchored(3, 1_200, 9, 1_700_000_000, bytes(32), bytes(32))
MISSING = Finding(3, 1_199, "deposit_omitted", "it is without deposit 2", OnChain("FraudLog", "x"))
DONE = Convicted(1_199, "deposit_omitted", 3, "FraudLog", 500_000)


def test_an_audit_ends_with_figures() -> None:
    right = Audit(ANCHOR, 14, 1, ())
    assert list(dispute._audit_lines(right, None)) == [
        "anchor 3 is right: 1,200 entries up to epoch 9, held against 14 deposits and 1 slash"
    ]
    assert list(dispute._audit_lines(None, None)) == ["nothing is anchored"]
    none = dispute._audit_fields(None, None)
    assert (none["anchor"], none["findings"]) == (None, [])
    assert none.keys() == dispute._audit_fields(right, None).keys()


def test_an_audit_names_what_is_wrong() -> None:
    wrong = Audit(ANCHOR, 14, 0, (MISSING,))
    said = "anchor 3 is wrong (deposit_omitted): it is without deposit 2"
    assert list(dispute._audit_lines(wrong, None)) == [
        said,
        "have the operator convicted: dsn dispute audit --convict",
    ]
    assert list(dispute._audit_lines(wrong, DONE)) == [
        said,
        "convicted: deposit_omitted, by FraudLog, gas 500,000",
        "the vault is frozen: dsn escape",
    ]
    assert dispute._audit_fields(wrong, DONE) == {
        "anchor": 3,
        "size": 1_200,
        "epoch": 9,
        "deposits": 14,
        "slashes": 0,
        "findings": [
            {
                "anchor": 3,
                "index": 1_199,
                "fault": "deposit_omitted",
                "text": "it is without deposit 2",
            }
        ],
        "convicted": {
            "index": 1_199,
            "fault": "deposit_omitted",
            "anchor": 3,
            "contract": "FraudLog",
            "gas": 500_000,
        },
    }
