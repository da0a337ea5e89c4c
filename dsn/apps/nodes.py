"""The nodes that a client knows: connections to them, and what they said of themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from dsn.dht.contact import Contact
from dsn.dht.network import Network
from dsn.errors import DsnError, NotFound, TimedOut, Unreachable
from dsn.ids import NodeId, format_node_id
from dsn.machines.placement import Candidate
from dsn.ports import Clock
from dsn.rpc.channel import Connections, NodePeer

ANSWER_S = 4.0
"""Longest wait for a short answer, so that no command hangs on a frozen node."""
GRACE_S = 0.25
"""What late answers still get once enough are in."""

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Answers(dict[_Key, _Value]):
    """What was answered, by key; ``failed`` holds errors, not those who were merely slower."""

    def __init__(self) -> None:
        """Start with no answers."""
        super().__init__()
        self.failed: dict[_Key, DsnError] = {}


async def ask(
    calls: Mapping[_Key, Awaitable[_Value]],
    *,
    enough: int,
    grace_s: float = GRACE_S,
    most_s: float = ANSWER_S,
) -> Answers[_Key, _Value]:
    """Await ``calls`` side by side; once ``enough`` answered, the others get ``grace_s`` more."""
    answers: Answers[_Key, _Value] = Answers()
    tasks = {asyncio.ensure_future(call): key for key, call in calls.items()}
    loop = asyncio.get_running_loop()
    end_s, waiting = loop.time() + most_s, set(tasks)
    try:
        while waiting and loop.time() < end_s:
            done, waiting = await asyncio.wait(
                waiting, timeout=end_s - loop.time(), return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                try:
                    answers[tasks[task]] = task.result()
                except DsnError as error:
                    answers.failed[tasks[task]] = error
            if len(answers) >= enough:
                end_s = min(end_s, loop.time() + grace_s)
    finally:
        for task in waiting:
            task.cancel()
            if len(answers) < enough:
                answers.failed[tasks[task]] = TimedOut("no answer in time")
        await asyncio.gather(*waiting, return_exceptions=True)
    return answers


class Nodes:
    """All listed nodes, by id, and which of them were slow or gone in this session."""

    def __init__(self, network: Network, connections: Connections, clock: Clock) -> None:
        """Know the contacts of ``network``."""
        self.network = network
        self.clock = clock
        self.late: set[NodeId] = set()
        self.max_pending: dict[NodeId, int] = {}
        self._contacts = {contact.node_id: contact for contact in network.contacts}
        self._connections = connections

    @property
    def ids(self) -> list[NodeId]:
        """Every listed node."""
        return list(self._contacts)

    def contact(self, node: NodeId) -> Contact:
        """How ``node`` is reached.

        Raises:
            NotFound: It is not listed.
        """
        try:
            return self._contacts[node]
        except KeyError:
            name = format_node_id(node)
            raise NotFound(f"{name} is not listed in the network file", peer=name) from None

    def address(self, node: NodeId) -> str:
        """Where ``node`` is, or ``unlisted``."""
        return self._contacts[node].address if node in self._contacts else "unlisted"

    def peer(self, node: NodeId, *, fresh: bool = False) -> NodePeer:
        """A connection to ``node``; see ``Connections.peer``."""
        return self._connections.peer(self.contact(node), fresh=fresh)

    def group(self, node: NodeId) -> str:
        """The placement group of ``node``: no two shards of a segment share one."""
        address = self._contacts[node].address.rsplit(":", 1)[0]
        match self.network.genesis.placement_group:
            case "subnet":
                return address.rsplit(".", 1)[0]
            case "machine":
                return address
            case _:
                return format_node_id(node)

    async def survey(self) -> list[Candidate]:
        """Ask every node for its terms; those that answer are candidates for placement."""
        answers = await self.each(self._candidate, enough=max(1, len(self.ids) * 2 // 3))
        if not answers:
            raise Unreachable(
                f"none of {len(self.ids)} nodes answered", hint="start the network: dsn devnet up"
            )
        return list(answers.values())

    async def each(
        self,
        call: Callable[[NodeId], Awaitable[_Value]],
        *,
        enough: int,
        among: Iterable[NodeId] | None = None,
    ) -> Answers[NodeId, _Value]:
        """``call`` every node (``among`` them), side by side; the silent ones count as late."""
        chosen = self.ids if among is None else list(among)
        answers = await ask({node: call(node) for node in chosen}, enough=enough)
        self.late.update(answers.failed)
        return answers

    async def _candidate(self, node: NodeId) -> Candidate:
        began_s = self.clock.monotonic_s()
        terms = await self.peer(node).get_terms(timeout_s=ANSWER_S)
        self.max_pending[node] = terms.max_pending_bytes
        latency_s = self.clock.monotonic_s() - began_s
        return Candidate(node, self.group(node), terms.free_bytes, latency_s)
