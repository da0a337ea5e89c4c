"""Figures, tables and progress as people and programs read them."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from dsn.apps.results import Progress
from dsn.ui.bars import Bars
from dsn.ui.figures import count, format_amount, format_date, format_seconds, format_speed
from dsn.ui.progress import json_lines, silence
from dsn.ui.table import columns, fields, print_table
from dsn.ui.told import nested_fields, told_fields


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 ms"), (0.038, "38 ms"), (4.25, "4.2 s"), (65, "1 min 05 s"), (7800, "2 h 10 min")],
)
def test_seconds(seconds, text):
    assert format_seconds(seconds) == text


def test_speed_never_divides_by_nothing():
    assert format_speed(10 << 20, 2.0) == "5 MiB/s"
    assert format_speed(10, 0.0) == "-"


def test_counts_and_dates():
    assert count(1, "node") == "1 node"
    assert count(1200, "leaf", "leaves") == "1,200 leaves"
    assert format_date(0) == "1970-01-01 00:00"


def test_columns_line_up_without_trailing_blanks():
    assert list(columns([["a", "bb"], ["ccc", ""]])) == ["a    bb", "ccc"]
    assert list(fields([("name", "x"), ("id", "y")])) == ["name  x", "id    y"]


def test_a_piped_table_is_plain_text(capsys):
    print_table(("NAME", "STATE"), [("a", "healthy"), ("[red]b", "lost")])
    assert capsys.readouterr().out == "NAME    STATE\na       healthy\n[red]b  lost\n"


def test_a_terminal_gets_a_drawn_table_that_reads_names_as_they_are(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    print_table(("NAME", "STATE"), [("[red]b", "lost")])
    assert "[red]b" in capsys.readouterr().out


def test_json_progress_is_bounded_and_ends_with_the_last_step():
    out = io.StringIO()
    with json_lines(out) as sink:
        for done in range(10_001):
            sink(Progress("upload", done, 10_000))
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert lines[-1] == {"stage": "upload", "done": 10_000, "total": 10_000}
    assert len(lines) < 200


def test_bars_show_amounts_in_the_units_of_the_results():
    screen = io.StringIO()
    with Bars(Console(file=screen, force_terminal=True, width=100)) as sink:
        sink(Progress("put", 1, None))
        sink(Progress("put", 3 << 19, 3 << 20))
        sink(Progress("check", 2, 5))
    assert "1.5 MiB of 3 MiB" in screen.getvalue()
    assert "2 of 5" in screen.getvalue()


def test_silence_takes_everything():
    with silence() as sink:
        sink(Progress("read", 1, None))


def test_amounts():
    assert format_amount("put", 1024, 2048, None) == "1 KiB of 2 KiB"
    assert format_amount("put", 1024, None, 512.0) == "1 KiB, 512 B/s"
    assert format_amount("check", 3, 12, 99.0) == "3 of 12"


def test_an_answer_is_told_without_raw_values():
    answer = {
        "node_id": "nabc",
        "size": 1_234,
        "since_start": {"held": 1_144, "silent": 2},
        "refused": {},
        "undated": [3, 1_004],
        "let_through": [],
        "joined": True,
        "reach": None,
        "seen_s": 86_400,
        "scrub_s": 0,
    }
    assert told_fields(answer) == [
        ("node id", "nabc"),
        ("size", "1,234"),
        ("since start", "held 1,144, silent 2"),
        ("refused", "none"),
        ("undated", "3, 1,004"),
        ("let through", "none"),
        ("joined", "yes"),
        ("reach", "none"),
        ("seen", "1970-01-02 00:00 UTC"),
        ("scrub", "never"),
    ]


def test_what_is_inside_a_value_stands_under_both_names():
    found = {"size": 4, "closed": {"size": 3, "state_root": "ab"}}
    told = [("size", "4"), ("closed size", "3"), ("closed state root", "ab")]
    assert list(nested_fields(found)) == told
