"""Whom a reader of a network's ledger believes: the operator's keys and a quorum of witnesses.

Spec: docs/spec/economy.md#log-checkpoints-cosignatures.
"""

from __future__ import annotations

from dataclasses import dataclass

from dsn.core.keys import node_id_of
from dsn.ids import format_node_id
from dsn.ledger.checkpoint import (
    KeyKind,
    NoteKey,
    SignedCheckpoint,
    log_origin,
    verify_checkpoint,
    verify_root,
)
from dsn.ledger.cosignature import Quorum, verify_quorum
from dsn.ledger.params import LedgerParams


@dataclass(frozen=True, slots=True)
class Trust:
    """Keys by which a checkpoint is judged; all of them come from the network file."""

    params: LedgerParams
    operator: NoteKey
    quorum: Quorum

    @classmethod
    def of(cls, params: LedgerParams) -> Trust:
        """The keys that ``params`` fixes."""
        operator = NoteKey(KeyKind.OPERATOR, log_origin(params.domain.network), params.log_key)
        witnesses = tuple(witness_key(public) for public in sorted(params.witnesses))
        return cls(params, operator, Quorum(witnesses, params.quorum))

    def verify_operator(self, signed: SignedCheckpoint) -> None:
        """Check that the operator signed ``signed`` (untrusted) with both its keys.

        Raises:
            InvalidProof: ``other_log``.
            InvalidSignature: ``unsigned_checkpoint``, ``invalid_signature``.
        """
        verify_checkpoint(signed, self.operator)
        verify_root(signed, self.params.domain, self.params.operator)

    def verify(self, signed: SignedCheckpoint, now_s: int) -> None:
        """Check that the operator signed ``signed`` (untrusted) and a quorum followed it there.

        Raises:
            InvalidProof: As ``verify_operator``.
            InvalidSignature: As ``verify_operator`` and ``verify_quorum``: ``no_quorum``.
        """
        self.verify_operator(signed)
        verify_quorum(signed, self.quorum, now_s)


def witness_key(public: bytes) -> NoteKey:
    """The note key of a witness with the Ed25519 key ``public``: it goes by its node id."""
    return NoteKey(KeyKind.WITNESS, format_node_id(node_id_of(public)), public)
