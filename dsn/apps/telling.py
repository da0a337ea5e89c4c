"""Telling a story whose every claim is checked: chapters, facts, and what held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dsn.errors import DsnError


class StoryBroken(DsnError):
    """A step of the story did not hold: a defect of dsn, or of the machine."""

    code = "story_broken"
    exit_code = 1


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the story: a chapter's title, a fact, or something that was checked."""

    kind: Literal["chapter", "fact", "held"]
    text: str


Tell = Callable[[Line], None]


class Teller:
    """Whoever tells a story."""

    def __init__(self, tell: Tell) -> None:
        """Give each line to ``tell``."""
        self._tell = tell

    def chapter(self, title: str) -> None:
        """Begin a new one."""
        self._tell(Line("chapter", title))

    def fact(self, text: str) -> None:
        """Say what was done or found."""
        self._tell(Line("fact", text))

    def hold(self, held: bool, text: str) -> None:
        """Say what was checked, or end the story.

        Raises:
            StoryBroken: It did not hold.
        """
        if not held:
            raise StoryBroken(f"this did not hold: {text}")
        self._tell(Line("held", text))
