"""Ranges and landing places of ``dsn get``."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsn.apps.results import FileInfo, FileState
from dsn.cli.get import landing_path, parse_range
from dsn.errors import UsageError


def test_a_range_is_half_open():
    assert parse_range("0-1000") == (0, 1000)
    assert parse_range("007-8") == (7, 8)


@pytest.mark.parametrize(
    "text", ["5-3", "4-4", "-5", "5-", "a-b", "", "1-2-3", "-1-5", "1 - 2", "\u0661-\u0662"]
)
def test_bad_ranges(text):
    with pytest.raises(UsageError) as caught:
        parse_range(text)
    assert caught.value.detail_code == "bad_range"


class Named:
    """The one call of the client that a landing place needs."""

    def __init__(self, name: str | None) -> None:
        self.name = name

    async def info(self, target: str) -> FileInfo:
        return FileInfo(
            name=self.name, file_id="fileid", kind="file", size=0, scheme="4/6", segments=0,
            media_type=None, mtime_s=None, sequence=1, holders=(), state=FileState.UNKNOWN,
        )  # fmt: skip


async def test_a_path_that_is_no_folder_is_the_place(tmp_path):
    assert await landing_path(Named("x"), "cap", tmp_path / "out") == tmp_path / "out"


@pytest.mark.parametrize(
    ("name", "lands"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("..", "fileid"),
        (".", "fileid"),
        ("", "fileid"),
        (None, "fileid"),
        ("a\x1b[2J", "fileid"),
        ("a\0b", "fileid"),
    ],
)
async def test_a_foreign_name_cannot_lead_out_of_the_folder(tmp_path: Path, name, lands):
    assert await landing_path(Named(name), "cap", tmp_path) == tmp_path / lands
