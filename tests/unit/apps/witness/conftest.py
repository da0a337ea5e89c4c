"""A witness at work, and an operator whose first epoch is open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.witness_world import Home, Operator


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A witness that has followed nothing yet."""
    made = Home(tmp_path)
    yield made
    made.close()


@pytest.fixture
def operator() -> Operator:
    """Two parties are bound and epoch 1 is open."""
    made = Operator()
    made.bind("alice", "paul")
    made.open_epoch()
    return made


@pytest.fixture(scope="session")
def _long() -> Operator:
    made = Operator()
    made.bind("alice", "paul")
    made.open_epoch()
    made.pay(600)
    return made


@pytest.fixture
def long(_long: Operator) -> Operator:
    """As ``operator``, with a log of three bundles."""
    return _long.fork()
