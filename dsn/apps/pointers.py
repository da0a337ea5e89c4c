"""Publishing what a session stores: to those who hold it, and to the DHT in batches."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dsn.apps.announce import STALE, announce
from dsn.apps.nodes import ANSWER_S, Nodes, ask
from dsn.dht.record import Record, newer
from dsn.errors import PeerError, Unreachable
from dsn.ids import NodeId


class Pointers:
    """The records of one session."""

    def __init__(self, nodes: Nodes) -> None:
        """Publish through ``nodes``."""
        self._nodes = nodes
        self._waiting: dict[bytes, tuple[Record, frozenset[NodeId]]] = {}

    def add(self, record: Record, holders: Iterable[NodeId]) -> None:
        """Have ``record`` published with the next ``flush``; its ``holders`` have it already."""
        key = bytes(record.key)
        waiting = self._waiting.get(key)
        if waiting is None or newer(record, waiting[0]):
            self._waiting[key] = (record, frozenset(holders))

    async def hold(self, record: Record, holders: Collection[NodeId]) -> None:
        """Hand ``record`` to those who hold what it points to; they publish it from then on.

        Raises:
            Unreachable: Not one of them took it.
        """
        raw = record.encode()

        async def put(node: NodeId) -> None:
            peer = self._nodes.peer(node)
            refused = await peer.put_pointers([raw], timeout_s=ANSWER_S)
            if (code := refused.get(0, STALE)) != STALE:
                raise PeerError(f"{peer.name} refuses it: {code}", code=code, peer=peer.name)

        answers = await ask({node: put(node) for node in holders}, enough=len(holders))
        self._nodes.late.update(answers.failed)
        if not answers and holders:
            reasons = {error.message for error in answers.failed.values()}
            raise Unreachable(f"no holder took the record: {'; '.join(sorted(reasons))}")
        self.add(record, answers)

    async def flush(self) -> None:
        """Have the nodes near each key keep what waits.

        Raises:
            Unreachable: ``not_published``: a record that nobody keeps would never be found.
        """
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        records = {key: record.encode() for key, (record, _) in waiting.items()}
        told = {key: holders for key, (_, holders) in waiting.items()}
        done = await announce(self._nodes.dht, records, told)
        lost = [key for key in records if not done.keepers[key]]
        if lost:
            why = ", ".join(sorted(done.refused)) or "no node answers"
            raise Unreachable(
                f"{len(lost)} of {len(records)} records found no keeper ({why})",
                hint="try again in a while",
                code="not_published",
            )
