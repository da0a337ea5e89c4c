"""Golden openings and answers: judged the same for ever, failures by their code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dsn.core.keys import node_id_of
from dsn.errors import PeerError
from dsn.ids import Commit, NetworkId
from dsn.proofs.inventory import holdings
from dsn.proofs.opening import read_opening, verify_opening
from dsn.proofs.por import (
    Answer,
    WrongOpenings,
    build_challenge,
    draw,
    verify_answer,
)
from tests.support.vectors import hexed, load
from tests.vectors.proof_vectors import MAKERS

OPENINGS, POR = load("opening"), load("por")
PAIRS = [(Commit(bytes.fromhex(commit)), leaves) for commit, leaves in POR["pairs"]]
raw = bytes.fromhex


def statement(case: dict[str, Any]) -> dict[str, Any]:
    stated = {key: case[key] for key in ("total", "index", "inventory")}
    return stated | {"root": raw(case["root"])}


@pytest.mark.parametrize(("name", "make"), MAKERS.items())
def test_the_code_still_makes_the_golden_bytes(name: str, make: Callable[[], Any]) -> None:
    assert hexed(make()) == load(name)


@pytest.mark.parametrize("case", OPENINGS["holds"], ids=lambda case: case["note"])
def test_openings_that_hold(case: dict[str, Any]) -> None:
    opened = read_opening(raw(case["opening"]), **statement(case))
    found: dict[str, Any] = {
        "commit": opened.commit.hex(),
        "leaf": opened.leaf,
        "length": opened.length,
    }
    if opened.deal is not None:
        found |= {"deal": opened.deal.deal.hex(), "number": opened.deal.number}
    assert found == case["proves"]


@pytest.mark.parametrize("case", OPENINGS["fails"], ids=lambda case: case["note"])
def test_openings_that_fail(case: dict[str, Any]) -> None:
    with pytest.raises(PeerError) as failure:
        verify_opening(raw(case["opening"]), **statement(case))
    assert failure.value.detail_code == case["code"]


def test_every_reason_has_a_vector() -> None:
    reasons = "index short sum deep inventory length holdings trailing shard"
    assert {case["code"] for case in OPENINGS["fails"]} == set(reasons.split())


@pytest.mark.parametrize("case", POR["cases"], ids=lambda c: f"{c['leaves']}: {c['note']}")
def test_answers(case: dict[str, Any]) -> None:
    network, public_key = NetworkId(raw(POR["network"])), raw(POR["public_key"])
    challenge = build_challenge(
        PAIRS, nonce=raw(case["nonce"]), leaves=case["leaves"], deadline_ms=case["deadline_ms"]
    )
    assert challenge.root.hex() == case["root"]
    drawn = draw(challenge, holdings(PAIRS), network=network, node=node_id_of(public_key))
    assert [[at.key.hex(), at.offset] for at in drawn] == case["asked"]
    answer = Answer(
        tuple(map(raw, case["openings"])), raw(case["answer_root"]), raw(case["signature"])
    )
    if "code" not in case:
        verify_answer(answer, challenge, PAIRS, network=network, public_key=public_key)
        return
    with pytest.raises(PeerError) as failure:
        verify_answer(answer, challenge, PAIRS, network=network, public_key=public_key)
    assert failure.value.detail_code == case["code"]
    if "wrong" in case:
        assert isinstance(failure.value, WrongOpenings)
        assert hexed(failure.value.wrong) == case["wrong"]
