"""Both ends prove who they are before anything else happens, on real connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from dsn.core.keys import SigningKey, node_id_of
from dsn.dht.contact import Contact
from dsn.errors import (
    ConfigError,
    DsnError,
    InvalidSignature,
    MalformedMessage,
    PeerError,
    TimedOut,
    TransportError,
    Unreachable,
    WrongIdentity,
)
from dsn.ids import NetworkId, format_node_id
from dsn.rpc import tls
from dsn.rpc.channel import Connections, NodePeer
from dsn.rpc.limits import Limits
from dsn.rpc.server import Method, Server, ServerStream, Streaming, Unary
from dsn.rpc.tls import Caller, Leaf
from dsn.v1 import node_pb2
from dsn.wire.status import DETAIL_KEY, RetryLater, from_rpc_error
from tests.support.forgery import with_binding_of

NODE, CLIENT, OTHER = (SigningKey(bytes([seed]) * 32) for seed in range(3))
NETWORK, ELSEWHERE = NetworkId(b"n" * 32), NetworkId(b"e" * 32)
AT = "/dsn.v1.NodeService/"


async def _terms(caller: Caller, request: node_pb2.GetTermsRequest) -> node_pb2.Terms:
    """Terms that tell the caller who it is."""
    return node_pb2.Terms(node_id=caller.node_id)


async def _never(caller: Caller, request: node_pb2.GetPointerRequest) -> node_pb2.Terms:
    await asyncio.Event().wait()
    raise AssertionError


async def _broken(caller: Caller, request: node_pb2.ReviseRequest) -> node_pb2.Terms:
    raise RuntimeError("a secret detail")


async def _echo(caller: Caller, stream: ServerStream) -> None:
    while (message := await stream.read()) is not None:
        stream.patience.idle()
        await stream.write(message)


METHODS: tuple[Method, ...] = (
    Unary(AT + "GetTerms", node_pb2.GetTermsRequest, _terms),
    Unary(AT + "GetPointer", node_pb2.GetPointerRequest, _never),
    Unary(AT + "Revise", node_pb2.ReviseRequest, _broken),
    Streaming(AT + "PutShard", _echo),
)


@asynccontextmanager
async def serving(limits: Limits, key: SigningKey = NODE) -> AsyncIterator[Contact]:
    server = Server(key, NETWORK, METHODS, limits)
    address = await server.start("127.0.0.1:0")
    try:
        yield Contact(key.public, address)
    finally:
        await server.stop(0)


@pytest.fixture
async def node() -> AsyncIterator[Contact]:
    async with serving(Limits(address_limits=False)) as contact:
        yield contact


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    async with Connections(CLIENT, NETWORK) as opened:
        yield opened


def channel_with(leaf: Leaf | None, node: Contact) -> grpc.aio.Channel:
    """A hand-made connection, for what ``Connections`` would never send."""
    root = tls.pinned_root(node.public_key)
    shown = (leaf.key, leaf.certificate) if leaf else (None, None)
    credentials = grpc.ssl_channel_credentials(root, *shown)
    name = ("grpc.ssl_target_name_override", tls.target_name(node.node_id))
    options = (name, ("grpc.use_local_subchannel_pool", 1))
    return grpc.aio.secure_channel(node.address, credentials, options=options)


async def call_by_hand(
    channel: grpc.aio.Channel, method: str, message: bytes, *metadata: tuple[str, str]
) -> grpc.aio.AioRpcError:
    """The error that a hand-made call ends with."""
    async with channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(AT + method)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(message, metadata=metadata)
    return failed.value


async def test_both_sides_know_each_other(node: Contact, connections: Connections) -> None:
    terms = await connections.peer(node).get_terms()
    assert terms.node_id == node_id_of(CLIENT.public)


async def test_a_server_with_another_key_is_not_talked_to(
    node: Contact, connections: Connections
) -> None:
    expected = Contact(OTHER.public, node.address)
    with pytest.raises(WrongIdentity) as refused:
        await connections.peer(expected).get_terms()
    assert refused.value.peer == format_node_id(expected.node_id)


async def test_a_rotated_leaf_is_still_the_same_node(connections: Connections) -> None:
    for _ in range(2):
        async with serving(Limits()) as contact:
            await connections.peer(contact, fresh=True).get_terms()


async def test_nobody_there(connections: Connections) -> None:
    async with serving(Limits()) as contact:
        pass
    with pytest.raises(Unreachable):
        await connections.peer(contact).get_terms()


async def test_a_caller_without_a_certificate_gets_nowhere(node: Contact) -> None:
    error = await call_by_hand(channel_with(None, node), "GetTerms", b"")
    assert isinstance(from_rpc_error(error), TransportError)


async def test_a_copied_binding_is_refused(node: Contact) -> None:
    forged = with_binding_of(tls.client_leaf(CLIENT).certificate)
    error = await call_by_hand(channel_with(forged, node), "GetTerms", b"")
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    refused = from_rpc_error(error)
    assert isinstance(refused, InvalidSignature)
    assert refused.detail_code == tls.UNPROVEN


async def test_a_call_for_another_network_names_both(node: Contact) -> None:
    async with Connections(CLIENT, ELSEWHERE) as strangers:
        with pytest.raises(ConfigError) as refused:
            await strangers.peer(node).get_terms()
    assert refused.value.detail_code == "other_network"
    assert NETWORK.hex() in refused.value.message
    assert ELSEWHERE.hex() in refused.value.message


async def test_a_call_for_no_network_is_refused(node: Contact) -> None:
    error = await call_by_hand(channel_with(tls.client_leaf(CLIENT), node), "GetTerms", b"")
    assert from_rpc_error(error).detail_code == "other_network"


async def test_a_message_that_does_not_decode(node: Contact) -> None:
    channel = channel_with(tls.client_leaf(CLIENT), node)
    network = ("dsn-network", NETWORK.hex())
    error = await call_by_hand(channel, "GetTerms", b"\xff", network)
    assert isinstance(from_rpc_error(error), MalformedMessage)


async def test_a_method_that_is_not_there(node: Contact, connections: Connections) -> None:
    with pytest.raises(PeerError, match="unimplemented"):
        await connections.peer(node).challenge(node_pb2.ChallengeRequest())


async def test_a_bug_in_a_handler_tells_callers_nothing(
    node: Contact, connections: Connections
) -> None:
    with pytest.raises(PeerError) as failed:
        await connections.peer(node).revise(node_pb2.ReviseRequest())
    assert failed.value.detail_code == "internal"
    assert "secret" not in failed.value.message


async def test_a_silent_node_is_given_up(node: Contact, connections: Connections) -> None:
    with pytest.raises(TimedOut):
        await connections.peer(node).get_pointer(bytes(32), timeout_s=0.05)


async def test_a_handler_that_takes_too_long_is_ended(connections: Connections) -> None:
    async with serving(Limits(unary_s=0.05)) as contact:
        with pytest.raises(TimedOut, match="not done"):
            await connections.peer(contact).get_pointer(bytes(32))


async def test_a_caller_that_never_sends_its_message_is_ended() -> None:
    async with serving(Limits(first_message_s=0.05)) as contact:
        channel = channel_with(tls.client_leaf(CLIENT), contact)
        async with channel:
            open_unary: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(
                AT + "GetTerms"
            )
            call = open_unary(metadata=(("dsn-network", NETWORK.hex()),))
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call
    assert from_rpc_error(failed.value).detail_code == "too_slow"


async def test_streams_end_as_they_should(node: Contact, connections: Connections) -> None:
    stream = connections.peer(node).put_shards()
    await stream.write(b"one")
    assert await stream.read() == b"one"
    await stream.done_writing()
    assert await stream.read() is None


async def test_an_ended_stream_does_not_look_like_a_cancelled_task(
    node: Contact, connections: Connections
) -> None:
    stream = connections.peer(node).put_shards()
    await stream.write(b"one")
    await stream.read()
    reading = asyncio.create_task(stream.read())
    await asyncio.sleep(0)
    stream.cancel()
    with pytest.raises(TransportError):
        await reading
    with pytest.raises(TransportError):
        await stream.write(b"two")


async def test_a_message_over_the_limit_ends_its_call_only(node: Contact) -> None:
    """The caller's own options would stop it; a liar's do not."""
    network = ("dsn-network", NETWORK.hex())
    channel = channel_with(tls.client_leaf(CLIENT), node)
    error = await call_by_hand(channel, "GetTerms", bytes(2 << 20), network)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    async with Connections(CLIENT, NETWORK) as good:
        await good.peer(node).get_terms()


async def test_a_caller_is_kept_from_sending_too_much(
    node: Contact, connections: Connections
) -> None:
    stream = connections.peer(node).put_shards()
    with pytest.raises(DsnError):
        await stream.write(bytes(2 << 20))


async def test_the_places_of_silent_callers_go_to_those_who_work() -> None:
    """Whoever opens all the streams a node has and sends nothing keeps nobody out."""
    limits = Limits(calls=3, shed_after_s=0.0, address_limits=False)
    async with serving(limits) as contact, Connections(OTHER, NETWORK) as silent:
        streams = [silent.peer(contact).put_shards() for _ in range(3)]
        for stream in streams:
            await stream.write(b"here")
            await stream.read()
        async with Connections(CLIENT, NETWORK) as good:
            await good.peer(contact).get_terms()
        with pytest.raises(RetryLater):
            await streams[0].read()
        await streams[1].write(b"still here")
        assert await streams[1].read() == b"still here"


async def test_one_caller_cannot_take_every_place(connections: Connections) -> None:
    async with serving(Limits(calls_a_peer=2)) as contact:
        peer = connections.peer(contact)
        streams = [peer.put_shards() for _ in range(2)]
        for stream in streams:
            await stream.write(b"here")
            await stream.read()
        with pytest.raises(RetryLater) as refused:
            await peer.get_terms()
        assert refused.value.retry_after_s > 0
        streams[0].cancel()
        await _until_served(peer)


async def _until_served(peer: NodePeer) -> None:
    while True:
        try:
            await peer.get_terms()
        except RetryLater:
            continue
        return


async def test_a_stopping_server_lets_idle_streams_go(connections: Connections) -> None:
    server = Server(NODE, NETWORK, METHODS, Limits(shed_after_s=0.0))
    contact = Contact(NODE.public, await server.start("127.0.0.1:0"))
    stream = connections.peer(contact).put_shards()
    await stream.write(b"one")
    await stream.read()
    await server.stop(60)
    with pytest.raises(TransportError) as ended:
        await stream.read()
    # on a busy machine the end of the connection overtakes the word
    assert ended.value.detail_code in ("stopping", "unreachable")


async def test_connections_fall_out_of_the_cache_without_harm(node: Contact) -> None:
    async with serving(Limits(), OTHER) as second, Connections(CLIENT, NETWORK, capacity=1) as few:
        stream = few.peer(node).put_shards()
        await stream.write(b"one")
        await few.peer(second).get_terms()
        assert await stream.read() == b"one"
        await few.peer(node).get_terms()


async def test_a_port_in_use_is_named(node: Contact) -> None:
    with pytest.raises(ConfigError, match=node.address) as refused:
        await Server(OTHER, NETWORK, (), Limits()).start(node.address)
    assert refused.value.detail_code == "port_in_use"


@pytest.mark.parametrize("listen", ["", "host", "127.0.0.1:", "127.0.0.1:99999", "192.0.2.1:0"])
async def test_addresses_that_nobody_can_listen_on(listen: str) -> None:
    with pytest.raises(ConfigError) as refused:
        await Server(OTHER, NETWORK, (), Limits()).start(listen)
    assert refused.value.detail_code == "bad_address"


async def test_the_error_detail_is_what_decides(node: Contact) -> None:
    """The gRPC status and text are for tools that know nothing of dsn."""
    error = await call_by_hand(channel_with(tls.client_leaf(CLIENT), node), "GetTerms", b"")
    trailers = dict(error.trailing_metadata())
    assert DETAIL_KEY in trailers
