"""A verifier's word on what a put stored: only its own, on this file, on every holder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dsn.apps.confirming import Stored, unconfirmed
from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact
from dsn.ids import FileId, short
from dsn.proofs.verdict import Outcome, SignedVerdict, sign_verdict
from dsn.rpc.channel import Connections
from dsn.rpc.server import Server, Unary
from dsn.rpc.tls import Caller
from dsn.rpc.verifier import VerifierPeer
from dsn.v1 import verifier_pb2
from tests.support import attackers
from tests.support.audit_world import VERIFIER, AuditedFile, audited
from tests.support.dht_world import LOCAL
from tests.support.records import key

Said = list[SignedVerdict]
Bend = Callable[[Said], Said]
LINK = "dsn:verify:a link that only the verifier opens"


@asynccontextmanager
async def verifying(
    file: AuditedFile, bend: Bend, who: SigningKey = VERIFIER
) -> AsyncIterator[VerifierPeer]:
    """A verifier that audits ``file`` for real, and says what ``bend`` makes of it."""

    async def audit(caller: Caller, request: verifier_pb2.AuditRequest) -> verifier_pb2.AuditReply:
        assert request.capability == LINK
        said = [part.verdict for part in (await file.audit()).parts]
        evidence = said[0].verdict.evidence
        reply = verifier_pb2.AuditReply(evidence=evidence)
        for each in bend(said):
            reply.verdicts.add(verdict=each.verdict.encode(), signature=each.signature)
        return reply

    network = file.world.network_id
    methods = [Unary("/dsn.v1.VerifierService/Audit", verifier_pb2.AuditRequest, audit)]
    server = Server(who, network, methods, LOCAL)
    address = await server.start("127.0.0.1:0")
    try:
        async with Connections(key(5), network) as connections:
            yield VerifierPeer(connections.line(Contact(VERIFIER.public, address)))
    finally:
        await server.stop(0)


async def ask(file: AuditedFile, bend: Bend = list, who: SigningKey = VERIFIER) -> list[str]:
    """What a verifier does not confirm of ``file``."""
    holders = frozenset(contact.node_id for contact in file.holders)
    part = Stored(LINK, file.manifest.file_id, holders)
    async with verifying(file, bend, who) as verifier:
        return await unconfirmed(verifier, [part], file.world.network_id)


async def test_all_holders_are_confirmed(tmp_path: Path) -> None:
    async with audited(tmp_path) as file:
        assert await ask(file) == []


async def test_who_does_not_hold_is_named(tmp_path: Path) -> None:
    lies = {1: attackers.wrong_bytes, 3: attackers.lost_one, 4: attackers.counts_otherwise}
    async with audited(tmp_path, lies=lies) as file:
        names = [short(contact.node_id) for contact in file.holders]
        assert await ask(file) == sorted(
            [
                f"node {names[1]}: wrong shard",
                f"node {names[3]}: silent declared_lost",
                f"node {names[4]}: no verdict",
            ]
        )


def signed_again(change: Callable[[SignedVerdict], SignedVerdict]) -> Bend:
    return lambda said: [change(said[0]), *said[1:]]


def of_another_file(said: SignedVerdict) -> SignedVerdict:
    return sign_verdict(replace(said.verdict, subject=FileId(b"f" * 32)), VERIFIER.sign)


def of_an_epoch(said: SignedVerdict) -> SignedVerdict:
    return sign_verdict(replace(said.verdict, epoch=3, nonce=bytes(32)), VERIFIER.sign)


def of_nothing(said: SignedVerdict) -> SignedVerdict:
    return sign_verdict(replace(said.verdict, leaves=0), VERIFIER.sign)


def of_an_earlier_audit(said: SignedVerdict) -> SignedVerdict:
    return sign_verdict(replace(said.verdict, evidence=b"e" * 32), VERIFIER.sign)


@pytest.mark.parametrize("change", [of_another_file, of_an_epoch, of_nothing, of_an_earlier_audit])
async def test_a_verdict_on_something_else_confirms_nothing(
    tmp_path: Path, change: Callable[[SignedVerdict], SignedVerdict]
) -> None:
    async with audited(tmp_path) as file:
        (line,) = await ask(file, signed_again(change))
        assert line.startswith("node ")


def forged(said: SignedVerdict) -> SignedVerdict:
    return sign_verdict(replace(said.verdict, verifier=key(71).public), key(71).sign)


def unsigned(said: SignedVerdict) -> SignedVerdict:
    changed = replace(said.verdict, outcome=Outcome.HELD, reason="", leaves=80)
    return SignedVerdict(changed, said.signature)


@pytest.mark.parametrize("change", [forged, unsigned])
async def test_what_the_verifier_did_not_sign_confirms_nothing(
    tmp_path: Path, change: Callable[[SignedVerdict], SignedVerdict]
) -> None:
    async with audited(tmp_path) as file:
        (line,) = await ask(file, signed_again(change))
        assert line.startswith("verifier 127.0.0.1:")


async def test_somebody_else_at_its_address_confirms_nothing(tmp_path: Path) -> None:
    async with audited(tmp_path) as file:
        (line,) = await ask(file, who=key(71))
        assert line.startswith("verifier 127.0.0.1:")


async def test_no_verdicts_are_no_confirmation(tmp_path: Path) -> None:
    async with audited(tmp_path) as file:
        assert len(await ask(file, lambda said: [])) == len(file.holders)
