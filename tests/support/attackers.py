"""Connections that no honest client makes; each stays open until the block ends."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio

from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact
from dsn.errors import DsnError
from dsn.ids import NO_DEAL, NetworkId
from dsn.rpc import tls
from dsn.rpc.channel import Connections
from dsn.units import MIB
from dsn.v1 import node_pb2

_AT = "/dsn.v1.NodeService/"
_HELLO = bytes.fromhex("1603010200010001fc0303")
"""The start of a TLS handshake that promises 512 bytes more."""
Attack = Callable[[Contact, NetworkId, AsyncExitStack], Awaitable[None]]


async def _raw(node: Contact, data: bytes, stack: AsyncExitStack) -> None:
    host, _, port = node.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    stack.callback(reader.feed_eof)
    stack.callback(writer.close)
    writer.write(data)


async def random_bytes(node: Contact, network: NetworkId, stack: AsyncExitStack) -> None:
    """Noise instead of TLS."""
    await _raw(node, random.randbytes(2_000), stack)


async def half_open(node: Contact, network: NetworkId, stack: AsyncExitStack) -> None:
    """A handshake that never goes on."""
    await _raw(node, _HELLO, stack)


async def oversized(node: Contact, network: NetworkId, stack: AsyncExitStack) -> None:
    """A proven identity, and messages of 4 MiB."""
    channel = grpc.aio.secure_channel(
        node.address,
        tls.channel_credentials(tls.client_leaf(SigningKey(os.urandom(32))), node.public_key),
        options=(
            ("grpc.ssl_target_name_override", tls.target_name(node.node_id)),
            ("grpc.use_local_subchannel_pool", 1),
        ),
    )
    stack.push_async_callback(channel.close)
    call: Any = channel.unary_unary(_AT + "Revise")
    with suppress(grpc.aio.AioRpcError):
        await call(bytes(4 * MIB), metadata=(("dsn-network", network.hex()),))


async def slow(node: Contact, network: NetworkId, stack: AsyncExitStack) -> None:
    """A proven identity, a shard announced and begun, then silence."""
    connections = Connections(SigningKey(os.urandom(32)), network)
    await stack.enter_async_context(connections)
    peer = await stack.enter_async_context(connections.peer(node, fresh=True))
    stream = peer.put_shards()
    stack.callback(stream.cancel)
    header = node_pb2.PutHeader(deal=NO_DEAL, length=8 * MIB).SerializeToString()
    with suppress(DsnError):
        await stream.write(header)
        for _ in range(3):
            await stream.write(bytes(MIB))


KINDS: tuple[Attack, ...] = (random_bytes, half_open, oversized, slow)


@asynccontextmanager
async def attacking(node: Contact, network: NetworkId, count: int) -> AsyncIterator[None]:
    """``count`` bad connections of all kinds, open while the block runs."""
    async with AsyncExitStack() as stack:
        at_once = asyncio.Semaphore(32)

        async def attack(kind: Attack) -> None:
            async with at_once:
                with suppress(OSError):
                    await kind(node, network, stack)

        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(attack(KINDS[number % len(KINDS)]))
        yield
