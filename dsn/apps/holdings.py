"""What this client holds on each node, and the revisions that both sides sign over it.

The client journals a revision before it sends it and never signs two contents for one
number: after a crash it first sends the journalled bytes again. Where nodes are paid, revisions
are under the deal that is open with a node; what was held under one that is over is forgotten.

A revision that only the node stands for is a loss it declared. It counts as what both hold from
then on if the ledger says the same, and what went with it is remembered as a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dsn.apps.deals import Deals
from dsn.apps.faults import Faults
from dsn.apps.nodes import Nodes
from dsn.apps.paying import Payer, make_good
from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES
from dsn.core.keys import SigningKey
from dsn.errors import DealMismatch, DsnError, InvalidSignature, NotFound, PeerError
from dsn.ids import ID_BYTES, NO_DEAL, Commit, DealId, NodeId, format_node_id, short
from dsn.ledger.revision import (
    DealParties,
    Parties,
    Revision,
    Signers,
    first_revision,
    next_revision,
    sign_revision,
    verify_client_signature,
    verify_node_signature,
)
from dsn.proofs.inventory import SumTree, holdings, holdings_leaf
from dsn.store.files import write_atomic
from dsn.v1 import node_pb2, types_pb2
from dsn.wire.convert import (
    HELD_BYTES,
    SignedRevision,
    holdings_from_wire,
    holdings_to_wire,
    revision_to_wire,
)

PAGE_ENTRIES = 16_384
MAX_CHANGES = 16_384
"""Commits in one revision request: half a message."""
DECLARED_LOST = "declared_lost"
"""The kind of fault that a node owned up to."""
_OLD_BYTES = 3 * 8 + HASH_BYTES
"""What came before the entries in files that did not name a deal."""


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

    def __init__(
        self, folder: Path, nodes: Nodes, identity: SigningKey, *, deals: Deals, faults: Faults
    ) -> None:
        """Keep state in ``folder``; sign as ``identity``, or under ``deals`` with their key.

        Args:
            folder: Made if it is not there.
            nodes: The other parties.
            identity: Signs where nobody pays.
            deals: Under which the rest is held.
            faults: Told what nodes declare lost.
        """
        self._folder, self._nodes, self._identity = folder, nodes, identity
        self._deals, self._faults = deals, faults
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
        held_there = not self._deals.paid or self._deals.get(node) is not None
        return bool(self._add.get(node) or (held_there and self._drop.get(node)))

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
        held = self._loaded.get(node)
        if held is None or held.base.deal != self._deals.deal_id(node):
            held = await self._load(node)
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
            revision=revision_to_wire(self._sign(node, revision)), add=list(add), drop=drop
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
        self._deals.revised(node, revision.leaves)

    async def _send(
        self, node: NodeId, request: node_pb2.ReviseRequest, revision: Revision
    ) -> None:
        reply = await self._pay_and_revise(node, request)
        verify_node_signature(revision, self._signers(node), reply.revision.node_signature)

    async def _pay_and_revise(
        self, node: NodeId, request: node_pb2.ReviseRequest
    ) -> node_pb2.ReviseReply:
        """Pay for all that was stored until now; a node that counted more is agreed with, once."""
        peer, payer = self._nodes.peer(node), Payer(self._deals, node)
        payer.pay_all(request)
        try:
            return await peer.revise(request)
        except PeerError as refusal:
            await make_good(self._deals, node, refusal, 0)
            payer.pay_all(request)
            return await peer.revise(request)

    def _signers(self, node: NodeId) -> Signers:
        deal = self._deals.get(node)
        if deal is not None and self._deals.params is not None:
            domain = self._deals.params.domain
            return DealParties(domain, deal.payer, deal.terms.provider)
        public = self._nodes.contact(node).public_key
        return Parties(self._nodes.network.network_id, public, self._identity.public)

    def _sign(self, node: NodeId, revision: Revision) -> SignedRevision:
        signers = self._signers(node)
        key = self._identity if isinstance(signers, Parties) else self._deals.key
        return SignedRevision(revision, sign_revision(revision, signers, key.sign), b"")

    def _file(self, node: NodeId) -> Path:
        return self._folder / f"{format_node_id(node)}.held"

    def _journal(self, node: NodeId) -> Path:
        return self._folder / f"{format_node_id(node)}.next"

    async def _load(self, node: NodeId) -> Held:
        """What this home remembers; else, after ``recover``, what the node has signed by us."""
        held = None
        if self._file(node).exists() and not self._journal(node).exists():
            held = decode_held(self._file(node).read_bytes())
        if held is None or held.base.deal != self._deals.deal_id(node):
            await self._fetch(node)
        else:
            self._loaded[node] = held
        return self._loaded[node]

    def _store(self, node: NodeId, held: Held) -> None:
        write_atomic(self._file(node), encode_held(held), 0o600)
        self._journal(node).unlink(missing_ok=True)

    async def _fetch(self, node: NodeId) -> None:
        """Settle an interrupted revision, then take what the node has signed by us."""
        journal, deal = self._journal(node), self._deals.deal_id(node)
        if journal.exists():
            request = node_pb2.ReviseRequest.FromString(journal.read_bytes())
            if request.revision.deal == deal:
                with suppress(DealMismatch, NotFound):  # never taken: the node's newest tells
                    await self._pay_and_revise(node, request)
        peer, entries, after, more = self._nodes.peer(node), b"", b"", True
        newest = types_pb2.Revision()
        while more:
            reply = await peer.get_revision(deal, after=after, limit=PAGE_ENTRIES)
            page = holdings_from_wire(reply.holdings)
            if page and page[0][0] <= after:
                name = format_node_id(node)
                raise PeerError(f"{short(node)} lists its holdings in circles", peer=name)
            entries, newest = entries + reply.holdings, reply.revision
            more, after = reply.more and bool(page), page[-1][0] if page else after
        held = _held(await self._checked(node, newest), entries)
        if held.tree.root != held.base.root:
            raise PeerError(
                f"{short(node)} lists other holdings than it signed", peer=format_node_id(node)
            )
        if newest.number and not newest.client_signature:
            await self._note_losses(node, held)
        self._loaded[node] = held
        self._store(node, held)
        self._deals.revised(node, held.base.leaves)

    async def _note_losses(self, node: NodeId, held: Held) -> None:
        """Of what is not held there any more, remember what is lost, and sign for the rest again.

        A loss undoes what both signed for and the ledger did not have yet.
        """
        if not self._file(node).exists():
            return
        before, peer = decode_held(self._file(node).read_bytes()), self._nodes.peer(node)
        gone = before.leaves.keys() - held.leaves.keys() - self._drop.get(node, set())
        for commit in gone if before.base.deal == held.base.deal else ():
            try:
                is_whole = not (await peer.put_leaves(commit, {})).rotten
            except DsnError:
                is_whole = False
            if is_whole:
                self.add(node, commit, before.leaves[commit])
            else:
                self._faults.note(node, commit, DECLARED_LOST, f"shard {commit.hex()[:10]}")

    async def _checked(self, node: NodeId, wire: types_pb2.Revision) -> Revision:
        deal = self._deals.deal_id(node)
        if wire.number == 0:
            return first_revision(deal)
        revision = Revision(deal, wire.number, wire.shards, wire.leaves, wire.holdings_root)
        if not wire.client_signature and await self._is_on_ledger(node, revision):
            return revision
        try:
            verify_client_signature(revision, self._signers(node), wire.client_signature)
        except DsnError as error:
            raise InvalidSignature(
                f"{short(node)} shows a revision that we never signed", peer=format_node_id(node)
            ) from error
        return revision

    async def _is_on_ledger(self, node: NodeId, revision: Revision) -> bool:
        """Whether ``revision`` (untrusted) is what the ledger has installed of its deal.

        Raises:
            Unreachable: ``ledger_unreachable``.
        """
        await self._deals.moment()
        deal = self._deals.get(node)
        if deal is None or deal.deal != revision.deal:
            return False
        cell = deal.cell
        return revision == Revision(cell.deal, cell.number, cell.shards, cell.leaves, cell.root)

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


def encode_held(held: Held) -> bytes:
    """The file of a node: the deal, its newest revision, and what is held under it."""
    base = held.base
    writer = Writer().raw(base.deal, ID_BYTES).u64(base.number).u64(base.shards).u64(base.leaves)
    entries = holdings_to_wire(sorted(held.leaves.items()))
    return writer.raw(base.root, HASH_BYTES).done() + entries


def decode_held(raw: bytes) -> Held:
    """Read what ``encode_held`` wrote, or wrote before there were deals.

    Raises:
        MalformedMessage: It is damaged.
    """
    if len(raw) % HELD_BYTES == _OLD_BYTES % HELD_BYTES:
        raw = NO_DEAL + raw
    reader = Reader(raw, "holdings file")
    deal = DealId(reader.raw(ID_BYTES))
    number, shards, leaves = reader.u64(), reader.u64(), reader.u64()
    base = Revision(deal, number, shards, leaves, reader.raw(HASH_BYTES))
    return _held(base, reader.raw(reader.left))


def _held(base: Revision, entries: bytes) -> Held:
    leaves = dict(holdings_from_wire(entries))
    return Held(base, holdings(leaves.items()), leaves)
