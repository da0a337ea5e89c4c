"""The one table from error classes and codes to gRPC statuses, and both ways through it.

The stable code travels in an ``ErrorDetail`` in the trailing metadata; the gRPC status is for
tools that know nothing of dsn. Nothing is ever decided from a message's text, but for the one
case that TLS leaves no other way: see ``_is_wrong_identity``.

Spec: docs/reference/errors.md
"""

from __future__ import annotations

from typing import Final, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from grpc.aio import AioRpcError

from dsn import errors
from dsn.errors import DsnError, PeerError, TooMany
from dsn.v1.types_pb2 import ErrorDetail

DETAIL_KEY: Final = "dsn-error-bin"
_TEXT_CHARS = 1_000
_EVIDENCE_BYTES = 8_192
"""More does not travel with an error, and half of it would prove nothing."""


class RetryLater(TooMany):
    """A bound was met that time lifts: come back after ``retry_after_s``."""

    def __init__(
        self, message: str, *, retry_after_s: float, hint: str = "", code: str = "", peer: str = ""
    ) -> None:
        """Keep when the call may be tried again."""
        super().__init__(message, hint=hint, code=code, peer=peer)
        self.retry_after_s = retry_after_s


class Row(NamedTuple):
    """One line of the table; a class's first row carries its own code."""

    error: type[DsnError]
    code: str
    status: grpc.StatusCode


