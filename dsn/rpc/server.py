"""The serving side: one port, every caller's identity proven, every refusal typed.

Methods are registered as byte streams even where the proto file says unary: gRPC then hands
a call over before its message is there, so a caller that never sends it meets a deadline.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Never, TypeVar, cast

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError, Message

from dsn.core.keys import SigningKey
from dsn.errors import (
    ConfigError,
    DsnError,
    InvalidSignature,
    MalformedMessage,
    PeerError,
)
from dsn.ids import NetworkId
from dsn.rpc import options, tls
from dsn.rpc.limits import Admission, Limits, Patience
from dsn.rpc.tls import Caller
from dsn.wire.status import DETAIL_KEY, to_status

LOG_EVERY_S: Final = 10.0
_MOST_PORT: Final = 65_535
Context = grpc.aio.ServicerContext[bytes, bytes]
_Result = TypeVar("_Result")
_Message = TypeVar("_Message", bound=Message)
_log = structlog.get_logger("rpc")


class ServerStream:
    """A caller's stream as a handler sees it: raw messages and one moving deadline."""

    __slots__ = ("_context", "patience")

    def __init__(self, context: Context, patience: Patience) -> None:
        """Wrap gRPC's ``context``."""
        self._context = context
        self.patience = patience

    async def read(self) -> bytes | None:
        """The next message, or ``None`` after the last."""
        return await _read(self._context)

    async def write(self, message: bytes) -> None:
        """Send one message, waiting until the connection takes it."""
        await self._context.write(message)


@dataclass(frozen=True, slots=True)
class Unary:
    """A method with one request and one reply; ``handle`` gets a decoded ``request``."""

    path: str
    request: type[Message]
    handle: Callable[[Caller, Any], Awaitable[Message]]


@dataclass(frozen=True, slots=True)
class Streaming:
    """A method whose ``handle`` reads and writes raw messages until it returns."""

    path: str
    handle: Callable[[Caller, ServerStream], Awaitable[None]]


Method = Unary | Streaming


def decode(kind: type[_Message], raw: bytes) -> _Message:
    """Parse an untrusted message.

    Raises:
        MalformedMessage: The bytes are no ``kind``.
    """
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise MalformedMessage(f"{len(raw)} bytes that are no {kind.__name__}") from error


class Server:
    """A gRPC server for ``methods``: admits, decodes, calls, and turns errors into statuses."""

    def __init__(
        self,
        identity: SigningKey,
        network: NetworkId,
        methods: Sequence[Method],
        limits: Limits,
    ) -> None:
        """Serve ``methods`` as ``identity``; callers must name ``network``."""
        self._identity = identity
        self._network = network.hex()
        self._limits = limits
        self._admission = Admission(limits)
        self._refusals = _RefusalLog()
        self._server = grpc.aio.server(options=options.SERVER)
        self._server.add_generic_rpc_handlers(_routes(self, methods))

    async def start(self, listen: str) -> str:
        """Serve on ``listen`` (``HOST:PORT``, port 0: any) and give the address bound.

        Raises:
            ConfigError: The port is in use, or the address is none of this machine's.
        """
        host, port = split_address(listen)
        try:
            bound = self._server.add_secure_port(listen, tls.server_credentials(self._identity))
        except RuntimeError as error:
            raise _bind_error(listen, host, port) from error
        await self._server.start()
        return f"{listen.rpartition(':')[0]}:{bound}"

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, give those under way ``grace_s``, then end them."""
        self._admission.end_resting()
        await self._server.stop(grace_s)

    async def serve_unary(self, method: Unary, context: Context) -> bytes:
        """One call of ``method``, from admission to reply."""

        async def answer(caller: Caller, patience: Patience) -> bytes:
            raw = await _read(context)
            if raw is None:
                raise MalformedMessage("the call ended without a message")
            patience.work()
            reply = await method.handle(caller, decode(method.request, raw))
            return reply.SerializeToString()

        return await self._serve(method.path, context, answer)

    async def serve_stream(self, method: Streaming, context: Context) -> None:
        """One call of ``method``, from admission to its end."""

        async def converse(caller: Caller, patience: Patience) -> None:
            await method.handle(caller, ServerStream(context, patience))

        await self._serve(method.path, context, converse)

    async def _serve(
        self, path: str, context: Context, work: Callable[[Caller, Patience], Awaitable[_Result]]
    ) -> _Result:
        deadline = asyncio.timeout(None)
        try:
            caller = _identify(context)
            if path.startswith("/dsn."):
                self._check_network(context)
            try:
                async with deadline:
                    patience = Patience(self._limits, deadline)
                    with self._admission.call(caller.node_id, context.peer(), patience):
                        return await work(caller, patience)
            except TimeoutError:
                if deadline.expired():
                    raise patience.spent() from None
                raise
        except Exception as error:
            await self._refuse(path, context, error)

    def _check_network(self, context: Context) -> None:
        """Refuse what was meant for another network; generic tools call no ``dsn`` method."""
        metadata = context.invocation_metadata() or ()
        named = next((value for key, value in metadata if key == options.NETWORK_KEY), "none")
        if named != self._network:
            theirs = named[:64] if isinstance(named, str) else named[:32].hex()
            raise ConfigError(
                f"the call is for network {theirs}, this node is on {self._network}",
                code="other_network",
                hint="join the network this node is on",
            )

    async def _refuse(self, path: str, context: Context, error: Exception) -> Never:
        """Tell the caller why; what gRPC itself raised (the caller left) is gRPC's to handle."""
        refusal = _refusal_of(path, error)
        self._refusals.note(path, refusal.detail_code)
        status, detail = to_status(refusal)
        trailers = ((DETAIL_KEY, detail.SerializeToString()),)
        await context.abort(status, refusal.message[:200], trailers)


