"""``dsn ledger check --evidence``: every kind of file, and everything that is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dsn.cli.main import main
from dsn.dht.network import format_network, sign_network
from dsn.ledger.checkpoint import format_note_key
from tests.support.ledger_stage import LOG_KEY, located
from tests.support.lying_operator import Liar, evidence_files

LIAR, HONEST, STRANGER = Liar(), Liar(), Liar("elsewhere")
GUILTY = evidence_files(LIAR, guilty=True)
INNOCENT = evidence_files(HONEST, guilty=False)
FREE = sign_network(replace(LIAR.genesis, ledger=None), [], LOG_KEY.sign)
FAULTS = {
    "contradiction": "fork",
    "broken_promise": "broken_promise",
    "fraud": "state_root_differs",
}


class Judge:
    """``dsn ledger check`` as a whole: exit code, standard output and lines of standard error."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.file, self._folder, self._capsys = folder / "evidence", folder, capsys
        for name, network in [
            ("liars", located(LIAR.genesis, "127.0.0.1:1")),
            ("elsewhere", located(STRANGER.genesis, "127.0.0.1:1")),
            ("free", FREE),
        ]:
            (folder / name).write_text(format_network(network))

    def __call__(self, *words: str | Path) -> tuple[int, str, list[str]]:
        code = main(["--home", str(self._folder / "home"), "ledger", "check", *map(str, words)])
        out, err = self._capsys.readouterr()
        return code, out, err.splitlines()

    def judge(self, raw: bytes, *words: str, network: str = "liars") -> tuple[int, str, list[str]]:
        """Judge a file that says ``raw``."""
        self.file.write_bytes(raw)
        return self("--evidence", self.file, "--network", self._folder / network, *words)

    def refused(self, *words: str | Path) -> tuple[int, str]:
        """Exit code and code of a refusal, which takes one line and a hint."""
        code, out, err = self(*words, "--json")
        error = json.loads(out)["error"]
        assert err[0] == f"dsn: {error['message']}"
        assert [line.partition(": ")[0] for line in err[1:]] in ([], ["hint"])
        assert error["exit"] == code
        return code, error["code"]


@pytest.fixture
def dsn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Judge:
    return Judge(tmp_path, capsys)


@pytest.mark.parametrize("kind", FAULTS)
def test_evidence_of_each_kind_convicts_the_operator(dsn: Judge, kind: str) -> None:
    raw, operator = GUILTY[kind], LIAR.trust.operator
    code, out, err = dsn.judge(raw, "--json")
    fields = json.loads(out)
    message = fields.pop("message")
    assert (code, err) == (0, [])
    assert fields == {
        "ok": True,
        "kind": kind,
        "size": len(raw),
        "accused": {"role": "operator", "name": operator.name, "key": format_note_key(operator)},
        "fault": FAULTS[kind],
    }
    who = f"operator {operator.name} (key {operator.public.hex()})"
    assert dsn.judge(raw) == (0, f"convicted: {who}: {message} ({FAULTS[kind]})\n", [])


@pytest.mark.parametrize("kind", FAULTS)
def test_evidence_of_nothing_convicts_nobody(dsn: Judge, kind: str) -> None:
    raw = INNOCENT[kind]
    code, out, err = dsn.judge(raw, "--json")
    fields = json.loads(out)
    message = fields.pop("message")
    assert (code, err) == (1, [])
    assert fields == {"ok": False, "kind": kind, "size": len(raw), "code": "no_fault"}
    assert dsn.judge(raw) == (1, f"nobody is convicted: {message} (no_fault)\n", [])


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize(
    ("network", "refusal"),
    [
        ("elsewhere", (4, "other_log")),
        ("free", (2, "no_ledger_here")),
        ("nowhere", (3, "not_found")),
        ("evidence", (2, "bad_network_file")),
    ],
)
def test_it_is_judged_by_the_network_that_is_named(
    dsn: Judge, tmp_path: Path, kind: str, network: str, refusal: tuple[int, str]
) -> None:
    dsn.file.write_bytes(GUILTY[kind])
    found = dsn.refused("--evidence", dsn.file, "--network", tmp_path / network)
    assert found == refusal


def test_without_a_home_a_network_is_to_be_named(dsn: Judge) -> None:
    dsn.file.write_bytes(GUILTY["fraud"])
    assert dsn.refused("--evidence", dsn.file) == (2, "no_network")


@pytest.mark.parametrize(
    "raw", [b"", b"\0", b"# a text\n", GUILTY["fraud"][:-1], GUILTY["fraud"] + b"\0", b"x" * 10**6]
)
def test_what_is_no_evidence_is_said_in_a_line(dsn: Judge, tmp_path: Path, raw: bytes) -> None:
    dsn.file.write_bytes(raw)
    found = dsn.refused("--evidence", dsn.file, "--network", tmp_path / "liars")
    assert found == (4, "malformed_message")


def test_evidence_that_is_not_there_is_a_question_of_usage(dsn: Judge, tmp_path: Path) -> None:
    network = ("--network", tmp_path / "liars")
    for file in (tmp_path / "none", tmp_path):
        assert dsn.refused("--evidence", file, *network) == (2, "usage")
    dsn.file.write_bytes(GUILTY["fraud"])
    assert dsn.refused("--evidence", dsn.file, *network, tmp_path) == (2, "usage")
    assert dsn.refused("--evidence", dsn.file, *network, "--from", dsn.file) == (2, "usage")