_S = grpc.StatusCode
TABLE: Final = (
    Row(errors.UsageError, "usage", _S.INVALID_ARGUMENT),
    Row(errors.UsageError, "bad_id", _S.INVALID_ARGUMENT),
    Row(errors.UsageError, "bad_node_record", _S.INVALID_ARGUMENT),
    Row(errors.UsageError, "bad_range", _S.INVALID_ARGUMENT),
    Row(errors.UsageError, "no_verdict", _S.INVALID_ARGUMENT),
    Row(errors.UsageError, "not_appealable", _S.INVALID_ARGUMENT),
    Row(errors.ConfigError, "config", _S.FAILED_PRECONDITION),
    Row(errors.ConfigError, "other_network", _S.FAILED_PRECONDITION),
    Row(errors.PeerError, "peer", _S.UNKNOWN),
    Row(errors.PeerError, "internal", _S.INTERNAL),
    Row(errors.PeerError, "unimplemented", _S.UNIMPLEMENTED),
    Row(errors.PeerError, "expired", _S.INVALID_ARGUMENT),
    Row(errors.PeerError, "bad_expiry", _S.INVALID_ARGUMENT),
    Row(errors.PeerError, "from_future", _S.INVALID_ARGUMENT),
    Row(errors.PeerError, "foreign_key", _S.INVALID_ARGUMENT),
    Row(errors.PeerError, "stale_record", _S.ABORTED),
    Row(errors.PeerError, "payment_due", _S.RESOURCE_EXHAUSTED),
    Row(errors.PeerError, "over_escrow", _S.INVALID_ARGUMENT),
    Row(errors.PeerError, "same_party", _S.INVALID_ARGUMENT),
    Row(errors.PeerError, "bad_miss_limit", _S.INVALID_ARGUMENT),
    Row(errors.PeerError, "bad_term", _S.INVALID_ARGUMENT),
    Row(errors.PeerError, "terms_expired", _S.FAILED_PRECONDITION),
    Row(errors.PeerError, "stale_voucher", _S.ABORTED),
    Row(errors.PeerError, "forked_ledger", _S.FAILED_PRECONDITION),
    Row(errors.PeerError, "ledger_behind", _S.FAILED_PRECONDITION),
    Row(errors.PeerError, "wrong_entry", _S.FAILED_PRECONDITION),
    Row(errors.PeerError, "wrong_leaves", _S.FAILED_PRECONDITION),
    Row(errors.PeerError, "ledger_refused", _S.FAILED_PRECONDITION),
    Row(errors.PeerError, "unknown_deposit", _S.FAILED_PRECONDITION),
    Row(errors.PeerError, "unknown_slash", _S.FAILED_PRECONDITION),
    Row(errors.MalformedMessage, "malformed_message", _S.INVALID_ARGUMENT),
    Row(errors.MalformedMessage, "too_large", _S.INVALID_ARGUMENT),
    Row(errors.MalformedMessage, "bad_contact", _S.INVALID_ARGUMENT),
    Row(errors.MalformedMessage, "bad_length", _S.INVALID_ARGUMENT),
    Row(errors.MalformedMessage, "bad_frame", _S.INVALID_ARGUMENT),
    Row(errors.MalformedMessage, "bad_tile_path", _S.INVALID_ARGUMENT),
    Row(errors.InvalidSignature, "invalid_signature", _S.INVALID_ARGUMENT),
    Row(errors.InvalidSignature, "unproven_identity", _S.UNAUTHENTICATED),
    Row(errors.InvalidSignature, "malleated_signature", _S.INVALID_ARGUMENT),
    Row(errors.InvalidSignature, "not_the_operator", _S.PERMISSION_DENIED),
    Row(errors.InvalidProof, "invalid_proof", _S.INVALID_ARGUMENT),
    Row(errors.InvalidProof, "commit_mismatch", _S.INVALID_ARGUMENT),
    Row(errors.InvalidProof, "bad_leaf", _S.INVALID_ARGUMENT),
    Row(errors.InvalidProof, "bad_beacon", _S.INVALID_ARGUMENT),
    Row(errors.DealMismatch, "deal_mismatch", _S.ABORTED),
    Row(errors.DealMismatch, "holdings_mismatch", _S.ABORTED),
    Row(errors.DealMismatch, "terms_mismatch", _S.FAILED_PRECONDITION),
    Row(errors.DealMismatch, "other_deal", _S.FAILED_PRECONDITION),
    Row(errors.NotFound, "not_found", _S.NOT_FOUND),
    Row(errors.NotFound, "unknown_shard", _S.NOT_FOUND),
    Row(errors.NotFound, "unknown_deal", _S.NOT_FOUND),
    Row(errors.NotFound, "unknown_entry", _S.NOT_FOUND),
    Row(errors.NotFound, "unknown_answer", _S.NOT_FOUND),
    Row(errors.NotFound, "no_such_tile", _S.NOT_FOUND),
    Row(errors.NotFound, "no_such_log", _S.NOT_FOUND),
    Row(errors.NotFound, "no_faucet", _S.NOT_FOUND),
    Row(errors.ChainRefused, "chain_refused", _S.FAILED_PRECONDITION),
    Row(errors.EntryRefused, "entry_refused", _S.FAILED_PRECONDITION),
    Row(errors.EntryRefused, "not_bound", _S.FAILED_PRECONDITION),
    Row(errors.EntryRefused, "not_a_party", _S.PERMISSION_DENIED),
    Row(errors.EntryRefused, "deal_not_open", _S.FAILED_PRECONDITION),
    Row(errors.EntryRefused, "not_covered", _S.FAILED_PRECONDITION),
    Row(errors.EntryRefused, "wrong_extension", _S.FAILED_PRECONDITION),
    Row(errors.EntryRefused, "end_not_later", _S.FAILED_PRECONDITION),
    Row(errors.EntryRefused, "delegate_lowers", _S.FAILED_PRECONDITION),
    Row(errors.EntryRefused, "over_delegate_leaves", _S.FAILED_PRECONDITION),
    Row(errors.LimitReached, "limit", _S.RESOURCE_EXHAUSTED),
    Row(errors.LimitReached, "deal_needed", _S.FAILED_PRECONDITION),
    Row(errors.LimitReached, "payment_needed", _S.RESOURCE_EXHAUSTED),
    Row(errors.LimitReached, "escrow_spent", _S.RESOURCE_EXHAUSTED),
    Row(errors.LimitReached, "bundle_too_large", _S.RESOURCE_EXHAUSTED),
    Row(errors.LimitReached, "faucet_empty", _S.RESOURCE_EXHAUSTED),
    Row(errors.LimitReached, "too_many_bytes", _S.RESOURCE_EXHAUSTED),
    Row(errors.NoSpace, "no_space", _S.RESOURCE_EXHAUSTED),
    Row(errors.TooMany, "too_many", _S.RESOURCE_EXHAUSTED),
    Row(errors.TooMany, "ledger_busy", _S.RESOURCE_EXHAUSTED),
    Row(errors.TooMany, "faucet_busy", _S.RESOURCE_EXHAUSTED),
    Row(errors.TooMany, "shut_too_early", _S.RESOURCE_EXHAUSTED),
    Row(errors.TooMany, "salt_missing", _S.RESOURCE_EXHAUSTED),
    Row(errors.TooMany, "salt_stale", _S.RESOURCE_EXHAUSTED),
    Row(errors.TooMany, "epoch_not_open", _S.RESOURCE_EXHAUSTED),
    Row(errors.TooMany, "catching_up", _S.RESOURCE_EXHAUSTED),
    Row(errors.TooMany, "too_slow", _S.RESOURCE_EXHAUSTED),
    Row(errors.TooMany, "pending_limit", _S.RESOURCE_EXHAUSTED),
    Row(errors.TooMany, "publisher_quota", _S.RESOURCE_EXHAUSTED),
    Row(errors.TooMany, "records_full", _S.RESOURCE_EXHAUSTED),
    Row(errors.TooMany, "holders_full", _S.RESOURCE_EXHAUSTED),
    Row(errors.DataLost, "data_lost", _S.DATA_LOSS),
    Row(errors.DataLost, "witness_damaged", _S.DATA_LOSS),
    Row(errors.DataLost, "disk_failed", _S.DATA_LOSS),
    Row(errors.DataLost, "store_closed", _S.DATA_LOSS),
    Row(errors.ShardCorrupt, "shard_corrupt", _S.DATA_LOSS),
    Row(errors.ShardCorrupt, "shard_lost", _S.DATA_LOSS),
    Row(errors.ShardCorrupt, "disk_error", _S.DATA_LOSS),
    Row(errors.NotEnoughShards, "not_enough_shards", _S.DATA_LOSS),
    Row(errors.TransportError, "transport", _S.UNAVAILABLE),
    Row(errors.TransportError, "stopping", _S.UNAVAILABLE),
    Row(errors.Unreachable, "unreachable", _S.UNAVAILABLE),
    Row(errors.Unreachable, "ledger_unreachable", _S.UNAVAILABLE),
    Row(errors.Unreachable, "chain_unreachable", _S.UNAVAILABLE),
    Row(errors.WrongIdentity, "wrong_identity", _S.UNAVAILABLE),
    Row(errors.TimedOut, "timed_out", _S.DEADLINE_EXCEEDED),
    Row(errors.DsnError, "error", _S.UNKNOWN),
)
_BY_CODE = {row.code: row for row in TABLE}
_BY_STATUS: dict[grpc.StatusCode, type[DsnError]] = {
    _S.UNAVAILABLE: errors.Unreachable,
    _S.DEADLINE_EXCEEDED: errors.TimedOut,
    _S.RESOURCE_EXHAUSTED: errors.TooMany,
    _S.CANCELLED: errors.TransportError,
    _S.NOT_FOUND: errors.NotFound,
    _S.DATA_LOSS: errors.DataLost,
    _S.FAILED_PRECONDITION: errors.ConfigError,
}


