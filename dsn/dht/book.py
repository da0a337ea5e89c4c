"""The address book: nodes that were good, and nodes merely heard of, kept from run to run.

As in Bitcoin's address manager, hearing of a node costs a liar nothing, so what is only heard
gets few places and few of them a subnet; a place among the tried is for those alone who
proved their key at their address. A book that is full gives up its worst, so a flood of
newcomers competes with itself before it pushes out anybody who served well.

Spec: docs/guide/getting-in.md#the-address-book.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import ConfigDict, Field, StrictBool, TypeAdapter, ValidationError
from pydantic_core import from_json

from dsn.dht.contact import Contact, subnet_of
from dsn.ids import NodeId, format_base32

Source = Literal["lan", "file", "dns", "peer", "bittorrent"]
"""Where a contact came from; of two, the one that stands first is kept."""
SOURCES: Final[tuple[Source, ...]] = get_args(Source)

MOST_NEW: Final = 1_024
MOST_TRIED: Final = 1_024
SUBNET_MOST: Final = 8
"""New entries of one /24 (v6 /48)."""
NEW_FAILURES: Final = 3
"""Failures after which an entry that never was good is forgotten."""
FORGET_S: Final = 30 * 86_400
"""An entry that fails and was not good for so long is forgotten."""
EPISODE_S: Final = 600
"""Outcomes alike in the same ten minutes of the clock count once: a busy hour is no history."""
HALF_LIFE_S: Final = 7 * 86_400
"""What happened so long ago says half as much."""
MEMORY: Final = 64
"""Outcomes remembered; beyond, both counts are halved, so that a node can change."""
UNKNOWN_SCORE: Final = 0.5
_LATENCY_WEIGHT: Final = 0.25
_VERSION: Final = 1

_Seconds = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(strict=True, ge=0, le=MEMORY)]


@dataclass(frozen=True, slots=True)
class Entry:
    """One node as this home knows it; times are Unix seconds, 0 for never."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    contact: Contact
    source: Source
    tried: StrictBool = False
    last_good_s: _Seconds = 0.0
    last_asked_s: _Seconds = 0.0
    successes: _Count = 0
    failures: _Count = 0
    latency_s: _Seconds = 0.0
    """A moving mean over its answers."""

    @property
    def failing(self) -> bool:
        """Whether it did not answer when last asked."""
        return self.last_asked_s > self.last_good_s

    def score(self, now_s: float) -> float:
        """How likely it answers, in (0, 1): the rule of succession over what is remembered.

        Without a history, or after a long time, it is ``UNKNOWN_SCORE``.
        """
        weight: float = 0.5 ** (max(0.0, now_s - self.last_asked_s) / HALF_LIFE_S)
        asked = self.successes + self.failures
        return (self.successes * weight + 1) / (asked * weight + 2)

    def answered(self, contact: Contact, latency_s: float, now_s: float) -> Entry:
        """This entry after it proved itself at the address of ``contact``."""
        change = (latency_s - self.latency_s) * (_LATENCY_WEIGHT if self.tried else 1)
        again = self.successes and not self.failing and _alike(self.last_good_s, now_s)
        return replace(
            self._counted(successes=0 if again else 1),
            contact=contact,
            tried=True,
            last_good_s=_milliseconds(now_s),
            last_asked_s=_milliseconds(now_s),
            latency_s=round(self.latency_s + change, 6),
        )

    def silent(self, now_s: float) -> Entry:
        """This entry after it did not answer."""
        again = self.failing and _alike(self.last_asked_s, now_s)
        counted = self._counted(failures=0 if again else 1)
        return replace(counted, last_asked_s=_milliseconds(now_s))

    def hopeless(self, now_s: float) -> bool:
        """Whether it is not worth its place, after it did not answer."""
        if self.tried:
            return now_s - self.last_good_s > FORGET_S
        return self.failures >= NEW_FAILURES

    def _counted(self, *, successes: int = 0, failures: int = 0) -> Entry:
        successes, failures = self.successes + successes, self.failures + failures
        if successes + failures > MEMORY:
            successes, failures = successes // 2, failures // 2
        return replace(self, successes=successes, failures=failures)


_ENTRY: Final = TypeAdapter(Entry)


