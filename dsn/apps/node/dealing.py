"""OpenDeal, ExtendDeal, Pay and ListDeals: what a node agrees to, and what it is promised.

Spec: docs/spec/economy.md#deal
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

from dsn.apps.node.deals import Deals
from dsn.apps.node.terms import TERMS_S, Self
from dsn.core.codec import U64_MAX
from dsn.errors import DealMismatch, NoSpace, PeerError, TooMany, TransportError
from dsn.ledger.bodies import Agreed
from dsn.ledger.cells import DealCell
from dsn.ledger.deal import Deal, Extension, check_deal
from dsn.ledger.refusal import refuse
from dsn.ledger.settlement import Address
from dsn.ledger.terms import Terms
from dsn.ledger.typed import sign_typed, verify_typed
from dsn.ports import Clock, ShardStore
from dsn.rpc.tls import Caller
from dsn.store.deals import StoredDeal
from dsn.v1 import node_pb2
from dsn.wire.convert import deal_from_wire

OPEN_WITHIN_S: Final = 2 * TERMS_S
"""How far ahead ``open_by`` may be, and two epochs more."""
PAGE: Final = 256
"""Deals in one list: about 100 KiB."""
MOST_UNOPENED: Final = 8
"""Deals of one client that are signed and not on the ledger."""


class Dealing:
    """Agrees to deals within the terms that the node stands by."""

    def __init__(self, me: Self, deals: Deals, store: ShardStore, clock: Clock) -> None:
        """Sign as the payee of ``me`` for room in ``store``."""
        self._me, self._deals, self._store, self._clock = me, deals, store, clock
        self._key, self._ledger = deals.payee.key, deals.payee.ledger

    async def open_deal(
        self, caller: Caller, request: node_pb2.OpenDealRequest
    ) -> node_pb2.OpenDealReply:
        """Sign a deal that the caller signed; the same one again gets the same signature.

        Raises:
            DealMismatch: ``terms_mismatch``: not what the node asks; its terms are the evidence.
            EntryRefused: ``not_bound``, ``not_a_party``.
            PeerError: As ``check_deal``; ``terms_expired``.
            InvalidSignature: The client's.
            TooMany: Too many deals of this caller wait to be opened.
            NoSpace: Nothing more can be stored here.
        """
        deal, domain = Deal.decode(request.deal), self._ledger.params.domain
        check_deal(deal)
        verify_typed(deal, domain, request.client_signature, deal.client)
        signature, deal_id = sign_typed(deal, domain, self._key), deal.deal_id(domain)
        if await self._deals.store.get(deal_id) is None:
            self._check_expiry(request.terms_expires_s)
            await self._check_client(caller, deal.client)
            epoch = await self._ledger.epoch()
            self._check_offer(deal, epoch, self._open_within())
            await self._check_room(caller, deal, epoch)
            await self._deals.store.sign(
                StoredDeal(deal_id, caller.node_id, deal, request.client_signature, signature)
            )
        return node_pb2.OpenDealReply(provider_signature=signature)

    async def extend_deal(
        self, caller: Caller, request: node_pb2.ExtendDealRequest
    ) -> node_pb2.ExtendDealReply:
        """Sign an extension that the caller signed, if its deal still pays what is asked now.

        Raises:
            As ``Deals.serve``.
            EntryRefused: ``not_a_party``: a delegate; ``wrong_extension``, ``end_not_later``.
            DealMismatch: ``terms_mismatch``.
            InvalidSignature: The client's.
        """
        extension, domain = Extension.decode(request.extension), self._ledger.params.domain
        tab = await self._deals.serve(caller, extension.deal)
        if tab.by_delegate:
            raise refuse("not_a_party", "a deal is extended by its client")
        verify_typed(extension, domain, request.client_signature, tab.payer)
        await tab.deal.look()
        _check_extension(extension, tab.deal.cell)
        epoch = await self._ledger.epoch()
        offer = replace(tab.deal.terms, end=extension.end, open_by=epoch)
        self._check_offer(offer, epoch, 0)
        signature = sign_typed(extension, domain, self._key)
        return node_pb2.ExtendDealReply(provider_signature=signature)

    async def pay(self, caller: Caller, request: node_pb2.PayRequest) -> node_pb2.PayReply:
        """Take a voucher if there is one, and say what was counted.

        Without one the node also looks at the ledger: a client that topped up says so this way,
        and the deal then goes on while the ledger is away.

        Raises:
            As ``Deals.serve`` and ``OpenTab.take``.
        """
        tab = await self._deals.serve(caller, deal_from_wire(request.deal))
        if request.HasField("voucher"):
            await tab.take(request.voucher, newer=True)
        else:
            with suppress(TransportError, TooMany):
                await tab.deal.look()
        return tab.reply()

    async def list_deals(
        self, caller: Caller, request: node_pb2.ListDealsRequest
    ) -> node_pb2.ListDealsReply:
        """A page of the caller's own deals that are not closed, as both signed them."""
        owned = await self._deals.store.owned(caller.node_id)
        left = sorted((d for d in owned if d.deal > request.after), key=attrgetter("deal"))
        page = (Agreed(d.terms, d.client_signature, d.provider_signature) for d in left[:PAGE])
        return node_pb2.ListDealsReply(
            deals=[agreed.encode() for agreed in page], more=len(left) > PAGE
        )

    def _check_offer(self, deal: Deal, epoch: int, open_within: int) -> None:
        """Check that a deal (untrusted) follows from terms that the node stands by.

        Raises:
            DealMismatch: ``terms_mismatch``: by the present ones.
        """
        present, *former = self._me.stands_by(self._clock.now_s())
        for terms in former:
            with suppress(DealMismatch):
                return check_offer(deal, terms, epoch, open_within)
        return check_offer(deal, present, epoch, open_within)

    def _check_expiry(self, expires_s: int) -> None:
        now_s = self._clock.now_s()
        if expires_s <= now_s:
            raise PeerError(
                f"deal: the terms it follows from expired {now_s - expires_s:.0f} s ago",
                code="terms_expired",
                hint="ask for new ones",
            )

    async def _check_client(self, caller: Caller, client: Address) -> None:
        bound = await self._deals.backing.bound(caller.node_id)
        if bound is None:
            raise refuse("not_bound", "the caller has no account on the ledger, see bind")
        if bound != client:
            raise refuse("not_a_party", "the deal's client is somebody else than the caller")

    async def _check_room(self, caller: Caller, deal: Deal, epoch: int) -> None:
        owned = await self._deals.store.owned(caller.node_id)
        waiting = [each for each in owned if each.cell is None and each.terms.open_by >= epoch]
        if len(waiting) >= MOST_UNOPENED:
            raise TooMany(f"{len(waiting)} deals wait to be opened, {MOST_UNOPENED} at most")
        if deal.disk_escrow and not self._store.space().free:
            raise NoSpace("nothing more can be stored here", hint="deal with another node")

    def _open_within(self) -> int:
        return 2 + OPEN_WITHIN_S // self._ledger.params.epoch_s


