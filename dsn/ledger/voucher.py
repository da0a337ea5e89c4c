"""A voucher: what a client has promised a provider for bandwidth under a deal, all told.

Spec: docs/spec/economy.md#voucher.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dsn.errors import DealMismatch, PeerError
from dsn.ids import DealId
from dsn.ledger.typed import Statement, Struct


@dataclass(frozen=True, slots=True)
class Voucher(Statement):
    """``credits`` base units since the deal began; only the highest voucher counts."""

    struct: ClassVar[Struct] = Struct("Voucher(bytes32 deal,uint64 credits)")

    deal: DealId
    credits: int


def check_voucher(voucher: Voucher, deal: DealId, *, paid: int, escrow: int) -> None:
    """Check that a voucher (untrusted) is worth something under ``deal`` and cannot bounce.

    Args:
        voucher: What the client signed; the signature is judged apart.
        deal: The deal it must be for.
        paid: Credits already paid on vouchers of this deal.
        escrow: Credits still locked for bandwidth.

    Raises:
        DealMismatch: ``other_deal``.
        PeerError: ``stale_voucher``: no more than was paid; ``over_escrow``: more than is locked.
    """
    if voucher.deal != deal:
        raise DealMismatch("voucher: it is of another deal", code="other_deal")
    if voucher.credits <= paid:
        raise PeerError(
            f"voucher: {voucher.credits} credits, {paid} are paid already", code="stale_voucher"
        )
    if voucher.credits - paid > escrow:
        raise PeerError(
            f"voucher: {voucher.credits - paid} credits more, {escrow} are locked for bandwidth",
            code="over_escrow",
            hint="top up the deal",
        )
