"""Anchoring: the newest published checkpoint goes into the vault, sent by whoever pays the gas.

Spec: docs/spec/chain.md#vault.
"""

from __future__ import annotations

from dataclasses import dataclass

from dsn.apps.chain.vault import Anchored, Vault
from dsn.chain import Call, Chain
from dsn.errors import ChainRefused
from dsn.ledger.checkpoint import SignedCheckpoint
from dsn.ledger.onchain.anchor import anchor_call
from dsn.ledger.params import LedgerParams


@dataclass(frozen=True, slots=True)
class AnchorMade:
    """The anchor of a checkpoint, and the gas that making it took; 0: it was there."""

    anchor: Anchored
    gas: int


async def anchor_checkpoint(
    chain: Chain, signed: SignedCheckpoint, params: LedgerParams
) -> AnchorMade:
    """Anchor ``signed``, unless as much is anchored already.

    Args:
        chain: Has the vault; pays.
        signed: Published: by the operator and a quorum of witnesses, with their lines for a chain.
        params: The ledger's.

    Raises:
        InvalidSignature: ``unsigned_checkpoint``, ``no_quorum``: it has too few such lines.
        ChainRefused: ``frozen``.
        LimitReached: ``not_enough_gas``.
    """
    vault, gas = Vault(chain), 0
    newest = await vault.newest()
    if newest is None or newest.size < signed.checkpoint.size:
        try:
            gas = (await chain.send(Call(*anchor_call(signed, params)))).gas
        except ChainRefused as error:
            if error.detail_code != "log_shrunk":  # somebody else has anchored it, or more
                raise
        newest = await vault.newest()
        assert newest is not None
    return AnchorMade(newest, gas)
