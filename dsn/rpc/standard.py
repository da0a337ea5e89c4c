"""gRPC's own health and reflection services, behind the same admission as everything else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, cast

from google.protobuf.message import Message
from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection import aio as reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from dsn.errors import MalformedMessage, NotFound
from dsn.rpc.server import Method, ServerStream, Streaming, Unary, decode
from dsn.rpc.tls import Caller

HEALTH: Final = "grpc.health.v1.Health"
REFLECTION: Final = "grpc.reflection.v1alpha.ServerReflection"


class Health:
    """Says which services serve, to whoever checks or watches."""

    def __init__(self, services: Sequence[str]) -> None:
        """Know the names in ``services`` and the whole server (the empty name)."""
        self._known = {"", *services}
        self._servicer = health.HealthServicer()

    async def start(self) -> None:
        """Say that all serve."""
        for name in self._known:
            await self._servicer.set(name, HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Say that nothing serves any more."""
        await self._servicer.enter_graceful_shutdown()

    def methods(self) -> tuple[Method, ...]:
        """Check and Watch."""
        return (
            Unary(f"/{HEALTH}/Check", HealthCheckRequest, self._check),
            Streaming(f"/{HEALTH}/Watch", self._watch),
        )

    async def _check(self, caller: Caller, request: HealthCheckRequest) -> Message:
        if request.service not in self._known:
            raise NotFound(f"no service '{request.service[:64]}'")
        return await self._servicer.Check(request, cast(Any, None))

    async def _watch(self, caller: Caller, stream: ServerStream) -> None:
        first = await stream.read()
        if first is None:
            raise MalformedMessage("the call ended without a message")
        stream.patience.idle()
        await self._servicer.Watch(decode(HealthCheckRequest, first), cast(Any, _Encoder(stream)))


class _Encoder:
    """The one method of gRPC's context that the library's servicer calls."""

    def __init__(self, stream: ServerStream) -> None:
        self._stream = stream

    async def write(self, message: Message) -> None:
        self._stream.patience.idle()
        await self._stream.write(message.SerializeToString())


def reflection_methods(services: Sequence[str]) -> tuple[Method, ...]:
    """The method that tells generic tools which services and messages there are."""
    servicer = reflection.ReflectionServicer((*services, HEALTH, REFLECTION))

    async def info(caller: Caller, stream: ServerStream) -> None:
        replies: Any = servicer.ServerReflectionInfo(_requests(stream), cast(Any, None))
        async for reply in replies:
            await stream.write(reply.SerializeToString())

    return (Streaming(f"/{REFLECTION}/ServerReflectionInfo", info),)


async def _requests(stream: ServerStream) -> AsyncIterator[ServerReflectionRequest]:
    while (raw := await stream.read()) is not None:
        stream.patience.idle()
        yield decode(ServerReflectionRequest, raw)
