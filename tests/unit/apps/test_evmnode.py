"""Finding the local EVM node's program, and the words it is started with."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from dsn.apps import evmnode
from dsn.errors import ConfigError


def program(path: Path) -> Path:
    """Something that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no such program but what a test puts somewhere."""
    for name in ("here", "home", "bin", "net"):
        (tmp_path / name).mkdir()
    monkeypatch.delenv("DSN_ANVIL", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")


@pytest.mark.parametrize(
    "place",
    [
        "bin/anvil",
        "here/node_modules/.bin/anvil",
        "net/node_modules/.bin/anvil",
        "home/node_modules/.bin/anvil",
        "home/.npm-global/bin/anvil",
    ],
)
def test_where_it_is_looked_for(tmp_path: Path, place: str) -> None:
    put = program(tmp_path / place)
    assert evmnode.find_anvil(tmp_path / "net") == put


def test_what_is_named_is_taken_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin" / "anvil")
    named = program(tmp_path / "my-anvil")
    monkeypatch.setenv("DSN_ANVIL", str(named))
    assert evmnode.find_anvil(tmp_path / "net") == named
    monkeypatch.setenv("DSN_ANVIL", str(tmp_path / "none"))
    with pytest.raises(ConfigError) as caught:
        evmnode.find_anvil(tmp_path / "net")
    assert caught.value.detail_code == "no_anvil"
    assert "DSN_ANVIL" in caught.value.message


def test_without_it_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        evmnode.check_tools(tmp_path / "net")
    assert caught.value.detail_code == "no_anvil"
    assert caught.value.hint == "npm install -g @foundry-rs/anvil"


def test_npms_script_is_passed_over_for_the_program_behind_it(tmp_path: Path) -> None:
    packages = tmp_path / "here" / "node_modules"
    script = program(packages / "@foundry-rs" / "anvil" / "bin.mjs")
    link = packages / ".bin" / "anvil"
    link.parent.mkdir()
    link.symlink_to(script)
    assert evmnode.find_anvil(tmp_path / "net") == script
    behind = program(packages / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil")
    assert evmnode.find_anvil(tmp_path / "net") == behind


def test_its_folder_is_a_word_of_its_command_line(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "anvil")
    home = tmp_path / "net" / "chain"
    words = evmnode.words(home, "127.0.9.1:4321")
    assert words[0] == str(tmp_path / "bin" / "anvil")
    assert str(home) in words
    options = dict(pairwise(words))
    assert (options["--host"], options["--port"]) == ("127.0.9.1", "4321")
    assert (options["--chain-id"], options["--block-time"]) == ("31337", "1")
    assert options["--state"] == str(home / "state.json")


async def test_a_node_that_is_not_there_does_not_serve() -> None:
    assert not await evmnode.serves("127.0.0.1:1")
