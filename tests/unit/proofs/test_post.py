from __future__ import annotations

from dataclasses import replace

import pytest

from dsn.core import tags
from dsn.core.codec import Reader
from dsn.core.hashing import sha256
from dsn.ids import NetworkId, NodeId
from dsn.proofs.por import answer_root
from dsn.proofs.post import (
    Link,
    beacon_hash,
    build_answer_path,
    drawn_indices,
    epoch_seed,
    leaves_asked,
    verify_answer_path,
)
from tests.support.signing import refusal

H, G, J = (bytes([n]) * 32 for n in (1, 2, 3))
LINK = Link(4, H, G, 50, 20, J)


def test_a_link_is_116_bytes() -> None:
    raw = LINK.encode()
    assert len(raw) == 116
    assert raw == (4).to_bytes(8, "big") + H + G + (50).to_bytes(8, "big") + b"\0\0\0\x14" + J
    assert Link.read(Reader(raw, "link")) == LINK


@pytest.mark.parametrize(
    ("total", "asked"),
    [
        (0, 0),
        (1, 1),
        (19, 19),
        (20, 20),
        (21, 20),
        (4 << 30, 20),
        ((4 << 30) + 1, 21),
        (1 << 40, 5_120),
    ],
)
def test_twenty_leaves_are_asked_and_five_a_tib_beyond_four(total: int, asked: int) -> None:
    assert leaves_asked(total) == asked


def test_seed_and_beacon_hash_as_the_spec_has_them() -> None:
    network, node = NetworkId(H), NodeId(G)
    seed = epoch_seed(network, node, 7, J, H)
    assert seed == sha256(b"dsn/seed/v1\0\0\0\0\0" + H + G + (7).to_bytes(8, "big") + J + H)
    assert beacon_hash(J) == sha256(tags.BEACON + J)


def test_a_draw_depends_on_everything_in_the_seed() -> None:
    network, node = NetworkId(H), NodeId(G)
    first = drawn_indices(LINK, J, network=network, node=node)
    assert len(set(first)) == 20
    assert max(first) < 50
    others = [
        drawn_indices(replace(LINK, epoch=5), J, network=network, node=node),
        drawn_indices(replace(LINK, root=J), J, network=network, node=node),
        drawn_indices(LINK, G, network=network, node=node),
        drawn_indices(LINK, J, network=NetworkId(G), node=node),
        drawn_indices(LINK, J, network=network, node=NodeId(H)),
    ]
    assert all(other != first for other in others)


@pytest.mark.parametrize("count", range(1, 22))
def test_every_opening_has_its_way_to_the_answer_root(count: int) -> None:
    openings = [bytes([n]) * (n + 1) for n in range(count)]
    link = replace(LINK, count=count, answer_root=answer_root(openings))
    for place, opening in enumerate(openings):
        path = build_answer_path(openings, place)
        verify_answer_path(link, place, opening, path)
        for bad_place in (place + 1, place - 1):
            assert refusal(
                lambda b=bad_place, o=opening, p=path: verify_answer_path(link, b, o, p)
            ) in ("place", "answer_root", "answer_path")
        assert (
            refusal(lambda n=place, p=path: verify_answer_path(link, n, b"other", p))
            == "answer_root"
        )
        assert (
            refusal(lambda n=place, o=opening, p=path: verify_answer_path(link, n, o, [*p, H]))
            == "answer_path"
        )
        if path:
            assert (
                refusal(lambda n=place, o=opening, p=path: verify_answer_path(link, n, o, p[:-1]))
                == "answer_path"
            )
