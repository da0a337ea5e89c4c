"""``dsn sim dht`` as people and scripts meet it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dsn.apps.sim.split import History, Moment
from dsn.cli.main import main
from dsn.cli.sim import split_cells, split_headings

LITTLE = ("--nodes", "60", "--lookups", "5")


@pytest.fixture
def dht(capsys):
    """Run the command; returns its code, standard output and the lines on standard error."""

    def run(*args: str) -> tuple[int, str, list[str]]:
        code = main(["sim", "dht", *args])
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return run


def test_without_trouble_the_standard_table_is_printed(dht) -> None:
    code, out, err = dht(*LITTLE)
    assert (code, err) == (0, [])
    heading, *rows, last = out.splitlines()
    assert heading.startswith("SCENARIO")
    assert len(rows) == 8
    assert rows[0].startswith("healthy") and "100.0 %" in rows[0]
    assert last.startswith("60 nodes, 5 lookups each; seed 1, ")
    assert last.endswith("iB at most")


def test_flags_make_one_scenario(dht) -> None:
    flags = ("--dead", "0.25", "--malicious", "0.1", "--paths", "2", "--churn", "--seed", "9")
    code, out, _ = dht("--json", *LITTLE, *flags)
    assert code == 0
    told = json.loads(out)
    (scenario,) = told.pop("scenarios")
    assert scenario["scenario"] == "25 % dead, 10 % malicious, churn"
    assert (scenario["dead"], scenario["malicious"]) == (0.25, 0.1)
    assert (scenario["paths"], scenario["churn"]) == (2, True)
    assert 0.0 <= scenario["success"] <= 1.0
    assert scenario["latency_ms_p50"] <= scenario["latency_ms_p95"] <= scenario["latency_ms_p99"]
    assert (told["nodes"], told["lookups"], told["seed"]) == (60, 5, 9)
    assert told["seconds"] >= scenario["seconds"] > 0.0
    assert 10 < told["peak_memory_mib"] < 10_000


@pytest.mark.parametrize("flag", [("--no-churn",), ("--dead", "0"), ("--paths", "1")])
def test_a_flag_that_names_no_trouble_makes_a_healthy_network(dht, flag) -> None:
    _, out, _ = dht("--json", *LITTLE, *flag)
    assert [each["scenario"] for each in json.loads(out)["scenarios"]] == ["healthy"]


def test_the_same_seed_prints_the_same_figures(dht) -> None:
    once, again = (json.loads(dht("--json", *LITTLE, "--churn")[1]) for _ in range(2))
    for told in (once, again):
        told.pop("seconds"), told.pop("peak_memory_mib")
        told["scenarios"][0].pop("seconds")
    assert once == again


def test_a_split_is_printed_side_by_side(dht) -> None:
    code, out, err = dht("--split", "--nodes", "10")
    assert (code, err) == (0, [])
    heading, *rows, last = out.splitlines()
    assert heading.split("  ")[0] == "RECALL"
    assert "PLAIN KADEMLIA" in heading and "DSN" in heading
    assert [row.split("  ")[0] for row in rows] == [
        "before", "apart", "link", *(f"refresh {number}" for number in range(1, 5)),
    ]  # fmt: skip
    assert last.startswith("10 nodes, in halves for an hour; seed 1, ")


def test_a_split_for_programs_and_as_a_picture(dht, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need 'dsn[plots]'")
    file = tmp_path / "split.png"
    code, out, _ = dht("--json", "--split", "--nodes", "10", "--plot", str(file))
    told = json.loads(out)
    assert (code, told["nodes"], told["seed"]) == (0, 10, 1)
    assert [each["habits"] for each in told["histories"]] == [
        "plain Kademlia", "dsn", "dsn, seeds, no link",
    ]  # fmt: skip
    first = told["histories"][0]["moments"][0]
    assert (first["name"], first["recall"]) == ("before", 1.0)
    assert first["calls"] > 0.0
    assert file.read_bytes().startswith(b"\x89PNG")


def test_split_histories_share_a_line_for_each_moment() -> None:
    histories = [
        History("a", (Moment("before", 1.0, 40.2), Moment("link", 0.5, 3.0)), 0.1),
        History("b", (Moment("before", 0.9996, 170.0), Moment("link", 0.25, 9.0)), 0.2),
    ]
    assert split_headings(histories) == ["RECALL", "A", "CALLS", "B", "CALLS"]
    assert list(split_cells(histories)) == [
        ["before", "1.000", "40", "0.999", "170"],
        ["link", "0.500", "3", "0.250", "9"],
    ]


def test_a_picture_is_drawn(dht, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need 'dsn[plots]'")
    file = tmp_path / "lookups.png"
    code, out, _ = dht(*LITTLE, "--churn", "--plot", str(file))
    assert code == 0
    assert out.splitlines()[-1] == f"picture: {file}"
    assert file.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_nothing_long_begins(dht, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, err = dht("--nodes", "100000", "--plot", str(tmp_path / "x.png"))
    assert (code, out) == (2, "")
    assert err == ["dsn: pictures need matplotlib", "hint: pip install 'dsn[plots]'"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--nodes", "9"), "invalid value for '--nodes': 9 is not in the range 10<=x<=100000"),
        (("--nodes", "100001"), "invalid value for '--nodes': 100001 is not in the range"),
        (("--lookups", "0"), "invalid value for '--lookups': 0 is not in the range"),
        (("--dead", "50"), "invalid value for '--dead': 50.0 is not in the range 0<=x<=0.9"),
        (("--malicious", "-1"), "invalid value for '--malicious': -1.0 is not in the range"),
        (("--dead", "0.5", "--malicious", "0.5"), "100 % dead or malicious, 90 % at most"),
        (("--paths", "9"), "invalid value for '--paths': 9 is not in the range 1<=x<=8"),
        (("--split", "--churn"), "--split goes with --nodes, --seed and --plot only"),
        (("--split", "--lookups", "5"), "--split goes with --nodes, --seed and --plot only"),
        (("--split", "--nodes", "2001"), "2,001 nodes, 2,000 at most with --split"),
        (("--plot", "x.jpg"), "x.jpg: a picture is a PNG file"),
        (("--plot", "none/x.png"), "none: no such folder"),
    ],
)
def test_bad_values_are_one_line_and_code_2(dht, flags, message) -> None:
    code, out, err = dht(*flags)
    assert (code, out) == (2, "")
    assert err[0].startswith(f"dsn: {message}")
    assert len(err) <= 2


def test_progress_counts_lookups(dht) -> None:
    _, _, err = dht("--json-progress", *LITTLE, "--paths", "1")
    last = json.loads(err[-1])
    assert (last["stage"], last["done"], last["total"]) == ("lookups", 5, 5)
