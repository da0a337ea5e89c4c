"""The package's own sources, parsed once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[2] / "dsn"
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source(NamedTuple):
    """One module that people wrote."""

    name: str
    text: str
    tree: ast.Module


@cache
def sources() -> tuple[Source, ...]:
    """Every module under dsn/ but the generated ones."""
    paths = [p for p in sorted(PACKAGE.rglob("*.py")) if PACKAGE / "v1" not in p.parents]
    texts = [(p.relative_to(PACKAGE.parent).as_posix(), p.read_text("utf-8")) for p in paths]
    return tuple(Source(name, text, ast.parse(text, name)) for name, text in texts)


def functions() -> Iterator[tuple[str, Function]]:
    """Every function and method with its ``file:line name``."""
    for source in sources():
        for node in ast.walk(source.tree):
            if isinstance(node, Function):
                yield f"{source.name}:{node.lineno} {node.name}", node


def code_lines(function: Function) -> int:
    """Lines from ``def`` to the end, without the docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        first = function.body[0]
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines
