"""What a verifier found is on disk whole, once, and in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dsn.errors import DataLost
from dsn.ids import NodeId
from dsn.proofs.verdict import Outcome
from dsn.store.verdicts import Draw, VerdictStore, open_verdicts
from tests.support.verdicts import NODE, NOW_S, signed

EVIDENCE = b"\x74" * 32


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[VerdictStore]:
    async with open_verdicts(tmp_path / "verifier.db") as opened:
        yield opened


async def test_verdicts_are_numbered_from_nothing_in_their_order(store: VerdictStore) -> None:
    other = NodeId(bytes(32))
    given = [signed(1), signed(1, node=other), signed(2, Outcome.SILENT), signed(3)]
    for each in given:
        assert await store.add([each]) == 1
    assert [each.number for each in await store.page()] == [0, 1, 2, 3]
    assert [each.signed for each in await store.page()] == given
    assert [each.number for each in await store.page(1, 2)] == [1, 2]
    assert [each.number for each in await store.page(1, node=NODE)] == [2, 3]
    assert await store.page(4) == []
    assert await store.count() == 4


async def test_a_draw_has_one_verdict_and_the_second_leaves_nothing(store: VerdictStore) -> None:
    first, second = signed(1), signed(1, Outcome.SILENT)
    assert await store.add([first], EVIDENCE, b"first") == 1
    assert await store.add([second], b"\x75" * 32, b"second") == 0
    assert await store.of_draw(NODE, 1) == first
    assert await store.bundle(EVIDENCE) == b"first"
    assert await store.bundle(b"\x75" * 32) == b""
    assert await store.find(second.verdict.hash) is None


async def test_an_appeal_stands_beside_the_first(store: VerdictStore) -> None:
    first = signed(1, Outcome.SILENT)
    appeal = signed(1, appeal=first.verdict.hash)
    await store.add([first])
    assert await store.appeal_of(first.verdict.hash) is None
    assert await store.add([appeal]) == 1
    assert await store.appeal_of(first.verdict.hash) == appeal
    assert await store.of_draw(NODE, 1) == first


async def test_the_first_draw_of_an_epoch_stays(tmp_path: Path, store: VerdictStore) -> None:
    first = Draw(5, 77, b"s" * 32, 9, 64, 4)
    assert await store.begin(first) == first
    assert await store.begin(Draw(5, 77, b"s" * 32, 9, 1, 60)) == first
    await store.begin(Draw(6, 99, b"t" * 32, 9, 64, 4))
    await store.finish(5, 2)
    async with open_verdicts(tmp_path / "verifier.db") as again:
        assert [(each.epoch, each.done, each.skipped) for each in await again.draws()] == [
            (5, True, 2),
            (6, False, 0),
        ]
        assert [each.epoch for each in await again.draws(6, 6)] == [6]


async def test_old_bundles_go_and_their_verdicts_stay(store: VerdictStore) -> None:
    await store.add([signed(1)], EVIDENCE, b"one")
    await store.add([signed(2, at_s=NOW_S + 1)], b"\x76" * 32, b"two")
    await store.forget_bundles(NOW_S + 1)
    assert await store.bundle(EVIDENCE) == b""
    assert await store.bundle(b"\x76" * 32) == b"two"
    assert await store.count() == 2


async def test_what_is_no_database_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "verifier.db"
    file.write_bytes(b"something else, long enough to be looked at as a header of a database")
    with pytest.raises(DataLost) as failure:
        async with open_verdicts(file):
            pass
    assert failure.value.detail_code == "verdicts_damaged"
    assert file.read_bytes().startswith(b"something else")
