"""Revise and GetRevision: how pending shards become held, and held ones are let go."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from dsn.apps.node.accounts import Account, Accounts, Edited, edit
from dsn.apps.node.deals import Deals, tab_of
from dsn.apps.node.tabs import OpenTab
from dsn.apps.node.terms import Self, deal_needed
from dsn.errors import MalformedMessage, NotFound
from dsn.ids import NO_DEAL, Commit, NodeId
from dsn.ledger.refusal import refuse
from dsn.ledger.revision import (
    Parties,
    Signers,
    next_revision,
    sign_revision,
    verify_client_signature,
)
from dsn.ports import ShardState, ShardStore
from dsn.rpc.tls import Caller
from dsn.v1 import node_pb2
from dsn.wire.convert import (
    SignedRevision,
    commits_from_wire,
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

    def __init__(
        self, me: Self, store: ShardStore, accounts: Accounts, deals: Deals | None = None
    ) -> None:
        """Countersign as ``me`` what ``store`` has made durable; with ``deals``, what is paid."""
        self._me, self._store, self._accounts, self._deals = me, store, accounts, deals

    async def revise(self, caller: Caller, request: node_pb2.ReviseRequest) -> node_pb2.ReviseReply:
        """Persist the caller's next revision, then countersign it.

        Raises:
            DealMismatch: It does not continue the newest one (``deal_mismatch``) or does not
                follow from it (``holdings_mismatch``); the newest is the evidence.
            NotFound: ``unknown_shard``: an add or drop is neither held nor pending.
            InvalidSignature: The client's, or its voucher's.
            PeerError: ``payment_due``: a voucher for all that was stored is needed.
            EntryRefused: ``not_covered``: the disk escrow does not last to the deal's end;
                ``deal_over``: the ledger takes nothing new under it any more.
        """
        asked = _read_edit(request)
        tab = await tab_of(self._deals, caller, asked.signed.revision.deal)
        if tab is None and self._deals is not None:
            raise deal_needed()
        parties = self._parties(caller, tab)
        verify_client_signature(asked.signed.revision, parties, asked.signed.client_signature)
        account = await self._accounts.open(_owner(caller, tab), asked.signed.revision.deal)
        if tab is not None and request.HasField("voucher"):
            await tab.take(request.voucher)
        async with account.lock:
            if not _is_repeat(asked.signed, account.newest):
                if tab is not None:
                    await self._check_paid(tab, account, asked)
                await self._install(account, asked, parties)
            return node_pb2.ReviseReply(revision=revision_to_wire(account.newest))

    async def get_revision(
        self, caller: Caller, request: node_pb2.GetRevisionRequest
    ) -> node_pb2.GetRevisionReply:
        """The newest revision of the caller's deal and a page of its holdings."""
        tab = await tab_of(self._deals, caller, request.deal)
        owner, deal = _owner(caller, tab), NO_DEAL if tab is None else tab.deal.deal
        account = await self._accounts.open(owner, deal)
        reply = node_pb2.GetRevisionReply(revision=revision_to_wire(account.newest))
        if limit := min(request.limit, MOST_HOLDINGS):
            held = await self._store.holdings(owner, deal, request.after, limit + 1)
            reply.holdings, reply.more = holdings_to_wire(held[:limit]), len(held) > limit
        return reply

    def _parties(self, caller: Caller, tab: OpenTab | None) -> Signers:
        """Whose keys sign: the settlement keys under a deal, else the identity keys."""
        if tab is None:
            return Parties(self._me.network, self._me.key.public, caller.public_key)
        return tab.parties

    async def _check_paid(self, tab: OpenTab, account: Account, asked: Edit) -> None:
        """Check that what was stored is paid, and that what will be held is covered."""
        if tab.tab.arrears:
            raise tab.unpaid()
        claimed, terms = asked.signed.revision, tab.deal.terms
        if tab.by_delegate:
            if claimed.leaves < account.base.leaves:
                raise refuse("delegate_lowers", f"{claimed.leaves} leaves by the delegate")
            if claimed.leaves > terms.delegate_leaves:
                raise refuse("over_delegate_leaves", f"{terms.delegate_leaves} at most")
        if asked.add:
            await tab.deal.check_not_over()
        if claimed.leaves > account.base.leaves:
            await tab.deal.check_cover(claimed.leaves)

    async def _install(self, account: Account, asked: Edit, parties: Signers) -> None:
        claimed, base = asked.signed.revision, account.base
        if claimed.number != base.number + 1:
            raise account.mismatch(
                f"revision {claimed.number} does not continue the newest, {base.number}"
            )
        edited = await self._edited(account, asked)
        due = next_revision(base, edited.tree)
        if claimed != due:
            raise account.mismatch(
                f"revision {claimed.number} says {claimed.shards} shards and {claimed.leaves} "
                f"leaves, {due.shards} and {due.leaves} under another root follow from it",
                "holdings_mismatch",
            )
        signature = sign_revision(due, parties, self._me.signer(due.deal))
        signed = SignedRevision(due, asked.signed.client_signature, signature)
        await self._accounts.revise(account, signed, edited, asked.add, asked.drop)

    async def _edited(self, account: Account, asked: Edit) -> Edited:
        """The account's holdings after ``asked``; whose the shards are, the store checks."""
        stored = await self._store.stats([*asked.add, *asked.drop])
        for commit in asked.add:
            if commit not in stored or stored[commit].state is ShardState.LOST:
                raise NotFound(f"shard {commit.hex()} is not here", code="unknown_shard")
        add = [(commit, stored[commit].leaf_count) for commit in asked.add]
        drop = [(each, stored[each].leaf_count) for each in asked.drop if each in stored]
        tree = await account.held(self._store)
        if len(add) + len(drop) <= _INLINE_EDITS:
            return edit(tree, add, drop)
        return await asyncio.to_thread(edit, tree, add, drop)


def _owner(caller: Caller, tab: OpenTab | None) -> NodeId:
    """Whose account it is: under a deal its client's, whoever calls."""
    return caller.node_id if tab is None else tab.deal.owner


def _read_edit(request: node_pb2.ReviseRequest) -> Edit:
    signed = revision_from_wire(request.revision)
    add, drop = commits_from_wire(request.add), commits_from_wire(request.drop)
    if len({*add, *drop}) < len(add) + len(drop):
        raise MalformedMessage("revision: a shard is named twice")
    return Edit(signed, add, drop)


def _is_repeat(asked: SignedRevision, newest: SignedRevision) -> bool:
    """Whether the reply to this very revision got lost; a key signs it one way only."""
    same = (asked.revision, asked.client_signature)
    return same == (newest.revision, newest.client_signature)
