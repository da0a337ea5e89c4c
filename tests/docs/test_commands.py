"""Every command that a page, a unit or an image names exists, with the flags it is given."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from dsn.cli.main import cli
from tests.docs.pages import mentioned, pages


def check_words(words: list[str]) -> None:
    """Walk from ``dsn`` to the command that ``words`` name and look its flags up.

    Raises:
        LookupError: A command or a flag that is not there.
    """
    context, command = click.Context(cli, info_name="dsn"), cli
    group: click.Command = command
    flags = known_flags(group)
    for position, word in enumerate(words):
        if word.startswith("--") and word != "--":
            flag = word.partition("=")[0]
            if flag not in flags:
                raise LookupError(f"dsn {' '.join(words)}: no flag {flag}")
        elif isinstance(group, click.Group) and not is_value(words, position):
            found = group.get_command(context, word)
            if found is None:
                raise LookupError(f"dsn {' '.join(words)}: no command {word}")
            context, group = click.Context(found, info_name=word, parent=context), found
            flags |= known_flags(group)


def known_flags(command: click.Command) -> set[str]:
    """What may stand behind the command, its parents' flags aside."""
    return {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)} | {
        "--help"
    }


def is_value(words: list[str], position: int) -> bool:
    """Whether the word belongs to ``--home`` before it."""
    return position > 0 and words[position - 1] == "--home"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_commands_on_the_page_exist(page: Path) -> None:
    for words in mentioned(page):
        check_words(words)


@pytest.mark.parametrize("words", [["frobnicate"], ["put", "--frobnicate"], ["devnet", "sideways"]])
def test_a_command_that_is_not_there_is_seen(words: list[str]) -> None:
    with pytest.raises(LookupError):
        check_words(words)
