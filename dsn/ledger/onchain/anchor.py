"""Notes that operator and witnesses signed for a chain, as the vault takes them.

Spec: docs/spec/chain.md#anchors.
"""

from __future__ import annotations

from dsn.errors import InvalidProof, InvalidSignature
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


def equivocation_call(
    one: SignedCheckpoint, other: SignedCheckpoint, params: LedgerParams
) -> OnChain:
    """``Vault.convict_equivocation``: the operator signed two contents of one size.

    Args:
        one: Untrusted.
        other: Untrusted.
        params: The network's.

    Raises:
        InvalidSignature: ``unsigned_checkpoint``, ``invalid_signature`` or
            ``malleated_signature``: not both have the operator's line for a chain.
        InvalidProof: ``no_fault``: both can be true, as far as a chain can tell.
    """
    args = list[object]()
    for signed in (one, other):
        verify_root(signed, params.domain, params.operator)
        root = tuple(signed.checkpoint.ledger_root.values())
        args += root, signed.root_signature(params.operator)
    if one.checkpoint.size != other.checkpoint.size or args[0] == args[2]:
        raise InvalidProof(
            f"checkpoints of {one.checkpoint.size} and {other.checkpoint.size} entries, two "
            "different ones of one size needed",
            code="no_fault",
        )
    return OnChain("Vault", "convict_equivocation", tuple(args))
