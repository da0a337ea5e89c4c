"""Entering what an account signs: in order, once, and whatever the ledger says of it."""

from __future__ import annotations

from typing import Any

from dsn.errors import EntryRefused, Unreachable
from dsn.ledger.bodies import Agreed, Open
from dsn.ledger.typed import sign_typed
from dsn.v1 import ledger_pb2 as v1
from tests.support.ledger_stage import (
    Reader,
    Stage,
    refusal,
    serving,
    transfer,
)
from tests.support.ledger_world import KEYS, address, terms

SAM, ALICE = address("sam"), address("alice")


async def test_entries_are_entered_in_order(stage: Stage, reader: Reader) -> None:
    light = reader.light()
    account = reader.account("alice", light)
    assert account.address == ALICE
    assert await account.send([transfer(5), transfer(6, "bob")]) == [3, 4]
    assert await account.send([transfer(7)]) == [5]
    assert (await light.account(SAM)).available == 12
    assert light.newest.size == 6


async def test_entries_in_several_calls(stage: Stage, reader: Reader) -> None:
    account = reader.account("alice")
    assert await account.send([transfer()] * 300) == list(range(3, 303))
    assert stage.calls.count("Submit") == 2
    assert stage.world.account("sam").available == 300


async def test_what_is_not_cosigned_yet_counts_in_the_nonce(stage: Stage, reader: Reader) -> None:
    stage.auto = False
    account = reader.account("alice")
    assert await account.send([transfer()], wait=False) == [3]
    assert await account.send([transfer()], wait=False) == [4]
    assert stage.calls.count("Submit") == 2
    stage.publish()
    await account.send([])
    assert stage.world.account("alice").nonce == 3


async def test_a_refusal_has_its_code_and_names_the_entry(stage: Stage, reader: Reader) -> None:
    error = await refusal(reader.account("alice").send([transfer(2_000_000)]))
    assert isinstance(error, EntryRefused)
    assert error.detail_code == "not_enough_credit"
    assert error.message.startswith("transfer: ")
    assert stage.world.account("alice").nonce == 1


async def test_what_follows_a_refused_entry_is_entered_if_once_is_enough(
    stage: Stage, reader: Reader
) -> None:
    first, second = (opening(stage, salt) for salt in (b"\x01", b"\x02"))
    bodies = [first, transfer(2_000_000), second, transfer(3)]
    outcomes = await reader.account("alice").enter(bodies)
    codes = [each.detail_code if isinstance(each, EntryRefused) else each for each in outcomes]
    assert codes == [3, "not_enough_credit", 4, "nonce_gap"]
    assert stage.world.account("sam").available == 0
    assert len(stage.world.deals()) == 2


def opening(stage: Stage, salt: bytes) -> Open:
    deal = terms(end=100, delegate=bytes(20), disk_price=1, salt=salt * 32)
    both = (sign_typed(deal, stage.params.domain, KEYS[name]) for name in ("alice", "paul"))
    return Open(Agreed(deal, *both))


async def test_a_nonce_that_another_process_took_is_no_obstacle(
    stage: Stage, reader: Reader
) -> None:
    first, second = reader.account("alice"), reader.account("alice")
    stage.auto = False
    assert await first.send([transfer(1)], wait=False) == [3]
    published: list[int] = []

    def catch_up(request: Any, reply: Any) -> Any:
        if published:
            stage.publish()
            return stage._get_account(request)
        published.append(1)
        return reply

    stage.lies["GetAccount"] = catch_up
    assert await second.send([transfer(2)], wait=False) == [4]
    assert stage.world.account("sam").available == 3


async def test_a_lost_reply_enters_nothing_twice(stage: Stage, reader: Reader) -> None:
    lost: list[int] = []

    def lose(request: Any, reply: Any) -> Any:
        lost.append(1)
        if len(lost) == 1:
            raise Unreachable("the reply is lost")
        return reply

    stage.lies["Submit"] = lose
    assert await reader.account("alice").send([transfer(40), transfer(2)]) == [3, 4]
    assert len(lost) == 2
    assert stage.world.account("sam").available == 42


async def test_a_ledger_that_denies_what_it_took_gets_nothing_twice(
    stage: Stage, reader: Reader
) -> None:
    def deny(request: Any, reply: Any) -> Any:
        return v1.SubmitReply(outcomes=[v1.EntryOutcome(index=3, code="nonce_used", message="no")])

    stage.lies["Submit"] = deny
    assert await reader.account("alice").send([transfer(40)]) == [3]
    assert stage.calls.count("Submit") == 1
    assert stage.world.account("sam").available == 40


async def test_a_race_that_is_always_lost_ends(stage: Stage, reader: Reader) -> None:
    def race(request: Any) -> Any:
        stage.pay(1)
        return Stage._submit(stage, request)

    stage._submit = race  # type: ignore[method-assign]
    async with serving(stage, reader.file.parent) as slow:
        error = await refusal(slow.account("alice").send([transfer(40)]))
    assert error.detail_code == "nonce_used"
    assert stage.calls.count("Submit") == 6
