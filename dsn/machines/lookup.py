"""Finding what is nearest to a key: Kademlia's iterative lookup, over one path or several.

Sans-I/O: the driver carries out each ``Ask`` and reports how it went; every input returns
what to ask next. Timeouts, not hops, set how long a lookup takes, so a contact that is slow
(soft timeout) stops counting against the parallelism long before it is given up (hard
timeout, the driver's).

With several paths no contact is asked by two of them (S/Kademlia, Baumgart and Mies, 2007):
liars on one path cannot lead the others astray.

Spec: docs/spec/network.md#lookups.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Final

from dsn.dht.contact import Contact
from dsn.dht.distance import distance, nearest
from dsn.dht.routing import BUCKET_SIZE
from dsn.ids import NodeId

PARALLELISM: Final = 3
"""Kademlia's alpha: questions under way on one path."""
SOFT_S: Final = 0.2
"""After this without an answer another contact is asked as well."""
HARD_S: Final = 1.0
"""After this the driver reports a contact as failed."""
PATHS: Final = 4
"""Disjoint paths of a lookup whose result must not be one liar's to choose."""
ADDRESSES: Final = 3
"""Addresses tried of one node: it may have moved, but it is not everywhere."""


class Outcome(Enum):
    """What became of one question."""

    ASKED = "asked"
    ANSWERED = "answered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask ``contact`` for what it knows nearest to the target."""

    contact: Contact


@dataclass(slots=True)
class Hop:
    """One question of a lookup; times are the driver's clock, ``depth`` counts from 1."""

    contact: Contact
    path: int
    depth: int
    asked_s: float
    ended_s: float = 0.0
    outcome: Outcome = Outcome.ASKED
    values: int = 0


@dataclass(slots=True)
class _Known:
    """A node that a path has heard of; more than one contact when its address is disputed."""

    depth: int
    contacts: list[Contact]
    tried: int = 0
    hop: Hop | None = None

    @property
    def failed(self) -> bool:
        """Whether it did not answer at any of its addresses."""
        failed = self.hop is not None and self.hop.outcome is Outcome.FAILED
        return failed and self.tried == len(self.contacts)

    @property
    def askable(self) -> bool:
        """Whether it was not asked yet, or only at another address."""
        idle = self.hop is None or self.hop.outcome is Outcome.FAILED
        return idle and self.tried < len(self.contacts)


@dataclass(slots=True)
class _Path:
    """The nodes that one path may ask, nearest to the target first."""

    ranked: list[tuple[int, NodeId]] = field(default_factory=list)
    known: dict[NodeId, _Known] = field(default_factory=dict)
    busy: dict[NodeId, bool] = field(default_factory=dict)
    """Nodes asked and not heard of yet; true once the soft timeout has passed."""
    found: bool = False
    done: bool = False
    """For good if it found a value; else until somebody names another node or address for it."""


