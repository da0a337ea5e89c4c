"""``dsn verify``: offline, without a home, and what each outcome says and exits with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dsn.cli.main import main
from dsn.dht.network import format_network
from dsn.ids import format_base32, format_node_id
from tests.support.bundle_world import (
    AT_S,
    NETWORK,
    epoch,
    file,
    live,
    live_part,
    network,
    past,
    signed,
    silent_part,
)
from tests.support.ledger_stage import located
from tests.support.lying_operator import Liar, evidence_files

FIRST, SECOND, THIRD = file().holders


class Verify:
    """The command as a whole: exit code, standard output, standard error."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        (folder / "network.toml").write_text(format_network(NETWORK))
        (folder / "elsewhere.toml").write_text(format_network(network("elsewhere")))

    def __call__(
        self, raw: bytes, *words: str, network: str = "network.toml"
    ) -> tuple[int, str, str]:
        path = self.folder / "file.dsnproof.json"
        path.write_bytes(raw)
        named = ["--network", str(self.folder / network)] if network else []
        home = ["--home", str(self.folder / "home")]
        code = main([*home, "verify", str(path), *named, *words])
        assert not (self.folder / "home" / "keys").exists()
        return code, *self._capsys.readouterr()


@pytest.fixture
def verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Verify:
    return Verify(tmp_path, capsys)


def test_a_file_that_is_held(verify: Verify) -> None:
    code, out, err = verify(signed(live()))
    assert (code, err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines() if line)
    assert lines["network"] == f"bundles ({format_base32(NETWORK.network_id)})"
    assert lines["file"] == format_base32(file().head.core.file_id)
    assert lines["at"].startswith("2027-01-15 08:00 UTC")
    assert lines["confidence"] == "a loss of 1 % would have been seen with 10.5 %"
    for holder in file().holders:
        row = next(line for line in out.splitlines() if format_node_id(holder.node) in line)
        assert "held" in row and "KiB" in row and "4 leaves" in row
    assert out.splitlines()[-1] == "valid: 3 of 3 providers held"


def test_the_same_for_programs(verify: Verify) -> None:
    code, out, _ = verify(signed(live()), "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["ok"], found["valid"], found["kind"], found["at"]) == (True, True, "live", AT_S)
    assert [row["bytes"] for row in found["providers"]] == [20_616, 20_616, 20_480]
    assert set(found["providers"][0]) == {
        "provider", "bytes", "outcome", "reason", "leaves", "epochs",
    }  # fmt: skip


def test_epochs_with_their_witnesses(verify: Verify) -> None:
    code, out, _ = verify(signed(epoch()))
    assert code == 0
    assert "2 of 3 cosigned, 2 needed" in out
    assert "2 to 3" in out


def test_what_nobody_was_asked_for_is_told(verify: Verify) -> None:
    _, out, _ = verify(signed(live(live_part(SECOND))))
    assert "not asked   3 shards" in out


def test_a_failure_that_is_proven_exits_with_1(verify: Verify) -> None:
    bundle = live(live_part(FIRST, wrong=[1]), silent_part(SECOND), live_part(THIRD))
    code, out, _ = verify(signed(bundle))
    assert code == 1
    assert out.splitlines()[-1] == "valid, and it proves a failure: 1 of 3 providers held"
    assert "shard" in out and "timed_out" in out


def test_a_changed_byte_is_named_and_exits_with_1(verify: Verify) -> None:
    raw = signed(live()).replace(b'"leaves":"4"', b'"leaves":"3"', 1)
    code, out, _ = verify(raw)
    assert code == 1
    assert out == "not valid: parts[0].answer: 4 openings, 3 are drawn (answer_count)\n"
    code, out, _ = verify(raw, "--json")
    assert (code, json.loads(out)["code"]) == (1, "answer_count")


def test_a_bundle_about_nobody_is_worth_nothing(verify: Verify) -> None:
    world, _ = past()
    code, out, _ = verify(signed(world.bundle([], {})))
    assert (code, out.splitlines()[-1]) == (1, "valid, but it is about nobody")


def test_another_network_is_unknown(verify: Verify) -> None:
    code, out, err = verify(signed(live()), "--json", network="elsewhere.toml")
    assert (code, json.loads(out)["error"]["code"]) == (2, "unknown_network")
    assert "hint: name that network's file with --network" in err


def test_without_a_network_or_a_home_it_says_so(verify: Verify) -> None:
    code, out, _ = verify(signed(live()), "--json", network="")
    assert (code, json.loads(out)["error"]["code"]) == (2, "no_network")


def test_the_joined_network_counts(verify: Verify) -> None:
    home = verify.folder / "home"
    home.mkdir()
    (home / "network.toml").write_text(format_network(NETWORK))
    code, _, _ = verify(signed(live()), network="")
    assert code == 0


def test_a_second_opinion(verify: Verify) -> None:
    pytest.importorskip("merkletools", reason="needs the extra second-opinion")
    code, out, _ = verify(signed(live()), "--second-opinion")
    assert code == 0
    assert "accepts 12 shard paths too" in out


@pytest.mark.parametrize("kind", ["contradiction", "broken_promise", "fraud"])
def test_evidence_is_judged_as_the_ledgers_check_does(verify: Verify, kind: str) -> None:
    liar = Liar()
    raw = evidence_files(liar, guilty=True)[kind]
    (verify.folder / "liars.toml").write_text(format_network(located(liar.genesis, "127.0.0.1:1")))
    code, out, _ = verify(raw, "--json", network="liars.toml")
    found = json.loads(out)
    assert (code, found["ok"], found["kind"]) == (0, True, kind)
    innocent = evidence_files(Liar(), guilty=False)[kind]
    code, out, _ = verify(innocent, network="liars.toml")
    assert code == 1
    assert out.startswith("nobody is convicted: ")


def test_a_missing_file_is_not_found(verify: Verify, tmp_path: Path) -> None:
    named = ["--network", str(tmp_path / "network.toml")]
    assert main(["verify", str(tmp_path / "nothing"), *named]) == 3
    assert main(["verify", str(tmp_path), *named]) == 2


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda raw: raw[:100] + b"\xff" + raw[101:], "at byte 100"),
        (lambda raw: raw[:-1] + b"]", f"at byte {len(signed(live())) - 1}"),
        (lambda raw: b"{", "at byte 1"),
        (lambda raw: b"[" * 100_000, "nested more than"),
        (lambda raw: b'{"format":7}', "a bare 7"),
    ],
)
def test_text_that_is_no_json_is_refused_at_its_byte(
    verify: Verify, spoil: Callable[[bytes], bytes], said: str
) -> None:
    code, out, err = verify(spoil(signed(live())))
    assert (code, err, out.count("\n")) == (1, "", 1)
    assert said in out


def test_copies_of_a_head_prove_nothing_of_the_file(verify: Verify) -> None:
    """An inline file has no pages: its holders' answers stand, and count for no byte."""
    code, out, _ = verify(signed(replace(live(), pages=())))
    assert code == 0
    assert "nothing that the file's head names" in out
    assert "0 B" in out
