"""Asking a node for openings under its link, within a budget of bytes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from dsn.apps.nodes import Nodes
from dsn.apps.verifier.judging import Asked, Judged, judge_answer
from dsn.errors import DsnError, TransportError
from dsn.ids import NetworkId, NodeId
from dsn.ledger.disputes import ServedOpening
from dsn.ports import Clock
from dsn.proofs.verdict import Outcome
from dsn.rpc.channel import NodePeer
from dsn.rpc.limits import HOUR_S
from dsn.v1 import node_pb2
from dsn.wire.status import RetryLater

ANSWER_S: Final = 10.0
USUAL_BYTES: Final = 2_560
"""An opening with its paths, of a provider with 1 TiB."""
PLACES_A_CALL: Final = 32
"""So many of the largest openings there are fit one message."""
PATIENCE_S: Final = 6.0
"""For so long a node that does not answer is asked again before it is called silent."""
PAUSES_S: Final = (0.5, 30.0)
"""Between two tries: the first pause and the longest."""
AT_ONCE: Final = 32
"""Nodes that are asked at one time; those that are waited for do not count."""

REFUSED: Final = "refused"
"""The reason where a node refuses with a code that is none."""
_CODE: Final = re.compile(r"[a-z0-9_]{1,64}")

Reach: TypeAlias = Callable[[NodeId, bool], Awaitable[NodePeer]]
"""Connects to a node, looking for it anew if the flag is set.

Raises ``TransportError`` if it is nowhere to be found.
"""


class Allowance:
    """Bytes that may be fetched: so many an hour, refilled all the time."""

    def __init__(self, an_hour: int, clock: Clock) -> None:
        """Allow ``an_hour`` at once at first."""
        self._most, self._clock = an_hour, clock
        self._left, self._at_s = float(an_hour), clock.monotonic_s()

    @contextmanager
    def reserved(self, openings: int) -> Iterator[bool]:
        """Whether there is room for ``openings`` more; they count as fetched during the block.

        What is fetched is told to ``take``: it may be more than was left, for nobody knows before.
        """
        now_s = self._clock.monotonic_s()
        grown = (now_s - self._at_s) * self._most / HOUR_S
        self._left, self._at_s = min(self._most, self._left + grown), now_s
        expected = openings * USUAL_BYTES if self._left > 0 else 0
        self._left -= expected
        try:
            yield expected > 0
        finally:
            self._left += expected

    def take(self, size_bytes: int) -> None:
        """Count what was fetched."""
        self._left -= size_bytes


class Interviewer:
    """Asks nodes for openings; every failure of theirs is an outcome."""

    def __init__(
        self,
        reach: Reach,
        network: NetworkId,
        allowance: Allowance,
        clock: Clock,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Ask whom ``reach`` finds, again and again for ``patience_s`` while it is silent."""
        self._reach, self._network, self._clock = reach, network, clock
        self.allowance, self._patience_s = allowance, patience_s
        self._room = asyncio.Semaphore(AT_ONCE)

    async def ask(self, asked: Asked) -> tuple[Judged, int]:
        """What a node has to show, and how long its answer took, in milliseconds."""
        try:
            served, took_ms = await self._patiently(asked)
        except DsnError as error:
            code = error.detail_code
            return Judged(Outcome.SILENT, code if _CODE.fullmatch(code) else REFUSED), 0
        judged = await asyncio.to_thread(judge_answer, asked, served, network=self._network)
        return judged, took_ms

    async def _patiently(self, asked: Asked) -> tuple[list[ServedOpening], int]:
        """What a node serves, perhaps after a restart, and how long the last try took."""
        clock, (pause_s, longest_s) = self._clock, PAUSES_S
        deadline_s, again = clock.monotonic_s() + self._patience_s, False
        while True:
            try:
                async with self._room:
                    began_s = clock.monotonic_s()
                    served = await self._fetch(asked, again)
                    return served, max(1, round(1_000 * (clock.monotonic_s() - began_s)))
            except (TransportError, RetryLater):
                left_s = deadline_s - clock.monotonic_s()
                if left_s <= 0:
                    raise
            await asyncio.sleep(min(pause_s, left_s))
            pause_s, again = min(2 * pause_s, longest_s), True

    async def _fetch(self, asked: Asked, again: bool) -> list[ServedOpening]:
        served = list[ServedOpening]()
        async with await self._reach(asked.node, again) as peer:
            for start in range(0, len(asked.places), PLACES_A_CALL):
                places = asked.places[start : start + PLACES_A_CALL]
                reply = await peer.get_answer(asked.link.epoch, places, timeout_s=ANSWER_S)
                self.allowance.take(reply.ByteSize())
                served += _openings(reply)
        return served


def reach_by(nodes: Nodes) -> Reach:
    """Find nodes as a client does: where they were last seen, else through the DHT."""

    async def reach(node: NodeId, anew: bool) -> NodePeer:
        if anew:
            nodes.dht.proven.pop(node, None)
        await nodes.reach([node])
        return nodes.peer(node, fresh=anew)

    return reach


def _openings(reply: node_pb2.GetAnswerReply) -> list[ServedOpening]:
    return [ServedOpening(each.opening, tuple(each.path)) for each in reply.openings]
