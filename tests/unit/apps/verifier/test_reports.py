"""What a verifier found, put together for people."""

from __future__ import annotations

import pytest

from dsn.apps.verifier.reports import build_report, explain, found_with
from dsn.ids import NodeId
from dsn.proofs.verdict import Outcome
from dsn.store.verdicts import Draw
from tests.support.verdicts import NODE, NOW_S, VERIFIER, signed

OTHER = NodeId(b"\x79" * 32)
FIRST = signed(2, Outcome.SILENT)
VERDICTS = [
    signed(1),
    FIRST,
    signed(2, appeal=FIRST.verdict.hash, response_ms=400),
    signed(3, evidence=b"\x78" * 32),
    signed(1, Outcome.WRONG, node=OTHER, reason="shard", evidence=b"\x77" * 32),
    signed(0, node=OTHER, nonce=b"\x01" * 32, leaves=100),
]
DRAWS = [Draw(epoch, 10 * epoch, b"s" * 32, 2, 64, 4, done=True) for epoch in (1, 2, 3)]


def report(**wanted: int | NodeId | None) -> dict[NodeId, dict[str, object]]:
    found = build_report(
        VERDICTS,
        DRAWS,
        verifier=VERIFIER.public,
        now_s=NOW_S,
        **wanted,  # type: ignore[arg-type]
    )
    return {each.node: each.fields() for each in found.providers}


def test_each_provider_has_a_row_and_each_row_its_verdicts() -> None:
    found = report()
    assert list(found) == [NODE, OTHER]
    mine = found[NODE]
    assert [mine[name] for name in ("epochs", "held", "wrong", "silent")] == [3, 3, 0, 1]
    assert (mine["leaves"], mine["response_ms"]) == (12, 9)
    theirs = found[OTHER]
    assert [theirs[name] for name in ("epochs", "held", "wrong", "silent")] == [1, 1, 1, 0]


def test_an_appeal_stands_in_the_row_of_what_it_is_about() -> None:
    found = build_report(VERDICTS, DRAWS, verifier=VERIFIER.public, now_s=NOW_S, node=NODE)
    (provider,) = found.providers
    rows = [row.fields() for row in provider.rows]
    assert [(row["epoch"], row["outcome"], row["appeal"]) for row in rows] == [
        (1, "held", ""),
        (2, "silent", "held"),
        (3, "held", ""),
    ]
    assert "  epoch 2: silent timed_out; on appeal held" in explain(provider)
    assert rows[2]["evidence"] == "78" * 32


def test_epochs_and_providers_are_chosen() -> None:
    assert report(first=3)[NODE]["epochs"] == 1
    assert list(report(first=3)) == [NODE]
    assert report(last=1)[NODE]["held"] == 1
    assert list(report(node=OTHER)) == [OTHER]
    assert report(last=1)[OTHER]["held"] == 0


def test_the_arithmetic_is_the_binomials() -> None:
    assert found_with(0.01, 459) == pytest.approx(0.99, abs=1e-3)
    assert found_with(0.01, 0) == 0
    found = build_report(VERDICTS, (), verifier=VERIFIER.public, now_s=NOW_S, node=NODE)
    assert "would have been found with 11.4 %" in "\n".join(explain(found.providers[0]))


def test_what_nobody_asked_is_an_empty_report() -> None:
    found = build_report([], [], verifier=VERIFIER.public, now_s=NOW_S)
    assert found.fields()["providers"] == []