def _refusal_of(path: str, error: Exception) -> DsnError:
    causes = list(_leaves(error))
    for cause in causes:
        if not isinstance(cause, DsnError | grpc.aio.BaseError):
            _log.error("failed", method=path, exc_info=cause)
            return PeerError("the node could not do this; its log says why", code="internal")
    for cause in causes:
        if isinstance(cause, DsnError):
            return cause
    raise causes[0]


def _routes(server: Server, methods: Sequence[Method]) -> list[grpc.GenericRpcHandler]:
    services: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
    for method in methods:
        _, service, name = method.path.split("/")
        services.setdefault(service, {})[name] = _handler(server, method)
    return [
        grpc.method_handlers_generic_handler(service, handlers)
        for service, handlers in services.items()
    ]


async def _read(context: Context) -> bytes | None:
    message: object = await context.read()
    return None if message is grpc.aio.EOF else cast(bytes, message)


def _handler(server: Server, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
    if isinstance(method, Unary):
        unary = method

        async def serve_unary(_: object, context: Context) -> bytes:
            return await server.serve_unary(unary, context)

        return grpc.stream_unary_rpc_method_handler(serve_unary)
    streaming = method

    async def serve_stream(_: object, context: Context) -> None:
        await server.serve_stream(streaming, context)

    return grpc.stream_stream_rpc_method_handler(serve_stream)


class _RefusalLog:
    """One line a method and code every ``LOG_EVERY_S``: a flood must not fill the disk."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def note(self, path: str, code: str) -> None:
        now_s = asyncio.get_running_loop().time()
        logged_s, unlogged = self._seen.get((path, code), (-LOG_EVERY_S, 0))
        if now_s - logged_s < LOG_EVERY_S:
            self._seen[path, code] = (logged_s, unlogged + 1)
            return
        self._seen[path, code] = (now_s, 0)
        _log.warning("refused", method=path, code=code, times=unlogged + 1)


def _identify(context: Context) -> Caller:
    certificates = list(context.auth_context().get("x509_pem_cert", ()))
    if len(certificates) != 1:
        raise InvalidSignature("the caller shows no certificate", code=tls.UNPROVEN)
    return tls.verified_caller(certificates[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """What a task group gathered, or ``error`` itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def split_address(listen: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, the host without brackets.

    Raises:
        ConfigError: ``bad_address``.
    """
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > _MOST_PORT:
        raise ConfigError(
            f"cannot listen on '{listen}'", code="bad_address", hint="write it as HOST:PORT"
        )
    return host.strip("[]"), int(port)


def _bind_error(listen: str, host: str, port: int) -> ConfigError:
    """Ask the system why: gRPC keeps the reason to itself."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    code = errno.EADDRINUSE
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            code = error.errno or code
    if code == errno.EADDRINUSE:
        return ConfigError(
            f"{listen} is in use by another process",
            code="port_in_use",
            hint="stop it, or choose another port with --listen",
        )
    return ConfigError(
        f"cannot listen on {listen}: {errno.errorcode.get(code, 'unknown')}",
        code="bad_address",
        hint="choose an address of this machine",
    )
