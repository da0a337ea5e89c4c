"""A process's answer about itself, as people read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dsn.ui.figures import format_date

_MOMENT: Final = "_s"
"""How names end that are Unix seconds."""


def told(value: Any, absent: str = "none") -> str:
    """A value of any kind that JSON has; ``absent`` for one that is not known."""
    if value is None:
        return absent
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {told(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(told, value)) or "none"
    return str(value)


def told_pair(name: str, value: Any, absent: str = "none") -> tuple[str, str]:
    """A field's name and its value as ``told``; names that end in ``_s`` are dates."""
    words = name.replace("_", " ")
    if name.endswith(_MOMENT) and isinstance(value, int):
        return words[: -len(_MOMENT)], f"{format_date(value)} UTC" if value else "never"
    return words, told(value, absent)


def told_fields(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A line a field, for ``fields``."""
    return [told_pair(*each) for each in answer.items()]


def nested_fields(answer: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A line a field; what is inside another value stands under both names."""
    for name, value in answer.items():
        if isinstance(value, Mapping):
            yield from nested_fields(value, f"{prefix}{name} ")
        else:
            words, text = told_pair(name, value)
            yield prefix + words, text
