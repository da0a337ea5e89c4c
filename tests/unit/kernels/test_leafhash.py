"""Every kernel that runs here gives RFC 6962's tree; none is used that does not."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dsn.kernels import leafhash
from dsn.kernels.leafhash import Data, LeafHash, Portable, Subtree
from tests.support import shard_tree
from tests.support.lock import lets_others_run

KERNELS = leafhash.implementations()
NATIVE = [name for name in KERNELS if name != "portable"]
LEAVES = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 23, 24, 31, 33, 63, 64, 65, 127, 128, 129, 1024, 1500)
LENGTHS = sorted({max(1, 1024 * leaves - short) for leaves in LEAVES for short in (0, 1, 1023)})
NOISE = random.Random(7).randbytes(max(LENGTHS))


@pytest.fixture(params=KERNELS.values(), ids=list(KERNELS))
def kernel(request: pytest.FixtureRequest) -> LeafHash:
    found: LeafHash = request.param
    return found


@pytest.mark.parametrize("length", LENGTHS)
def test_tree_is_that_of_rfc_6962(kernel: LeafHash, length: int) -> None:
    data = NOISE[:length]
    hashes = shard_tree.leaf_hashes(data)
    assert kernel.leaves(data) == b"".join(hashes)
    expected = Subtree(shard_tree.root(hashes), shard_tree.groups(hashes))
    assert kernel.subtree(data) == expected


def test_golden_roots(kernel: LeafHash) -> None:
    assert kernel.subtree(bytes(1024)).root == hashlib.sha256(bytes(1024)).digest()
    assert kernel.subtree(b"\0").root == kernel.subtree(bytes(1024)).root
    frame = bytes(range(256)) * 4096
    golden = "b2eb8bfda52293a97bb7a15fdd2bee1e7ed9d245ee1e2c3aba3829cc2d86cf00"
    assert kernel.subtree(frame).root.hex() == golden


def test_any_contiguous_buffer_is_taken_as_it_lies(kernel: LeafHash) -> None:
    data = bytearray(NOISE[:70_003])
    expected = kernel.subtree(bytes(data[3:]))
    views: list[Data] = [data[3:], memoryview(data)[3:], memoryview(bytes(data))[3:]]
    for view in (*views, memoryview(data)[3:].toreadonly()):
        assert kernel.subtree(view) == expected
        assert kernel.leaves(view) == kernel.leaves(bytes(data[3:]))
    assert data == NOISE[:70_003]


def test_no_buffer_is_kept(kernel: LeafHash) -> None:
    data = bytearray(NOISE[:2_000])
    kernel.subtree(data), kernel.leaves(data)
    data.append(0)  # a bytearray that somebody still looks at refuses


def test_wide_items_count_as_their_bytes(kernel: LeafHash) -> None:
    assert kernel.subtree(memoryview(NOISE[:4096]).cast("Q")) == kernel.subtree(NOISE[:4096])


def test_nothing_and_what_is_no_buffer_are_refused(kernel: LeafHash) -> None:
    for call in (kernel.leaves, kernel.subtree):
        with pytest.raises(ValueError, match="at least 1 byte"):
            call(b"")
        with pytest.raises(TypeError):
            call("text")  # type: ignore[arg-type]
        with pytest.raises((TypeError, BufferError)):
            call(memoryview(NOISE)[:4096:2])


def test_threads_do_not_disturb_one_another(kernel: LeafHash) -> None:
    parts = [NOISE[at : at + 65_536 + at] for at in range(0, 4096, 129)]
    expected = [kernel.subtree(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(kernel.subtree, parts)) == expected


@pytest.mark.parametrize("name", NATIVE)
def test_other_threads_run_while_a_native_kernel_hashes(name: str) -> None:
    data = bytes(16 << 20)
    assert lets_others_run(lambda: KERNELS[name].subtree(data))
    assert lets_others_run(lambda: KERNELS[name].leaves(data))


def test_other_threads_wait_for_plain_python() -> None:
    assert not lets_others_run(lambda: sum(range(100_000)), attempts=5)


def test_the_quickest_is_in_use_and_named() -> None:
    assert next(iter(KERNELS)) == leafhash.NAME
    assert leafhash.subtree(NOISE) == KERNELS[leafhash.NAME].subtree(NOISE)
    assert leafhash.leaves(NOISE) == KERNELS[leafhash.NAME].leaves(NOISE)


def test_portable_serves_where_the_extension_was_not_built(repository: Path) -> None:
    script = (
        "import sys; sys.modules['dsn.kernels._leafhash'] = None\n"
        "from dsn.kernels import leafhash\n"
        "print(leafhash.NAME, *leafhash.implementations(), leafhash.subtree(b'x').root.hex())"
    )
    run = [sys.executable, "-c", script]
    out = subprocess.run(run, cwd=repository, capture_output=True, text=True, check=True).stdout
    root = hashlib.sha256(b"x".ljust(1024, b"\0")).hexdigest()
    assert out.split() == ["portable", "portable", root]


class Unpadded(Portable):
    def leaves(self, data: Data) -> bytes:
        return super().leaves(data)[:-32] + hashlib.sha256(bytes(data)[-1024:]).digest()


class Repeating(Portable):
    """An odd node hashed with itself, as Bitcoin does, instead of carried up."""

    def subtree(self, data: Data) -> Subtree:
        level = shard_tree.leaf_hashes(bytes(data))
        while len(level) > 1:
            level += level[-1:] * (len(level) % 2)
            pairs = zip(level[::2], level[1::2], strict=True)
            level = [hashlib.sha256(left + right).digest() for left, right in pairs]
        return Subtree(level[0], super().subtree(data).groups)


class Forgetful(Portable):
    def subtree(self, data: Data) -> Subtree:
        root, groups = super().subtree(data)
        return Subtree(root, groups[:32])


@pytest.mark.parametrize("wrong", [Unpadded, Repeating, Forgetful])
def test_a_kernel_that_is_wrong_is_found_out(wrong: type[Portable]) -> None:
    assert leafhash.agrees(Portable(), Portable())
    assert not leafhash.agrees(wrong(), Portable())


def test_all_kernels_of_the_extension_are_right() -> None:
    native = pytest.importorskip("dsn.kernels._leafhash")
    assert tuple(NATIVE) == native.KERNELS
    assert [*native.KERNELS, "portable"][0] == leafhash.NAME


def test_the_extension_checks_its_arguments() -> None:
    native = pytest.importorskip("dsn.kernels._leafhash")
    for call in (native.leaves, native.subtree):
        with pytest.raises(IndexError, match="no kernel 99"):
            call(99, b"x")
        with pytest.raises(OverflowError):
            call(-1, b"x")
        with pytest.raises(TypeError):
            call("0", b"x")
        with pytest.raises(TypeError, match="got 1 values"):
            call(b"x")


def test_merkletools_agrees() -> None:
    tools = pytest.importorskip("merkletools").MerkleTools(hash_type="sha256")
    for leaves in (1, 2, 3, 13, 64, 100):
        data = NOISE[: 1024 * leaves - 5]
        tools.reset_tree()
        hashes = leafhash.leaves(data)
        for at in range(0, len(hashes), 32):
            tools.add_leaf(hashes[at : at + 32].hex())
        tools.make_tree()
        assert tools.get_merkle_root() == leafhash.subtree(data).root.hex()
