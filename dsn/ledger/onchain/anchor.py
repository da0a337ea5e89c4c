"""A note that operator and witnesses signed for a chain, as the vault takes it.

Spec: docs/spec/chain.md#anchors.
"""

from __future__ import annotations

from dsn.errors import InvalidSignature
from dsn.ledger.checkpoint import SignedCheckpoint, cosigned_roots, verify_root
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.params import LedgerParams


def anchor_call(signed: SignedCheckpoint, params: LedgerParams) -> OnChain:
    """``Vault.anchor`` of a checkpoint, with no more signatures than the quorum: each costs gas.

    Args:
        signed: Untrusted; what is no signature of a witness's settlement key is passed over.
        params: The network's.

    Raises:
        InvalidSignature: ``unsigned_checkpoint``, ``invalid_signature`` or
            ``malleated_signature``: the operator's line; ``no_quorum``: too few witnesses'.

    Cost: about 50 us a line.
    """
    verify_root(signed, params.domain, params.operator)
    found = cosigned_roots(signed, params.domain, params.cosigners)
    if len(found) < params.quorum:
        raise InvalidSignature(
            f"checkpoint: {len(found)} of {len(params.cosigners)} witnesses signed it for the "
            f"chain, {params.quorum} needed",
            code="no_quorum",
            hint="ask for a newer checkpoint, or wait until the witnesses have followed",
        )
    root = tuple(signed.checkpoint.ledger_root.values())
    signatures = list(found.values())[: params.quorum]
    return OnChain("Vault", "anchor", (root, signed.root_signature(params.operator), signatures))
