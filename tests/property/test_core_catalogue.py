"""The catalogue against a plain dict, through any history of puts and removals."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dsn.core.catalogue import (
    MAX_RUNS,
    Entry,
    Removed,
    Row,
    RunRef,
    SlotBody,
    decode_run,
    encode_run,
    merge,
    merge_rows,
    plan_update,
)
from dsn.core.layout import Scheme
from dsn.core.manifest import FileKind
from dsn.ids import FileId

NAMES = st.integers(0, 60).map(str)
CHANGES = st.dictionaries(NAMES, st.none() | st.integers(0, 1_000), min_size=1, max_size=9)


class CatalogueMachine(RuleBasedStateMachine):
    """Runs in a store, a slot that lists them, and the dict they must equal."""

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, int] = {}
        self.slot = SlotBody().encode()
        self.stored: dict[FileId, bytes] = {}
        self.writes = 0

    def read(self, runs: tuple[RunRef, ...]) -> list[tuple[Row, ...]]:
        return [decode_run(self.stored[run.file_id]) for run in runs]

    @rule(changes=CHANGES)
    def update(self, changes: dict[str, int | None]) -> None:
        runs = SlotBody.decode(self.slot).runs
        rows: list[Row] = [
            Removed(name) if size is None else entry(name, size) for name, size in changes.items()
        ]
        keep = plan_update(runs, len(rows))
        run = merge_rows([*self.read(runs[keep:]), rows], oldest=keep == 0)
        self.writes += 1
        file_id = FileId(self.writes.to_bytes(32, "big"))
        self.stored[file_id] = encode_run(run)
        kept = runs[:keep]
        new = (RunRef(bytes(16), file_id, len(run)),) if run else ()
        self.slot = SlotBody((*kept, *new)).encode()
        for name, size in changes.items():
            self.model.pop(name, None)
            if size is not None:
                self.model[name] = size

    @invariant()
    def the_catalogue_is_the_dict(self) -> None:
        found = merge(self.read(SlotBody.decode(self.slot).runs))
        assert {name: each.size for name, each in found.items()} == self.model

    @invariant()
    def runs_are_few(self) -> None:
        sizes = [run.rows for run in SlotBody.decode(self.slot).runs]
        assert len(sizes) <= min(MAX_RUNS, math.log2(sum(sizes) + 1) + 1)

    @invariant()
    def the_oldest_run_hides_nothing(self) -> None:
        runs = self.read(SlotBody.decode(self.slot).runs)
        assert not runs or all(isinstance(row, Entry) for row in runs[0])


def entry(name: str, size: int) -> Entry:
    return Entry(name, bytes(16), FileId(bytes(32)), size, Scheme(4, 6), FileKind.FILE, 0)


TestCatalogue = CatalogueMachine.TestCase
TestCatalogue.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
