from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsn.errors import DataLost, MalformedMessage, NoSpace, NotFound
from dsn.proofs.por import answer_root
from dsn.proofs.post import Link
from dsn.store.answers import (
    StoredAnswer,
    begin_takeover,
    linked_epochs,
    open_answers,
)


def answer(epoch: int, count: int = 5, size: int = 2_000) -> StoredAnswer:
    """An answer like no other's."""
    openings = tuple(Random(f"{epoch}.{n}").randbytes(size) for n in range(count))
    link = Link(epoch, b"b" * 32, b"r" * 32, 1 << 30, count, answer_root(openings))
    return StoredAnswer(link, openings)


async def code(store: object, epoch: int) -> str:
    with pytest.raises(NotFound) as raised:
        await store.get(epoch)  # type: ignore[attr-defined]
    return raised.value.detail_code


async def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    store = open_answers(tmp_path / "answers")
    for epoch in (3, 7, 10_000_000_000):
        await store.put(answer(epoch))
        assert await store.get(epoch) == answer(epoch)
    again = open_answers(tmp_path / "answers")
    assert again.epochs == store.epochs == linked_epochs(tmp_path / "answers")
    assert again.size_bytes == store.size_bytes == 3 * len(answer(3).encode())
    assert (again.newest, 7 in again, 8 in again) == (10_000_000_000, True, False)
    assert await again.get(7) == answer(7)
    assert await code(again, 8) == "unknown_answer"


async def test_a_folder_that_is_not_there_knows_nothing(tmp_path: Path) -> None:
    assert linked_epochs(tmp_path / "none") == frozenset()
    store = open_answers(tmp_path / "new")
    assert (store.epochs, store.newest, store.size_bytes) == (frozenset(), 0, 0)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


async def test_old_ones_go(tmp_path: Path) -> None:
    store = open_answers(tmp_path)
    for epoch in range(1, 8):
        await store.put(answer(epoch, count=1, size=10))
    assert await store.drop_before(5) == 4
    assert await store.drop_before(5) == 0
    assert store.epochs == open_answers(tmp_path).epochs == {5, 6, 7}
    assert await code(store, 4) == "unknown_answer"


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_makes_it_lost(at: int, flip: int) -> None:
    raw = bytearray(answer(9, count=3, size=40).encode())
    raw[at % len(raw)] ^= flip
    with pytest.raises(MalformedMessage):
        StoredAnswer.decode(bytes(raw))


@given(st.integers(0, 400), st.binary(max_size=40))
def test_a_cut_or_longer_file_is_lost(keep: int, more: bytes) -> None:
    raw = answer(9, count=3, size=40).encode()
    other = raw[:keep] + more
    if other != raw:
        with pytest.raises(MalformedMessage):
            StoredAnswer.decode(other)


def test_openings_that_are_not_the_links_are_not_taken() -> None:
    right = answer(9)
    for wrong in (
        replace(right, openings=right.openings[::-1]),
        replace(right, openings=right.openings[:-1]),
        replace(right, link=replace(right.link, count=4)),
    ):
        with pytest.raises(MalformedMessage):
            StoredAnswer.decode(wrong.encode())


async def test_a_damaged_file_is_lost_and_still_known(tmp_path: Path) -> None:
    store = open_answers(tmp_path)
    await store.put(answer(4))
    (tmp_path / "4.answer").write_bytes(b"")
    again = open_answers(tmp_path)
    assert 4 in again
    assert await code(again, 4) == "unknown_answer"


async def test_a_file_under_another_epochs_name(tmp_path: Path) -> None:
    (tmp_path / "5.answer").write_bytes(answer(4).encode())
    assert await code(open_answers(tmp_path), 5) == "unknown_answer"


async def test_what_a_crash_left_half_written_goes(tmp_path: Path) -> None:
    (tmp_path / ".4.answer.x7abc").write_bytes(b"half")
    store = open_answers(tmp_path)
    assert (store.epochs, list(tmp_path.iterdir())) == (frozenset(), [])


async def test_a_file_that_went_is_not_found(tmp_path: Path) -> None:
    store = open_answers(tmp_path)
    await store.put(answer(4))
    (tmp_path / "4.answer").unlink()
    assert await code(store, 4) == "unknown_answer"


@pytest.mark.parametrize(("number", "error"), [(28, NoSpace), (122, NoSpace), (5, DataLost)])
async def test_a_disk_that_fails_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    store = open_answers(tmp_path)

    def fails(*arguments: object) -> int:
        raise OSError(number, "fails")

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", fails)
        with pytest.raises(error):
            await store.put(answer(4))
    assert (store.epochs, list(tmp_path.iterdir())) == (frozenset(), [])
    await store.put(answer(4))
    assert await store.get(4) == answer(4)


async def test_a_takeover_is_remembered_until_it_is_over(tmp_path: Path) -> None:
    assert not open_answers(tmp_path / "a").waiting
    begin_takeover(tmp_path / "a")
    store = open_answers(tmp_path / "a")
    assert (store.waiting, store.accepted) == (True, 0)
    await store.resume(17)
    for each in (store, open_answers(tmp_path / "a")):
        assert (each.waiting, each.accepted) == (False, 17)
    begin_takeover(tmp_path / "a")
    assert open_answers(tmp_path / "a").waiting


def test_a_takeover_of_a_home_without_answers(tmp_path: Path) -> None:
    begin_takeover(tmp_path / "state" / "answers")
    assert open_answers(tmp_path / "state" / "answers").waiting
