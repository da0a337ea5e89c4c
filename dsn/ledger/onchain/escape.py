"""How an account leaves a frozen vault: what it shows of the state that the last anchor has.

Everything here anybody may have done for anybody; each account and deal escapes once.

Spec: docs/spec/chain.md#escape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dsn.errors import NotFound
from dsn.ids import DealId
from dsn.ledger.bodies import SignedVoucher
from dsn.ledger.cells import AccountCell, CellKind, DealCell, cell_key
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.onchain.tuples import account_tuple, deal_tuple, place_tuple
from dsn.ledger.settlement import Address
from dsn.ledger.state import State

BATCH: Final = 64
"""Vouchers that the vault takes at once."""


def escape_account(state: State, account: Address) -> OnChain:
    """What an account has, or that the state does not know it, so that its deposits come back.

    Args:
        state: As the vault's last anchor has it; genesis if none stands.
        account: Whose.
    """
    place = place_tuple(state.tree, cell_key(CellKind.ACCOUNT, account))
    cell = state.cell(CellKind.ACCOUNT, account)
    if isinstance(cell, AccountCell):
        return OnChain("Vault", "escape_account", (account_tuple(cell), place))
    return OnChain("Vault", "escape_absent", (account, place))


def escape_deal(state: State, deal: DealId) -> OnChain:
    """What a deal has locked, so that it is divided.

    Raises:
        NotFound: ``no_deal``: the state has none of this id.
    """
    cell = state.cell(CellKind.DEAL, deal)
    if not isinstance(cell, DealCell):
        raise NotFound(f"the anchored state has no deal {deal.hex()}", code="no_deal")
    provider = state.account(cell.terms.provider)
    shown = deal_tuple(cell), place_tuple(state.tree, cell.key)
    by = account_tuple(provider), place_tuple(state.tree, provider.key)
    return OnChain("Vault", "escape_deal", (*shown, *by))


def redeem_calls(vouchers: Sequence[SignedVoucher]) -> list[OnChain]:
    """Vouchers of escaped deals, in batches; the newest of each row of a deal is enough."""
    return [
        OnChain("Vault", "redeem_many", ([_voucher(each) for each in vouchers[at : at + BATCH]],))
        for at in range(0, len(vouchers), BATCH)
    ]


def finish_call(deal: DealId) -> OnChain:
    """What no voucher claimed goes back to the client, once vouchers are taken no more."""
    return OnChain("Vault", "finish_deal", (deal,))


def _voucher(signed: SignedVoucher) -> tuple[Any, ...]:
    """``Vault.Voucher``."""
    voucher, raw = signed.voucher, signed.signature
    return voucher.deal, voucher.credits, signed.by_delegate, raw[64], raw[:32], raw[32:64]
