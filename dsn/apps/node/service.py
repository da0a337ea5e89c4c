"""``NodeService``: which call goes where."""

from __future__ import annotations

import functools
from importlib.metadata import PackageNotFoundError, version

from dsn.apps.node.accounts import Accounts
from dsn.apps.node.answers import Answering
from dsn.apps.node.challenges import Challenges
from dsn.apps.node.dealing import Dealing
from dsn.apps.node.deals import Deals
from dsn.apps.node.intake import Intake
from dsn.apps.node.leaves import Mending
from dsn.apps.node.openings import Opener
from dsn.apps.node.outlet import Outlet
from dsn.apps.node.pointers import Pointers
from dsn.apps.node.quota import FreeQuota
from dsn.apps.node.revising import Revising
from dsn.apps.node.scrub import Scrub
from dsn.apps.node.terms import TERMS_S, Self, pending_limit
from dsn.ids import NO_DEAL, NodeId
from dsn.ledger.terms import sign_terms
from dsn.ports import Clock, ShardStore
from dsn.rpc.limits import Budget, Limits
from dsn.rpc.server import Method, Streaming, Unary
from dsn.rpc.tls import Caller
from dsn.store.answers import AnswerStore
from dsn.v1 import node_pb2

SERVICE = "dsn.v1.NodeService"


class NodeService:
    """A node's calls over one store."""

    def __init__(
        self,
        me: Self,
        store: ShardStore,
        clock: Clock,
        limits: Limits,
        deals: Deals | None = None,
        opener: Opener | None = None,
        answers: AnswerStore | None = None,
        scrub: Scrub | None = None,
    ) -> None:
        """Serve ``store`` as ``me``.

        Args:
            me: The node.
            store: What is served.
            clock: This machine's.
            limits: What callers may take at a time.
            deals: Where bytes are paid, under which ones.
            opener: Opens leaves of ``store``, for all who open any.
            answers: What was answered, where epochs are proven.
            scrub: Notes rot.
        """
        self._me, self._store, self._clock, self._deals = me, store, clock, deals
        self._accounts = deals.accounts if deals else Accounts(store)
        self._pointers = Pointers(me, store, clock)
        self._intake = Intake(me, store, self._accounts, self._pointers, clock, limits, deals)
        quota = FreeQuota(me.terms.free_quota_bytes, clock) if deals else None
        self._outlet = Outlet(store, deals, quota)
        self._revising = Revising(me, store, self._accounts, deals)
        budget = Budget("leaves", limits.challenge_leaves_an_hour, clock.monotonic_s)
        self._challenges = Challenges(me, store, opener or Opener(store), budget)
        self._answering = None if answers is None else Answering(answers, budget)
        look = store.rotten if scrub is None else scrub.look
        self._mending = Mending(store, look, budget)

    def methods(self) -> tuple[Method, ...]:
        """Every call by its path."""
        at = f"/{SERVICE}/"
        return (
            Unary(at + "GetTerms", node_pb2.GetTermsRequest, self._get_terms),
            Streaming(at + "PutShard", self._intake.put_shards),
            Unary(at + "Revise", node_pb2.ReviseRequest, self._revising.revise),
            Unary(at + "GetRevision", node_pb2.GetRevisionRequest, self._revising.get_revision),
            Streaming(at + "GetShard", self._outlet.get_shards),
            Unary(at + "Challenge", node_pb2.ChallengeRequest, self._challenges.answer),
            Unary(at + "PutLeaf", node_pb2.PutLeafRequest, self._mending.put_leaves),
            Unary(at + "PutPointer", node_pb2.PutPointerRequest, self._pointers.put_pointers),
            Unary(at + "GetPointer", node_pb2.GetPointerRequest, self._pointers.get_pointer),
            *self._paid_methods(at),
            *self._proving_methods(at),
        )

    def _paid_methods(self, at: str) -> tuple[Method, ...]:
        """The calls that are only served where bytes are paid."""
        if self._deals is None:
            return ()
        dealing = Dealing(self._me, self._deals, self._store, self._clock)
        return (
            Unary(at + "OpenDeal", node_pb2.OpenDealRequest, dealing.open_deal),
            Unary(at + "ExtendDeal", node_pb2.ExtendDealRequest, dealing.extend_deal),
            Unary(at + "Pay", node_pb2.PayRequest, dealing.pay),
            Unary(at + "ListDeals", node_pb2.ListDealsRequest, dealing.list_deals),
        )

    def _proving_methods(self, at: str) -> tuple[Method, ...]:
        """The calls that are only served where epochs are proven."""
        if self._answering is None:
            return ()
        call = self._answering.get_answer
        return (Unary(at + "GetAnswer", node_pb2.GetAnswerRequest, call),)

    async def held_record(self, key: bytes) -> bytes | None:
        """The record under ``key`` of something that this node holds."""
        return await self._pointers.held(key)

    async def _get_terms(self, caller: Caller, request: node_pb2.GetTermsRequest) -> node_pb2.Terms:
        held = await self._held_leaves(caller.node_id)
        me, expires_s = self._me, int(self._clock.now_s()) + TERMS_S
        signed = sign_terms(me.terms, expires_s, me.key.sign, network=me.network, node=me.node_id)
        return node_pb2.Terms(
            version=_version(),
            node_id=me.node_id,
            free_bytes=self._store.space().free,
            max_pending_bytes=pending_limit(held),
            terms=me.terms.encode(),
            expires_s=expires_s,
            signature=signed.signature,
        )

    async def _held_leaves(self, client: NodeId) -> int:
        """The most that ``client`` holds here under one deal."""
        owned = [] if self._deals is None else await self._deals.store.owned(client)
        deals = [NO_DEAL, *(each.deal for each in owned)]
        return max([(await self._accounts.open(client, deal)).base.leaves for deal in deals])


@functools.cache
def _version() -> str:
    try:
        return version("dsn")
    except PackageNotFoundError:
        return "unknown"
