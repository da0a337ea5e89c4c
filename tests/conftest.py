"""What all tests share: Hypothesis without a clock, real processes one at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).parents[1]
REAL_PROCESSES = ("tests/net", "tests/docs")

settings.register_profile("dsn", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("dsn")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have recursion end where it does for users: eth_account's py_ecc moved that far away."""
    sys.setrecursionlimit(1_000)


class WithoutChain(pytest.Directory):
    """Tests on an EVM node where there can be none: one line says so for all of them."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Skip."""
        from tests.support.evm import missing

        pytest.skip(missing())


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Look into the contracts' tests only where they can run."""
    if path != REPOSITORY / "tests" / "contracts":
        return None
    from tests.support.evm import missing

    return WithoutChain.from_parent(parent, path=path) if missing() else None


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return REPOSITORY


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests that start processes follow one another, whatever the number of workers."""
    for item in items:
        if item.nodeid.startswith(REAL_PROCESSES):
            item.add_marker(pytest.mark.xdist_group("processes"))
