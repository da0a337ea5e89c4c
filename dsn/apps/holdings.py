"""What this client holds on each node, and the revisions that both sides sign over it.

The client journals a revision before it sends it and never signs two contents for one
number: after a crash it first sends the journalled bytes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dsn.apps.nodes import Nodes
from dsn.core.codec import Reader, Writer
from dsn.core.keys import SigningKey
from dsn.errors import DealMismatch, DsnError, InvalidSignature, NotFound, PeerError
from dsn.ids import ID_BYTES, NO_DEAL, Commit, NodeId, format_node_id, short
from dsn.ledger.revision import (
    Parties,
    Revision,
    first_revision,
    next_revision,
    sign_revision,
    verify_client_signature,
    verify_node_signature,
)
from dsn.proofs.inventory import SumTree, holdings, holdings_leaf
from dsn.store.files import write_atomic
from dsn.v1 import node_pb2, types_pb2
from dsn.wire.convert import holdings_from_wire, holdings_to_wire

PAGE_ENTRIES = 16_384
MAX_CHANGES = 16_384
"""Commits in one revision request: half a message."""


@dataclass(slots=True)
class Held:
    """What both sides last signed for one node, and what is to change."""

    base: Revision
    tree: SumTree
    leaves: dict[Commit, int]
    add: dict[Commit, int] = field(default_factory=dict)
    drop: set[Commit] = field(default_factory=set)


class Holdings:
    """The newest revision and the holdings of every node, kept in one folder."""

    def __init__(self, folder: Path, nodes: Nodes, identity: SigningKey) -> None:
        """Keep state in ``folder``; sign as ``identity``."""
        self._folder, self._nodes, self._identity = folder, nodes, identity
        self._add: dict[NodeId, dict[Commit, int]] = {}
        self._drop: dict[NodeId, set[Commit]] = {}
        self._loaded: dict[NodeId, Held] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._load_drops()

    def add(self, node: NodeId, commit: Commit, leaves: int) -> None:
        """Note a shard that the next revision with ``node`` is to name."""
        self._add.setdefault(node, {})[commit] = leaves

    def drop(self, node: NodeId, commits: Iterable[Commit]) -> None:
        """Note shards that the next revision with ``node`` is to let go."""
        added = self._add.get(node, {})
        for commit in commits:
            added.pop(commit, None)
            self._drop.setdefault(node, set()).add(commit)

    def discard(self, node: NodeId, *, moved: bool) -> None:
        """Forget what was to be added on a node that was given up.

        Args:
            node: Which.
            moved: Whether other nodes hold it now; then this one is told to let go when it is
                back. Else it expires there in its own time.
        """
        added = self._add.pop(node, {})
        if moved:
            self.drop(node, added)

    def added(self, node: NodeId) -> Mapping[Commit, int]:
        """Shards that wait for a revision with ``node``, by commit: leaf counts."""
        return self._add.get(node, {})

    @property
    def changed(self) -> list[NodeId]:
        """Nodes that a revision is due with."""
        return [node for node in {**self._add, **self._drop} if self._due(node)]

    def _due(self, node: NodeId) -> bool:
        return bool(self._add.get(node) or self._drop.get(node))

    async def revise(self, node: NodeId) -> None:
        """Sign all noted changes with ``node``.

        Raises:
            DsnError: The node is away or does not agree; the changes stay noted.
        """
        while self._due(node):
            add = dict(list(self._add.get(node, {}).items())[:MAX_CHANGES])
            drop = sorted(self._drop.get(node, ()))[:MAX_CHANGES]
            try:
                await self._change(node, add, drop)
            except DealMismatch:  # this person revised from another home: go on from there
                await self._change(node, add, drop)
            for commit in add:
                self._add[node].pop(commit, None)
            self._drop.get(node, set()).difference_update(drop)
            self.save_drops()

    async def _change(self, node: NodeId, add: Mapping[Commit, int], drop: list[Commit]) -> None:
        held = self._loaded.get(node) or await self._load(node)
        try:
            await self._revise_once(node, held, add, drop)
        except NotFound:  # pending shards expired there, or were never finished
            await self._revise_once(node, held, add, [c for c in drop if c in held.leaves])

    async def _revise_once(
        self, node: NodeId, held: Held, add: Mapping[Commit, int], drop: list[Commit]
    ) -> None:
        tree = held.tree
        for commit, leaves in add.items():
            tree = tree.insert(commit, holdings_leaf(commit, leaves), leaves)
        for commit in drop:
            if commit in held.leaves:
                tree = tree.remove(commit)
        revision = next_revision(held.base, tree)
        request = node_pb2.ReviseRequest(
            revision=self._to_wire(node, revision), add=list(add), drop=drop
        )
        write_atomic(self._journal(node), request.SerializeToString(), 0o600)
        try:
            await self._send(node, request, revision)
        except DealMismatch:
            self._journal(node).unlink(missing_ok=True)
            self._loaded.pop(node, None)
            await self._fetch(node)
            raise
        held.base, held.tree = revision, tree
        held.leaves.update(add)
        for commit in drop:
            held.leaves.pop(commit, None)
        self._store(node, held)

    async def _send(
        self, node: NodeId, request: node_pb2.ReviseRequest, revision: Revision
    ) -> None:
        reply = await self._nodes.peer(node).revise(request)
        verify_node_signature(revision, self._parties(node), reply.revision.node_signature)

    def _parties(self, node: NodeId) -> Parties:
        public = self._nodes.contact(node).public_key
        return Parties(self._nodes.network.network_id, public, self._identity.public)

    def _to_wire(self, node: NodeId, revision: Revision) -> types_pb2.Revision:
        signature = sign_revision(revision, self._parties(node), self._identity.sign)
        return types_pb2.Revision(
            deal=revision.deal,
            number=revision.number,
            shards=revision.shards,
            leaves=revision.leaves,
            holdings_root=revision.root,
            client_signature=signature,
        )

    def _file(self, node: NodeId) -> Path:
        return self._folder / f"{format_node_id(node)}.held"

    def _journal(self, node: NodeId) -> Path:
        return self._folder / f"{format_node_id(node)}.next"

    async def _load(self, node: NodeId) -> Held:
        """What this home remembers; else, after ``recover``, what the node has signed by us."""
        if self._journal(node).exists() or not self._file(node).exists():
            await self._fetch(node)
        else:
            reader = Reader(self._file(node).read_bytes(), "holdings file")
            number, shards, leaves = reader.u64(), reader.u64(), reader.u64()
            base = Revision(NO_DEAL, number, shards, leaves, reader.raw(ID_BYTES))
            entries = reader.raw(reader.left)
            self._loaded[node] = _held(base, entries)
        return self._loaded[node]

    def _store(self, node: NodeId, held: Held) -> None:
        base = held.base
        writer = Writer().u64(base.number).u64(base.shards).u64(base.leaves).raw(base.root, 32)
        entries = holdings_to_wire(sorted(held.leaves.items()))
        write_atomic(self._file(node), writer.done() + entries, 0o600)
        self._journal(node).unlink(missing_ok=True)

    async def _fetch(self, node: NodeId) -> None:
        """Settle an interrupted revision, then take what the node has signed by us."""
        journal = self._journal(node)
        if journal.exists():
            request = node_pb2.ReviseRequest.FromString(journal.read_bytes())
            with suppress(DealMismatch, NotFound):  # never taken: the node's newest tells
                await self._nodes.peer(node).revise(request)
        peer, entries, after, more = self._nodes.peer(node), b"", b"", True
        newest = types_pb2.Revision()
        while more:
            reply = await peer.get_revision(NO_DEAL, after=after, limit=PAGE_ENTRIES)
            page = holdings_from_wire(reply.holdings)
            if page and page[0][0] <= after:
                name = format_node_id(node)
                raise PeerError(f"{short(node)} lists its holdings in circles", peer=name)
            entries, newest = entries + reply.holdings, reply.revision
            more, after = reply.more and bool(page), page[-1][0] if page else after
        held = _held(self._checked(node, newest), entries)
        if held.tree.root != held.base.root:
            raise PeerError(
                f"{short(node)} lists other holdings than it signed", peer=format_node_id(node)
            )
        self._loaded[node] = held
        self._store(node, held)

    def _checked(self, node: NodeId, wire: types_pb2.Revision) -> Revision:
        if wire.number == 0:
            return first_revision(NO_DEAL)
        revision = Revision(NO_DEAL, wire.number, wire.shards, wire.leaves, wire.holdings_root)
        try:
            verify_client_signature(revision, self._parties(node), wire.client_signature)
        except DsnError as error:
            raise InvalidSignature(
                f"{short(node)} shows a revision that we never signed", peer=format_node_id(node)
            ) from error
        return revision

    def _load_drops(self) -> None:
        path = self._folder / "drops"
        if path.exists():
            reader = Reader(path.read_bytes(), "drops file")
            while reader.left:
                node, count = NodeId(reader.raw(ID_BYTES)), reader.u32()
                self._drop[node] = {Commit(reader.raw(ID_BYTES)) for _ in range(count)}

    def save_drops(self) -> None:
        """Keep what nodes are still to be told, so that a later command tells them."""
        path, writer = self._folder / "drops", Writer()
        for node, commits in self._drop.items():
            if commits:
                writer.raw(node, ID_BYTES).u32(len(commits))
                for commit in sorted(commits):
                    writer.raw(commit, ID_BYTES)
        data = writer.done()
        if data or path.exists():
            write_atomic(path, data, 0o600)


def _held(base: Revision, entries: bytes) -> Held:
    leaves = dict(holdings_from_wire(entries))
    return Held(base, holdings(leaves.items()), leaves)
