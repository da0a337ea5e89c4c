"""The parts of the story that need no network."""

from __future__ import annotations

import os
import tarfile

import pytest

from dsn.apps.damage import rot
from dsn.apps.demo import Demo
from dsn.apps.sample import sample_tar
from dsn.errors import UsageError
from dsn.runtime.clock import SystemClock


def demo(directory, source=None, nodes=12, kill=3) -> Demo:
    return Demo(
        directory,
        source=source,
        nodes=nodes,
        kill=kill,
        tell=lambda _: None,
        clock=SystemClock(),
        entropy=os.urandom,
    )


def test_the_sample_is_this_machines_library_within_its_bound(tmp_path):
    path = tmp_path / "sample.tar"
    files = sample_tar(path, limit_bytes=1 << 20)
    with tarfile.open(path) as tar:
        names = tar.getnames()
        size = sum(member.size for member in tar)
    assert len(names) == files > 10
    assert size <= 1 << 20
    assert all(name.startswith("python/") and "site-packages" not in name for name in names)


@pytest.mark.parametrize(("nodes", "kill"), [(12, 8), (6, 3), (30, 21)])
def test_killing_too_many_is_refused_at_once(tmp_path, nodes, kill):
    with pytest.raises(UsageError) as caught:
        demo(tmp_path, nodes=nodes, kill=kill)
    assert caught.value.detail_code == "bad_kill"


def test_killing_as_many_as_the_scheme_bears_is_fine(tmp_path):
    demo(tmp_path, nodes=12, kill=7)


def test_a_file_too_small_to_rot_alone_is_refused(tmp_path):
    small = tmp_path / "small"
    small.write_bytes(bytes(100_000))
    with pytest.raises(UsageError) as caught:
        demo(tmp_path, source=small)
    assert caught.value.detail_code == "too_small"
    with pytest.raises(UsageError) as caught:
        demo(tmp_path, source=tmp_path)
    assert caught.value.detail_code == "is_directory"
    with pytest.raises(FileNotFoundError):
        demo(tmp_path, source=tmp_path / "none")


def test_rot_flips_one_byte_of_the_largest_shard(tmp_path):
    folder = tmp_path / "shards" / "ab"
    folder.mkdir(parents=True)
    (folder / "small").write_bytes(bytes(10))
    (folder / "large").write_bytes(bytes(1000))
    path, offset = rot(tmp_path)
    assert path == folder / "large"
    changed = [at for at, byte in enumerate(path.read_bytes()) if byte]
    assert changed == [offset]
    assert (folder / "small").read_bytes() == bytes(10)
