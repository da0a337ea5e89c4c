"""Epochs looked at: what an honest node gets, and what each kind of attacker does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from dsn.apps.verifier import asking
from dsn.apps.verifier.archive import LATEST
from dsn.core.codec import Reader
from dsn.errors import Unreachable
from dsn.ledger.bodies import SubmitLink
from dsn.ledger.bundle import EpochBundle, parse_bundle, verify_bundle
from dsn.ledger.cells import DealState
from dsn.ledger.disputes import SlashWrong
from dsn.proofs.por import answer_root
from dsn.proofs.sample import sample_seed, sampled_links, sampled_places
from dsn.proofs.verdict import NO_EVIDENCE, Outcome, SignedVerdict, verify_verdict
from dsn.v1 import node_pb2
from tests.support.ledger_stage import Stage, serving
from tests.support.verifier_world import (
    GENESIS,
    NOW_NETWORK,
    VERIFIER,
    Answer,
    AnswerNode,
    EpochWorld,
    bench,
)

Said = list[tuple[int, str, str]]


@pytest.fixture
async def nodes() -> AsyncIterator[list[AnswerNode]]:
    """Paul and Petra, who serve what they linked."""
    world = EpochWorld()
    made = [AnswerNode(name, world) for name in ("paul", "petra")]
    async with AsyncExitStack() as stack:
        for node in made:
            await stack.enter_async_context(node.serving())
        world.turn()
        yield made


def on(node: AnswerNode, verdicts: list[SignedVerdict]) -> Said:
    """Epoch, outcome and reason of each verdict on ``node``, in epochs' order."""
    return sorted(
        (each.verdict.epoch, each.verdict.outcome.name, each.verdict.reason)
        for each in verdicts
        if each.verdict.node == node.node
    )


async def test_honest_nodes_are_held_in_every_epoch(
    tmp_path: Path, nodes: list[AnswerNode]
) -> None:
    paul, petra = nodes
    epochs = [paul.world.turn("paul", "petra") for _ in range(3)]
    async with bench(tmp_path, paul.world, nodes) as verifier:
        verdicts = await verifier.look()
        for node in nodes:
            assert on(node, verdicts) == [(epoch, "HELD", "") for epoch in epochs]
        for each in verdicts:
            verify_verdict(each)
            assert each.verdict.leaves == 4
            bundle = parse_bundle(await verifier.store.bundle(each.verdict.evidence))
            assert isinstance(bundle, EpochBundle)
            verified = verify_bundle(bundle, NOW_NETWORK)
            assert verified.held and verified.epochs == (each.verdict.epoch,) * 2
            assert bundle.parts[0].verdict == each
        assert await verifier.look() == verdicts
        assert not list(verifier.evidence.glob("slash*"))
    assert len(petra.asked) == 3


async def test_anybody_can_draw_the_same_again(tmp_path: Path, nodes: list[AnswerNode]) -> None:
    world = nodes[0].world
    epochs = [world.turn("paul", "petra") for _ in range(4)]
    async with bench(tmp_path, world, nodes, sample=3, links=1) as verifier:
        await verifier.look()
        draws = await verifier.store.draws(epochs[0])
    assert [draw.epoch for draw in draws] == epochs
    asked = {(epoch, tuple(places)) for node in nodes for epoch, places in node.asked}
    expected = set()
    for draw in draws:
        seed = sample_seed(VERIFIER.public, world.values[draw.epoch + 1], draw.epoch)
        assert (draw.seed, draw.links, draw.done) == (seed, 2, True)
        (picked,) = sampled_links(seed, 2, 1)
        node = nodes[picked]
        _, link, _, _ = world.answers[node.name, draw.epoch]
        expected.add((draw.epoch, tuple(sampled_places(seed, node.node, link.count, 3))))
    assert asked == expected


async def test_a_wrong_opening_convicts(tmp_path: Path, nodes: list[AnswerNode]) -> None:
    paul, petra = nodes
    world = paul.world
    world.turn("petra", "paul")
    asked = 20
    for wrong in range(asked):
        world.link("paul", wrong)
        world.link("petra")
        epoch = world.turn()
        async with bench(tmp_path, world, nodes, sample=asked) as verifier:
            verdicts = await verifier.look()
            if on(paul, verdicts)[-1][:2] == (epoch, "WRONG"):
                break
    else:
        raise AssertionError("none of the openings was ever wrong")
    (said,) = [each for each in verdicts if each.verdict.outcome is Outcome.WRONG]
    assert on(petra, verdicts)[-1] == (epoch, "HELD", "")
    async with bench(tmp_path, world, nodes) as verifier:
        bundle = parse_bundle(await verifier.store.bundle(said.verdict.evidence))
        verified = verify_bundle(bundle, NOW_NETWORK)
        assert [part.outcome for part in verified.parts] == [Outcome.WRONG]
    (kept,) = tmp_path.glob(f"evidence/slash_wrong-{epoch}-*")
    world.do("sam", read_slash(kept.read_bytes()))
    assert world.deal(world.deals_of["paul"]).state is DealState.SLASHED


