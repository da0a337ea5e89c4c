"""A node's calls over real connections and a real store: what is promised, and what is refused."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dsn.apps.node.terms import FIRST_PENDING_BYTES, Terms
from dsn.core.keys import SigningKey, node_id_of
from dsn.dht.record import sign_slot
from dsn.errors import (
    DealMismatch,
    DsnError,
    InvalidSignature,
    MalformedMessage,
    NoSpace,
    NotFound,
    TooMany,
    UsageError,
)
from dsn.ids import NO_DEAL, Commit, DealId
from dsn.ledger.revision import first_revision
from dsn.ports import ShardState
from dsn.proofs.por import build_challenge, verify_answer
from dsn.rpc.limits import Limits
from dsn.rpc.line import ByteStream
from dsn.units import FRAME_BYTES, LEAF_BYTES, MIB, SMALL_SHARD_BYTES
from dsn.v1 import node_pb2
from dsn.wire import convert
from dsn.wire.status import RetryLater
from tests.support.node_world import (
    NETWORK,
    SIZES,
    Client,
    Shard,
    World,
    frames_of,
    get_request,
    running,
    shards,
    together,
)

LOST, UNKNOWN = node_pb2.ChallengeReply.OUTCOME_LOST, node_pb2.ChallengeReply.OUTCOME_UNKNOWN
BASE = first_revision(NO_DEAL)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as world:
        yield world


@pytest.fixture
def client(node: World) -> Client:
    return node.client()


async def refused(stream: ByteStream, *messages: bytes) -> DsnError:
    """The error that ``messages`` end a stream with."""
    with pytest.raises(DsnError) as error:
        await converse(stream, *messages)
    return error.value


async def write_all(stream: ByteStream, *messages: bytes) -> None:
    for message in messages:
        await stream.write(message)


async def converse(stream: ByteStream, *messages: bytes) -> list[bytes]:
    await write_all(stream, *messages)
    await stream.done_writing()
    return [message async for message in frames_of(stream)]


# terms


async def test_terms(node: World, client: Client) -> None:
    terms = await client.peer.get_terms()
    assert terms.node_id == node.contact.node_id
    assert terms.max_pending_bytes == FIRST_PENDING_BYTES
    assert terms.free_bytes == node.store.space().free > 0


# PutShard and GetShard


async def test_every_size_comes_back_as_it_was(client: Client) -> None:
    group = shards(*SIZES)
    receipts = await client.put(*group)
    assert [each.commit for each in receipts] == [shard.commit for shard in group]
    for shard in group:
        assert await client.get(shard.commit, 0, len(shard.data)) == shard.data


async def test_what_was_receipted_survives_a_restart(tmp_path: Path) -> None:
    group = shards(700, 3 * MIB)
    async with running(tmp_path) as world:
        await world.client().put(*group)
    async with running(tmp_path) as world:
        for shard in group:
            assert await world.client().get(shard.commit, 0, len(shard.data)) == shard.data


async def test_ranges_come_in_frames_that_grow(client: Client) -> None:
    (shard,) = shards(3 * MIB)
    await client.put(shard)
    stream = client.peer.get_shards()
    frames = await converse(stream, get_request(shard.commit, 5, len(shard.data), 65_536))
    assert b"".join(frames) == shard.data[5:]
    assert [len(frame) for frame in frames[:3]] == [65_536, 262_144, FRAME_BYTES]


async def test_requests_are_answered_in_order(client: Client) -> None:
    group = shards(2_000, 100_000, 1)
    await client.put(*group)
    asked = [get_request(shard.commit, 0, len(shard.data)) for shard in reversed(group)]
    frames = await converse(client.peer.get_shards(), *asked)
    assert frames == [shard.data for shard in reversed(group)]


async def test_anybody_may_read(node: World, client: Client) -> None:
    (shard,) = shards(10_000)
    await client.put(shard)
    assert await node.client(2).get(shard.commit, 1, 9) == shard.data[1:9]


@pytest.mark.parametrize(
    ("start", "end", "first"), [(5, 5, 65_536), (6, 5, 65_536), (0, 2_001, 65_536), (0, 9, 0)]
)
async def test_ranges_that_are_none(client: Client, start: int, end: int, first: int) -> None:
    (shard,) = shards(2_000)
    await client.put(shard)
    error = await refused(client.peer.get_shards(), get_request(shard.commit, start, end, first))
    assert isinstance(error, UsageError)
    assert error.detail_code == "bad_range"


async def test_a_shard_that_is_not_here(client: Client) -> None:
    error = await refused(client.peer.get_shards(), get_request(Commit(bytes(32)), 0, 1))
    assert (type(error), error.detail_code) == (NotFound, "unknown_shard")


@pytest.mark.parametrize("size", [500, 3 * MIB])
async def test_a_commit_that_does_not_match_is_refused(
    node: World, client: Client, size: int
) -> None:
    good, bad = shards(900, size)
    messages = [message.replace(bad.commit, bytes(32)) for message in bad.messages()]
    stream = client.peer.put_shards()
    for message in (*good.messages(), *messages):
        await stream.write(message)
    assert [each.commit for each in await client.receipts(stream)] == [good.commit]
    with pytest.raises(DsnError) as error:
        await stream.read()
    assert error.value.detail_code == "commit_mismatch"
    assert await node.store.stat(bad.commit) is None


@pytest.mark.parametrize("length", [0, 1, SMALL_SHARD_BYTES, Terms().max_shard_bytes + 1])
async def test_lengths_that_are_refused_at_once(client: Client, length: int) -> None:
    header = node_pb2.PutHeader(deal=NO_DEAL, length=length).SerializeToString()
    error = await refused(client.peer.put_shards(), header)
    assert (type(error), error.detail_code) == (MalformedMessage, "bad_length")


@pytest.mark.parametrize("size", [0, SMALL_SHARD_BYTES + 1])
async def test_small_shards_of_another_size(client: Client, size: int) -> None:
    whole = node_pb2.SmallShard(data=bytes(size), commit=bytes(32))
    header = node_pb2.PutHeader(deal=NO_DEAL, small=[whole]).SerializeToString()
    error = await refused(client.peer.put_shards(), header)
    assert (type(error), error.detail_code) == (MalformedMessage, "bad_length")


async def test_many_small_shards_make_one_group(client: Client) -> None:
    group = shards(*range(1, 65))
    stream = client.peer.put_shards()
    await stream.write(together(*group, records=[slot(1)]))
    receipts = await client.receipts(stream)
    assert [each.commit for each in receipts] == [shard.commit for shard in group]
    assert await client.peer.get_pointer(KEY) == slot(1)


async def test_a_stale_record_does_not_stop_its_group(client: Client) -> None:
    await put_records(client, slot(2))
    (shard,) = shards(9)
    stream = client.peer.put_shards()
    await stream.write(together(shard, records=[slot(1)]))
    assert [each.commit for each in await client.receipts(stream)] == [shard.commit]
    assert await client.peer.get_pointer(KEY) == slot(2)


async def test_a_bad_record_ends_the_stream(client: Client) -> None:
    error = await refused(client.peer.put_shards(), together(*shards(9), records=[b"junk"]))
    assert isinstance(error, MalformedMessage)


async def test_too_many_small_shards_in_a_group(client: Client) -> None:
    error = await refused(client.peer.put_shards(), together(*shards(*[1] * 65)))
    assert isinstance(error, TooMany)


async def test_a_frame_of_a_wrong_size_ends_the_stream(node: World, client: Client) -> None:
    header = node_pb2.PutHeader(deal=NO_DEAL, length=2 * MIB).SerializeToString()
    for frames in ([bytes(MIB - 1)], [bytes(MIB), b""], [bytes(MIB), bytes(MIB), bytes(MIB)]):
        error = await refused(client.peer.put_shards(), header, *frames)
        assert isinstance(error, MalformedMessage)
    assert node.store.space().reserved == 0


async def test_a_stream_that_breaks_off_leaves_nothing(node: World, client: Client) -> None:
    (shard,) = shards(2 * MIB)
    error = await refused(client.peer.put_shards(), *shard.messages()[:2])
    assert isinstance(error, MalformedMessage)
    assert await node.store.stat(shard.commit) is None
    assert node.store.pending_bytes(node_id_of(client.key.public)) == 0


async def test_an_empty_stream_is_no_error(client: Client) -> None:
    assert await converse(client.peer.put_shards()) == []


async def test_a_deal_that_is_not_open_here(client: Client) -> None:
    header = node_pb2.PutHeader(deal=b"d" * 32, length=MIB).SerializeToString()
    for before in ([], shards(9)[0].messages()):
        error = await refused(client.peer.put_shards(), *before, header)
        assert error.detail_code == "unknown_deal"


async def test_storing_again_gives_the_same_promise(client: Client) -> None:
    (shard,) = shards(5_000)
    first, second = await client.put(shard, shard)
    assert first == second


async def test_pending_bytes_are_bounded_until_a_revision(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        client = world.client()
        group = shards(*[24 * MIB] * 3)
        with pytest.raises(TooMany) as error:
            await client.put(*group)
        assert error.value.detail_code == "pending_limit"
        await client.revise(client.request(BASE, group[:2], group[:2]))
        await client.put(group[2])


async def test_receipts_before_a_refusal_can_still_be_read(tmp_path: Path) -> None:
    """A sender that is refused in the middle of writing loses none of them."""
    async with running(tmp_path, capacity=12 * MIB) as world:
        client = world.client()
        first, second = shards(5_000, 60 * MIB)
        stream = client.peer.put_shards()
        with pytest.raises(NoSpace):
            await write_all(stream, *first.messages(), *second.messages())
        assert [each.commit for each in await client.receipts(stream)] == [first.commit]
        with pytest.raises(NoSpace):
            await stream.read()


async def test_a_full_node_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, capacity=4 * MIB) as world:
        with pytest.raises(DsnError) as error:
            await world.client().put(*shards(6 * MIB))
    assert error.value.detail_code == "no_space"


# Revise and GetRevision


async def test_pending_shards_become_held(node: World, client: Client) -> None:
    group = shards(800, 2 * MIB)
    revision = await client.hold(*group)
    assert (revision.number, revision.shards) == (1, 2)
    assert await client.newest() == revision
    for shard in group:
        stored = await node.store.stat(shard.commit)
        assert stored is not None
        assert stored.state is ShardState.HELD


async def test_the_same_request_gives_the_same_bytes(client: Client) -> None:
    (shard,) = shards(800)
    await client.put(shard)
    request = client.request(BASE, [shard], [shard])
    first, second = await client.peer.revise(request), await client.peer.revise(request)
    assert first.SerializeToString() == second.SerializeToString()


async def test_dropping_held_and_pending_shards(node: World, client: Client) -> None:
    held, kept, pending = shards(800, 900, 1_000)
    base = await client.hold(held, kept)
    await client.put(pending)
    await client.revise(client.request(base, [kept], [], [held, pending]))
    assert await node.store.stat(held.commit) is None
    assert await node.store.stat(pending.commit) is None
    assert await client.get(kept.commit, 0, 900) == kept.data


async def test_a_restarted_node_goes_on_from_the_newest_revision(tmp_path: Path) -> None:
    first, second = shards(800, 900)
    async with running(tmp_path) as world:
        base = await world.client().hold(first)
    async with running(tmp_path) as world:
        client = world.client()
        await client.put(second)
        revision = await client.revise(client.request(base, [first, second], [second]))
    assert (revision.number, revision.shards) == (2, 2)


async def test_another_base_is_shown_the_newest(client: Client) -> None:
    first, second = shards(800, 900)
    newest = await client.hold(first)
    await client.put(second)
    with pytest.raises(DealMismatch) as error:
        await client.revise(client.request(BASE, [second], [second]))
    assert error.value.detail_code == "deal_mismatch"
    shown = convert.decode_revision(error.value.evidence)
    assert shown.revision == newest


async def test_a_revision_that_does_not_follow_is_refused(client: Client) -> None:
    first, second = shards(800, 900)
    await client.put(first, second)
    with pytest.raises(DealMismatch) as error:
        await client.revise(client.request(BASE, [first], [first, second]))
    assert error.value.detail_code == "holdings_mismatch"
    assert await client.newest() == BASE


async def test_only_the_client_itself_can_sign(node: World, client: Client) -> None:
    (shard,) = shards(800)
    await client.put(shard)
    request = client.request(BASE, [shard], [shard])
    request.revision.client_signature = bytes(64)
    with pytest.raises(InvalidSignature):
        await client.peer.revise(request)
    with pytest.raises(InvalidSignature):
        await node.client(2).peer.revise(client.request(BASE, [shard], [shard]))


async def test_nobody_holds_what_another_put(node: World, client: Client) -> None:
    (shard,) = shards(800)
    await client.put(shard)
    thief = node.client(2)
    with pytest.raises(NotFound) as error:
        await thief.revise(thief.request(BASE, [shard], [shard]))
    assert error.value.detail_code == "unknown_shard"
    assert await thief.newest() == BASE
    await client.revise(client.request(BASE, [shard], [shard]))


async def test_adds_and_drops_that_are_not_here(client: Client) -> None:
    absent, present = shards(800, 900)
    await client.put(present)
    for request in (
        client.request(BASE, [absent], [absent]),
        client.request(BASE, [present], [present], [absent]),
    ):
        with pytest.raises(NotFound):
            await client.revise(request)
    with pytest.raises(MalformedMessage):
        await client.revise(client.request(BASE, [], [present], [present]))


async def test_holdings_are_listed_by_page(client: Client) -> None:
    group = sorted(shards(*range(1, 8)), key=lambda shard: shard.commit)
    await client.hold(*group)
    listed: list[tuple[Commit, int]] = []
    more = True
    while more:
        after = listed[-1][0] if listed else b""
        page = await client.peer.get_revision(after=after, limit=3)
        listed += convert.holdings_from_wire(page.holdings)
        more = page.more
    assert listed == [shard.entry for shard in group]


async def test_many_shards_in_one_revision(client: Client) -> None:
    group = [Shard(number.to_bytes(4, "big")) for number in range(600)]
    assert (await client.hold(*group)).shards == 600


# Challenge


def asked(*group: Shard, leaves: int = 40) -> node_pb2.ChallengeRequest:
    entries = [shard.entry for shard in group]
    challenge = build_challenge(entries, nonce=os.urandom(32), leaves=leaves, deadline_ms=1)
    return convert.challenge_to_wire(challenge)


async def test_an_answer_verifies(node: World, client: Client) -> None:
    group = shards(*SIZES)
    await client.put(*group)
    request = asked(*group)
    answer = convert.answer_from_wire(await client.peer.challenge(request))
    verify_answer(
        answer,
        convert.challenge_from_wire(request),
        [shard.entry for shard in group],
        network=NETWORK,
        public_key=node.contact.public_key,
    )
    assert len(answer.openings) == 40


async def test_a_shard_that_was_never_here_is_unknown(client: Client) -> None:
    here, absent = shards(800, 900)
    await client.put(here)
    reply = await client.peer.challenge(asked(here, absent))
    assert (reply.outcome, list(reply.lost)) == (UNKNOWN, [absent.commit])


async def test_other_leaf_counts_are_unknown(client: Client) -> None:
    (shard,) = shards(5_000)
    await client.put(shard)
    request = asked(shard)
    request.root = bytes(32)
    assert (await client.peer.challenge(request)).outcome == UNKNOWN


@pytest.mark.parametrize("size", [40_000, 3 * MIB])
async def test_a_rotten_disk_admits_it(node: World, client: Client, size: int) -> None:
    good, bad = shards(800, size)
    await client.put(good, bad)
    rot(node.volume, bad.data[LEAF_BYTES : 2 * LEAF_BYTES])
    reply = await client.peer.challenge(asked(good, bad, leaves=256))
    while reply.outcome != LOST:  # 256 of 3,073 leaves may miss the one that rotted
        reply = await client.peer.challenge(asked(good, bad, leaves=256))
    assert list(reply.lost) == [bad.commit]


def rot(volume: Path, data: bytes) -> None:
    """Flip one bit where ``data`` stands on disk."""
    for path in volume.rglob("*"):
        if path.is_file() and (at := path.read_bytes().find(data)) >= 0:
            with path.open("r+b") as file:
                file.seek(at)
                file.write(bytes([data[0] ^ 1]))
            return
    raise AssertionError("the data is not on disk")


async def test_challenges_are_bounded_by_leaves(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(challenge_leaves_an_hour=100)) as world:
        (shard,) = shards(MIB)
        client, stranger = world.client(), world.client(2)
        await client.put(shard)
        for _ in range(5):
            await client.peer.challenge(asked(shard, leaves=60))
        await stranger.peer.challenge(asked(shard, leaves=60))
        with pytest.raises(RetryLater) as error:
            await stranger.peer.challenge(asked(shard, leaves=60))
        assert error.value.retry_after_s > 0
        with pytest.raises(TooMany):
            await client.peer.challenge(asked(shard, leaves=257))


async def test_a_challenge_that_is_none(client: Client) -> None:
    request = asked(*shards(800))
    request.nonce = b"short"
    with pytest.raises(MalformedMessage):
        await client.peer.challenge(request)


# PutPointer and GetPointer

SLOT = SigningKey(b"s" * 32)


def slot(sequence: int, body: bytes = b"body", expires_s: int = 2**40) -> bytes:
    return sign_slot(
        SLOT.sign,
        network=NETWORK,
        slot_public=SLOT.public,
        sequence=sequence,
        expires_s=expires_s,
        body=body,
    ).encode()


KEY = bytes(
    sign_slot(
        SLOT.sign, network=NETWORK, slot_public=SLOT.public, sequence=1, expires_s=1, body=b""
    ).key
)


async def put_records(client: Client, *records: bytes) -> list[tuple[int, str]]:
    return sorted((await client.peer.put_pointers(records)).items())


async def test_the_newer_record_stays(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        client = world.client()
        assert await client.peer.get_pointer(KEY) is None
        assert await put_records(client, slot(2), slot(2)) == []
        assert await put_records(client, slot(1)) == [(0, "stale_record")]
        assert await put_records(client, slot(3)) == []
    async with running(tmp_path) as world:
        client = world.client(2)
        assert await client.peer.get_pointer(KEY) == slot(3)
        assert await put_records(client, slot(2)) == [(0, "stale_record")]


async def test_equal_sequences_settle_the_same_way_everywhere(client: Client) -> None:
    one, other = slot(1, b"one"), slot(1, b"other")
    results = [await put_records(client, record) for record in (one, other, one, other)]
    assert sorted(map(len, results[2:])) == [0, 1]
    kept = one if results[2] == [] else other
    assert await client.peer.get_pointer(KEY) == kept


async def test_bad_records_are_refused_one_by_one(client: Client) -> None:
    forged = slot(5)[:-1] + bytes([slot(5)[-1] ^ 1])
    far = slot(2**60)
    codes = await put_records(client, forged, slot(7), b"junk", slot(9, expires_s=1), far)
    assert codes == [
        (0, "invalid_signature"),
        (2, "malformed_message"),
        (3, "expired"),
        (4, "from_future"),
    ]
    assert await client.peer.get_pointer(KEY) == slot(7)


async def test_too_many_records_in_one_request(client: Client) -> None:
    with pytest.raises(TooMany):
        await put_records(client, *[b""] * 129)


@pytest.mark.parametrize("deal", [b"", b"d" * 32])
async def test_requests_for_a_deal_that_is_not_here(client: Client, deal: bytes) -> None:
    with pytest.raises(NotFound if deal else MalformedMessage):
        await client.peer.get_revision(DealId(deal))
