"""The nodes that a client meets: how they are found, and what they say of themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol, TypeVar

from dsn.apps.dht import Dht
from dsn.dht.contact import Contact, subnet_of
from dsn.dht.distance import nearest
from dsn.dht.record import Record
from dsn.errors import DsnError, TimedOut, Unreachable
from dsn.ids import ID_BYTES, NodeId, format_node_id
from dsn.ledger.terms import SignedTerms, Terms, verify_terms
from dsn.machines.placement import Candidate
from dsn.machines.upkeep import sample
from dsn.ports import Clock, Entropy
from dsn.rpc.channel import Connections, NodePeer
from dsn.rpc.line import Line
from dsn.v1 import node_pb2

ANSWER_S = 4.0
"""Longest wait for a short answer, so that no command hangs on a frozen node."""
GRACE_S = 0.25
"""What late answers still get once enough are in."""

KEYS = 1 << (8 * ID_BYTES)
PARTS = 8
"""Of the keyspace; in a network of a hundred, the nodes of one are all named by one answer."""
SLOW_PARTS = 2
"""Parts whose answer a round does not wait for longer than ``GRACE_S``."""
CANDIDATES = 96
"""Nodes asked for their terms before a put: three times what the widest default scheme needs."""

TERMS_LEFT_S = 60.0
"""Terms that expire sooner are asked for again before a deal is made of them."""

Rate = Callable[[], Awaitable[Mapping[NodeId, float]]]
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


class Partners(Protocol):
    """Whom a client has deals with."""

    @property
    def only_dealt(self) -> bool:
        """Whether no other node can be used."""
        ...

    def has_deal(self, node: NodeId) -> bool:
        """Whether there is a deal with ``node`` to use."""
        ...


class Nodes:
    """The nodes of the network as one client meets them, and which were slow or gone."""

    def __init__(
        self,
        dht: Dht,
        connections: Connections,
        seek: Callable[[], Awaitable[int]],
        clock: Clock,
        entropy: Entropy,
        rate: Rate | None = None,
    ) -> None:
        """Find nodes through ``dht``; ``seek`` looks for contacts when no known one answers.

        ``rate`` gives what verifiers say of nodes, from 0 to 1.
        """
        self.dht, self.network = dht, dht.network
        self.clock = clock
        self.late: set[NodeId] = set()
        self.max_pending: dict[NodeId, int] = {}
        self.terms: dict[NodeId, SignedTerms] = {}
        self._connections, self._seek, self._entropy = connections, seek, entropy
        self._rate = rate
        self.partners: Partners | None = None
        """Whom this client has deals with, once it is known."""

    def contact(self, node: NodeId) -> Contact:
        """How ``node`` is reached.

        Raises:
            Unreachable: Nobody says where it is.
        """
        contact = self.dht.contact(node)
        if contact is None:
            name = format_node_id(node)
            raise Unreachable(f"{name} is nowhere to be found", peer=name)
        return contact

    def address(self, node: NodeId) -> str:
        """Where ``node`` is, or ``unknown``."""
        contact = self.dht.contact(node)
        return contact.address if contact else "unknown"

    def peer(self, node: NodeId, *, fresh: bool = False) -> NodePeer:
        """A connection to ``node``; see ``Connections.peer``."""
        return self._connections.peer(self.contact(node), fresh=fresh)

    def line(self, node: NodeId) -> Line:
        """The shared connection to ``node``."""
        return self._connections.line(self.contact(node))

    async def offer(self, node: NodeId) -> SignedTerms:
        """The terms that ``node`` stands by now.

        Raises:
            InvalidSignature: It does not sign what it says.
            PeerError: ``terms_expired``.
        """
        known = self.terms.get(node)
        if known is None or known.expires_s < self.clock.now_s() + TERMS_LEFT_S:
            self._keep_terms(node, await self.peer(node).get_terms(timeout_s=ANSWER_S))
        return self.terms[node]

    def _keep_terms(self, node: NodeId, said: node_pb2.Terms) -> None:
        signed = SignedTerms(Terms.decode(said.terms), said.expires_s, said.signature)
        public, now_s = self.contact(node).public_key, self.clock.now_s()
        verify_terms(signed, network=self.network.network_id, public_key=public, now_s=now_s)
        self.terms[node], self.max_pending[node] = signed, said.max_pending_bytes

    def group(self, contact: Contact) -> str:
        """The placement group of a node: no two shards of a segment share one.

        Whatever the addresses say, nodes found on the LAN are in the subnet of this client.
        """
        match self.network.genesis.placement_group:
            case "subnet":
                entry = self.dht.book.get(contact.node_id)
                return "lan" if entry and entry.source == "lan" else subnet_of(contact.host)
            case "machine":
                return contact.host
            case _:
                return format_node_id(contact.node_id)

    async def discover(self, wanted: int) -> list[Contact]:
        """Some ``wanted`` nodes from all over the keyspace, drawn at random if there are more.

        Raises:
            Unreachable: Nobody lets this client in.
        """
        if not await self._sweep(wanted) and not (await self._seek() and await self._sweep(wanted)):
            raise self.dht.nobody()
        return sample(self.dht.known(), wanted, self._entropy)

    async def _sweep(self, wanted: int) -> bool:
        """Hear of ``wanted`` nodes, or of all there are; whether anybody answered.

        A round asks somebody near each part of the keyspace for nodes of that part, and another
        one where that is slow or silent. The last one names nobody new, or brings enough.
        """
        met, asked, parts = False, set[tuple[int, Contact]](), list(range(PARTS))
        while parts:
            before = len(self.dht.known())
            calls = {}
            for part in parts:
                target = _key_in(part, self._entropy)
                left = (each for each in self._someone() if (part, each) not in asked)
                for contact in nearest(left, target, 1):
                    asked.add((part, contact))
                    calls[part] = self.dht.name(contact, target)
            answers = await ask(calls, enough=max(1, len(calls) - SLOW_PARTS))
            heard = [part for part, named in answers.items() if named is not None]
            met |= bool(heard)
            grown = len(self.dht.known()) > before
            if met and len(self.dht.known()) >= wanted:
                break
            parts = [part for part in calls if grown or part not in heard]
        return met

    def _someone(self) -> list[Contact]:
        """Everybody who may be asked: who was heard of, and the seeds."""
        known = {each.node_id: each for each in (*self.dht.seeds(), *self.dht.known())}
        return list(known.values())

    async def find_record(self, key: bytes) -> Record | None:
        """The newest valid record under ``key``, or ``None`` if those who should know have none.

        Raises:
            Unreachable: Nobody answers.
        """
        search = await self.dht.find_records(key)
        if not search.lookup.depth and await self._seek():
            search = await self.dht.find_records(key)
        if not search.lookup.depth:
            raise self.dht.nobody()
        return search.newest

    async def survey(self, needed: int = 1) -> list[Candidate]:
        """Ask nodes for their terms; those that answer are candidates for placement.

        Once two thirds have answered, and as many as are ``needed``, the others are late.
        """
        contacts = {each.node_id: each for each in await self.discover(CANDIDATES)}
        enough = max(1, len(contacts) * 2 // 3, min(needed, len(contacts)))
        proven = await self._rate() if self._rate else {}
        answers = await self.each(self._candidate, enough=enough, among=contacts)
        if not answers:
            raise Unreachable(
                f"none of {len(contacts)} nodes answered", hint="see dsn doctor --net"
            )
        met = [contacts[node] for node in answers]
        self.dht.met(met, everybody=len(contacts) < CANDIDATES)
        partners = self.partners
        return [
            replace(
                each,
                proven=proven.get(each.node, each.proven),
                dealt=partners is not None and partners.has_deal(each.node),
            )
            for each in answers.values()
            if partners is None or not partners.only_dealt or partners.has_deal(each.node)
        ]

    async def reach(self, nodes: Iterable[NodeId]) -> None:
        """See where ``nodes`` are now, before they are needed; those not found count as late."""
        unproven = [node for node in nodes if node not in self.dht.proven]
        await self.each(self._reach, enough=len(unproven), among=unproven)

    async def _reach(self, node: NodeId) -> None:
        said = self.dht.contact(node)
        if said is None or not await self.dht.ping(said):
            found = await self.dht.locate(node)
            if found is None or found == said or not await self.dht.ping(found):
                raise Unreachable(f"{format_node_id(node)} is not to be found")

    async def each(
        self,
        call: Callable[[NodeId], Awaitable[_Value]],
        *,
        enough: int,
        among: Iterable[NodeId],
    ) -> Answers[NodeId, _Value]:
        """``call`` every node of ``among``, side by side; the silent ones count as late."""
        answers = await ask({node: call(node) for node in among}, enough=enough)
        self.late.update(answers.failed)
        return answers

    async def _candidate(self, node: NodeId) -> Candidate:
        contact = self.contact(node)
        began_s = self.clock.monotonic_s()
        terms = await self._connections.peer(contact).get_terms(timeout_s=ANSWER_S)
        self._keep_terms(node, terms)
        return Candidate(
            node,
            self.group(contact),
            terms.free_bytes,
            self.clock.monotonic_s() - began_s,
            self.dht.book.score(node, self.clock.now_s()),
            contact.address,
        )


def _key_in(part: int, entropy: Entropy) -> bytes:
    """A random key in one of the ``PARTS`` of the keyspace."""
    low = int.from_bytes(entropy(ID_BYTES), "big") % (KEYS // PARTS)
    return (part * (KEYS // PARTS) + low).to_bytes(ID_BYTES, "big")