class AddressBook:
    """At most 1,024 nodes that were good and as many that were only heard of."""

    __slots__ = ("_new", "_subnet_limits", "_subnets", "_tried")

    def __init__(self, *, subnet_limits: bool = True) -> None:
        """Start empty; ``subnet_limits`` is off where all nodes share addresses (loopback)."""
        self._tried: dict[NodeId, Entry] = {}
        self._new: dict[NodeId, Entry] = {}
        self._subnets: Counter[str] = Counter()
        self._subnet_limits = subnet_limits

    def __len__(self) -> int:
        """How many nodes it names."""
        return len(self._tried) + len(self._new)

    def __iter__(self) -> Iterator[Entry]:
        """Every entry, the tried ones first."""
        return chain(self._tried.values(), self._new.values())

    def get(self, node: NodeId) -> Entry | None:
        """What is known of ``node``."""
        return self._tried.get(node) or self._new.get(node)

    def score(self, node: NodeId, now_s: float) -> float:
        """How likely ``node`` answers by what it did so far, in (0, 1); 0.5 is unknown."""
        entry = self.get(node)
        return entry.score(now_s) if entry else UNKNOWN_SCORE

    def best(self, count: int, now_s: float) -> list[Contact]:
        """The ``count`` contacts to ask first: the tried, then the new, then those that fail.

        Cost: O(n log n) in the number of entries.
        """
        ranked = sorted(self, key=lambda entry: _rank(entry, now_s))
        return [entry.contact for entry in ranked[:count]]

    def heard(self, contact: Contact, source: Source, now_s: float) -> None:
        """Note that ``source`` names ``contact`` (untrusted).

        Another address of a known node is believed only once it fails at the one it has: it may
        have moved, and whoever answers there has to prove its key.
        """
        known = self.get(contact.node_id)
        if known is None:
            self._enter(Entry(contact, source), now_s)
        elif known.contact == contact or (known.tried and known.failing):
            first = min(source, known.source, key=SOURCES.index)
            self._keep(replace(known, contact=contact, source=first))

    def good(self, contact: Contact, latency_s: float, now_s: float) -> None:
        """Note that ``contact`` proved itself; a new address replaces the old one.

        Args:
            contact: Who answered, and where.
            latency_s: From the question to the answer.
            now_s: Unix seconds.
        """
        known = self.get(contact.node_id) or Entry(contact, "peer")
        if not known.tried:
            self._forget(known)
            if len(self._tried) >= MOST_TRIED:
                self._forget(_worst(self._tried, now_s))
        self._keep(known.answered(contact, latency_s, now_s))

    def failed(self, node: NodeId, now_s: float) -> None:
        """Note that ``node`` did not answer at the address it has here."""
        known = self.get(node)
        if known is None:
            return
        entry = known.silent(now_s)
        if entry.hopeless(now_s):
            self._forget(entry)
        else:
            self._keep(entry)

    def encode(self) -> bytes:
        """JSON text, one line a node, for ``decode`` and for people."""
        lines = ",\n".join(json.dumps(_plain(entry)) for entry in self)
        return f'{{"version": {_VERSION}, "nodes": [\n{lines}\n]}}\n'.encode()

    @classmethod
    def decode(cls, raw: bytes, *, subnet_limits: bool = True) -> Self:
        """Read what ``encode`` wrote; entries that are wrong are left out.

        Args:
            raw: Untrusted. A file that is no address book gives an empty one: a node gets in
                without, and a broken file must not keep it out.
            subnet_limits: As for a new book.
        """
        book = cls(subnet_limits=subnet_limits)
        for item in _items(raw):
            try:
                entry = _ENTRY.validate_python(item)
            except ValidationError:
                continue
            if book.get(entry.contact.node_id) is not None:
                continue
            if not entry.tried:
                book._enter(entry, now_s=0)
            elif len(book._tried) < MOST_TRIED:
                book._keep(entry)
        return book

    def _enter(self, entry: Entry, now_s: float) -> None:
        """Give a new entry a place, if it is a better one than the worst that has one."""
        if self._subnet_limits and self._subnets[_subnet(entry)] >= SUBNET_MOST:
            return
        if len(self._new) >= MOST_NEW:
            worst = _worst(self._new, now_s)
            if _rank(entry, now_s) >= _rank(worst, now_s):
                return
            self._forget(worst)
        self._subnets[_subnet(entry)] += 1
        self._keep(entry)

    def _keep(self, entry: Entry) -> None:
        table = self._tried if entry.tried else self._new
        table[entry.contact.node_id] = entry

    def _forget(self, entry: Entry) -> None:
        if self._new.pop(entry.contact.node_id, None):
            self._subnets[_subnet(entry)] -= 1
        self._tried.pop(entry.contact.node_id, None)


def _rank(entry: Entry, now_s: float) -> tuple[int, float, int]:
    """Sorts entries, best first."""
    group = 2 if entry.failing else 0 if entry.tried else 1
    return group, -entry.score(now_s), SOURCES.index(entry.source)


def _worst(table: dict[NodeId, Entry], now_s: float) -> Entry:
    return max(table.values(), key=lambda entry: _rank(entry, now_s))


def _subnet(entry: Entry) -> str:
    return subnet_of(entry.contact.host)


def _alike(a_s: float, b_s: float) -> bool:
    """Whether two moments count as one."""
    return a_s // EPISODE_S == b_s // EPISODE_S


def _milliseconds(now_s: float) -> float:
    """Exact enough, and short in a file."""
    return round(now_s, 3)


def _plain(entry: Entry) -> dict[str, Any]:
    contact = {
        "public_key": format_base32(entry.contact.public_key),
        "address": entry.contact.address,
    }
    return {name: getattr(entry, name) for name in Entry.__slots__} | {"contact": contact}


def _items(raw: bytes) -> list[object]:
    try:
        document = from_json(raw)  # bounds depth by itself, whatever the interpreter's limit is
    except ValueError:
        return []
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        return []
    nodes = document.get("nodes")
    return nodes if isinstance(nodes, list) else []
