"""A deal: what a client and a provider agree on, and how they change or end it.

Spec: docs/spec/economy.md#deal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from dsn.core.codec import U64_MAX
from dsn.errors import PeerError
from dsn.ids import DealId
from dsn.ledger.settlement import Address
from dsn.ledger.typed import Domain, Statement, Struct, digest

MAX_MISS_LIMIT: Final = 700
"""Epochs: the ledger remembers 720, and must see every miss before it forgets."""


@dataclass(frozen=True, slots=True)
class Deal(Statement):
    """The terms that both sign; amounts are in base units, dates and spans in epochs.

    Attributes:
        client: Whose credits are locked; signs revisions and vouchers.
        provider: Who is paid; signs revisions.
        disk_price: A GiB-epoch.
        ingress_price: A GiB stored.
        egress_price: A GiB read.
        repair_price: A GiB: what the loss of a shard costs its provider.
        open_by: The last epoch in which the deal can be opened.
        end: The last epoch that is paid for, before the grace.
        grace: How long after ``end`` data is kept, and still paid for.
        notice: How long before its end a party that quits says so.
        miss_limit: Unproven epochs above which the deal is slashable; at most 700.
        dispute: How long after its end openings can be demanded.
        disk_escrow: Locked for disk.
        bandwidth_escrow: Locked for bandwidth.
        collateral_ppm: Of what would be owed for repair, in millionths, how much the provider
            covers with credits of its own.
        free_leaves: Up to here no collateral is asked for.
        delegate: Who may sign for the client within the two limits; ``NO_ADDRESS`` for nobody.
        delegate_credits: The most the delegate's vouchers may reach.
        delegate_leaves: The most leaves a revision by the delegate may have.
        salt: 32 random bytes, so that equal terms can be agreed on twice.
    """

    struct: ClassVar[Struct] = Struct(
        "Deal(address client,address provider,uint64 disk_price,uint64 ingress_price,"
        "uint64 egress_price,uint64 repair_price,uint64 open_by,uint64 end,uint64 grace,"
        "uint64 notice,uint64 miss_limit,uint64 dispute,uint64 disk_escrow,"
        "uint64 bandwidth_escrow,uint64 collateral_ppm,uint64 free_leaves,address delegate,"
        "uint64 delegate_credits,uint64 delegate_leaves,bytes32 salt)"
    )

    client: Address
    provider: Address
    disk_price: int
    ingress_price: int
    egress_price: int
    repair_price: int
    open_by: int
    end: int
    grace: int
    notice: int
    miss_limit: int
    dispute: int
    disk_escrow: int
    bandwidth_escrow: int
    collateral_ppm: int
    free_leaves: int
    delegate: Address
    delegate_credits: int
    delegate_leaves: int
    salt: bytes

    def deal_id(self, domain: Domain) -> DealId:
        """What everything else calls this deal: the digest that both sign."""
        return DealId(digest(domain, self))


def check_deal(deal: Deal) -> None:
    """Check what is wrong with a deal (untrusted) in every network and at any time.

    Raises:
        PeerError: ``same_party``: with oneself; ``bad_miss_limit``: over 700 epochs;
            ``bad_term``: end and grace pass 2^64.
    """
    if deal.client == deal.provider:
        raise PeerError("deal: client and provider are the same", code="same_party")
    if deal.miss_limit > MAX_MISS_LIMIT:
        raise PeerError(
            f"deal: a miss limit of {deal.miss_limit} epochs, at most {MAX_MISS_LIMIT} allowed",
            code="bad_miss_limit",
        )
    if deal.end + deal.grace > U64_MAX:
        raise PeerError(
            f"deal: end {deal.end} and a grace of {deal.grace} epochs pass 2^64", code="bad_term"
        )


@dataclass(frozen=True, slots=True)
class Extension(Statement):
    """Both agree on a later end; ``serial`` counts the extensions of a deal from 1."""

    struct: ClassVar[Struct] = Struct("Extension(bytes32 deal,uint64 serial,uint64 end)")

    deal: DealId
    serial: int
    end: int


@dataclass(frozen=True, slots=True)
class Close(Statement):
    """Both agree that a deal ends in this very epoch."""

    struct: ClassVar[Struct] = Struct("Close(bytes32 deal,uint64 epoch)")

    deal: DealId
    epoch: int
