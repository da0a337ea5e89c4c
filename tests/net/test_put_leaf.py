"""PutLeaf over a real server: anybody may give rotten leaves back, the commit judges."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from dsn.errors import InvalidProof, MalformedMessage, NotFound, ShardCorrupt, TooMany
from dsn.rpc.limits import Limits
from dsn.units import KIB, MIB
from dsn.v1 import node_pb2
from tests.support.node_world import Shard, World, running, shards

SMALL, LARGE = 3_000, 300_000


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as world:
        yield world


def rot(world: World, one: Shard, *offsets: int) -> None:
    """Flip bits of a large shard."""
    path = world.volume / "shards" / one.commit.hex()[:2] / one.commit.hex()
    raw = bytearray(path.read_bytes())
    for at in offsets:
        raw[at] ^= 1
    path.write_bytes(raw)


def leaves(one: Shard, indices: Iterable[int]) -> dict[int, bytes]:
    return {index: one.data[index * KIB : (index + 1) * KIB] for index in indices}


async def test_a_stranger_asks_mends_and_the_owner_reads_again(world: World) -> None:
    owner, stranger = world.client(1), world.client(2)
    (one,) = shards(LARGE)
    await owner.hold(one)
    rot(world, one, 100, 200_000)
    asked = await stranger.peer.put_leaves(one.commit, {})
    assert list(asked.rotten) == [*range(64), *range(192, 256)]
    half = await stranger.peer.put_leaves(one.commit, leaves(one, [0]))
    assert (list(half.rotten), half.more) == (list(range(192, 256)), False)
    whole = await stranger.peer.put_leaves(one.commit, leaves(one, [195]))
    assert list(whole.rotten) == []
    assert await owner.get(one.commit, 0, LARGE) == one.data


async def test_wrong_leaves_and_unknown_shards_have_their_codes(world: World) -> None:
    client = world.client()
    one, small, other = shards(LARGE, SMALL, 10)
    await client.hold(one, small)
    with pytest.raises(NotFound) as unknown:
        await client.peer.put_leaves(other.commit, {})
    assert unknown.value.detail_code == "unknown_shard"
    for shard, given in [
        (one, {0: bytes(KIB)}),
        (one, {0: b"short"}),
        (one, {1 << 60: bytes(KIB)}),
        (small, {0: bytes(KIB), 1: bytes(KIB), 2: bytes(SMALL - 2 * KIB)}),
    ]:
        with pytest.raises(InvalidProof) as caught:
            await client.peer.put_leaves(shard.commit, given)
        assert caught.value.detail_code == "bad_leaf"
    with pytest.raises(TooMany):
        await client.peer.put_leaves(one.commit, dict.fromkeys(range(513), bytes(KIB)))
    twice = [node_pb2.Leaf(index=0, data=bytes(KIB))] * 2
    request = node_pb2.PutLeafRequest(commit=one.commit, leaves=twice)
    with pytest.raises(MalformedMessage):
        await client.peer._unary("PutLeaf", request, node_pb2.PutLeafReply, 5.0)


async def test_a_lost_shard_takes_no_leaves(world: World) -> None:
    client = world.client()
    (one,) = shards(LARGE)
    await client.hold(one)
    os.unlink(world.volume / "shards" / one.commit.hex()[:2] / one.commit.hex())
    for given in ({}, leaves(one, [0])):
        with pytest.raises(ShardCorrupt) as caught:
            await client.peer.put_leaves(one.commit, given)
        assert caught.value.detail_code == "shard_lost"


async def test_many_rotten_leaves_are_named_in_part(world: World) -> None:
    client = world.client()
    (one,) = shards(5 * MIB)
    await client.hold(one)
    rot(world, one, *range(0, 5 * MIB, 64 * KIB))
    reply = await client.peer.put_leaves(one.commit, {})
    assert (list(reply.rotten), reply.more) == (list(range(4_096)), True)


async def test_strangers_are_charged_for_what_is_read_and_owners_are_not(tmp_path: Path) -> None:
    limits = Limits(address_limits=False, challenge_leaves_an_hour=9)
    async with running(tmp_path, limits=limits) as world:
        owner, stranger = world.client(1), world.client(2)
        (one,) = shards(LARGE)  # five groups
        await owner.hold(one)
        await stranger.peer.put_leaves(one.commit, {})
        with pytest.raises(TooMany):
            await stranger.peer.put_leaves(one.commit, {})
        for _ in range(4):
            await owner.peer.put_leaves(one.commit, {})
