from __future__ import annotations

import hashlib

import pytest

from dsn.ids import NetworkId, NodeId
from dsn.proofs.challenge import indices, por_seed

SEED = hashlib.sha256(b"seed").digest()


def drawn_by_the_page(seed: bytes, total: int, count: int) -> list[int]:
    """The rule of the design, word by word."""
    taken: list[int] = []
    counter = 0
    while len(taken) < min(count, total):
        tag = b"dsn/idx/v1".ljust(16, b"\0")
        digest = hashlib.sha256(tag + seed + counter.to_bytes(4, "big")).digest()
        for at in range(0, 32, 8):
            x = int.from_bytes(digest[at : at + 8], "big")
            wanted = len(taken) < min(count, total)
            if wanted and x < 2**64 - (2**64 % total) and x % total not in taken:
                taken.append(x % total)
        counter += 1
    return taken


@pytest.mark.parametrize("total", [1, 2, 3, 20, 1000, 2**32, 2**63 - 2**61, 2**63 - 1])
@pytest.mark.parametrize("count", [1, 3, 20, 21])
def test_draws_follow_the_page(total: int, count: int) -> None:
    assert indices(SEED, total, count) == drawn_by_the_page(SEED, total, count)


def test_words_above_the_last_whole_multiple_are_thrown_away() -> None:
    total = 2**63 - 2**61  # a quarter of all words
    kept = indices(SEED, total, 100)
    words = [
        int.from_bytes(
            hashlib.sha256(b"dsn/idx/v1".ljust(16, b"\0") + SEED + n.to_bytes(4, "big")).digest()[
                at : at + 8
            ],
            "big",
        )
        for n in range(25)
        for at in range(0, 32, 8)
    ]
    assert [word % total for word in words][: len(kept)] != kept


@pytest.mark.parametrize(("total", "count"), [(7, 7), (7, 8), (7, 4_000_000_000), (300, 300)])
def test_all_are_drawn_once_when_all_are_asked(total: int, count: int) -> None:
    assert sorted(indices(SEED, total, count)) == list(range(total))


@pytest.mark.parametrize(("total", "count"), [(0, 5), (5, 0), (0, 0)])
def test_nothing_to_draw(total: int, count: int) -> None:
    assert indices(SEED, total, count) == []


def test_the_seed_depends_on_all_it_names() -> None:
    fields = [bytes([n]) * 32 for n in range(4)]

    def seed(parts: list[bytes]) -> bytes:
        return por_seed(NetworkId(parts[0]), NodeId(parts[1]), parts[2], parts[3])

    seeds = {seed(fields)}
    for at in range(4):
        seeds.add(seed([b"\xff" * 32 if n == at else part for n, part in enumerate(fields)]))
    assert len(seeds) == 5
