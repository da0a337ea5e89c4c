"""What a light client reads of a ledger that serves it, whether it is there or not."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsn.apps.ledger.light import LightClient, Snapshot
from dsn.dht.network import sign_network
from dsn.errors import ConfigError, Unreachable
from dsn.ids import DealId
from dsn.ledger.bodies import Agreed, Open
from dsn.ledger.cells import AccountCell
from dsn.ledger.checkpoint import parse_checkpoint
from dsn.ledger.typed import sign_typed
from dsn.rpc.channel import Connections
from dsn.runtime.clock import SystemClock
from dsn.wire.status import RetryLater
from tests.support.ledger_stage import (
    CALLER,
    GENESIS,
    LOG_KEY,
    Reader,
    Stage,
    located,
    node_of,
    refusal,
    serving,
    transfer,
    without_witnesses,
)
from tests.support.ledger_world import KEYS, address, terms

SAM, ALICE = address("sam"), address("alice")


# what is true


async def test_cells_are_those_of_the_newest_checkpoint(stage: Stage, reader: Reader) -> None:
    light = reader.light()
    assert light.checkpoint is None
    cell = await light.account(ALICE)
    assert cell == stage.world.account("alice")
    assert (cell.available, cell.nonce, cell.node) == (999_997, 1, node_of("alice"))
    assert light.newest == stage.checkpoint()
    stage.do("alice", transfer(1_000))
    found = await light.accounts([ALICE, SAM, ALICE])
    assert found == {ALICE: stage.world.account("alice"), SAM: AccountCell(SAM, 1_000)}
    assert light.newest == stage.checkpoint()


async def test_what_was_never_touched_is_blank_and_proven_to_be(reader: Reader) -> None:
    light, dora = reader.light(), address("dora")
    assert await light.account(dora) == AccountCell(dora)
    assert await light.bound([node_of("bob")]) == {}
    assert await light.deals([DealId(bytes(32))]) == {}
    assert await light.accounts([]) == {}


async def test_identities_lead_to_addresses(reader: Reader) -> None:
    asked = [node_of(name) for name in ("alice", "bob", "paul")]
    assert await reader.light().bound(asked) == {
        node_of("alice"): ALICE,
        node_of("paul"): address("paul"),
    }


async def test_deals_are_read_by_id(stage: Stage, reader: Reader) -> None:
    deal = terms(end=100, delegate=bytes(20), disk_price=1)
    both = (sign_typed(deal, stage.params.domain, KEYS[name]) for name in ("alice", "paul"))
    stage.do("alice", Open(Agreed(deal, *both)))
    deal_id = deal.deal_id(stage.params.domain)
    found = await reader.light().deals([deal_id, DealId(bytes(32))])
    assert found == {deal_id: stage.world.deal(deal_id)}


async def test_more_cells_than_a_call_takes(stage: Stage, reader: Reader) -> None:
    seed = 41
    drawn = random.Random(seed)
    addresses = [type(ALICE)(drawn.randbytes(20)) for _ in range(300)] + [ALICE]
    found = await reader.light().accounts(addresses)
    assert len(found) == 301, seed
    assert found[ALICE] == stage.world.account("alice")
    assert stage.calls == ["GetAccount"] * 2


async def test_the_epoch_is_that_of_the_newest_checkpoint(stage: Stage, reader: Reader) -> None:
    light = reader.light()
    assert await light.epoch() == 1
    stage.shut()
    assert await light.epoch() == 2


async def test_what_was_believed_is_remembered(stage: Stage, reader: Reader) -> None:
    assert (await reader.light().refresh()).size == 3
    later = reader.light()
    assert later.newest == stage.checkpoint()
    stage.pay(5)
    assert (await later.refresh()).size == 8
    assert parse_checkpoint(reader.file.read_bytes()).checkpoint == stage.checkpoint()
    assert reader.file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("steps", [(1, 1, 1), (5, 0, 8), (61, 3, 200)])
async def test_a_log_that_grows_is_followed(
    stage: Stage, reader: Reader, steps: tuple[int, ...]
) -> None:
    light = reader.light()
    for step in steps:
        stage.pay(step)
        assert (await light.refresh()).size == len(stage.world.leaves)
        stage.pay(step)
        await light.account(ALICE)
        assert light.newest.size == len(stage.world.leaves)


async def test_no_quorum_is_needed_where_there_are_no_witnesses(tmp_path: Path) -> None:
    stage = Stage(without_witnesses())
    stage.begin()
    stage.published = (stage.snapshot(), stage.sign(stage.checkpoint(), ()))
    async with serving(stage, tmp_path) as reader:
        assert (await reader.light().refresh()).size == 1


# all of one checkpoint


def open_deals(stage: Stage, count: int) -> list[DealId]:
    """So many deals of alice with paul, in as many checkpoints."""
    ids = []
    for number in range(count):
        deal = terms(end=100, delegate=bytes(20), disk_price=1, salt=bytes([number]) * 32)
        both = (sign_typed(deal, stage.params.domain, KEYS[name]) for name in ("alice", "paul"))
        stage.do("alice", Open(Agreed(deal, *both)))
        ids.append(deal.deal_id(stage.params.domain))
    return ids


async def test_a_snapshot_is_of_one_checkpoint(stage: Stage, reader: Reader) -> None:
    light, ids = reader.light(), open_deals(stage, 2)
    seen = await light.snapshot(address("paul"), [*ids, DealId(bytes(32)), *ids])
    world = stage.world
    assert seen == Snapshot(
        len(world.leaves),
        world.state.network,
        world.account("paul"),
        {deal: world.deal(deal) for deal in ids},
    )
    assert seen.size == light.newest.size
    nobody = await light.snapshot(address("dora"))
    assert (nobody.account, nobody.deals) == (AccountCell(address("dora")), {})


def never_still(stage: Stage, times: int) -> list[int]:
    """Have the ledger go on before each of the next replies; gives what it entered."""
    entered: list[int] = []

    def late(call: Any) -> Any:
        def lie(request: Any, reply: Any) -> Any:
            if len(entered) == times:
                return reply
            entered.append(stage.do("alice", transfer()))
            return call(request)

        return lie

    stage.lies |= {"GetDeal": late(stage._get_deal), "GetAccount": late(stage._get_account)}
    return entered


async def test_a_snapshot_waits_until_all_replies_agree(stage: Stage, reader: Reader) -> None:
    light, ids = reader.light(), open_deals(stage, 1)
    entered = never_still(stage, 6)
    seen = await light.snapshot(ALICE, ids)
    assert len(entered) == 6
    assert (seen.size, seen.account) == (len(stage.world.leaves), stage.world.account("alice"))


async def test_a_ledger_that_never_stands_still_gives_no_snapshot(
    stage: Stage, reader: Reader
) -> None:
    light, ids = reader.light(), open_deals(stage, 1)
    never_still(stage, 1_000)
    assert (await refusal(light.snapshot(ALICE, ids))).detail_code == "ledger_behind"


async def test_a_snapshot_without_the_networks_cell_is_refused(
    stage: Stage, reader: Reader
) -> None:
    def short(request: Any, reply: Any) -> Any:
        del reply.cells[-1]
        return reply

    stage.lies["GetAccount"] = short
    assert (await refusal(reader.light().snapshot(ALICE))).code == "malformed_message"


@pytest.mark.parametrize(("start", "end"), [(0, 3), (2, 300), (255, 257), (256, 300), (9, 9)])
async def test_leaves_come_as_they_stand_in_the_log(
    stage: Stage, reader: Reader, start: int, end: int
) -> None:
    stage.pay(300)
    assert await reader.light().leaves(start, end) == stage.world.leaves[start:end]


async def test_leaves_that_are_not_there_yet(reader: Reader) -> None:
    assert (await refusal(reader.light().leaves(0, 4))).detail_code == "no_such_tile"


# the line to the ledger


async def test_a_ledger_that_is_away_is_named_and_hinted_at(
    stage: Stage, reader: Reader, tmp_path: Path
) -> None:
    for network in (located(GENESIS, "127.0.0.1:1"), replace(reader.network, ledger=None)):
        async with Connections(CALLER, network.network_id) as connections:
            light = LightClient(network, connections, tmp_path / "c", SystemClock(), patience_s=0.1)
            error = await refusal(light.refresh())
            assert (error.detail_code, error.exit_code) == ("ledger_unreachable", 7)
            assert error.hint


async def test_a_ledger_that_is_back_is_heard(stage: Stage, reader: Reader) -> None:
    failures = [Unreachable("not now")] * 2

    def fail(request: Any, reply: Any) -> Any:
        if failures:
            raise failures.pop()
        return reply

    stage.lies["GetCheckpoint"] = fail
    assert (await reader.light().refresh()).size == 3
    assert stage.calls == ["GetCheckpoint"] * 3


async def test_an_answer_that_says_when_to_come_back_is_heeded(
    stage: Stage, reader: Reader
) -> None:
    failures = [RetryLater("busy", retry_after_s=0.01)]

    def fail(request: Any, reply: Any) -> Any:
        if failures:
            raise failures.pop()
        return reply

    stage.lies["GetCheckpoint"] = fail
    assert (await reader.light().refresh()).size == 3
    failures.append(RetryLater("busy", retry_after_s=3_600, code="busy"))
    assert (await refusal(reader.light().refresh())).detail_code == "busy"


async def test_inclusion_is_waited_for_and_not_for_ever(stage: Stage, reader: Reader) -> None:
    light = reader.light()
    await light.wait_included(2)
    error = await refusal(light.wait_included(3, timeout_s=0.1))
    assert (error.detail_code, error.exit_code) == ("not_included", 7)

    def publish(request: Any, reply: Any) -> Any:
        if stage.calls.count("GetCheckpoint") == asked + 3:
            stage.pay(1)
        return reply

    asked = stage.calls.count("GetCheckpoint")
    stage.lies["GetCheckpoint"] = publish
    await light.wait_included(3)
    assert stage.calls.count("GetCheckpoint") == asked + 4


async def test_a_network_without_a_ledger_has_no_light_client(tmp_path: Path) -> None:
    free = sign_network(replace(GENESIS, ledger=None), [], LOG_KEY.sign)
    async with Connections(CALLER, free.network_id) as connections:
        with pytest.raises(ConfigError) as refused:
            LightClient(free, connections, tmp_path / "c", SystemClock())
    assert (refused.value.detail_code, refused.value.exit_code) == ("no_ledger_here", 2)


@pytest.mark.parametrize("raw", [b"", b"rot", b"\xff"])
async def test_a_damaged_memory_is_no_reason_to_trust_anew(reader: Reader, raw: bytes) -> None:
    await reader.light().refresh()
    reader.file.write_bytes(raw)
    with pytest.raises(ConfigError) as refused:
        reader.light()
    assert refused.value.detail_code == "bad_checkpoint_file"
    assert "remove" in refused.value.hint
