"""A verifier as others see it: one method a call.

Replies come as they were sent, of the right type and nothing more: what they say is untrusted.
"""

from __future__ import annotations

from typing import Final, TypeVar

from google.protobuf.message import Message

from dsn.rpc.line import Line
from dsn.v1 import verifier_pb2

VERIFIER_SERVICE: Final = "dsn.v1.VerifierService"
MOST_VERDICTS: Final = 4_096
"""In one reply."""
MOST_BUNDLE_BYTES: Final = 3 << 20
TIMEOUT_S: Final = 10.0
AUDIT_TIMEOUT_S: Final = 60.0
"""The verifier asks every holder of the file before it replies."""
_Reply = TypeVar("_Reply", bound=Message)


class VerifierPeer:
    """Calls on a verifier."""

    def __init__(self, line: Line) -> None:
        """Speak over ``line``."""
        self.contact = line.contact
        self.name = line.name
        self._line = line

    async def get_verdicts(
        self, after: int = 0, node: bytes = b"", limit: int = MOST_VERDICTS
    ) -> verifier_pb2.GetVerdictsReply:
        """Verdicts from number ``after`` on, on all nodes or on ``node`` (32 bytes)."""
        request = verifier_pb2.GetVerdictsRequest(after=after, node=node, limit=limit)
        return await self._unary("GetVerdicts", request, verifier_pb2.GetVerdictsReply)

    async def get_bundle(self, evidence: bytes) -> bytes:
        """The bundle behind a verdict's ``evidence`` (32 bytes); empty: not kept any more."""
        bundle = b""
        while True:
            request = verifier_pb2.GetBundleRequest(evidence=evidence, start=len(bundle))
            reply = await self._unary("GetBundle", request, verifier_pb2.GetBundleReply)
            bundle += reply.bundle
            if len(bundle) >= min(reply.size, MOST_BUNDLE_BYTES) or not reply.bundle:
                return bundle

    async def audit(
        self, capability: str, leaves: int = 0, *, timeout_s: float = AUDIT_TIMEOUT_S
    ) -> verifier_pb2.AuditReply:
        """Have a file audited now, by its verify link; ``leaves`` of each holder."""
        request = verifier_pb2.AuditRequest(capability=capability, leaves=leaves)
        return await self._unary("Audit", request, verifier_pb2.AuditReply, timeout_s)

    async def appeal(
        self, verdict_hash: bytes, *, timeout_s: float = AUDIT_TIMEOUT_S
    ) -> verifier_pb2.SignedVerdict:
        """Have the verdict with this hash (32 bytes) looked at again."""
        request = verifier_pb2.AppealRequest(verdict=verdict_hash)
        reply = await self._unary("Appeal", request, verifier_pb2.AppealReply, timeout_s)
        return reply.verdict

    async def _unary(
        self, method: str, request: Message, reply: type[_Reply], timeout_s: float = TIMEOUT_S
    ) -> _Reply:
        return await self._line.unary(f"/{VERIFIER_SERVICE}/{method}", request, reply, timeout_s)