@dataclass(frozen=True, slots=True)
class _Bound:
    """What a deal may say in one field."""

    name: str
    least: int = 0
    most: int = U64_MAX


def check_offer(deal: Deal, terms: Terms, epoch: int, open_within: int) -> None:
    """Check that a deal (untrusted) gives at least what ``terms`` ask, and asks no more.

    Args:
        deal: What a client proposes.
        terms: The node's own.
        epoch: The ledger's.
        open_within: How many epochs from now it may be opened at the latest.

    Raises:
        DealMismatch: ``terms_mismatch`` names the field.
    """
    bounds = (
        _Bound("disk_price", terms.disk_price),
        _Bound("ingress_price", terms.ingress_price),
        _Bound("egress_price", terms.egress_price),
        _Bound("repair_price", most=terms.repair_price),
        _Bound("open_by", epoch, epoch + open_within),
        _Bound("end", epoch + 1, epoch + terms.max_term),
        _Bound("grace", most=terms.grace),
        _Bound("notice", terms.notice, terms.notice),
        _Bound("miss_limit", terms.miss_limit),
        _Bound("dispute", most=terms.dispute),
        _Bound("collateral_ppm", most=terms.collateral_ppm),
        _Bound("free_leaves", terms.free_leaves),
    )
    for bound in bounds:
        value = getattr(deal, bound.name)
        if not bound.least <= value <= bound.most:
            raise _mismatch(terms, f"{bound.name} is {value}, {_format(bound)} asked")
    if deal.provider != terms.settlement:
        raise _mismatch(terms, "its provider is somebody else")
    if deal.delegate in (deal.client, deal.provider):
        raise _mismatch(terms, "its delegate is one of the two parties")
    if deal.disk_escrow + deal.bandwidth_escrow > U64_MAX:
        raise _mismatch(terms, "its escrows pass 2^64")


def _format(bound: _Bound) -> str:
    if bound.most == U64_MAX:
        return f"at least {bound.least}"
    return f"{bound.least} to {bound.most}"


def _mismatch(terms: Terms, reason: str) -> DealMismatch:
    return DealMismatch(
        f"deal: {reason}",
        code="terms_mismatch",
        hint="read the node's terms again",
        evidence=terms.encode(),
    )


def _check_extension(extension: Extension, cell: DealCell) -> None:
    """As the ledger will judge it."""
    if extension.serial != cell.serial + 1:
        raise refuse("wrong_extension", f"extension {extension.serial}, {cell.serial + 1} is next")
    if extension.end <= cell.end:
        raise refuse("end_not_later", f"an end in epoch {extension.end}, it is {cell.end}")
