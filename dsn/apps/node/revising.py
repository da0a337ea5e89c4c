"""Revise and GetRevision: how pending shards become held, and held ones are let go."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from dsn.apps.node.accounts import Account, Accounts
from dsn.apps.node.terms import Self
from dsn.errors import MalformedMessage, NotFound
from dsn.ids import NO_DEAL, Commit, DealId
from dsn.ledger.revision import (
    Parties,
    next_revision,
    sign_revision,
    verify_client_signature,
)
from dsn.ports import ShardState, ShardStore
from dsn.proofs.inventory import SumTree, holdings_leaf
from dsn.rpc.tls import Caller
from dsn.v1 import node_pb2
from dsn.wire.convert import (
    SignedRevision,
    commits_from_wire,
    deal_from_wire,
    holdings_to_wire,
    revision_from_wire,
    revision_to_wire,
)

MOST_HOLDINGS = 16_384
"""A page of holdings: 640 KiB, within a message."""
_INLINE_EDITS = 256
"""More than this many tree edits (10 us each) would hold up every other call."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A request to revise, checked by itself."""

    signed: SignedRevision
    add: Sequence[Commit]
    drop: Sequence[Commit]


class Revising:
    """Keeps every client's account in step with what both sides signed."""

    def __init__(self, me: Self, store: ShardStore, accounts: Accounts) -> None:
        """Countersign as ``me`` what ``store`` has made durable."""
        self._me, self._store, self._accounts = me, store, accounts

    async def revise(self, caller: Caller, request: node_pb2.ReviseRequest) -> node_pb2.ReviseReply:
        """Persist the caller's next revision, then countersign it.

        Raises:
            DealMismatch: It does not continue the newest one (``deal_mismatch``) or does not
                follow from it (``holdings_mismatch``); the newest is the evidence.
            NotFound: ``unknown_shard``: an add or drop is neither held nor pending.
        """
        edit = _read_edit(request)
        parties = Parties(self._me.network, self._me.key.public, caller.public_key)
        verify_client_signature(edit.signed.revision, parties, edit.signed.client_signature)
        account = await self._accounts.open(caller.node_id, edit.signed.revision.deal)
        async with account.lock:
            if not _is_repeat(edit.signed, account.newest):
                await self._install(account, edit, parties)
            return node_pb2.ReviseReply(revision=revision_to_wire(account.newest))

    async def get_revision(
        self, caller: Caller, request: node_pb2.GetRevisionRequest
    ) -> node_pb2.GetRevisionReply:
        """The newest revision of the caller's deal and a page of its holdings."""
        deal = known_deal(request.deal)
        account = await self._accounts.open(caller.node_id, deal)
        reply = node_pb2.GetRevisionReply(revision=revision_to_wire(account.newest))
        if limit := min(request.limit, MOST_HOLDINGS):
            held = await self._store.holdings(caller.node_id, deal, request.after, limit + 1)
            reply.holdings, reply.more = holdings_to_wire(held[:limit]), len(held) > limit
        return reply

    async def _install(self, account: Account, edit: Edit, parties: Parties) -> None:
        claimed, base = edit.signed.revision, account.base
        if claimed.number != base.number + 1:
            raise account.mismatch(
                f"revision {claimed.number} does not continue the newest, {base.number}"
            )
        held = await self._edited(account, edit)
        due = next_revision(base, held)
        if claimed != due:
            raise account.mismatch(
                f"revision {claimed.number} says {claimed.shards} shards and {claimed.leaves} "
                f"leaves, {due.shards} and {due.leaves} under another root follow from it",
                "holdings_mismatch",
            )
        signature = sign_revision(due, parties, self._me.key.sign)
        signed = SignedRevision(due, edit.signed.client_signature, signature)
        raw = revision_to_wire(signed).SerializeToString()
        await self._store.revise(account.client, account.deal, edit.add, edit.drop, raw)
        account.install(signed, raw, held)

    async def _edited(self, account: Account, edit: Edit) -> SumTree:
        """The account's tree after ``edit``; whose the shards are, the store checks."""
        stored = await self._store.stats(edit.add)
        pairs = []
        for commit in edit.add:
            shard = stored.get(commit)
            if shard is None or shard.state is ShardState.LOST:
                raise NotFound(f"shard {commit.hex()} is not here", code="unknown_shard")
            pairs.append((commit, shard.leaf_count))
        tree = await account.held(self._store)
        if len(edit.add) + len(edit.drop) <= _INLINE_EDITS:
            return _edit_tree(tree, pairs, edit.drop)
        return await asyncio.to_thread(_edit_tree, tree, pairs, edit.drop)


def known_deal(raw: bytes) -> DealId:
    """The deal that a request (untrusted) names, if this node has it.

    Raises:
        NotFound: ``unknown_deal``.
    """
    deal = deal_from_wire(raw)
    if deal != NO_DEAL:
        raise NotFound(f"deal {deal.hex()} is not open here", code="unknown_deal")
    return deal


def _read_edit(request: node_pb2.ReviseRequest) -> Edit:
    signed = revision_from_wire(request.revision)
    known_deal(signed.revision.deal)
    add, drop = commits_from_wire(request.add), commits_from_wire(request.drop)
    if len({*add, *drop}) < len(add) + len(drop):
        raise MalformedMessage("revision: a shard is named twice")
    return Edit(signed, add, drop)


def _is_repeat(asked: SignedRevision, newest: SignedRevision) -> bool:
    """Whether the reply to this very revision got lost; Ed25519 signs it one way only."""
    same = (asked.revision, asked.client_signature)
    return same == (newest.revision, newest.client_signature)


def _edit_tree(tree: SumTree, add: Sequence[tuple[Commit, int]], drop: Sequence[Commit]) -> SumTree:
    for commit, leaves in add:
        tree = tree.insert(commit, holdings_leaf(commit, leaves), leaves)
    for commit in drop:
        try:
            tree = tree.remove(commit)
        except NotFound:
            continue  # pending only: the tree never had it
    return tree
