"""No changed answer, verdict or bundle is accepted, and none ends in anything but a reason.

``DSN_TEST_MUTATIONS=1000000`` makes the run over seeds as long as that.
"""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsn.errors import DsnError
from dsn.ledger.bundle import (
    EpochBundle,
    EpochPart,
    LiveBundle,
    LivePart,
    parse_bundle,
    verify_bundle,
)
from dsn.ledger.disputes import ServedOpening
from dsn.proofs.por import Answer, verify_answer
from dsn.proofs.verdict import SignedVerdict, sign_verdict, verify_verdict
from tests.support.bundle_world import (
    NETWORK,
    VERIFIER,
    file,
    live,
    live_part,
    past,
    signed,
)
from tests.support.mutations import mutated, mutated_json

COUNT = int(os.environ.get("DSN_TEST_MUTATIONS", "4000"))
MEMORY_MIB = 256
HOLDER = file().holders[2]
PART = live_part(HOLDER, leaves=2)
seeds = st.integers(0, (1 << 64) - 1)


@cache
def small(kind: str) -> LiveBundle | EpochBundle:
    if kind == "live":
        return live(PART)
    world, deals = past()
    return world.bundle([world.part("paul", 3, (0, 1))], {"paul": deals["paul"]})


@cache
def text(kind: str) -> bytes:
    return signed(small(kind))


def judge(raw: bytes) -> None:
    verify_bundle(parse_bundle(raw), NETWORK)


def changed_answer(rng: Random) -> Callable[[], None] | None:
    """Openings, their number, their order, the root or the signature."""
    answer = PART.answer
    assert answer is not None
    openings = list(answer.openings)
    at = rng.randrange(len(openings))
    match rng.choice(("opening", "opening", "drop", "repeat", "swap", "root", "signature")):
        case "opening":
            openings[at] = mutated(rng, openings[at])
        case "drop":
            del openings[at]
        case "repeat":
            openings.insert(at, openings[at])
        case "swap":
            openings.reverse()
        case "root":
            answer = replace(answer, answer_root=mutated(rng, answer.answer_root))
        case "signature":
            answer = replace(answer, signature=mutated(rng, answer.signature))
    answer = replace(answer, openings=tuple(openings))
    return None if answer == PART.answer else lambda: judge_answer(answer)


def judge_answer(answer: Answer) -> None:
    verify_answer(
        answer,
        PART.challenge,
        PART.shards.items(),
        network=NETWORK.network_id,
        public_key=PART.public_key,
    )


VERDICT = sign_verdict(PART.verdict.verdict, VERIFIER.sign)


def changed_verdict(rng: Random) -> Callable[[], None] | None:
    raw = mutated(rng, VERDICT.encode())
    if raw == VERDICT.encode():
        return None
    return lambda: verify_verdict(SignedVerdict.decode(raw))


def changed_text(kind: str) -> Callable[[Random], Callable[[], None] | None]:
    def change(rng: Random) -> Callable[[], None] | None:
        raw = mutated(rng, text(kind))
        return None if raw == text(kind) else lambda: judge(raw)

    return change


def changed_tree(kind: str) -> Callable[[Random], Callable[[], None] | None]:
    def change(rng: Random) -> Callable[[], None] | None:
        raw = mutated_json(rng, text(kind))
        return None if raw == text(kind) else lambda: judge(raw)

    return change


def signed_lie(kind: str) -> Callable[[Random], Callable[[], None] | None]:
    """An opening or a path changed, by a verifier that signs that all held."""

    def change(rng: Random) -> Callable[[], None] | None:
        bundle = small(kind)
        part: Any = lied(rng, bundle.parts[0])
        if part == bundle.parts[0]:
            return None
        lie: Any = replace(bundle, parts=(part,))
        return lambda: judge(signed(lie))

    return change


def lied(rng: Random, part: LivePart | EpochPart) -> LivePart | EpochPart:
    if isinstance(part, LivePart):
        assert part.answer is not None
        openings = list(part.answer.openings)
        at = rng.randrange(len(openings))
        openings[at] = mutated(rng, openings[at])
        return replace(part, answer=replace(part.answer, openings=tuple(openings)))
    place = rng.choice(list(part.places))
    opening, path = part.places[place].opening, list(part.places[place].path)
    if rng.random() < 0.7:
        opening = mutated(rng, opening)
    elif path:
        path[rng.randrange(len(path))] = rng.randbytes(32)
    return replace(part, places={**part.places, place: ServedOpening(opening, tuple(path))})


CHANGES: dict[str, tuple[int, Callable[[Random], Callable[[], None] | None]]] = {
    "answer": (35, changed_answer),
    "verdict": (15, changed_verdict),
    "live text": (25, changed_text("live")),
    "live tree": (10, changed_tree("live")),
    "epoch text": (10, changed_text("epoch")),
    "epoch tree": (2, changed_tree("epoch")),
    "signed live": (2, signed_lie("live")),
    "signed epoch": (1, signed_lie("epoch")),
}
"""What is changed, and how much of a run, in percent, does it."""


def refusal(judgement: Callable[[], None]) -> str:
    try:
        judgement()
    except DsnError as error:
        return error.detail_code
    raise AssertionError("accepted")


def test_what_is_not_changed_is_accepted() -> None:
    assert PART.answer is not None
    judge_answer(PART.answer)
    verify_verdict(SignedVerdict.decode(VERDICT.encode()))
    for kind in ("live", "epoch"):
        judge(text(kind))


@pytest.mark.parametrize("name", CHANGES)
@settings(max_examples=30)
@given(seed=seeds)
def test_a_change_is_refused(name: str, seed: int) -> None:
    judgement = CHANGES[name][1](Random(seed))
    if judgement is not None:
        assert refusal(judgement)


@pytest.mark.parametrize("name", CHANGES)
def test_a_run_over_seeds(name: str) -> None:
    part, change = CHANGES[name]
    count, codes, began_s = COUNT * part // 100, Counter[str](), time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(count):
        judgement = change(Random(seed))
        if judgement is None:
            continue
        try:
            codes[refusal(judgement)] += 1
        except Exception as error:
            raise AssertionError(f"{name}: seed {seed}: {error!r}") from error
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    took_s = time.monotonic() - began_s
    print(f"{name}: {codes.total():,} refused in {took_s:.0f} s, {grown} MiB: {dict(codes)}")
    assert codes.total() > count * 3 // 4
    assert grown < MEMORY_MIB, f"{grown} MiB more, at most {MEMORY_MIB} allowed"