async def test_the_verifier_enters_what_convicts_and_is_paid(
    tmp_path: Path, nodes: list[AnswerNode]
) -> None:
    world, stage = nodes[0].world, Stage(GENESIS)
    stage.world = world
    world.link("petra", 0)
    world.turn()
    stage.publish()
    had = world.account("sam").available
    async with (
        serving(stage, tmp_path) as reader,
        bench(tmp_path, world, nodes, sample=20, account=reader.account("sam")) as verifier,
    ):
        await verifier.look()
    assert world.deal(world.deals_of["petra"]).state is DealState.SLASHED
    assert world.account("sam").available > had


async def test_a_garbage_opening_convicts_though_it_names_no_deal(
    tmp_path: Path, nodes: list[AnswerNode]
) -> None:
    world, (paul, _) = nodes[0].world, nodes
    async with bench(tmp_path, world, nodes, sample=20) as verifier:
        await verifier.look()
        link, held, _, opened = world.answer("paul")
        garbage = [b"\x01" * len(each) for each in opened]
        link = replace(link, answer_root=answer_root(garbage))
        world.do("paul", SubmitLink(link))
        index = len(world.leaves) - 1
        world.answers["paul", link.epoch] = (index, link, held, tuple(garbage))
        world.hold(world.deals_of["paul"], 0, 1, 2, 3, 4, 5, 8)
        world.turn()
        verdicts = await verifier.look()
        assert on(paul, verdicts)[-1][:2] == (link.epoch, "WRONG")
        (said,) = [each for each in verdicts if each.verdict.outcome is Outcome.WRONG]
        bundle = parse_bundle(await verifier.store.bundle(said.verdict.evidence))
        assert isinstance(bundle, EpochBundle) and bundle.parts[0].bracket
        (found,) = verify_bundle(bundle, NOW_NETWORK).parts
        assert (found.outcome, found.reason) == (Outcome.WRONG, said.verdict.reason)
    (kept,) = tmp_path.glob("evidence/slash_wrong-*")
    world.do("sam", read_slash(kept.read_bytes()))
    assert world.deal(world.deals_of["paul"]).state is DealState.SLASHED


async def test_an_answer_root_without_openings_is_silence(
    tmp_path: Path, nodes: list[AnswerNode]
) -> None:
    paul, petra = nodes
    world = paul.world
    link, held, _, opened = world.answer("paul")
    world.do("paul", SubmitLink(replace(link, answer_root=bytes(range(32)))))
    world.answers["paul", link.epoch] = (len(world.leaves) - 1, link, held, opened)
    world.turn("petra")
    async with bench(tmp_path, world, nodes) as verifier:
        verdicts = await verifier.look()
    assert on(paul, verdicts)[-1] == (link.epoch, "SILENT", "answer_root")
    assert on(petra, verdicts)[-1] == (link.epoch, "HELD", "")
    assert not list(tmp_path.glob("evidence/*"))


def older(node: AnswerNode, epoch: int) -> node_pb2.GetAnswerReply:
    return node.reply(epoch, [0, 1, 2, 3])


async def test_an_older_epochs_openings_are_silence(
    tmp_path: Path, nodes: list[AnswerNode]
) -> None:
    paul, _ = nodes
    first = paul.world.turn("paul", "petra")
    second = paul.world.turn("paul", "petra")
    paul.lie = lambda reply: older(paul, first)
    async with bench(tmp_path, paul.world, nodes) as verifier:
        verdicts = await verifier.look()
    assert on(paul, verdicts)[-1] == (second, "SILENT", "answer_root")


async def test_an_older_epochs_openings_under_a_new_link_are_wrong(
    tmp_path: Path, nodes: list[AnswerNode]
) -> None:
    paul, _ = nodes
    world = paul.world
    first = world.turn("paul", "petra")
    _, _, _, replayed = world.answers["paul", first]
    link, held, _, _ = world.answer("paul")
    link = replace(link, answer_root=answer_root(replayed))
    world.do("paul", SubmitLink(link))
    world.answers["paul", link.epoch] = (len(world.leaves) - 1, link, held, replayed)
    world.turn("petra")
    async with bench(tmp_path, world, nodes, sample=20) as verifier:
        verdicts = await verifier.look()
    assert on(paul, verdicts)[-1][:2] == (link.epoch, "WRONG")


