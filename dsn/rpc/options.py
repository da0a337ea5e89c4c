"""Channel arguments and metadata that both ends of a connection agree on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dsn.units import KIB, MIB

ChannelOption = tuple[str, str | int]

MAX_MESSAGE_BYTES: Final = MIB + 64 * KIB
"""A whole data frame, or 64 KiB of shard with its header, never two."""
MAX_METADATA_BYTES: Final = 16 * KIB
NETWORK_KEY: Final = "dsn-network"
"""Metadata of every call: the network id in hex."""

SHARED: Final[Sequence[ChannelOption]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
)
CLIENT: Final[Sequence[ChannelOption]] = (
    *SHARED,
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
SERVER: Final[Sequence[ChannelOption]] = (
    *SHARED,
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 64),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_allowed_incoming_connections", 4_096),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 40_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
)
