"""What a bundle is worth, in figures: who held how much, and how surely a loss would show."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from dsn.apps.verifying import Report, verify_file
from dsn.errors import ConfigError
from dsn.proofs.verdict import Outcome
from tests.support.bundle_world import (
    NETWORK,
    epoch,
    file,
    live,
    live_part,
    network,
    past,
    signed,
    silent_part,
)

FIRST, SECOND, THIRD = file().holders
LIE = {"outcome": Outcome.WRONG, "reason": "shard", "leaves": 0, "size_bytes": 0}


def verified(bundle: Any, **options: Any) -> Report:
    return verify_file(signed(bundle), NETWORK, **options)


def test_everybody_held() -> None:
    report = verified(live())
    assert report.ok
    assert [each.bytes for each in report.providers] == [20_616, 20_616, 20_480]
    assert [each.leaves for each in report.providers] == [4, 4, 4]
    assert report.confidence.startswith("a loss of 1 % would have been seen with ")
    found = report.fields()
    assert (found["from_epoch"], found["to_epoch"], found["kind"]) == (None, None, "live")


def test_the_confidence_is_of_the_least_sampled() -> None:
    twenty = verified(live(live_part(THIRD, leaves=20)))
    assert twenty.confidence == "every leaf was asked for"
    ten = verified(live(live_part(THIRD, leaves=10)))
    assert ten.confidence == "a loss of 1 % would have been seen with 9.6 %"
    both = verified(live(live_part(THIRD, leaves=10), live_part(SECOND, leaves=2)))
    assert float(both.confidence.split()[-2]) < 9.6


def test_somebody_failed() -> None:
    report = verified(live(live_part(FIRST, wrong=[1]), silent_part(SECOND), live_part(THIRD)))
    assert not report.ok
    assert [(each.outcome.name, each.reason, each.bytes) for each in report.providers] == [
        ("WRONG", "shard", 0),
        ("SILENT", "timed_out", 0),
        ("HELD", "", 20_480),
    ]


def test_a_bundle_about_nobody_shows_nothing() -> None:
    report = verified(live(silent_part(FIRST)))
    assert report.confidence == "none: nobody showed anything"


def test_a_provider_over_epochs() -> None:
    report = verified(epoch(0, 1))
    (paul,) = report.providers
    assert (paul.epochs, paul.leaves) == (2, 4)
    found = report.fields()
    assert (found["from_epoch"], found["to_epoch"], found["file_id"]) == (2, 3, None)


def test_what_is_held_in_every_epoch_counts() -> None:
    world, deals = past()
    parts = [world.part("paul", 2, (0, 1)), world.part("paul", 3, ())]
    (paul,) = verified(world.bundle(parts, {"paul": deals["paul"]})).providers
    assert (paul.outcome, paul.reason, paul.bytes) == (Outcome.SILENT, "no_answer", 0)
    assert paul.epochs == 1


def test_the_worst_of_a_providers_parts_is_told() -> None:
    world, deals = past()
    parts = [world.part("paul", 3, (0, 1)), world.part("petra", 3, (1,), **LIE)]
    report = verified(world.bundle(parts, deals))
    assert {each.outcome for each in report.providers} == {Outcome.HELD, Outcome.WRONG}
    assert not report.ok


def test_a_bundle_that_is_not_valid_says_why() -> None:
    report = verify_file(signed(live())[:-1], NETWORK)
    found = report.fields()
    assert (found["ok"], found["valid"], found["code"]) == (False, False, "malformed_message")


def test_another_network_is_no_answer() -> None:
    with pytest.raises(ConfigError) as refused:
        verify_file(signed(live()), network("elsewhere"))
    assert refused.value.detail_code == "unknown_network"


def test_a_second_opinion() -> None:
    pytest.importorskip("merkletools", reason="needs the extra second-opinion")
    assert verified(live(), second_opinion=True).second_opinion == 12
    assert verified(epoch(), second_opinion=True).second_opinion == 6
    assert verified(live()).second_opinion is None


def test_both_must_accept(monkeypatch: pytest.MonkeyPatch) -> None:
    tools = pytest.importorskip("merkletools", reason="needs the extra second-opinion")
    monkeypatch.setattr(tools.MerkleTools, "validate_proof", lambda *_: False)
    report = verified(live(), second_opinion=True)
    assert not report.ok
    found = report.fields()
    assert found["code"] == "second_opinion"
    assert "parts[0].answer.openings[0].shard_path" in str(found["message"])


def test_a_second_opinion_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "merkletools":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError) as refused:
        verified(live(), second_opinion=True)
    assert (refused.value.detail_code, refused.value.exit_code) == ("missing_extra", 2)
    assert "second-opinion" in refused.value.hint
