"""This process in the network's DHT: lookups and upkeep, driven on asyncio.

The rules are in ``machines.lookup``, ``machines.upkeep`` and ``dht``; here calls are made,
answers are judged, and what they prove is noted in the routing table and the address book.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import reduce
from typing import Final, NamedTuple, TypeVar

from dsn.dht.book import AddressBook
from dsn.dht.contact import Contact
from dsn.dht.distance import nearest
from dsn.dht.network import Network
from dsn.dht.node_record import NodeRecord
from dsn.dht.record import Record, newer, parse_record, verify
from dsn.dht.regions import Region, Regions, region_of
from dsn.dht.routing import BUCKET_SIZE, SUBNET_MOST, RoutingTable
from dsn.errors import ConfigError, DsnError, PeerError, TransportError, Unreachable
from dsn.ids import NodeId
from dsn.machines.lookup import HARD_S, PATHS, Ask, Lookup
from dsn.machines.upkeep import Find, Step, Steps, Tell, Visit
from dsn.ports import Clock, Entropy
from dsn.rpc.channel import Connections
from dsn.rpc.dht import DhtPeer

SEEDS: Final = 8
"""Contacts of the address book that a search begins with while the table is thin."""
SILENT_S: Final = 10.0
"""A contact that did not answer is not asked again for so long."""
MOST_HEARD: Final = 4_096
"""Contacts remembered of each kind in one session."""

_Result = TypeVar("_Result")


class Answer(NamedTuple):
    """What one contact said: whom it knows, and the valid records it gave."""

    contacts: list[Contact]
    records: list[Record]


class Search(NamedTuple):
    """A finished lookup and the records it found."""

    lookup: Lookup
    records: list[Record]

    @property
    def newest(self) -> Record | None:
        """Of a node, a file or a slot: the record that supersedes the others."""
        if not self.records:
            return None
        return reduce(lambda a, b: a if newer(a, b) else b, self.records)


class Dht:
    """Finds nodes and records."""

    def __init__(
        self,
        connections: Connections,
        network: Network,
        me: NodeId,
        book: AddressBook,
        *,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """Take part as ``me``.

        Args:
            connections: Calls go over these.
            network: Its contacts are the last seeds that are tried.
            me: This node, or a client, which nobody puts in a table.
            book: Where contacts that answered are remembered.
            clock: Judges records and dates contacts.
            entropy: Draws walks and bucket targets.
        """
        limited = network.genesis.address_limits
        self.table = RoutingTable(me, subnet_most=SUBNET_MOST if limited else None)
        self.book, self.network = book, network
        self.address = ""
        """Where this node serves, once it does; a client's stays empty."""
        for contact in network.contacts:
            if contact.node_id != me:
                book.heard(contact, "file", clock.now_s())
        self.own: Callable[[], bytes] | None = None
        """This node's own record, which it need not look for."""
        self.calls: Counter[str] = Counter()
        self._connections, self._clock, self._entropy = connections, clock, entropy
        self.proven: OrderedDict[NodeId, Contact] = OrderedDict()
        """Contacts that answered a call of this process."""
        self._heard: OrderedDict[NodeId, Contact] = OrderedDict()
        self._silent: dict[Contact, tuple[float, DsnError]] = {}
        self._regions = Regions()

    # contacts

    def contact(self, node: NodeId) -> Contact | None:
        """Where ``node`` was last seen, or said to be."""
        entry = self.book.get(node)
        return self.proven.get(node) or self._heard.get(node) or (entry.contact if entry else None)

    def known(self) -> list[Contact]:
        """Every contact that answered or was named in this session."""
        return list({**self._heard, **self.proven}.values())

    def seeds(self) -> list[Contact]:
        """Whom to begin with: the address book's best, then the network file's contacts."""
        best = self.book.best(SEEDS, self._clock.now_s())
        chosen = {each.node_id: each for each in (*self.network.contacts, *best)}
        chosen.pop(self.table.me, None)
        return list(chosen.values())

    def nobody(self) -> DsnError:
        """The error when no known node lets this one in.

        That all of them are on another network is worth more than that none was reached.
        """
        errors = [error for _, error in self._silent.values()]
        for error in errors:
            if isinstance(error, ConfigError):
                return error
        reason = f" ({errors[-1].message})" if errors else ""
        return Unreachable(
            f"none of {len(self.seeds())} known nodes answered{reason}",
            hint="see dsn doctor --net; a local network: dsn devnet up",
        )

    def hear(self, contact: Contact) -> None:
        """Note what somebody says of a node; the newest word counts."""
        _note(self._heard, contact)

    async def call(
        self, method: str, contact: Contact, ask: Callable[[DhtPeer], Awaitable[_Result]]
    ) -> _Result | None:
        """Ask one contact something; ``None`` if it does not answer, or not as it must."""
        now_s = self._clock.monotonic_s()
        if contact in self._silent and now_s < self._silent[contact][0]:
            return None
        self.calls[method] += 1
        try:
            result = await ask(DhtPeer(self._connections.line(contact), self.address, HARD_S))
        except DsnError as error:
            self._failed(contact, error)
            return None
        answered_s = self._clock.monotonic_s()
        self._silent.pop(contact, None)
        self.book.good(contact, answered_s - now_s, self._clock.now_s())
        await self.seen(contact)
        return result

    def forgive(self) -> None:
        """Let every contact be asked again, however lately it was silent."""
        self._silent.clear()

    async def ping(self, contact: Contact) -> bool:
        """Whether ``contact`` answers as itself."""
        return await self.call("Ping", contact, DhtPeer.ping) is not None

    async def greet(self, contact: Contact) -> bool:
        """Call back a node that has just called, and says that it serves at ``contact``."""
        self._silent.pop(contact, None)
        return await self.ping(contact)

    async def seen(self, contact: Contact) -> None:
        """Note that ``contact`` proved itself; whoever it would replace is pinged first."""
        _note(self.proven, contact)
        oldest = self.table.seen(contact)
        if oldest is not None:
            await self.ping(oldest)

    def _failed(self, contact: Contact, error: DsnError) -> None:
        node, entry = contact.node_id, self.book.get(contact.node_id)
        # Silence at an address that somebody else named says nothing of the one that is known.
        if self.table.get(node) in (None, contact):
            self.table.failed(node)
        if self.proven.get(node) == contact:
            del self.proven[node]
        if entry is not None and entry.contact == contact:
            self.book.failed(node, self._clock.now_s())
        self._regions.forget(contact)
        # What led to it holds the connection, which must not stay open as long as it is known.
        error.__cause__ = error.__context__ = None
        bare = error.with_traceback(None)
        self._silent[contact] = (self._clock.monotonic_s() + SILENT_S, bare)
        if len(self._silent) > MOST_HEARD:
            del self._silent[next(iter(self._silent))]
        if isinstance(error, TransportError):
            self._connections.forget(contact)

    # searches

    async def find_nodes(self, target: bytes, via: Iterable[Contact] = ()) -> Search:
        """Find the nodes nearest to ``target``, beginning with ``via`` as well."""

        async def ask(peer: DhtPeer) -> Answer:
            return Answer(await peer.find_node(target), [])

        return await self._search("FindNode", target, ask, via, paths=1, values=False)

    async def name(self, contact: Contact, target: bytes) -> list[Contact] | None:
        """Whom ``contact`` names near ``target``; ``None`` if it is silent."""
        named = await self.call("FindNode", contact, lambda peer: peer.find_node(target))
        for each in named or ():
            self.hear(each)
        return named

    async def find_records(self, key: bytes, *, paths: int = PATHS) -> Search:
        """Find what is kept under ``key``; ends as soon as every path has a valid record."""
        if key == self.table.me and self.own is not None:
            return Search(Lookup(key, (), me=self.table.me), self.judge(key, [self.own()]))

        async def ask(peer: DhtPeer) -> Answer:
            values = await peer.find_value(key)
            return Answer(values.contacts, self.judge(key, values.records))

        return await self._search("FindValue", key, ask, (), paths=paths, values=True)

    def judge(self, key: bytes, raws: Iterable[bytes]) -> list[Record]:
        """Those of ``raws`` (untrusted) that stand under ``key`` and may be believed."""
        good: list[Record] = []
        for raw in raws:
            try:
                record = parse_record(raw)
                if record.key == key:
                    verify(record, self.network.network_id, self._clock.now_s())
                    good.append(record)
            except PeerError:
                continue  # it counts as none; clocks differ, so its keeper may mean well
        return good

    async def locate(self, node: NodeId) -> Contact | None:
        """Where ``node`` says it is, by its own newest record."""
        record = (await self.find_records(node)).newest
        if not isinstance(record, NodeRecord) or not record.contacts:
            return None
        self.hear(record.contacts[0])
        return record.contacts[0]

    async def _search(
        self,
        method: str,
        target: bytes,
        ask: Callable[[DhtPeer], Awaitable[Answer]],
        via: Iterable[Contact],
        *,
        paths: int,
        values: bool,
    ) -> Search:
        start = [*via, *self.table.closest(target)]
        if len(start) < BUCKET_SIZE:
            start += self.seeds()
        unique = {each.node_id: each for each in reversed(start)}.values()
        lookup = Lookup(
            target,
            nearest(unique, target, len(unique)),
            me=self.table.me,
            values=values,
            paths=paths,
        )
        records: list[Record] = []

        async def answer(contact: Contact) -> Answer | None:
            return await self.call(method, contact, ask)

        await self._drive(lookup, answer, records)
        return Search(lookup, records)

    async def _drive(
        self,
        lookup: Lookup,
        answer: Callable[[Contact], Awaitable[Answer | None]],
        records: list[Record],
    ) -> None:
        """Carry out ``lookup``: ask, report, and wake it when a soft timeout is due."""
        now_s = self._clock.monotonic_s
        tasks: dict[asyncio.Future[Answer | None], Contact] = {}

        def launch(asks: Sequence[Ask]) -> None:
            for each in asks:
                tasks[asyncio.ensure_future(answer(each.contact))] = each.contact

        launch(lookup.start(now_s()))
        try:
            while tasks and not lookup.done:
                due_s = lookup.next_s
                done, _ = await asyncio.wait(
                    tasks,
                    timeout=None if due_s is None else max(0.0, due_s - now_s()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    launch(self._report(lookup, tasks.pop(task), task.result(), records))
                if not done:
                    launch(lookup.tick(now_s()))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _report(
        self, lookup: Lookup, contact: Contact, answer: Answer | None, records: list[Record]
    ) -> list[Ask]:
        now_s = self._clock.monotonic_s()
        if answer is None:
            return lookup.failed(contact.node_id, now_s)
        for each in answer.contacts:
            self.hear(each)
        records += answer.records
        return lookup.answered(contact.node_id, answer.contacts, len(answer.records), now_s)

    async def region(self, key: bytes) -> Region:
        """The region that ``key`` lies in, looked up if no recent lookup settles it."""
        known = self._regions.of(key, self._clock.monotonic_s())
        if known is not None:
            return known
        search = await self.find_nodes(key)
        region = region_of(key, search.lookup.closest())
        if region.nodes:
            self._regions.add(region, self._clock.monotonic_s())
        return region

    def met(self, nodes: Sequence[Contact], *, everybody: bool) -> None:
        """Note that ``nodes`` answered a call of another service.

        If they are ``everybody`` that answers, it is known for a while who keeps what.
        """
        for each in nodes:
            _note(self.proven, each)
        if everybody:
            self._regions.add_all(nodes, self._clock.monotonic_s())

    def forget_regions(self) -> None:
        """Look up anew who keeps what: others may have come since."""
        self._regions = Regions()

    # upkeep

    async def run(self, steps: Steps) -> None:
        """Carry out one of the tasks of ``machines.upkeep``."""
        try:
            step = next(steps)
            while True:
                step = steps.send(await self._step(step))
        except StopIteration:
            return

    async def _step(self, step: Step) -> list[Contact]:
        match step:
            case Find(target, via):
                return (await self.find_nodes(target, via)).lookup.closest()
            case Visit(contact, target):
                return await self.name(contact, target) or []
            case Tell(contact, hint):
                await self.call("Ping", contact, lambda peer: peer.ping(hint=hint))
                return []


def _note(contacts: OrderedDict[NodeId, Contact], contact: Contact) -> None:
    """Put ``contact`` last; of too many, the first goes."""
    contacts[contact.node_id] = contact
    contacts.move_to_end(contact.node_id)
    if len(contacts) > MOST_HEARD:
        contacts.popitem(last=False)
