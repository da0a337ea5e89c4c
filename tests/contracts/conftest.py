"""One EVM node a process that runs these tests, and a network's contracts on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.evm import Evm, Settled, deploy_world, running_evm


@pytest.fixture(scope="session")
def node() -> Iterator[Evm]:
    """The node; tests share it, so they take ``evm``."""
    with running_evm() as node:
        yield node


@pytest.fixture
def evm(node: Evm) -> Iterator[Evm]:
    """The node, which afterwards is as it was before."""
    with node.undone():
        yield node


@pytest.fixture(scope="session")
def deployed(node: Evm) -> Settled:
    """All contracts, deployed once."""
    return deploy_world(node)


@pytest.fixture
def settled(deployed: Settled, evm: Evm) -> Settled:
    """All contracts as they were deployed; what a test does to them is undone."""
    return deployed