def to_status(error: DsnError) -> tuple[grpc.StatusCode, ErrorDetail]:
    """What a failed call says of ``error``: its gRPC status and the typed detail."""
    row = _BY_CODE.get(error.detail_code) or _BY_CODE[error.code]
    detail = ErrorDetail(
        code=error.detail_code,
        message=error.message[:_TEXT_CHARS],
        hint=error.hint[:_TEXT_CHARS],
    )
    if isinstance(error, PeerError) and len(error.evidence) <= _EVIDENCE_BYTES:
        detail.evidence = error.evidence
    if isinstance(error, RetryLater):
        detail.retry_after_ms = max(1, round(error.retry_after_s * 1000))
    return row.status, detail


def from_rpc_error(error: AioRpcError, peer: str = "") -> DsnError:
    """The error behind a failed call to ``peer`` (its node id text, or an address)."""
    trailers = error.trailing_metadata() or ()
    raw = next((value for key, value in trailers if key == DETAIL_KEY), None)
    if isinstance(raw, bytes):
        return _from_detail(raw, error.code(), peer)
    status, details = error.code(), error.details() or ""
    if _is_wrong_identity(status, details):
        return errors.WrongIdentity(
            f"{peer or 'the server'} is not who it should be: wrong key", peer=peer
        )
    reason = details.rpartition(": ")[2].strip()[:200].lower()
    if status is _S.UNAVAILABLE:
        return errors.Unreachable(f"{peer or 'the server'} does not answer: {reason}", peer=peer)
    kind = _BY_STATUS.get(status, errors.PeerError)
    return kind(f"{peer or 'the server'}: {status.name.lower()}: {reason}", peer=peer)


def _from_detail(raw: bytes, status: grpc.StatusCode, peer: str) -> DsnError:
    try:
        detail = ErrorDetail.FromString(raw)
    except DecodeError:
        return errors.MalformedMessage("an error that does not decode", peer=peer, evidence=raw)
    row = _BY_CODE.get(detail.code)
    kind = row.error if row else _BY_STATUS.get(status, errors.PeerError)
    message = f"{peer}: {detail.message}" if peer else detail.message
    if detail.retry_after_ms:
        return RetryLater(
            message,
            retry_after_s=detail.retry_after_ms / 1000,
            hint=detail.hint,
            code=detail.code,
            peer=peer,
        )
    if issubclass(kind, PeerError):
        return kind(
            message, hint=detail.hint, code=detail.code, peer=peer, evidence=detail.evidence
        )
    return kind(message, hint=detail.hint, code=detail.code, peer=peer)


def _is_wrong_identity(status: grpc.StatusCode, details: str) -> bool:
    """Whether TLS refused the server's key: gRPC says so in the text and nowhere else."""
    return status is _S.UNAVAILABLE and "CERTIFICATE_VERIFY_FAILED" in details
