"""Connections that no honest client makes, and holders that lie when they are challenged."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio

from dsn.core.keys import SigningKey, node_id_of
from dsn.dht.contact import Contact
from dsn.errors import DsnError
from dsn.ids import NO_DEAL, NetworkId
from dsn.proofs.por import sign_answer
from dsn.rpc import tls
from dsn.rpc.channel import Connections
from dsn.rpc.tls import Caller
from dsn.units import MIB
from dsn.v1 import node_pb2
from dsn.wire.convert import answer_to_wire, challenge_from_wire

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


# holders that lie when they are challenged

Answering = Callable[[Caller, node_pb2.ChallengeRequest], Awaitable[node_pb2.ChallengeReply]]
Lie = Callable[[Answering, SigningKey, NetworkId], Answering]
"""Makes a liar's answers of an honest node's, its key and its network."""


def honest(answering: Answering, key: SigningKey, network: NetworkId) -> Answering:
    """No lie."""
    return answering


def _forging(
    forge: Callable[[list[bytes]], object], key: SigningKey, network: NetworkId, under: NetworkId
) -> Callable[[Answering], Answering]:
    """Openings that ``forge`` changed, signed as a correct answer of network ``under`` is."""

    def wrap(answering: Answering) -> Answering:
        async def lie(
            caller: Caller, request: node_pb2.ChallengeRequest
        ) -> node_pb2.ChallengeReply:
            openings = list((await answering(caller, request)).openings)
            forge(openings)
            me, asked = node_id_of(key.public), challenge_from_wire(request)
            return answer_to_wire(sign_answer(key.sign, asked, openings, network=under, node=me))

        return lie

    return wrap


def wrong_bytes(answering: Answering, key: SigningKey, network: NetworkId) -> Answering:
    """Signs an opening with a flipped bit: what a node does that keeps no data."""

    def flip(openings: list[bytes]) -> None:
        openings[0] = openings[0][:-1] + bytes([openings[0][-1] ^ 1])

    return _forging(flip, key, network, network)(answering)


def other_network(answering: Answering, key: SigningKey, network: NetworkId) -> Answering:
    """Signs right openings for another network."""
    return _forging(lambda openings: None, key, network, NetworkId(bytes(32)))(answering)


def too_few(answering: Answering, key: SigningKey, network: NetworkId) -> Answering:
    """Signs all openings but the last."""
    return _forging(list[bytes].pop, key, network, network)(answering)


def replayed(answering: Answering, key: SigningKey, network: NetworkId) -> Answering:
    """Gives the first answer that it ever gave to whoever asks."""
    kept: list[node_pb2.ChallengeReply] = []

    async def lie(caller: Caller, request: node_pb2.ChallengeRequest) -> node_pb2.ChallengeReply:
        if not kept:
            kept.append(await answering(caller, request))
        return kept[0]

    return lie


def frozen(answering: Answering, key: SigningKey, network: NetworkId) -> Answering:
    """Takes the question and never answers."""

    async def lie(caller: Caller, request: node_pb2.ChallengeRequest) -> node_pb2.ChallengeReply:
        await asyncio.Event().wait()
        raise AssertionError

    return lie


def _saying(
    outcome: node_pb2.ChallengeReply.Outcome, name: Callable[[Sequence[bytes]], Sequence[bytes]]
) -> Lie:
    def make(answering: Answering, key: SigningKey, network: NetworkId) -> Answering:
        async def lie(
            caller: Caller, request: node_pb2.ChallengeRequest
        ) -> node_pb2.ChallengeReply:
            return node_pb2.ChallengeReply(outcome=outcome, lost=name(request.commits))

        return lie

    return make


lost_one = _saying(node_pb2.ChallengeReply.OUTCOME_LOST, lambda commits: commits[:1])
"""Says that its first shard is lost."""
knows_none = _saying(node_pb2.ChallengeReply.OUTCOME_UNKNOWN, lambda commits: commits)
"""Says that it never took any."""
counts_otherwise = _saying(node_pb2.ChallengeReply.OUTCOME_UNKNOWN, lambda commits: ())
"""Says that the shards have other leaves."""
lost_others = _saying(node_pb2.ChallengeReply.OUTCOME_LOST, lambda commits: [bytes(32)])
"""Names a loss that nobody asked for."""