class Lookup:
    """One search for ``target``.

    It ends when every path has asked the ``bucket_size`` nearest nodes it knows and all have
    answered or failed, or, when ``values`` are sought, as soon as each path has one.
    """

    def __init__(
        self,
        target: bytes,
        start: Sequence[Contact],
        *,
        me: NodeId,
        values: bool = False,
        paths: int = 1,
        parallelism: int = PARALLELISM,
        bucket_size: int = BUCKET_SIZE,
        soft_s: float = SOFT_S,
    ) -> None:
        """Search from ``start``, nearest first.

        Args:
            target: 32 bytes.
            start: Contacts to begin with, dealt to the paths in turn; a path that gets none
                begins with what the others hear.
            me: Who searches; never asked.
            values: Whether an answer may hold what is sought.
            paths: Disjoint paths.
            parallelism: Questions under way on each path.
            bucket_size: Nearest nodes that a path must have asked.
            soft_s: Seconds after which a contact counts as slow.
        """
        self.target = target
        self.hops: list[Hop] = []
        self._me, self._values = me, values
        self._parallelism, self._size, self._soft_s = parallelism, bucket_size, soft_s
        self._paths = [_Path() for _ in range(paths)]
        self._owner: dict[NodeId, _Path] = {}
        for at, contact in enumerate(start):
            self._hear(self._paths[at % paths], contact, 1)

    @property
    def done(self) -> bool:
        """Whether nothing more will be asked."""
        return all(path.done for path in self._paths)

    @property
    def next_s(self) -> float | None:
        """When ``tick`` is due: the next soft timeout."""
        waiting = (
            path.known[node].hop
            for path in self._paths
            if not path.done
            for node, slow in path.busy.items()
            if not slow
        )
        return min((hop.asked_s + self._soft_s for hop in waiting if hop), default=None)

    @property
    def depth(self) -> int:
        """The longest chain of answers."""
        return max((hop.depth for hop in self.hops if hop.outcome is Outcome.ANSWERED), default=0)

    def closest(self) -> list[Contact]:
        """The nearest nodes that answered, at most ``bucket_size``, nearest first."""
        answered = [
            (gap, known.hop.contact)
            for path in self._paths
            for gap, node in path.ranked
            if (known := path.known[node]).hop and known.hop.outcome is Outcome.ANSWERED
        ]
        answered.sort(key=lambda each: each[0])
        return [contact for _, contact in answered[: self._size]]

    def start(self, now_s: float) -> list[Ask]:
        """The first questions."""
        return self._asks(now_s)

    def answered(
        self, node: NodeId, contacts: Iterable[Contact], values: int, now_s: float
    ) -> list[Ask]:
        """Take an answer: whom ``node`` knows nearer, and how many values it gave.

        Args:
            node: Who was asked; an answer nobody waits for changes nothing.
            contacts: Untrusted, of any number; the nearest ``bucket_size`` nodes count, each
                at one address.
            values: Valid ones only; the driver has judged them.
            now_s: The driver's clock.
        """
        path = self._ended(node, Outcome.ANSWERED, now_s)
        if path is None:
            return []
        hop = path.known[node].hop
        assert hop is not None
        hop.values = values
        if values and self._values:
            path.found = path.done = True
            return []
        named = {each.node_id: each for each in contacts}.values()
        for contact in nearest(named, self.target, self._size):
            self._hear(path, contact, hop.depth + 1)
        return self._asks(now_s)

    def failed(self, node: NodeId, now_s: float) -> list[Ask]:
        """Note that ``node`` did not answer; at another address it may."""
        path = self._ended(node, Outcome.FAILED, now_s)
        return [] if path is None else self._asks(now_s)

    def tick(self, now_s: float) -> list[Ask]:
        """Let contacts that are past the soft timeout count no more."""
        for path in self._paths:
            for node, slow in path.busy.items():
                hop = path.known[node].hop
                if not slow and hop and now_s >= hop.asked_s + self._soft_s:
                    path.busy[node] = True
        return self._asks(now_s)

    def _hear(self, path: _Path, contact: Contact, depth: int) -> None:
        """Note a contact; whoever heard of it first asks it, at any of its addresses."""
        node = contact.node_id
        if node == self._me:
            return
        if node not in self._owner:
            self._owner[node] = next((each for each in self._paths if not each.known), path)
        owner = self._owner[node]
        known = owner.known.get(node)
        if known is None:
            owner.known[node] = _Known(depth, [contact])
            insort(owner.ranked, (distance(node, self.target), node))
        elif contact not in known.contacts and len(known.contacts) < ADDRESSES:
            known.contacts.append(contact)

    def _ended(self, node: NodeId, outcome: Outcome, now_s: float) -> _Path | None:
        """Close the question to ``node``; ``None`` if there is none, or its path has ended."""
        path = self._owner.get(node)
        if path is None or node not in path.busy:
            return None
        del path.busy[node]
        hop = path.known[node].hop
        assert hop is not None
        hop.outcome, hop.ended_s = outcome, now_s
        return None if path.found else path

    def _asks(self, now_s: float) -> list[Ask]:
        """What each path may ask now; a path with nothing to ask or wait for is done."""
        asks: list[Ask] = []
        for number, path in enumerate(self._paths):
            if path.found:
                continue
            room = self._parallelism - sum(not slow for slow in path.busy.values())
            for node, known in islice(self._unasked(path), max(0, room)):
                known.hop = Hop(known.contacts[known.tried], number, known.depth, now_s)
                known.tried += 1
                self.hops.append(known.hop)
                path.busy[node] = False
                asks.append(Ask(known.hop.contact))
            path.done = not path.busy
        return asks

    def _unasked(self, path: _Path) -> Iterator[tuple[NodeId, _Known]]:
        """Nodes to ask, nearest first, among the ``bucket_size`` nearest that have not failed."""
        left = self._size
        for _, node in path.ranked:
            known = path.known[node]
            if known.failed:
                continue
            if known.askable:
                yield node, known
            left -= 1
            if not left:
                return