@pytest.mark.parametrize("missing", [1, 4])
async def test_fewer_openings_than_asked_are_silence(
    tmp_path: Path, nodes: list[AnswerNode], missing: int
) -> None:
    paul, _ = nodes
    epoch = paul.world.turn("paul", "petra")

    def fewer(reply: node_pb2.GetAnswerReply) -> node_pb2.GetAnswerReply:
        del reply.openings[-missing:]
        return reply

    paul.lie = fewer
    async with bench(tmp_path, paul.world, nodes) as verifier:
        verdicts = await verifier.look()
        (said,) = [each for each in verdicts if each.verdict.reason]
        assert on(paul, verdicts) == [(epoch, "SILENT", "answer_count")]
        bundle = parse_bundle(await verifier.store.bundle(said.verdict.evidence))
        assert [part.reason for part in verify_bundle(bundle, NOW_NETWORK).parts] == [
            "answer_count"
        ]


async def test_who_answers_nothing_is_silent_and_who_links_nothing_missed(
    tmp_path: Path, nodes: list[AnswerNode]
) -> None:
    paul, petra = nodes
    first = paul.world.turn("paul")
    del paul.world.answers["paul", first]
    second = paul.world.turn("petra")
    async with bench(tmp_path, paul.world, nodes[1:]) as verifier:
        verdicts = await verifier.look()
    assert on(paul, verdicts) == [(first, "SILENT", "unreachable"), (second, "SILENT", "missed")]
    assert on(petra, verdicts) == [(first, "SILENT", "missed"), (second, "HELD", "")]
    (missed,) = [each for each in verdicts if each.verdict.node == petra.node][:1]
    assert missed.verdict.evidence == NO_EVIDENCE
    async with bench(tmp_path / "again", paul.world, nodes) as verifier:
        assert on(paul, await verifier.look())[0] == (first, "SILENT", "unknown_answer")


async def test_who_restarts_is_asked_again_and_holds_up_nobody(
    tmp_path: Path, nodes: list[AnswerNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is asked at a time, and the first answers only once the other was asked, too."""
    monkeypatch.setattr(asking, "AT_ONCE", 1)
    paul, petra = nodes
    epoch = paul.world.turn("paul", "petra")

    def restarting(other: AnswerNode) -> Answer:
        def serve(reply: node_pb2.GetAnswerReply) -> node_pb2.GetAnswerReply:
            if not other.asked:
                raise Unreachable("starting")
            return reply

        return serve

    paul.lie, petra.lie = restarting(petra), restarting(paul)
    async with bench(tmp_path, paul.world, nodes, patience_s=5.0) as verifier:
        verdicts = await verifier.look()
    assert on(paul, verdicts) == on(petra, verdicts) == [(epoch, "HELD", "")]
    assert sorted(len(node.asked) for node in nodes) == [1, 2]


async def test_killed_at_any_point_it_gives_one_verdict_a_draw(
    tmp_path: Path, nodes: list[AnswerNode]
) -> None:
    world = nodes[0].world
    epochs = [world.turn("paul", "petra") for _ in range(3)]
    for answered in range(8):
        left, stop = answered, asyncio.Event()

        def count(
            reply: node_pb2.GetAnswerReply, stop: asyncio.Event = stop
        ) -> node_pb2.GetAnswerReply:
            nonlocal left
            left -= 1
            if left < 0:
                stop.set()
            return reply

        for node in nodes:
            node.lie = count
        async with bench(tmp_path, world, nodes) as verifier:
            look, stopped = asyncio.create_task(verifier.look()), asyncio.create_task(stop.wait())
            await asyncio.wait([look, stopped], return_when=asyncio.FIRST_COMPLETED)
            look.cancel()
            stopped.cancel()
            await asyncio.gather(look, stopped, return_exceptions=True)
    for node in nodes:
        node.lie = None
    async with bench(tmp_path, world, nodes) as verifier:
        verdicts = await verifier.look()
        assert all(draw.done for draw in await verifier.store.draws())
    drawn = Counter((each.verdict.node, each.verdict.epoch) for each in verdicts)
    assert drawn == {(node.node, epoch): 1 for node in nodes for epoch in epochs}


async def test_a_spent_budget_skips_links_and_says_so(
    tmp_path: Path, nodes: list[AnswerNode]
) -> None:
    world = nodes[0].world
    for _ in range(3):
        world.turn("paul", "petra")
    async with bench(tmp_path, world, nodes, budget=1) as verifier:
        verdicts = await verifier.look()
        skipped = sum(draw.skipped for draw in await verifier.store.draws())
        assert verifier.sampler.tally["skipped"] == skipped > 0
    assert len(verdicts) == 6 - skipped


async def test_a_verifier_that_comes_late_looks_at_the_latest_epochs(
    tmp_path: Path, nodes: list[AnswerNode]
) -> None:
    world = nodes[0].world
    epochs = [world.turn("paul") for _ in range(LATEST + 3)]
    async with bench(tmp_path, world, nodes) as verifier:
        await verifier.look()
        assert [draw.epoch for draw in await verifier.store.draws()] == epochs[-LATEST:]


def read_slash(raw: bytes) -> SlashWrong:
    reader = Reader(raw, "slash")
    body = SlashWrong.read(reader)
    reader.end()
    return body
