"""Who a node is and what it takes from whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from dsn.apps.ledger.light import Snapshot
from dsn.config import ProviderSettings
from dsn.core.keys import SigningKey, node_id_of
from dsn.errors import EntryRefused, LimitReached, MalformedMessage
from dsn.ids import NO_DEAL, DealId, NetworkId, NodeId
from dsn.ledger.cells import AccountCell, DealCell
from dsn.ledger.deal import MAX_MISS_LIMIT
from dsn.ledger.entry import Body
from dsn.ledger.log import LogLeaf
from dsn.ledger.money import PPM, epoch_price
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import Address, SettlementKey
from dsn.ledger.terms import Terms
from dsn.units import GIB, LEAF_BYTES, MIB

FIRST_PENDING_BYTES: Final = 64 * MIB
"""What a stranger may leave here before it signs a revision."""
MOST_PENDING_BYTES: Final = GIB
TERMS_S: Final = 3_600
"""How long a node stands by what it says it takes."""
DAY_S: Final = 86_400
GRACE_DAYS: Final = 30
NOTICE_DAYS: Final = 7
MISS_DAYS: Final = 3
DISPUTE_DAYS: Final = 35
MOST_DISPUTE: Final = 840
"""Epochs; a node keeps the answers of as many, of up to 45 KiB each: with short epochs, 35 days of
them would fill its disk."""
FREE_BYTES: Final = 100_000_000_000
"""What a deal may hold before its node covers losses with credits of its own."""


class Ledger(Protocol):
    """What a node asks of its network's ledger; ``LightClient`` proves every answer."""

    params: LedgerParams

    async def epoch(self) -> int:
        """The epoch of the newest cosigned checkpoint."""
        ...

    async def account(self, address: Address) -> AccountCell:
        """An account, blank if the ledger does not know it."""
        ...

    async def bound(self, nodes: Iterable[NodeId]) -> dict[NodeId, Address]:
        """The settlement addresses of those identities that have one."""
        ...

    async def deals(self, ids: Iterable[DealId]) -> dict[DealId, DealCell]:
        """Those deals that exist."""
        ...

    async def snapshot(self, address: Address, deals: Iterable[DealId] = ()) -> Snapshot:
        """An account, deals and the time, all of one checkpoint."""
        ...

    async def leaves(self, start: int, end: int) -> list[LogLeaf]:
        """Entries ``[start, end)`` of the log, which nobody vouches for."""
        ...


class Sender(Protocol):
    """A settlement key at work; ``LedgerAccount`` is one."""

    address: Address

    async def enter(
        self, bodies: Sequence[Body], *, wait: bool = True
    ) -> Sequence[int | EntryRefused]:
        """Enter ``bodies`` in order: the index of each, or why it was refused.

        Args:
            bodies: What to enter.
            wait: Whether to return only once a cosigned checkpoint has them.

        Raises:
            Unreachable: ``ledger_unreachable``, ``outcome_unknown``.
        """
        ...


@dataclass(frozen=True, slots=True)
class Payee:
    """The provider behind a node: the key it is paid to, the ledger that says what it was."""

    key: SettlementKey
    ledger: Ledger


@dataclass(slots=True)
class Self:
    """The node as a party: the network it is on, the key it signs with, who is paid if anybody."""

    network: NetworkId
    key: SigningKey
    terms: Terms
    """What it asks now."""
    payee: Payee | None = None
    _former: list[tuple[Terms, float]] = field(default_factory=list, init=False, repr=False)
    """What it asked before, and until when, in Unix seconds, it stands by that."""

    @property
    def node_id(self) -> NodeId:
        """The node's id."""
        return node_id_of(self.key.public)

    def ask(self, terms: Terms, now_s: float) -> None:
        """Ask ``terms`` from now on; whoever was told others may rely on them until they expire."""
        standing = [each for each in self._former if each[1] > now_s]
        self._former = [(self.terms, now_s + TERMS_S), *standing]
        self.terms = terms

    def stands_by(self, now_s: float) -> list[Terms]:
        """All terms that somebody may rely on, the present ones first."""
        return [self.terms, *(terms for terms, until_s in self._former if until_s > now_s)]

    def signer(self, deal: DealId) -> Callable[[bytes], bytes]:
        """The key that signs revisions under ``deal``."""
        if deal == NO_DEAL or self.payee is None:
            return self.key.sign
        return self.payee.key.sign


def make_terms(offered: ProviderSettings, params: LedgerParams, settlement: Address) -> Terms:
    """What a node with these settings asks on a network with these parameters.

    Spans are given in days and counted in epochs, within what the ledger allows; prices and
    collateral are never below the ledger's minima.
    """

    def span(days: int, least: int = 1) -> int:
        return min(params.max_term, max(least, days * DAY_S // params.epoch_s))

    return Terms(
        settlement,
        free_quota_bytes=int(offered.free_quota),
        disk_price=max(params.min_disk_price, epoch_price(offered.disk_price, params.epoch_s)),
        ingress_price=offered.ingress_price,
        egress_price=offered.egress_price,
        repair_price=max(params.min_repair_price, offered.repair_price),
        collateral_ppm=max(params.min_collateral_ppm, PPM),
        free_leaves=min(params.max_free_leaves, FREE_BYTES // LEAF_BYTES),
        grace=span(GRACE_DAYS),
        notice=span(NOTICE_DAYS, 2 * params.claim_epochs + 2),
        miss_limit=min(MAX_MISS_LIMIT, span(MISS_DAYS)),
        dispute=max(params.min_dispute, min(MOST_DISPUTE, span(DISPUTE_DAYS))),
        max_term=params.max_term,
    )


def check_length(terms: Terms, length: int) -> None:
    """Refuse a shard that no room need be made for.

    Raises:
        MalformedMessage: ``bad_length``.
    """
    if not 1 <= length <= terms.max_shard_bytes:
        raise MalformedMessage(
            f"a shard of {length} bytes, 1 to {terms.max_shard_bytes} allowed", code="bad_length"
        )


def deal_needed() -> LimitReached:
    """The refusal of who would store without paying."""
    return LimitReached(
        "storing is paid on this network, under a deal",
        code="deal_needed",
        hint="open a deal with this node",
    )


def pending_limit(held_leaves: int) -> int:
    """Bytes a client may have pending: as much as it holds here, within the fixed bounds.

    So the limit doubles with every put that fills it.
    """
    return min(MOST_PENDING_BYTES, max(FIRST_PENDING_BYTES, held_leaves * LEAF_BYTES))
