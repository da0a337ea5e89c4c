"""One word per concept (docs/glossary.md), and package files that hold a docstring only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.arch.source import Function, Source, sources

NOT_USED = frozenset(
    "piece pieces shares sector sectors chunk chunks farmer renter uplink contract contracts "
    "token tokens tx block blocks".split()
)
STANDARDS_OWN = frozenset({"_AES_BLOCK_BYTES", "block_bytes"})  # a cipher's block is called so
ON_CHAIN = frozenset({"contract", "contracts"})  # a chain's programs are so called
WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


def defined(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Each name that ``tree`` gives to something, with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr


def words_of(name: str) -> set[str]:
    return {word.lower() for word in WORDS.findall(name)}


def strange(source: Source) -> list[str]:
    """``file:line name`` of every name that uses a word we do not."""
    own = ON_CHAIN if "chain" in source.name or "evm" in source.name else frozenset()
    return [
        f"{source.name}:{line} {name}"
        for line, name in defined(source.tree)
        if name not in STANDARDS_OWN and words_of(name) & (NOT_USED - own)
    ]


def test_names_use_the_words_of_the_glossary() -> None:
    assert [name for source in sources() for name in strange(source)] == []


@pytest.mark.parametrize("name", ["chunk_size", "readBlock", "TxPool", "shares"])
def test_a_foreign_word_is_seen(name: str) -> None:
    text = f"{name} = 1\n"
    assert strange(Source("x.py", text, ast.parse(text))) == [f"x.py:1 {name}"]


def test_the_glossary_names_every_word_that_is_not_used(repository: Path) -> None:
    section = (repository / "docs/glossary.md").read_text("utf-8").split("## Not used")[1]
    missing = {word for word in NOT_USED if not re.search(rf"\b{word}\b", section)}
    assert {word for word in missing if word.removesuffix("s") not in section} == set()


def test_package_files_hold_a_docstring_and_nothing_else() -> None:
    packages = [source for source in sources() if source.name.endswith("/__init__.py")]
    assert [s.name for s in packages if ast.get_docstring(s.tree) is None] == []
    assert [s.name for s in packages if len(s.tree.body) != 1] == []


def test_modules_and_public_names_have_a_docstring() -> None:
    bare = [source.name for source in sources() if ast.get_docstring(source.tree) is None]
    for source in sources():
        for node in source.tree.body:
            public = isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")
            if public and ast.get_docstring(node) is None:  # type: ignore[arg-type]
                bare.append(f"{source.name}:{node.lineno}")
    assert bare == []
