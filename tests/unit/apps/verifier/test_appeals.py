"""A second look: the same places again, both outcomes kept, and only once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from dsn.errors import UsageError
from dsn.ledger.bundle import parse_bundle, verify_bundle
from dsn.proofs.verdict import Outcome, SignedVerdict
from tests.support.verifier_world import NOW_NETWORK, AnswerNode, Bench, EpochWorld, bench


@pytest.fixture
async def paul() -> AsyncIterator[AnswerNode]:
    world = EpochWorld()
    node = AnswerNode("paul", world)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(node.serving())
        world.turn()
        yield node


async def silent(verifier: Bench, paul: AnswerNode) -> SignedVerdict:
    """The verdict of an epoch in which Paul shows too little."""

    def nothing(reply: object) -> object:
        return type(reply)()

    paul.lie = nothing  # type: ignore[assignment]
    (*_, first) = await verifier.look()
    paul.lie = None
    assert first.verdict.outcome is Outcome.SILENT
    return first


async def test_an_appeal_asks_for_the_same_places_and_stands_beside_the_first(
    tmp_path: Path, paul: AnswerNode
) -> None:
    paul.world.turn("paul")
    async with bench(tmp_path, paul.world, [paul]) as verifier:
        first = await silent(verifier, paul)
        second = await verifier.appeals.hear(first)
        assert second.verdict.outcome is Outcome.HELD
        assert second.verdict.appeal == first.verdict.hash
        assert paul.asked[0] == paul.asked[1]
        bundle = parse_bundle(await verifier.store.bundle(second.verdict.evidence))
        assert verify_bundle(bundle, NOW_NETWORK).held
        kept = [each.signed for each in await verifier.store.page(node=paul.node)]
        assert first in kept and second in kept


async def test_a_verdict_is_looked_at_again_once(tmp_path: Path, paul: AnswerNode) -> None:
    paul.world.turn("paul")
    async with bench(tmp_path, paul.world, [paul]) as verifier:
        first = await silent(verifier, paul)
        second = await verifier.appeals.hear(first)
        assert await verifier.appeals.hear(first) == second
        assert len(paul.asked) == 2
        with pytest.raises(UsageError, match="on an appeal"):
            await verifier.appeals.hear(second)


async def test_what_the_log_shows_cannot_be_asked_again(tmp_path: Path, paul: AnswerNode) -> None:
    paul.world.turn()
    async with bench(tmp_path, paul.world, [paul]) as verifier:
        missed = [each for each in await verifier.look() if each.verdict.node == paul.node]
        with pytest.raises(UsageError, match="log shows it") as refused:
            await verifier.appeals.hear(missed[0])
        assert refused.value.detail_code == "not_appealable"


async def test_nothing_is_asked_again_once_its_bundle_is_gone(
    tmp_path: Path, paul: AnswerNode
) -> None:
    paul.world.turn("paul")
    async with bench(tmp_path, paul.world, [paul]) as verifier:
        first = await silent(verifier, paul)
        await verifier.store.forget_bundles(first.verdict.at_s + 1)
        assert await verifier.store.bundle(first.verdict.evidence) == b""
        with pytest.raises(UsageError, match="not kept"):
            await verifier.appeals.hear(first)
