"""Pictures of what the simulator found."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import pytest

from dsn.apps.sim.lookups import Figures, Found, Trouble
from dsn.apps.sim.plot import draw_lookups, draw_split, require_matplotlib
from dsn.apps.sim.split import COMPARED, History, Moment
from dsn.errors import ConfigError

pytest.importorskip("matplotlib", reason="pictures need 'dsn[plots]'")

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def colours(file: Path) -> tuple[int, int, int]:
    """Width, height, and how many different bytes the picture's data has, unpacked."""
    raw = file.read_bytes()
    assert raw.startswith(SIGNATURE)
    width, height = struct.unpack(">II", raw[16:24])
    data, at = b"", len(SIGNATURE)
    while at < len(raw):
        (size,) = struct.unpack(">I", raw[at : at + 4])
        if raw[at + 4 : at + 8] == b"IDAT":
            data += raw[at + 8 : at + 8 + size]
        at += size + 12
    return width, height, len(set(zlib.decompress(data)))


def lookups(name: str, paths: int, slower: int) -> Figures:
    found = [Found(at % 10 > 0, 3, 7, 50.0 * slower + 3 * at) for at in range(100)]
    return Figures(Trouble(name, paths=paths), tuple(found))


def test_lookups_are_drawn(tmp_path: Path) -> None:
    file = tmp_path / "lookups.png"
    draw_lookups([lookups("healthy", 1, 1), lookups("churn", 4, 9)], 1_000, file)
    width, height, different = colours(file)
    assert (width, height) == (1650, 690)
    assert different > 100


def test_one_fast_scenario_is_drawn_too(tmp_path: Path) -> None:
    file = tmp_path / "lookups.png"
    one = Figures(Trouble("healthy"), (Found(True, 1, 1, 12.0),))
    draw_lookups([one], 50, file)
    assert colours(file)[2] > 50


def test_a_split_is_drawn(tmp_path: Path) -> None:
    moments = (Moment("before", 1.0, 40), Moment("link", 0.5, 3), Moment("refresh 1", 1.0, 60))
    histories = [History(habits.name, moments, 0.1) for habits in COMPARED]
    draw_split(histories, 200, tmp_path / "split.png")
    assert colours(tmp_path / "split.png")[2] > 50


def test_what_happened_changes_the_picture(tmp_path: Path) -> None:
    for name, slower in (("one", 1), ("other", 2)):
        draw_lookups([lookups("healthy", 1, slower)], 50, tmp_path / name)
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError) as caught:
        require_matplotlib()
    assert caught.value.detail_code == "missing_extra"
    assert caught.value.hint == "pip install 'dsn[plots]'"
