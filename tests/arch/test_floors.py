"""Imports point down (pyproject.toml, tool.importlinter), and every module has a floor."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

IO_FREE = "errors ids units core proofs ledger dht ports chain machines".split()


def test_every_import_points_down(repository: Path) -> None:
    config = str(repository / "pyproject.toml")
    assert lint_imports(config_filename=config, no_cache=True) == EXIT_STATUS_SUCCESS


def test_the_lower_floors_are_all_held_to_do_no_io(repository: Path) -> None:
    settings = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))
    layers, forbidden, _ = settings["tool"]["importlinter"]["contracts"]
    assert forbidden["source_modules"] == [f"dsn.{name}" for name in IO_FREE]
    floors = [re.findall(r"\w+", layer) for layer in layers["layers"]]
    below_wire = chain.from_iterable(floors[floors.index(["v1"]) + 1 :])
    assert set(below_wire) == {*IO_FREE, "kernels"}
