"""GetAnswer: bounded, charged, and never anything but what was answered."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from dsn.apps.node.answers import MOST_PLACES, Answering
from dsn.core.codec import Reader
from dsn.core.keys import SigningKey, node_id_of
from dsn.errors import DsnError
from dsn.proofs.por import answer_root
from dsn.proofs.post import Link, verify_answer_path
from dsn.rpc.limits import Budget
from dsn.rpc.tls import Caller
from dsn.store.answers import MOST_OPENING_BYTES, StoredAnswer, open_answers
from dsn.v1 import node_pb2
from dsn.wire.status import RetryLater


def caller(seed: bytes) -> Caller:
    public = SigningKey(seed * 32).public
    return Caller(node_id_of(public), public)


CALLER = caller(b"c")


def made(epoch: int, count: int, size: int = 300) -> StoredAnswer:
    openings = tuple(Random(n).randbytes(size) for n in range(count))
    return StoredAnswer(
        Link(epoch, bytes(32), bytes(32), 99, count, answer_root(openings)), openings
    )


async def answering(folder: Path, *answers: StoredAnswer, an_hour: int = 1_000) -> Answering:
    store = open_answers(folder)
    for each in answers:
        await store.put(each)
    return Answering(store, Budget("leaves", an_hour, lambda: 0.0))


def request(epoch: int, *places: int) -> node_pb2.GetAnswerRequest:
    return node_pb2.GetAnswerRequest(epoch=epoch, places=places)


async def code(asked: Answering, epoch: int, *places: int) -> str:
    with pytest.raises(DsnError) as raised:
        await asked.get_answer(CALLER, request(epoch, *places))
    return raised.value.detail_code


async def test_what_is_shown_leads_to_the_link(tmp_path: Path) -> None:
    kept = made(5, 21)
    asked = await answering(tmp_path, kept)
    places = [20, 0, 7, 7]
    reply = await asked.get_answer(CALLER, request(5, *places))
    link = Link.read(Reader(reply.link, "link"))
    assert (link, len(reply.link)) == (kept.link, 116)
    for place, shown in zip(places, reply.openings, strict=True):
        assert shown.opening == kept.openings[place]
        verify_answer_path(link, place, shown.opening, list(shown.path))
    only = await asked.get_answer(CALLER, request(5))
    assert (only.link, len(only.openings)) == (reply.link, 0)


async def test_what_cannot_be_shown(tmp_path: Path) -> None:
    asked = await answering(tmp_path, made(5, 21), made(6, 64, MOST_OPENING_BYTES))
    assert await code(asked, 4) == "unknown_answer"
    assert await code(asked, 5, 3, 21) == "bad_range"
    assert await code(asked, 5, *range(MOST_PLACES + 1)) == "too_many"
    assert await code(asked, 6, *range(MOST_PLACES)) == "too_many"
    reply = await asked.get_answer(CALLER, request(6, *range(40)))
    assert len(reply.openings) == 40


async def test_it_is_charged_by_leaves(tmp_path: Path) -> None:
    asked = await answering(tmp_path, made(5, 21), an_hour=30)
    await asked.get_answer(CALLER, request(5, *range(20)))
    await asked.get_answer(CALLER, request(5, *range(8)))
    with pytest.raises(RetryLater):
        await asked.get_answer(CALLER, request(5))
    await asked.get_answer(caller(b"d"), request(5, 1))
