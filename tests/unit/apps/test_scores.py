"""Scores: the rule that makes them of verdicts, and verifiers that lie, stall or are others."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from dsn.apps import scores
from dsn.apps.nodes import Nodes
from dsn.apps.scores import LIAR_FACTOR, Scores, check_verdict, parse_verifier, weigh
from dsn.core.keys import SigningKey
from dsn.core.layout import Scheme
from dsn.dht.contact import Contact
from dsn.errors import InvalidSignature, MalformedMessage, UsageError
from dsn.ids import NetworkId, NodeId, format_base32
from dsn.machines.placement import Candidate, choose, uniform
from dsn.machines.scoring import NO_FAULT
from dsn.proofs.verdict import NO_NONCE, Outcome, SignedVerdict, Verdict, sign_verdict
from dsn.rpc.channel import Connections
from dsn.rpc.limits import Limits
from dsn.rpc.server import Server, Unary
from dsn.rpc.tls import Caller
from dsn.units import GIB
from dsn.v1 import verifier_pb2
from tests.support.dht_world import opened
from tests.support.records import NOW_S, key, node

NETWORK, OTHER = NetworkId(b"n" * 32), NetworkId(b"o" * 32)
VERIFIER = key(70)
NODE = node(1)


# the rule


def test_a_liar_comes_last_whatever_else_is_known() -> None:
    good, quiet = [verdict()] * 1_000, [verdict(outcome=Outcome.SILENT)] * 1_000
    liar = [*good, verdict(outcome=Outcome.WRONG)]
    years = [replace(each, at_s=NOW_S - 10**9) for each in liar]
    assert 0 < weigh(liar, NOW_S) < 1 / 1_000
    assert 0 < weigh(years, NOW_S) < 1 / 1_000
    assert 1 / 1_000 < weigh(quiet[:200], NOW_S) < weigh([], NOW_S) < weigh(good, NOW_S) <= 1


# who is asked


def test_a_verifier_is_named_by_its_key_and_address() -> None:
    text = f"{format_base32(VERIFIER.public)}@127.0.0.1:7080"
    assert parse_verifier(text) == Contact(VERIFIER.public, "127.0.0.1:7080")


@pytest.mark.parametrize("text", ["", "@", "x@127.0.0.1:1", "aaaa@127.0.0.1:1", "127.0.0.1:1"])
def test_what_names_no_verifier(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_verifier(text)
    assert caught.value.detail_code == "bad_verifier"
    good = format_base32(VERIFIER.public)
    with pytest.raises(UsageError):
        parse_verifier(f"{good}@nowhere")


# what they say


def verdict(
    about: NodeId = NODE,
    outcome: Outcome = Outcome.HELD,
    *,
    network: NetworkId = NETWORK,
    reason: str = "",
    **changes: Any,
) -> Verdict:
    said = Verdict(
        network=network,
        verifier=VERIFIER.public,
        node=about,
        subject=b"f" * 32,
        epoch=7,
        nonce=NO_NONCE,
        outcome=outcome,
        reason=reason or ("" if outcome is Outcome.HELD else "shard"),
        leaves=0,
        size_bytes=0,
        response_ms=1,
        at_s=NOW_S,
    )
    return replace(said, **changes)


def signed(said: Verdict, who: SigningKey = VERIFIER) -> SignedVerdict:
    return sign_verdict(said, who.sign)


def message(said: SignedVerdict) -> verifier_pb2.SignedVerdict:
    return verifier_pb2.SignedVerdict(verdict=said.verdict.encode(), signature=said.signature)


def test_a_verdict_that_its_verifier_signed_is_taken() -> None:
    said = verdict()
    assert check_verdict(message(signed(said)), VERIFIER.public, NETWORK) == said


def test_no_other_verdict_is() -> None:
    good = signed(verdict())
    bad = [
        message(signed(verdict(network=OTHER))),
        message(signed(verdict(verifier=key(71).public), key(71))),
        message(signed(verdict(), key(71))),
        message(SignedVerdict(verdict(outcome=Outcome.WRONG), good.signature)),
    ]
    for each in bad:
        with pytest.raises(InvalidSignature):
            check_verdict(each, VERIFIER.public, NETWORK)
    for signature in (b"", good.signature[:-1], good.signature + b"\0"):
        with pytest.raises(MalformedMessage):
            check_verdict(
                verifier_pb2.SignedVerdict(verdict=good.verdict.encode(), signature=signature),
                VERIFIER.public,
                NETWORK,
            )
    with pytest.raises(MalformedMessage):
        check_verdict(
            verifier_pb2.SignedVerdict(verdict=b"?", signature=good.signature),
            VERIFIER.public,
            NETWORK,
        )


# asking them


@dataclass
class Verifier:
    """A verifier on loopback that says what it is told to."""

    said: list[SignedVerdict]
    asked: list[int] = field(default_factory=list)
    page: int = 2
    next_of: Callable[[int, int], int] = field(default=lambda after, count: after + count)

    async def get_verdicts(
        self, caller: Caller, request: verifier_pb2.GetVerdictsRequest
    ) -> verifier_pb2.GetVerdictsReply:
        self.asked.append(request.after)
        page = self.said[request.after : request.after + self.page]
        return verifier_pb2.GetVerdictsReply(
            verdicts=map(message, page), next=self.next_of(request.after, len(page))
        )


async def frozen(caller: Caller, request: Any) -> Any:
    await asyncio.Event().wait()


class Clock:
    def now_s(self) -> float:
        return NOW_S

    def monotonic_s(self) -> float:
        return 0.0


@asynccontextmanager
async def serving(handle: Callable[..., Any], who: SigningKey = VERIFIER) -> AsyncIterator[str]:
    """A server at which ``handle`` tells verdicts; gives how settings name it."""
    path = "/dsn.v1.VerifierService/GetVerdicts"
    methods = [Unary(path, verifier_pb2.GetVerdictsRequest, handle)]
    server = Server(who, NETWORK, methods, Limits(address_limits=False))
    address = await server.start("127.0.0.1:0")
    try:
        yield f"{format_base32(VERIFIER.public)}@{address}"
    finally:
        await server.stop(0)


async def rate(
    folder: Path, verifiers: Sequence[str], notices: list[str] | None = None
) -> dict[NodeId, float]:
    async with Connections(key(5), NETWORK) as connections:
        told = [].append if notices is None else notices.append
        return await Scores(verifiers, folder, connections, NETWORK, Clock(), told).rate()


def outcomes(*them: tuple[NodeId, Outcome]) -> list[SignedVerdict]:
    return [signed(verdict(about, outcome)) for about, outcome in them]


async def test_without_verifiers_nobody_is_asked(tmp_path: Path) -> None:
    assert await rate(tmp_path / "verdicts", []) == {}
    assert not (tmp_path / "verdicts").exists()


async def test_verdicts_are_fetched_once_and_remembered(tmp_path: Path) -> None:
    liar, quiet = node(2), node(3)
    said = outcomes((NODE, Outcome.HELD), (liar, Outcome.WRONG), (quiet, Outcome.SILENT))
    verifier, notices = Verifier(said), list[str]()
    async with serving(verifier.get_verdicts) as name:
        found = await rate(tmp_path, [name], notices)
        assert set(found) == {NODE, liar, quiet}
        assert found[NODE] > 0.5 > found[quiet] > found[liar] * 100
        assert verifier.asked == [0, 2, 3]
        verifier.said += outcomes((quiet, Outcome.HELD))
        again = await rate(tmp_path, [name], notices)
        assert again[quiet] == pytest.approx(0.5), "once silent, once held"
        assert verifier.asked == [0, 2, 3, 3, 4]
    gone = await rate(tmp_path, [name], notices)
    assert gone == pytest.approx(again), "what it said counts though it is gone"
    assert len(notices) == 1 and "gives no verdicts" in notices[0]


async def test_a_frozen_verifier_keeps_nobody_from_storing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "ANSWER_S", 0.2)
    notices = list[str]()
    async with serving(frozen) as name:
        assert await rate(tmp_path, [name], notices) == {}
    assert len(notices) == 1 and "no answer in time" in notices[0]


async def test_somebody_else_at_its_address_is_not_heard(tmp_path: Path) -> None:
    verifier, notices = Verifier(outcomes((NODE, Outcome.WRONG))), list[str]()
    async with serving(verifier.get_verdicts, key(71)) as name:
        assert await rate(tmp_path, [name], notices) == {}
    assert verifier.asked == [] and len(notices) == 1


@pytest.mark.parametrize(
    "bad",
    [
        Verifier([signed(verdict(network=OTHER))]),
        Verifier([signed(verdict(outcome=Outcome.WRONG), key(71))]),
        Verifier(outcomes((NODE, Outcome.WRONG)), next_of=lambda after, count: after),
        Verifier(outcomes(*[(NODE, Outcome.WRONG)] * 4_097), page=4_097),
    ],
    ids=["other network", "not signed by it", "goes round in circles", "too many at once"],
)
async def test_a_verifier_that_breaks_the_rules_counts_for_nothing(
    tmp_path: Path, bad: Verifier
) -> None:
    notices = list[str]()
    async with serving(bad.get_verdicts) as name:
        assert await rate(tmp_path, [name], notices) == {}
    assert len(bad.asked) == len(notices) == 1


@pytest.mark.parametrize("reason", sorted(NO_FAULT))
async def test_nobody_can_be_framed_by_a_manifest_or_by_many_questions(
    tmp_path: Path, reason: str
) -> None:
    verifier = Verifier([signed(verdict(outcome=Outcome.SILENT, reason=reason))])
    async with serving(verifier.get_verdicts) as name:
        assert set((await rate(tmp_path, [name])).values()) == {0.5}


async def test_a_damaged_file_is_asked_for_again(tmp_path: Path) -> None:
    verifier = Verifier(outcomes((NODE, Outcome.SILENT)))
    async with serving(verifier.get_verdicts) as name:
        found = await rate(tmp_path, [name])
        (file,) = tmp_path.iterdir()
        for damage in ("", "{}", '{"after": 3, "verdicts": [[1]]}', "[]", '{"after": "x"}'):
            file.write_text(damage)
            assert await rate(tmp_path, [name]) == pytest.approx(found), damage


async def test_no_more_is_remembered_than_there_is_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "MOST_KEPT", 3)
    liar, quiet = node(2), node(3)
    said = outcomes((liar, Outcome.WRONG), (quiet, Outcome.SILENT), *[(NODE, Outcome.HELD)] * 4)
    async with serving(Verifier(said).get_verdicts) as name:
        found = await rate(tmp_path, [name])
        assert set(found) == {NODE, liar}, "the oldest is forgotten first, but no liar ever"
        assert found[liar] < LIAR_FACTOR


# in placement


@pytest.mark.parametrize("seed", range(5))
def test_a_liar_holds_nothing_while_others_have_room(seed: int) -> None:
    liar = weigh([*[verdict()] * 50, verdict(outcome=Outcome.WRONG)], NOW_S)
    asked = [Candidate(node(n), f"group {n}", GIB, 0.01, 1.0, proven=0.5) for n in range(7)]
    candidates = [*asked, Candidate(node(9), "group 9", 4 * GIB, 0.0, 1.0, proven=liar)]
    rounds, chosen = 300, 0
    for number in range(rounds):
        order = choose(candidates, Scheme(3, 6), 1, uniform(seed * rounds + number))
        assert len(order) == 8, "it is a spare still"
        chosen += node(9) in order[:6]
    assert chosen <= rounds // 50, f"seed {seed}: chosen {chosen} times"


async def test_what_verifiers_say_reaches_the_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, monkeypatch) as world:
        first, second = await world.grow(2)

        async def rates() -> dict[NodeId, float]:
            return {first.node_id: 0.001}

        async def nobody() -> int:
            return 0

        dht, connections = await world.client(first.contact), await world.connections()
        nodes = Nodes(dht, connections, nobody, world.clock, os.urandom, rates)
        proven = {each.node: each.proven for each in await nodes.survey()}
        assert proven == {first.node_id: 0.001, second.node_id: 0.5}
