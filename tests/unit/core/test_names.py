"""Names that could leave their folder or repaint a terminal do not exist."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dsn.core.names import catalogue_name_fault, file_name_fault, link_fault, path_fault

Rule = Callable[[str], str]


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (file_name_fault, ""),
        (file_name_fault, "a.txt"),
        (file_name_fault, "..."),
        (file_name_fault, "é" * 127),
        (catalogue_name_fault, "photos/2024 (1).zip"),
        (catalogue_name_fault, "../x"),
        (path_fault, "a/b/c"),
        (path_fault, "a/.../-b"),
        (path_fault, "line\nbreak"),
        (path_fault, "x" * 4_096),
        (link_fault, "/etc/passwd"),
        (link_fault, "../x"),
    ],
)
def test_good_names(rule: Rule, name: str) -> None:
    assert rule(name) == ""


@pytest.mark.parametrize(
    ("rule", "name", "fault"),
    [
        (file_name_fault, "a/b", "path"),
        (file_name_fault, "/", "path"),
        (file_name_fault, ".", "path"),
        (file_name_fault, "..", "path"),
        (file_name_fault, "a\0", "control"),
        (file_name_fault, "\x1b[2J", "control"),
        (file_name_fault, "\x9b2J", "control"),
        (file_name_fault, "a\x7f", "control"),
        (file_name_fault, "é" * 128, "256 bytes, at most 255"),
        (file_name_fault, "\udc80", "UTF-8"),
        (catalogue_name_fault, "", "empty"),
        (catalogue_name_fault, "dsn:read:x", "link"),
        (catalogue_name_fault, "DSN:x", "link"),
        (catalogue_name_fault, "a\nb", "control"),
        (catalogue_name_fault, "x" * 4_097, "4097 bytes, at most 4096"),
        (path_fault, "", "part"),
        (path_fault, "/a", "absolute"),
        (path_fault, "a/", "part"),
        (path_fault, "a//b", "part"),
        (path_fault, "./a", "part"),
        (path_fault, "a/..", "part"),
        (path_fault, "a/../../b", "part"),
        (path_fault, "a\0", "NUL"),
        (path_fault, "\udc80", "UTF-8"),
        (path_fault, "x" * 4_097, "4097 bytes"),
        (link_fault, "", "nowhere"),
        (link_fault, "\0", "NUL"),
    ],
)
def test_bad_names_say_why(rule: Rule, name: str, fault: str) -> None:
    assert fault in rule(name)
