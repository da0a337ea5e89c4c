"""``dsn provider appeal``: the provider asks again, and believes only what the verifier signed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from dsn.apps.appeals import appeal
from dsn.apps.scores import own_scores
from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact
from dsn.errors import DsnError, InvalidSignature, NotFound, PeerError, UsageError
from dsn.ids import NodeId, format_base32
from dsn.machines.scoring import score
from dsn.proofs.verdict import Outcome, SignedVerdict, Verdict, sign_verdict
from dsn.rpc.limits import Limits
from dsn.rpc.server import Server, Unary
from dsn.rpc.tls import Caller
from dsn.rpc.verifier import VERIFIER_SERVICE
from dsn.runtime.clock import SystemClock
from dsn.store.home import Home
from dsn.v1 import verifier_pb2
from tests.net.test_provider import call
from tests.support.node_process import prepare
from tests.support.paid_net import identity_of

KEY = SigningKey(b"V" * 32)
PAGE = 2


@dataclass
class Verifier:
    """One that says what it is told to, a page of two verdicts at a time."""

    home: Home
    contact: Contact = field(default_factory=lambda: Contact(KEY.public, ""))
    said: list[SignedVerdict] = field(default_factory=list)
    answer: SignedVerdict | None = None
    asked: list[bytes] = field(default_factory=list)

    @property
    def root(self) -> bytes:
        return self.home.load_root(None)

    def verdict(self, at_s: int, **changes: object) -> Verdict:
        node = Contact(identity_of(self.root).public, "").node_id
        made = Verdict(
            self.home.network().network_id, KEY.public, node, bytes(32), 0, b"n" * 32,
            Outcome.SILENT, "timed_out", 0, 0, 10_000, at_s,
        )  # fmt: skip
        return replace(made, **changes)  # type: ignore[arg-type]

    def say(self, *verdicts: Verdict) -> None:
        self.said += [sign_verdict(each, KEY.sign) for each in verdicts]

    async def get_verdicts(
        self, _: Caller, request: verifier_pb2.GetVerdictsRequest
    ) -> verifier_pb2.GetVerdictsReply:
        page = self.said[request.after : request.after + PAGE]
        return verifier_pb2.GetVerdictsReply(
            verdicts=[wire(each) for each in page], next=request.after + len(page)
        )

    async def appeal(
        self, _: Caller, request: verifier_pb2.AppealRequest
    ) -> verifier_pb2.AppealReply:
        self.asked.append(request.verdict)
        assert self.answer is not None
        return verifier_pb2.AppealReply(verdict=wire(self.answer))


def wire(signed: SignedVerdict) -> verifier_pb2.SignedVerdict:
    return verifier_pb2.SignedVerdict(verdict=signed.verdict.encode(), signature=signed.signature)


@pytest.fixture
async def verifier(tmp_path: Path) -> AsyncIterator[Verifier]:
    made = Verifier(prepare(tmp_path / "home"))
    at = f"/{VERIFIER_SERVICE}/"
    methods = (
        Unary(at + "GetVerdicts", verifier_pb2.GetVerdictsRequest, made.get_verdicts),
        Unary(at + "Appeal", verifier_pb2.AppealRequest, made.appeal),
    )
    limits = Limits(address_limits=False)
    server = Server(KEY, made.home.network().network_id, methods, limits)
    made.contact = Contact(KEY.public, await server.start("127.0.0.1:0"))
    yield made
    await server.stop(0)


async def test_both_outcomes_are_printed(verifier: Verifier) -> None:
    first = [verifier.verdict(at_s) for at_s in range(5)]
    verifier.say(*first)
    held = verifier.verdict(
        9, outcome=Outcome.HELD, reason="", leaves=20, size_bytes=1, appeal=first[4].hash
    )
    verifier.answer = sign_verdict(held, KEY.sign)
    where = f"{format_base32(KEY.public)}@{verifier.contact.address}"
    words = ("provider", "appeal", first[4].hash.hex()[:20].upper(), "--verifier", where)
    run = await asyncio.to_thread(call, verifier.home, "--json", *words)
    rows = json.loads(run.stdout)
    assert (rows["before"]["hash"], rows["after"]["hash"]) == (first[4].hash.hex(), held.hash.hex())
    assert (rows["before"]["outcome"], rows["after"]["outcome"]) == ("silent", "held")
    assert verifier.asked == [first[4].hash]
    text = (await asyncio.to_thread(call, verifier.home, *words)).stdout
    assert "timed_out" in text
    assert held.hash.hex()[:24] in text


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("", UsageError, "bad_verdict"),
        ("abcdef1", UsageError, "bad_verdict"),
        ("no hex at all", UsageError, "bad_verdict"),
        ("00" * 32, NotFound, "unknown_verdict"),
    ],
)
async def test_what_names_no_verdict_is_refused(
    verifier: Verifier, name: str, kind: type[DsnError], code: str
) -> None:
    verifier.say(verifier.verdict(1))
    with pytest.raises(kind) as caught:
        await appeal(verifier.home, verifier.root, verifier.contact, name)
    assert caught.value.detail_code == code
    assert verifier.asked == []


async def test_a_verdict_on_another_node_is_not_ours_to_appeal(verifier: Verifier) -> None:
    other = verifier.verdict(1, node=NodeId(b"o" * 32))
    verifier.say(other)
    with pytest.raises(NotFound):
        await appeal(verifier.home, verifier.root, verifier.contact, other.hash.hex())


@pytest.mark.parametrize("lie", ["node", "subject", "appeal"])
async def test_an_answer_about_something_else_is_not_taken(verifier: Verifier, lie: str) -> None:
    first = verifier.verdict(1)
    verifier.say(first)
    answer = replace(verifier.verdict(2, appeal=first.hash), **{lie: b"x" * 32})  # type: ignore[arg-type]
    verifier.answer = sign_verdict(answer, KEY.sign)
    with pytest.raises(PeerError) as caught:
        await appeal(verifier.home, verifier.root, verifier.contact, first.hash.hex())
    assert caught.value.detail_code == "wrong_verdict"


async def test_what_the_verifier_did_not_sign_is_not_taken(verifier: Verifier) -> None:
    first = verifier.verdict(1)
    verifier.say(first)
    verifier.answer = SignedVerdict(verifier.verdict(2, appeal=first.hash), bytes(64))
    with pytest.raises(InvalidSignature):
        await appeal(verifier.home, verifier.root, verifier.contact, first.hash.hex())


async def test_a_provider_sees_what_is_said_of_its_node(verifier: Verifier) -> None:
    stranger = NodeId(b"s" * 32)
    verifier.say(*(verifier.verdict(n) for n in range(5)), verifier.verdict(9, node=stranger))
    where = f"{format_base32(KEY.public)}@{verifier.contact.address}"
    gone = f"{format_base32(KEY.public)}@127.0.0.1:1"
    notices: list[str] = []
    root, clock = verifier.root, SystemClock()
    found = await own_scores(verifier.home, root, [where, gone], clock, notices.append)
    told = [verifier.verdict(n) for n in range(5)]
    assert found == {where: round(score(told, clock.now_s()).value, 3)}
    (notice,) = notices
    assert "127.0.0.1:1 gives no verdicts" in notice
