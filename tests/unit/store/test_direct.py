"""Large files: any length, with and without direct transfers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dsn.errors import ShardCorrupt
from dsn.store.direct import DirectWriter, direct_flag, read_range
from dsn.units import FRAME_BYTES

LENGTHS = [1, 4_095, 4_096, 4_097, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3_000_001]


@pytest.fixture(params=["direct", "cached"])
def flag(request: pytest.FixtureRequest, tmp_path: Path) -> int:
    return direct_flag(tmp_path) if request.param == "direct" else 0


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("step", [FRAME_BYTES, 333_333])
def test_what_is_written_is_read(tmp_path: Path, flag: int, length: int, step: int) -> None:
    path, data = tmp_path / "file", os.urandom(length)
    writer = DirectWriter(path, length, flag)
    for at in range(0, length, step):
        writer.write(data[at : at + step])
    writer.close()
    assert path.read_bytes() == data
    for start in {0, length // 2, length - 1}:
        end = min(length, start + FRAME_BYTES)
        assert read_range(path, start, end, flag) == data[start:end]


def test_the_probe_leaves_nothing(tmp_path: Path) -> None:
    assert direct_flag(tmp_path) in (0, getattr(os, "O_DIRECT", 0))
    assert list(tmp_path.iterdir()) == []


def test_a_discarded_file_is_gone(tmp_path: Path, flag: int) -> None:
    path = tmp_path / "file"
    writer = DirectWriter(path, 10_000, flag)
    assert path.stat().st_size == 10_000
    writer.write(bytes(5_000))
    writer.discard()
    writer.discard()
    assert not path.exists()


def test_a_shorter_file_is_corrupt(tmp_path: Path, flag: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(5_000))
    with pytest.raises(ShardCorrupt):
        read_range(path, 0, 5_001, flag)
    with pytest.raises(ShardCorrupt):
        read_range(path, 9_000, 9_001, flag)
    with pytest.raises(FileNotFoundError):
        read_range(tmp_path / "none", 0, 1, flag)


def test_what_cannot_be_read_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(ShardCorrupt) as caught:
        read_range(tmp_path, 0, 1, 0)
    assert caught.value.detail_code == "disk_error"
