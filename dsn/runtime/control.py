"""The control socket of a home: how a command reaches the process that runs there.

One JSON object a connection each way. Who may connect is who may open the file (0600).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from dsn.errors import DsnError, MalformedMessage, Unreachable
from dsn.units import KIB, MIB

ANSWER_S: Final = 5.0
"""What most answers take at most, whatever the machine is doing."""
LONGEST_S: Final = 60.0
_QUESTION_BYTES: Final = 64 * KIB
_ANSWER_BYTES: Final = 64 * MIB
_MOST_PATH_BYTES: Final = 100
"""Socket addresses hold a little over a hundred bytes; homes may lie deeper."""
Answer = Callable[[str], Awaitable[dict[str, Any]]]


@asynccontextmanager
async def control_socket(path: Path, answer: Answer) -> AsyncIterator[None]:
    """Answer commands on ``path`` until the block ends.

    Args:
        path: The socket, in a directory that only its owner can enter; one that a dead
            process left is replaced.
        answer: Gets a command's name and gives its fields.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(LONGEST_S):
                command = (await reader.readline()).decode("ascii", "replace").strip()
                writer.write(json.dumps(await answer(command)).encode() + b"\n")
                await writer.drain()
        except (TimeoutError, OSError, ValueError, DsnError):
            pass  # whoever asked is gone, or asked nothing
        finally:
            writer.close()

    path.unlink(missing_ok=True)
    with _short(path) as address:
        server = await asyncio.start_unix_server(serve, address, limit=_QUESTION_BYTES)
    path.chmod(0o600)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)


async def ask_control(path: Path, command: str, *, timeout_s: float = ANSWER_S) -> dict[str, Any]:
    """What the process behind ``path`` answers to ``command``.

    Raises:
        Unreachable: ``not_running``: nobody answers there.
        MalformedMessage: Somebody does, but not like this.
    """
    try:
        async with asyncio.timeout(timeout_s):
            with _short(path) as address:
                reader, writer = await asyncio.open_unix_connection(address, limit=_ANSWER_BYTES)
            try:
                writer.write(command.encode("ascii") + b"\n")
                raw = await reader.readline()
            finally:
                writer.close()
    except (TimeoutError, OSError) as error:
        raise Unreachable(
            f"no process answers on {path}",
            hint="start it, or look at its log",
            code="not_running",
        ) from error
    try:
        fields = json.loads(raw)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise MalformedMessage(f"{path} answers {len(raw)} bytes that are no object")
    return fields


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for ``path`` that fits a socket address; Linux can go through a descriptor."""
    if len(os.fsencode(path)) <= _MOST_PATH_BYTES:
        yield str(path)
        return
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{path.name}"
    finally:
        os.close(handle)
