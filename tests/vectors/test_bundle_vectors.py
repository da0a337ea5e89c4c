"""Golden verdicts and bundles: read and judged the same for ever, failures by their code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dsn.dht.network import parse_network
from dsn.errors import DsnError
from dsn.ledger.bundle import evidence_hash, parse_bundle, verify_bundle
from dsn.proofs.verdict import Outcome, SignedVerdict, Verdict, verify_verdict
from tests.support.vectors import hexed, load
from tests.vectors.bundle_vectors import MAKERS

VERDICTS, BUNDLES = load("verdict"), load("bundle")
NETWORK = parse_network(BUNDLES["network"])
raw = bytes.fromhex


def note(case: dict[str, Any]) -> str:
    return str(case["note"])


@pytest.mark.parametrize(("name", "make"), MAKERS.items())
def test_the_code_still_makes_the_golden_bytes(name: str, make: Callable[[], Any]) -> None:
    assert hexed(make()) == load(name)


@pytest.mark.parametrize("case", VERDICTS["holds"], ids=note)
def test_verdicts_that_hold(case: dict[str, Any]) -> None:
    verdict = Verdict.decode(raw(case["bytes"]))
    verify_verdict(SignedVerdict(verdict, raw(case["signature"])))
    assert verdict.hash.hex() == case["hash"]
    assert verdict.outcome is Outcome[case["outcome"].upper()]
    for name in set(Verdict.__slots__) - {"outcome"}:
        assert hexed(getattr(verdict, name)) == case[name], name


@pytest.mark.parametrize("case", VERDICTS["fails"], ids=note)
def test_verdicts_that_fail(case: dict[str, Any]) -> None:
    with pytest.raises(DsnError) as failure:
        verify_verdict(SignedVerdict(Verdict.decode(raw(case["bytes"])), raw(case["signature"])))
    assert failure.value.detail_code == case["code"]


@pytest.mark.parametrize("case", BUNDLES["holds"], ids=note)
def test_bundles_that_hold(case: dict[str, Any]) -> None:
    text = case["text"].encode("ascii")
    found = verify_bundle(parse_bundle(text), NETWORK)
    assert [part.outcome.name.lower() for part in found.parts] == case["outcomes"]
    assert evidence_hash(text).hex() == case["evidence"]


@pytest.mark.parametrize("case", BUNDLES["fails"], ids=note)
def test_bundles_that_fail(case: dict[str, Any]) -> None:
    with pytest.raises(DsnError) as failure:
        verify_bundle(parse_bundle(case["text"].encode("ascii")), NETWORK)
    assert failure.value.detail_code == case["code"]
