"""The control socket: one question, one answer, for the owner only."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest

from dsn.errors import MalformedMessage, Unreachable
from dsn.runtime.control import ask_control, control_socket


async def echo(command: str) -> dict[str, Any]:
    return {"command": command}


@pytest.mark.parametrize("depth", [0, 12])
async def test_a_question_is_answered_however_deep_the_home_lies(
    tmp_path: Path, depth: int
) -> None:
    directory = tmp_path.joinpath(*["a-directory"] * depth)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "control.sock"
    async with control_socket(path, echo):
        assert await ask_control(path, "status") == {"command": "status"}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as gone:
        await ask_control(tmp_path / "control.sock", "status")
    assert gone.value.detail_code == "not_running"


async def test_a_socket_that_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.touch()
    async with control_socket(path, echo):
        assert await ask_control(path, "again") == {"command": "again"}


async def test_a_caller_that_asks_nothing_harms_nobody(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with control_socket(path, echo):
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(b"x" * 5_000)
        writer.close()
        await writer.wait_closed()
        assert await ask_control(path, "status") == {"command": "status"}


async def test_an_answer_that_is_no_object(tmp_path: Path) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        writer.close()

    path = tmp_path / "control.sock"
    async with await asyncio.start_unix_server(say, path):
        with pytest.raises(MalformedMessage):
            await ask_control(path, "status")
