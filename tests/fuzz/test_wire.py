"""Whatever bytes arrive, decoders return a value or refuse by name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata
from hypothesis import given
from hypothesis import strategies as st

from dsn.errors import DsnError, MalformedMessage
from dsn.rpc.server import decode
from dsn.v1 import node_pb2, types_pb2
from dsn.wire import convert
from dsn.wire.status import DETAIL_KEY, from_rpc_error

DECODERS: tuple[Callable[[bytes], Any], ...] = (
    convert.receipts_from_wire,
    convert.decode_revision,
    convert.holdings_from_wire,
    convert.commit_from_wire,
    lambda raw: convert.challenge_from_wire(decode(node_pb2.ChallengeRequest, raw)),
    lambda raw: convert.answer_from_wire(decode(node_pb2.ChallengeReply, raw)),
    lambda raw: convert.revision_from_wire(decode(types_pb2.Revision, raw)),
    lambda raw: decode(node_pb2.PutHeader, raw),
    lambda raw: decode(node_pb2.GetShardRequest, raw),
)
FIELDS = st.lists(
    st.tuples(st.integers(1, 8), st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=70))),
    max_size=8,
)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def message(fields: list[tuple[int, int | bytes]]) -> bytes:
    """Valid protobuf with fields that need not make sense."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(varint(number << 3) + varint(value))
        else:
            parts.append(varint(number << 3 | 2) + varint(len(value)) + value)
    return b"".join(parts)


@pytest.mark.parametrize("read", DECODERS)
@given(raw=st.one_of(st.binary(max_size=200), FIELDS.map(message)))
def test_decoders_refuse_by_name(read: Callable[[bytes], Any], raw: bytes) -> None:
    with suppress(MalformedMessage):
        read(raw)


@given(
    status=st.sampled_from(list(grpc.StatusCode)),
    details=st.text(max_size=80),
    raw=st.one_of(st.none(), st.binary(max_size=80), FIELDS.map(message)),
)
def test_any_failure_becomes_an_error_of_ours(
    status: grpc.StatusCode, details: str, raw: bytes | None
) -> None:
    trailers = Metadata() if raw is None else Metadata((DETAIL_KEY, raw))
    error = from_rpc_error(AioRpcError(status, Metadata(), trailers, details=details), "npeer")
    assert isinstance(error, DsnError)
    assert error.peer == "npeer"
