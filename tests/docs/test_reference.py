"""The reference pages are what the code says."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.pages import ROOT

REFERENCE = ROOT / "docs/reference"
SPEC = re.compile(r"(docs/[\w/]+\.md)#?([\w-]*)")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def load_writer() -> ModuleType:
    """docs/reference/write.py as a module."""
    spec = importlib.util.spec_from_file_location("reference_writer", REFERENCE / "write.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["errors.md", "commands.md", "settings.md"])
def test_page_is_what_the_code_says(name: str) -> None:
    assert (REFERENCE / name).read_text("utf-8") == load_writer().PAGES[name](), "run `make docs`"


def test_every_code_in_the_vectors_is_on_the_errors_page() -> None:
    page = (REFERENCE / "errors.md").read_text("utf-8")
    for path in sorted((ROOT / "tests/vectors").glob("*.json")):
        for code in error_codes(json.loads(path.read_text("utf-8"))):
            assert f"| `{code}` |" in page, f"{path.name}: {code}"


def error_codes(value: object) -> list[str]:
    """Every string that is not empty under a key named ``error`` or ``code``, at any depth."""
    if isinstance(value, dict):
        own = [v for k, v in value.items() if k in {"error", "code"} and v and isinstance(v, str)]
        return own + [code for inner in value.values() for code in error_codes(inner)]
    if isinstance(value, list):
        return [code for inner in value for code in error_codes(inner)]
    return []


PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text("utf-8"))
    assert [t for t in targets if not (page.parent / t).exists()] == []


def test_paths_in_the_table_exist() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    paths = re.findall(r"`((?:dsn|tests|deploy)/[^`]*)`", page)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_tests_named_on_the_attacks_page_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/attacks.md").read_text("utf-8")))
    files = [path.read_text("utf-8") for path in ROOT.glob("tests/**/test_*.py")]
    there = {name for text in files for name in re.findall(r"def (test_\w+)\(", text)}
    assert named
    assert named - there == set()


def anchors(page: Path) -> set[str]:
    """The page's headings as links name them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_anchors_that_the_code_names_exist() -> None:
    named = set()
    for path in [*ROOT.glob("dsn/**/*.py"), *ROOT.glob("protos/**/*.proto")]:
        named |= set(SPEC.findall(path.read_text("utf-8")))
    assert named
    assert {p for p, a in named if not (ROOT / p).exists()} == set()
    assert {f"{p}#{a}" for p, a in named if a and a not in anchors(ROOT / p)} == set()
