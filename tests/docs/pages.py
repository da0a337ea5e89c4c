"""The project's pages, and the commands that stand in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(dsn [^`\n]+)`")
EXIT = re.compile(r"\s+# exit (\d+)$")


class Step(NamedTuple):
    """One command of a session and the exit code it must end with."""

    command: str
    exit_code: int


def pages() -> list[Path]:
    """README, CONTRIBUTING and everything people wrote under docs/ (no decision records)."""
    written = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [*written, *sorted((ROOT / "docs/guide").glob("*.md"))]


def session(page: Path) -> list[Step]:
    """The commands of the page's ```` ```console run ```` fences, in order."""
    fences = FENCE.finditer(page.read_text("utf-8"))
    bodies = [fence["body"] for fence in fences if fence["info"] == "console run"]
    steps = []
    for line in "".join(bodies).splitlines():
        if line.startswith("$ "):
            wanted = EXIT.search(line)
            steps.append(Step(EXIT.sub("", line[2:]), int(wanted[1]) if wanted else 0))
        elif line.startswith("> "):
            steps[-1] = steps[-1]._replace(command=f"{steps[-1].command}\n{line[2:]}")
    return steps


def mentioned(page: Path) -> Iterator[list[str]]:
    """The words of every ``dsn`` command on the page, inline or in a fence."""
    text = page.read_text("utf-8")
    lines = [line for f in FENCE.finditer(text) for line in f["body"].splitlines()]
    for line in [*INLINE.findall(FENCE.sub("", text)), *lines]:
        for part in re.split(r"\s(?:\||&&|;|>)\s|[$]\(|\)", line.removeprefix("$ ").strip()):
            words = plain_words(part)
            while words and (words[0] == "sudo" or "=" in words[0]):
                words = words[1:]
            if words and words[0].rpartition("/")[2] == "dsn" and len(words) > 1:
                yield words[1:]


def plain_words(text: str) -> list[str]:
    """The words of a shell line without its comment; nothing when it is prose."""
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return []
