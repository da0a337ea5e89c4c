"""An endpoint that answers what it is told to, and one that passes requests on to a real node."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, web

Answer = Callable[[str, list[Any]], Any]
"""Given method and parameters: a ``web.Response``, or the result of the answer."""


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[str]:
    """The URL of an endpoint that answers by ``answer``."""

    async def handle(request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.read())
        said = answer(asked["method"], asked["params"])
        if isinstance(said, web.StreamResponse):
            return said
        return web.json_response({"jsonrpc": "2.0", "id": asked["id"], "result": said})

    async with served(handle) as url:
        yield url


class Gateway:
    """Passes requests on to a node, while it is open; what it passed on is in ``asked``."""

    def __init__(self, node_url: str) -> None:
        self.open, self.url, self.asked = True, "", list[str]()
        self.changed: dict[str, Callable[[Any], Any]] = {}
        """By method: what becomes of its result."""
        self.instead: Callable[[str, list[Any]], web.Response | None] = lambda _m, _p: None
        """What is answered in place of asking the node."""
        self._node_url = node_url

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Gateway]:
        async with ClientSession() as session, served(lambda got: self._pass(session, got)) as url:
            self.url = url
            yield self

    async def _pass(self, session: ClientSession, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        asked = json.loads(raw)
        method = asked["method"]
        if not self.open:
            assert request.transport is not None
            request.transport.abort()
            return web.Response(status=503)
        self.asked.append(method)
        if (said := self.instead(method, asked["params"])) is not None:
            return said
        headers = {"Content-Type": "application/json"}
        async with session.post(self._node_url, data=raw, headers=headers) as response:
            answer = await response.json()
        if method in self.changed and "result" in answer:
            answer["result"] = self.changed[method](answer["result"])
        return web.json_response(answer)


@asynccontextmanager
async def served(handle: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    """The URL of an HTTP server on loopback."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return await handle(request)

    app = web.Application()
    app.router.add_post("/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.addresses
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
