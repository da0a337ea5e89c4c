"""Errors survive the wire: class, code, message, hint, evidence and retry-after."""

from __future__ import annotations

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from dsn import errors
from dsn.errors import DealMismatch, DsnError, MalformedMessage, PeerError, TooMany
from dsn.v1.types_pb2 import ErrorDetail
from dsn.wire.status import DETAIL_KEY, TABLE, RetryLater, from_rpc_error, to_status

PEER = "nabc"


def failed(status: grpc.StatusCode, details: str, *trailers: tuple[str, bytes]) -> AioRpcError:
    return AioRpcError(status, Metadata(), Metadata(*trailers), details=details)


def over_the_wire(error: DsnError) -> DsnError:
    status, detail = to_status(error)
    return from_rpc_error(failed(status, "", (DETAIL_KEY, detail.SerializeToString())), PEER)


def all_classes() -> set[type[DsnError]]:
    found, left = set(), [DsnError]
    while left:
        kind = left.pop()
        found.add(kind)
        left += [sub for sub in kind.__subclasses__() if sub.__module__ == errors.__name__]
    return found


def test_every_class_has_a_row_under_its_own_code() -> None:
    rows = {(row.error, row.code) for row in TABLE}
    assert {(kind, kind.code) for kind in all_classes()} <= rows


def test_no_code_stands_twice() -> None:
    codes = [row.code for row in TABLE]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.code)
def test_class_code_and_text_come_back(row: object) -> None:
    error = row.error("two of 3 given", hint="give 3", code=row.code)  # type: ignore[attr-defined]
    back = over_the_wire(error)
    assert type(back) is type(error)
    assert back.detail_code == error.detail_code
    assert back.message == f"{PEER}: two of 3 given"
    assert (back.hint, back.peer) == ("give 3", PEER)


def test_a_code_the_table_lacks_takes_its_class_from_the_status() -> None:
    back = over_the_wire(errors.NotFound("gone", code="something_new"))
    assert type(back) is errors.NotFound
    assert back.detail_code == "something_new"


def test_evidence_and_retry_after_travel() -> None:
    back = over_the_wire(DealMismatch("no", evidence=b"newest"))
    assert isinstance(back, DealMismatch)
    assert back.evidence == b"newest"
    later = over_the_wire(RetryLater("full", retry_after_s=1.5))
    assert isinstance(later, RetryLater)
    assert (later.retry_after_s, later.detail_code) == (1.5, TooMany.code)


def test_long_texts_are_cut_to_fit_the_metadata() -> None:
    error = PeerError("m" * 90_000, hint="h" * 90_000, evidence=b"e" * 90_000)
    _, detail = to_status(error)
    assert detail.ByteSize() < 8_192


def test_a_detail_that_does_not_decode_is_malformed() -> None:
    back = from_rpc_error(failed(grpc.StatusCode.INTERNAL, "", (DETAIL_KEY, b"\xff\xff")), PEER)
    assert type(back) is MalformedMessage


def test_an_unknown_code_from_a_newer_peer_is_a_peer_error() -> None:
    detail = ErrorDetail(code="from_the_future", message="x").SerializeToString()
    back = from_rpc_error(failed(grpc.StatusCode.UNKNOWN, "", (DETAIL_KEY, detail)), PEER)
    assert type(back) is PeerError
    assert back.detail_code == "from_the_future"


@pytest.mark.parametrize(
    ("status", "details", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "connection refused", errors.Unreachable),
        (grpc.StatusCode.UNAVAILABLE, "x: CERTIFICATE_VERIFY_FAILED: y", errors.WrongIdentity),
        (grpc.StatusCode.INTERNAL, "CERTIFICATE_VERIFY_FAILED", PeerError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", errors.TimedOut),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too large", TooMany),
        (grpc.StatusCode.UNIMPLEMENTED, "", PeerError),
        (grpc.StatusCode.CANCELLED, "", errors.TransportError),
    ],
)
def test_failures_that_grpc_itself_reports(
    status: grpc.StatusCode, details: str, kind: type[DsnError]
) -> None:
    back = from_rpc_error(failed(status, details), PEER)
    assert type(back) is kind
    assert back.peer == PEER
