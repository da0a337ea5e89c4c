"""What storing something would cost, by the terms that nodes stand by now; nothing is sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from dsn.apps.deal_plan import Want, draft, end_after, missing, stored_cost, term_epochs
from dsn.apps.durability import Durability, durability
from dsn.core.layout import FileLayout, Scheme
from dsn.errors import UsageError
from dsn.ids import ID_BYTES, NodeId
from dsn.ledger.bandwidth import Traffic, egress_due, ingress_due
from dsn.ledger.money import MONTH_S
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import NO_ADDRESS
from dsn.ledger.terms import Terms
from dsn.machines.placement import Candidate
from dsn.units import leaf_count

HEAD_BYTES: Final = 4_096
"""A manifest copy, beside 80 bytes for each shard of the file in it."""
PLACE_BYTES: Final = 80
_NOBODY: Final = NodeId(bytes(ID_BYTES))


@dataclass(frozen=True, slots=True)
class Range:
    """Base units: with the cheapest nodes, with those there are on average, with the dearest."""

    low: int
    expected: int
    high: int


@dataclass(frozen=True, slots=True)
class Prices:
    """What nodes ask, in base units: for a GiB kept 30 days, for one sent, for one read."""

    disk: Range
    store: Range
    read: Range


@dataclass(frozen=True, slots=True)
class Cost:
    """What one file costs.

    Attributes:
        disk: Up to its expiry, if every epoch is proven.
        store: For sending it there.
        fees: Burned by the ledger, an entry a node.
        total: All three.
        read: For reading it back once, which is not in the total.
        locked: In escrow meanwhile: what is not used comes back when the deals are over.
    """

    disk: Range
    store: Range
    fees: int
    total: Range
    read: Range
    locked: Range


@dataclass(frozen=True, slots=True)
class Quote:
    """What it would take to store a file of ``size`` bytes now.

    Attributes:
        size: Plaintext bytes.
        scheme: Its erasure code.
        segments: How many it is cut into.
        upload_bytes: To be sent, all shards and manifest copies.
        nodes: Nodes that answered.
        expires_s: Unix seconds; ``None`` where nobody pays, as the next two.
        prices: What nodes ask.
        cost: What comes of that.
        durability: How likely it is lost.
    """

    size: int
    scheme: Scheme
    segments: int
    upload_bytes: int
    nodes: int
    expires_s: int | None
    prices: Prices | None
    cost: Cost | None
    durability: Durability


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a network's ledger stands, as a quote needs it."""

    params: LedgerParams
    epoch: int
    now_s: int


def quote(
    size: int,
    scheme: Scheme,
    days: float,
    candidates: Sequence[Candidate],
    terms: Iterable[Terms],
    moment: Moment | None,
) -> Quote:
    """What storing ``size`` bytes for ``days`` takes.

    Args:
        size: Plaintext bytes.
        scheme: Of the file.
        days: How long.
        candidates: Nodes that answered.
        terms: Theirs.
        moment: Of the ledger; ``None`` where nobody pays.

    Raises:
        UsageError: ``bad_scheme``: fewer placement groups than shards.
        LimitReached: ``term_too_long``.
    """
    scheme.check_fits(len({each.group for each in candidates}))
    lengths = shard_lengths(size, scheme)
    segments = FileLayout(size, scheme.required).segments
    cost = prices = expires_s = None
    if moment is not None:
        offers = [each for each in terms if each.settlement != NO_ADDRESS]
        if len(offers) < scheme.total:
            raise UsageError(
                f"{len(offers)} nodes can be paid, {scheme.total} needed",
                code="bad_scheme",
                hint="take a scheme with fewer shards",
            )
        span = term_epochs(days, moment.params.epoch_s)
        end = end_after(moment.epoch, span, moment.params.max_term)
        cost = _cost(offers, lengths, scheme, end, moment)
        prices = _prices(offers, moment.params.epoch_s)
        expires_s = moment.now_s + (end - moment.epoch) * moment.params.epoch_s
    return Quote(
        size,
        scheme,
        segments,
        sum(lengths) * scheme.total,
        len(candidates),
        expires_s,
        prices,
        cost,
        durability(scheme, max(1, segments)),
    )


def shard_lengths(size: int, scheme: Scheme) -> list[int]:
    """What each holder stores of a file of ``size`` bytes: a shard a segment, and a manifest."""
    layout = FileLayout(size, scheme.required)
    shards: list[int] = []
    if layout.segments:
        whole, last = layout.segment(0), layout.segment(layout.segments - 1)
        shards = [whole.shard_bytes] * (layout.segments - 1) + [last.shard_bytes]
    inline = 0 if shards else size
    return [*shards, HEAD_BYTES + inline + PLACE_BYTES * layout.segments * scheme.total]


def _cost(
    offers: Sequence[Terms], lengths: Sequence[int], scheme: Scheme, end: int, moment: Moment
) -> Cost:
    epoch, epoch_s, size = moment.epoch, moment.params.epoch_s, sum(lengths)
    drafts = [
        draft(
            _NOBODY, each, NO_ADDRESS, epoch=epoch, end=end, epoch_s=epoch_s, salt=bytes(ID_BYTES)
        )
        for each in offers
    ]
    deals = [each.terms for each in drafts]
    want, total = Want(sum(map(leaf_count, lengths))), scheme.total
    disk = [stored_cost(each, lengths, end - epoch, moved=False) for each in deals]
    store = [ingress_due(each, Traffic(ingress_bytes=size)) for each in deals]
    fees = moment.params.entry_fee * total
    return Cost(
        _range(disk, total),
        _range(store, total),
        fees,
        _range([a + b for a, b in zip(disk, store, strict=True)], total, fees),
        _range([egress_due(each, Traffic(egress_bytes=size)) for each in deals], scheme.required),
        _range([missing(each, want).locked for each in drafts], total),
    )


def _prices(offers: Sequence[Terms], epoch_s: int) -> Prices:
    return Prices(
        _range([each.disk_price * MONTH_S // epoch_s for each in offers], 1),
        _range([each.ingress_price for each in offers], 1),
        _range([each.egress_price for each in offers], 1),
    )


def _range(each: Sequence[int], count: int, extra: int = 0) -> Range:
    """The sum over the ``count`` cheapest, over as many on average, and over the dearest."""
    ranked = sorted(each)
    mean = sum(ranked) * count // len(ranked)
    return Range(sum(ranked[:count]) + extra, mean + extra, sum(ranked[-count:]) + extra)
