"""A staged ledger and somebody who reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.ledger_stage import (
    Reader,
    Stage,
    serving,
)


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.begin()
    stage.bind("alice", "paul")
    return stage


@pytest.fixture
async def reader(stage: Stage, tmp_path: Path) -> AsyncIterator[Reader]:
    async with serving(stage, tmp_path) as reader:
        yield reader
