"""Checkpoint and tiles over plain HTTP, read only, for mirrors and other people's tools.

Nothing here needs secrecy: what is served proves itself.

Spec: docs/spec/economy.md#tiles, C2SP tlog-tiles.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final, NamedTuple

from dsn.apps.ledgerd.desk import Desk
from dsn.apps.ledgerd.views import Views
from dsn.errors import ConfigError, DsnError, MalformedMessage, NotFound
from dsn.ledger.checkpoint import format_checkpoint
from dsn.ledger.tiles import parse_path
from dsn.rpc.server import split_address

MOST_CONNECTIONS: Final = 64
MOST_REQUEST_BYTES: Final = 8 * 1024
REQUEST_S: Final = 5.0
REPLY_S: Final = 60.0


class _Reply(NamedTuple):
    status: HTTPStatus
    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"
    cache: str = "no-store"


_IMMUTABLE: Final = "public, max-age=31536000, immutable"


@asynccontextmanager
async def serve_http(listen: str, desk: Desk, views: Views) -> AsyncIterator[str]:
    """Serve on ``listen`` (``HOST:PORT``, port 0: any) while the block runs; gives the address.

    Raises:
        ConfigError: ``bad_address``, ``port_in_use``.
    """
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            if connections > MOST_CONNECTIONS:
                reply = _Reply(HTTPStatus.SERVICE_UNAVAILABLE)
            else:
                async with asyncio.timeout(REQUEST_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                reply = await _answer(head, desk, views)
            async with asyncio.timeout(REPLY_S):
                writer.write(_encode(reply))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked is gone, too slow, or asked nothing
        finally:
            connections -= 1
            writer.close()

    host, port = split_address(listen)
    try:
        server = await asyncio.start_server(serve, host, port, limit=MOST_REQUEST_BYTES)
    except OSError as error:
        raise ConfigError(
            f"cannot serve HTTP on {listen}: {error.strerror or error}",
            code="port_in_use",
            hint="stop what listens there, or choose another port with --http",
        ) from error
    try:
        yield f"{listen.rpartition(':')[0]}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _answer(head: bytes, desk: Desk, views: Views) -> _Reply:
    """The reply to a request (untrusted); nothing after its first line matters."""
    method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    path, _, version = rest.partition(" ")
    if not version.startswith("HTTP/1."):
        return _Reply(HTTPStatus.BAD_REQUEST)
    if method != "GET":
        return _Reply(HTTPStatus.METHOD_NOT_ALLOWED)
    try:
        if path == "/checkpoint":
            note = format_checkpoint(views.published())
            return _Reply(HTTPStatus.OK, note, cache="no-cache")
        data = await desk.ask(desk.books.resource, parse_path(path.removeprefix("/")))
    except (MalformedMessage, NotFound):
        return _Reply(HTTPStatus.NOT_FOUND)
    except DsnError:
        return _Reply(HTTPStatus.SERVICE_UNAVAILABLE)
    return _Reply(HTTPStatus.OK, data, "application/octet-stream", _IMMUTABLE)


def _encode(reply: _Reply) -> bytes:
    status, body, kind, cache = reply
    body = body or f"{status.phrase}\n".encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"Cache-Control: {cache}\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
