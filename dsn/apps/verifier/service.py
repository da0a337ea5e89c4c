"""``VerifierService``: what was found, for everybody; audits and appeals, for few at a time."""

from __future__ import annotations

import asyncio
from typing import Final

from dsn.apps.verifier.appeals import Appeals
from dsn.apps.verifier.live import LiveAudits
from dsn.errors import TooMany, UsageError
from dsn.ids import ID_BYTES, NodeId
from dsn.ports import Clock
from dsn.proofs.verdict import SignedVerdict
from dsn.rpc.limits import Budget
from dsn.rpc.server import Method, Unary
from dsn.rpc.tls import Caller
from dsn.rpc.verifier import MOST_VERDICTS, VERIFIER_SERVICE
from dsn.store.verdicts import VerdictStore
from dsn.units import MIB
from dsn.v1 import verifier_pb2
from dsn.wire.convert import sized
from dsn.wire.status import RetryLater

AUDITS_AN_HOUR: Final = 60
APPEALS_AN_HOUR: Final = 60
"""A caller; each costs this verifier a few calls and some KiB."""
AUDITS_AT_ONCE: Final = 4
A_REPLY: Final = 2_048
"""Verdicts that fit one message, whatever their reasons."""


class VerifierService:
    """A verifier's calls."""

    def __init__(
        self, store: VerdictStore, audits: LiveAudits, appeals: Appeals, clock: Clock
    ) -> None:
        """Serve what is in ``store``, and what ``audits`` and ``appeals`` find."""
        self._store, self._audits, self._appeals = store, audits, appeals
        self._audited = Budget("audits", AUDITS_AN_HOUR, clock.monotonic_s)
        self._appealed = Budget("appeals", APPEALS_AN_HOUR, clock.monotonic_s)
        self._room = asyncio.Semaphore(AUDITS_AT_ONCE)

    def methods(self) -> tuple[Method, ...]:
        """Every call by its path."""
        at = f"/{VERIFIER_SERVICE}/"
        return (
            Unary(at + "GetVerdicts", verifier_pb2.GetVerdictsRequest, self._get_verdicts),
            Unary(at + "GetBundle", verifier_pb2.GetBundleRequest, self._get_bundle),
            Unary(at + "Audit", verifier_pb2.AuditRequest, self._audit),
            Unary(at + "Appeal", verifier_pb2.AppealRequest, self._appeal),
        )

    async def _get_verdicts(
        self, _: Caller, request: verifier_pb2.GetVerdictsRequest
    ) -> verifier_pb2.GetVerdictsReply:
        node = NodeId(sized("a node id", request.node, ID_BYTES)) if request.node else None
        limit = request.limit or A_REPLY
        if limit > MOST_VERDICTS:
            raise TooMany(f"{limit} verdicts in one call, {MOST_VERDICTS} at most")
        found = await self._store.page(min(request.after, 1 << 62), min(limit, A_REPLY), node)
        reply = verifier_pb2.GetVerdictsReply(next=request.after)
        for each in found:
            reply.verdicts.append(_to_wire(each.signed))
            reply.next = each.number + 1
        return reply

    async def _get_bundle(
        self, _: Caller, request: verifier_pb2.GetBundleRequest
    ) -> verifier_pb2.GetBundleReply:
        raw = await self._store.bundle(sized("an evidence hash", request.evidence, ID_BYTES))
        start = min(request.start, len(raw))
        return verifier_pb2.GetBundleReply(bundle=raw[start : start + MIB], size=len(raw))

    async def _audit(
        self, caller: Caller, request: verifier_pb2.AuditRequest
    ) -> verifier_pb2.AuditReply:
        self._audited.charge(caller.node_id, 1)
        if self._room.locked():
            raise RetryLater(f"{AUDITS_AT_ONCE} audits are under way", retry_after_s=2.0)
        async with self._room:
            bundle = await self._audits.audit(request.capability, request.leaves)
        verdicts = [part.verdict for part in bundle.parts]
        evidence = verdicts[0].verdict.evidence if verdicts else b""
        return verifier_pb2.AuditReply(verdicts=map(_to_wire, verdicts), evidence=evidence)

    async def _appeal(
        self, caller: Caller, request: verifier_pb2.AppealRequest
    ) -> verifier_pb2.AppealReply:
        digest = sized("a verdict's hash", request.verdict, ID_BYTES)
        first = await self._store.find(digest)
        if first is None or first.verdict.node != caller.node_id:
            raise UsageError("this verifier gave no such verdict on the caller", code="no_verdict")
        self._appealed.charge(caller.node_id, 1)
        return verifier_pb2.AppealReply(verdict=_to_wire(await self._appeals.hear(first)))


def _to_wire(signed: SignedVerdict) -> verifier_pb2.SignedVerdict:
    return verifier_pb2.SignedVerdict(verdict=signed.verdict.encode(), signature=signed.signature)
