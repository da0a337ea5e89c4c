"""GetAnswer: a link of this node and the openings behind it, for whoever looks into them.

Spec: docs/spec/proofs.md#proof-of-spacetime.
"""

from __future__ import annotations

from typing import Final

from dsn.errors import TooMany, UsageError
from dsn.proofs.post import build_answer_path
from dsn.rpc.limits import Budget, check_count
from dsn.rpc.tls import Caller
from dsn.store.answers import AnswerStore, StoredAnswer
from dsn.units import MIB
from dsn.v1 import node_pb2

MOST_PLACES: Final = 64
MAX_REPLY_BYTES: Final = MIB


class Answering:
    """Shows what was answered, within each caller's budget."""

    def __init__(self, answers: AnswerStore, budget: Budget) -> None:
        """Read ``answers``; charge every caller to ``budget``, a leaf for each opening."""
        self._answers, self._budget = answers, budget

    async def get_answer(
        self, caller: Caller, request: node_pb2.GetAnswerRequest
    ) -> node_pb2.GetAnswerReply:
        """The link of an epoch, and its openings at some places with their paths.

        Raises:
            TooMany: More places than one call or this caller's hour allows, or than fit.
            NotFound: ``unknown_answer``.
            UsageError: ``bad_range``: the link has no such place.
        """
        places = list(request.places)
        check_count("openings", places, MOST_PLACES)
        self._budget.charge(caller.node_id, 1 + len(places))
        answer = await self._answers.get(request.epoch)
        if max(places, default=0) >= answer.link.count:
            raise UsageError(
                f"opening {max(places)} of {answer.link.count} in epoch {request.epoch}",
                code="bad_range",
            )
        reply = _reply(answer, places)
        size = reply.ByteSize()
        if size > MAX_REPLY_BYTES:
            raise TooMany(f"openings of {size} bytes, {MAX_REPLY_BYTES} fit: ask for fewer")
        return reply


def _reply(answer: StoredAnswer, places: list[int]) -> node_pb2.GetAnswerReply:
    openings = answer.openings
    shown = [
        node_pb2.PlacedOpening(opening=openings[j], path=build_answer_path(openings, j))
        for j in places
    ]
    return node_pb2.GetAnswerReply(link=answer.link.encode(), openings=shown)
