"""Files and functions stay small enough to read in one go."""

from __future__ import annotations

import statistics

from tests.arch.source import code_lines, functions, sources

FILE_LINES, FUNCTION_LINES = 400, 60
MEDIAN_LINES, P90_LINES = 10, 35


def test_files_have_at_most_400_lines() -> None:
    sizes = {source.name: source.text.count("\n") for source in sources()}
    assert {name: lines for name, lines in sizes.items() if lines > FILE_LINES} == {}


def test_functions_have_at_most_60_lines() -> None:
    sizes = {name: code_lines(function) for name, function in functions()}
    assert {name: lines for name, lines in sizes.items() if lines > FUNCTION_LINES} == {}


def test_most_functions_are_short() -> None:
    sizes = [code_lines(function) for _, function in functions()]
    assert statistics.median(sizes) <= MEDIAN_LINES
    assert statistics.quantiles(sizes, n=10)[-1] <= P90_LINES
