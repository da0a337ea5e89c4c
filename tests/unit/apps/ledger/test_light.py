"""What a light client believes of a ledger that serves it, and what it does about lies."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsn.apps.ledger.light import LightClient
from dsn.core.hashing import sha256
from dsn.core.keys import node_id_of
from dsn.dht.network import sign_network
from dsn.errors import ConfigError, DsnError, EntryRefused, PeerError, Unreachable
from dsn.ids import DealId, format_node_id
from dsn.ledger.bodies import Agreed, Open, Transfer
from dsn.ledger.cells import AccountCell, CellKind, cell_key
from dsn.ledger.checkpoint import NoteSignature, format_checkpoint, parse_checkpoint
from dsn.ledger.evidence import convict, decode_evidence
from dsn.ledger.log import leaf_hash
from dsn.ledger.promise import sign_promise
from dsn.ledger.typed import sign_typed
from dsn.rpc.channel import Connections
from dsn.runtime.clock import SystemClock
from dsn.v1 import ledger_pb2 as v1
from dsn.wire.ledger import cell_to_wire
from dsn.wire.status import RetryLater
from tests.support.ledger_stage import (
    CALLER,
    GENESIS,
    LOG_KEY,
    Reader,
    Stage,
    forked,
    located,
    node_of,
    serving,
    without_witnesses,
)
from tests.support.ledger_world import IDENTITIES, KEYS, WITNESSES, address, terms

SAM, ALICE = address("sam"), address("alice")


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.begin()
    stage.bind("alice", "paul")
    return stage


@pytest.fixture
async def reader(stage: Stage, tmp_path: Path) -> AsyncIterator[Reader]:
    async with serving(stage, tmp_path) as reader:
        yield reader


async def refusal(call: Awaitable[object]) -> DsnError:
    """Why ``call`` failed."""
    with pytest.raises(DsnError) as caught:
        await call
    assert "\n" not in caught.value.message
    return caught.value


def transfer(amount: int = 1, to: str = "sam") -> Transfer:
    return Transfer(address(to), amount)


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


# entries


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


# lies

NoteLie = Callable[[Stage], bytes]


def told(stage: Stage, *args: Any, **kwargs: Any) -> bytes:
    """The newest checkpoint, signed as a test wants it."""
    return format_checkpoint(stage.sign(stage.checkpoint(), *args, **kwargs))


def foreign(stage: Stage) -> bytes:
    checkpoint = replace(stage.checkpoint(), origin="dsn.ledger/other")
    return format_checkpoint(stage.sign(checkpoint))


def cosigned_by_one_key_twice(stage: Stage) -> bytes:
    signed = stage.sign(stage.checkpoint(), WITNESSES[:1])
    line = signed.signatures[-1]
    witnesses = stage.trust.quorum.witnesses
    name = next(each for each in witnesses if each.public != WITNESSES[0].public)
    return format_checkpoint(signed.signed(NoteSignature(name.name, name.key_id, line.signature)))


NOTES: dict[str, tuple[NoteLie, str]] = {
    "no witness": (lambda stage: told(stage, ()), "no_quorum"),
    "one of two": (lambda stage: told(stage, WITNESSES[:1]), "no_quorum"),
    "strangers": (lambda stage: told(stage, [CALLER, IDENTITIES["sam"]]), "no_quorum"),
    "one key for two": (cosigned_by_one_key_twice, "invalid_signature"),
    "from the future": (lambda stage: told(stage, now_s=stage.now_s + 10_000), "no_quorum"),
    "another log key": (lambda stage: told(stage, log_key=CALLER), "invalid_signature"),
    "another operator": (lambda stage: told(stage, settlement="sam"), "unsigned_checkpoint"),
    "another log": (foreign, "other_log"),
    "no note": (lambda stage: b"a checkpoint", "malformed_message"),
    "nothing": (lambda stage: b"", "malformed_message"),
}


@pytest.mark.parametrize("lie", NOTES)
async def test_a_checkpoint_that_is_not_signed_right_is_not_believed(
    stage: Stage, reader: Reader, lie: str
) -> None:
    make, code = NOTES[lie]
    note = make(stage)
    stage.lies["GetCheckpoint"] = lambda request, reply: v1.GetCheckpointReply(checkpoint=note)
    stage.lies["GetAccount"] = lambda request, reply: v1.CellsReply(
        checkpoint=note, cells=reply.cells
    )
    light = reader.light()
    for call in (light.refresh(), light.account(ALICE)):
        error = await refusal(call)
        assert isinstance(error, PeerError)
        assert error.detail_code == code
        assert error.peer == format_node_id(node_id_of(LOG_KEY.public))
    assert light.checkpoint is None
    assert not reader.file.exists()


def other_cell(stage: Stage, reply: Any) -> Any:
    return proven(stage, "paul", "paul")


def richer(stage: Stage, reply: Any) -> Any:
    cell = replace(stage.world.account("alice"), available=10**9)
    proof = stage.world.state.tree.build_proof(cell_key(CellKind.ACCOUNT, ALICE))
    return cell_to_wire(cell, *proof)


def said_to_be_absent(stage: Stage, reply: Any) -> Any:
    return proven(stage, None, "alice")


def absent_by_another_way(stage: Stage, reply: Any) -> Any:
    return proven(stage, None, "paul")


def proven(stage: Stage, cell: str | None, way: str) -> Any:
    found = None if cell is None else stage.world.account(cell)
    key = cell_key(CellKind.ACCOUNT, address(way))
    return cell_to_wire(found, *stage.world.state.tree.build_proof(key))


def without_way(stage: Stage, reply: Any) -> Any:
    return v1.ProvenCell(cell=reply.cells[0].cell)


def repeated(stage: Stage, reply: Any) -> Any:
    steps = [*reply.cells[0].steps, reply.cells[0].steps[-1]]
    return v1.ProvenCell(cell=reply.cells[0].cell, steps=steps)


def endless(stage: Stage, reply: Any) -> Any:
    steps = [v1.CellStep(bit=n, sibling=bytes(32)) for n in range(400)]
    return v1.ProvenCell(cell=reply.cells[0].cell, steps=steps)


def stretched(stage: Stage, reply: Any) -> Any:
    return v1.ProvenCell(cell=reply.cells[0].cell + b"\0", steps=reply.cells[0].steps)


def nameless(stage: Stage, reply: Any) -> Any:
    return v1.ProvenCell(nearest_key=b"\1", nearest_digest=bytes(32))


CELLS: dict[str, tuple[Callable[[Stage, Any], Any], str]] = {
    "another's cell": (other_cell, "state_root"),
    "another's cell on the way asked for": (lambda stage, reply: proven(stage, "paul", "alice"),
                                            "state_root"),
    "more than there is": (richer, "state_root"),
    "absent, and it is there": (said_to_be_absent, "not_absent"),
    "absent by another's way": (absent_by_another_way, "not_absent"),
    "no way": (without_way, "state_root"),
    "a step twice": (repeated, "bad_step"),
    "too many steps": (endless, "bad_step"),
    "a byte too many": (stretched, "malformed_message"),
    "no key": (nameless, "malformed_message"),
}  # fmt: skip


@pytest.mark.parametrize("lie", CELLS)
async def test_a_cell_that_is_not_proven_is_not_believed(
    stage: Stage, reader: Reader, lie: str
) -> None:
    make, code = CELLS[lie]
    stage.lies["GetAccount"] = lambda request, reply: v1.CellsReply(
        checkpoint=reply.checkpoint, cells=[make(stage, reply)]
    )
    error = await refusal(reader.light().account(ALICE))
    assert isinstance(error, PeerError)
    assert error.detail_code == code


@pytest.mark.parametrize("count", [0, 2])
async def test_as_many_cells_as_were_asked_for(stage: Stage, reader: Reader, count: int) -> None:
    stage.lies["GetAccount"] = lambda request, reply: v1.CellsReply(
        checkpoint=reply.checkpoint, cells=[reply.cells[0]] * count
    )
    error = await refusal(reader.light().account(ALICE))
    assert error.detail_code == "malformed_message"
    assert f"{count} cells, 1 were asked for" in error.message


async def test_a_reply_beyond_all_bounds_is_refused(stage: Stage, reader: Reader) -> None:
    stage.lies["GetAccount"] = lambda request, reply: v1.CellsReply(
        checkpoint=reply.checkpoint, cells=[v1.ProvenCell(cell=bytes(4 << 20))]
    )
    error = await refusal(reader.light(patience_s=0.2).account(ALICE))
    assert error.exit_code in (4, 6, 7)


def lead(stage: Stage, other: Stage) -> None:
    """Answer with another history from now on, about cells too."""
    stage.world, stage.published = other.world, other.published


@pytest.mark.parametrize(("size", "more"), [(8, 0), (8, 1), (5, 9), (9, 64), (64, 1), (65, 0)])
async def test_a_fork_convicts_the_operator(
    stage: Stage, reader: Reader, size: int, more: int
) -> None:
    stage.pay(size - 3)
    light = reader.light()
    assert (await light.refresh()).size == size
    other = forked(stage, 3)
    other.pay(more, "paul")
    lead(stage, other)
    for call in (light.refresh, lambda: light.account(ALICE), reader.light().refresh):
        error = await refusal(call())
        assert isinstance(error, PeerError)
        assert error.detail_code == "forked_ledger"
        assert "evidence" in error.hint
    evidence = reader.file.with_name("checkpoint.evidence").read_bytes()
    convicted = convict(decode_evidence(evidence), stage.trust)
    assert convicted.accused == stage.trust.operator
    assert convicted.fault == ("history" if more else "fork")
    assert light.newest.size == size, "the first history stays the one believed"


async def test_two_states_after_one_log_convict_the_operator(stage: Stage, reader: Reader) -> None:
    light = reader.light()
    await light.refresh()
    minted = stage.sign(replace(stage.checkpoint(), state_root=sha256(b"minted")))
    stage.lies["GetCheckpoint"] = lambda request, reply: v1.GetCheckpointReply(
        checkpoint=format_checkpoint(minted)
    )
    assert (await refusal(light.refresh())).detail_code == "forked_ledger"


async def test_an_epoch_that_falls_convicts_the_operator(stage: Stage, reader: Reader) -> None:
    stage.shut()
    light = reader.light()
    await light.refresh()
    stage.auto = False
    stage.do("alice", transfer())
    rewound = stage.sign(replace(stage.checkpoint(), epoch=1))
    stage.published = (stage.snapshot(), rewound)
    assert (await refusal(light.refresh())).detail_code == "forked_ledger"


async def test_a_log_that_shrank_is_behind_and_convicts_nobody(
    stage: Stage, reader: Reader
) -> None:
    early = stage.published
    stage.pay(4)
    light = reader.light()
    assert (await light.refresh()).size == 7
    newest, stage.published = stage.published, early
    for call in (light.refresh, lambda: light.account(ALICE)):
        error = await refusal(call())
        assert (error.detail_code, error.exit_code) == ("ledger_behind", 7)
        assert "3 entries, 7 were" in error.message
    assert not reader.file.with_name("checkpoint.evidence").exists()
    stage.published = newest
    assert (await light.refresh()).size == 7


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ([], "short"),
        ([bytes(32)] * 9, "trailing"),
        ([b"short"] * 4, "malformed_message"),
        ([bytes(32)] * 4, "log_forked"),
    ],
)
async def test_growth_that_is_not_shown_is_not_believed(
    stage: Stage, reader: Reader, path: list[bytes], code: str
) -> None:
    light = reader.light()
    await light.refresh()
    stage.pay(4)
    stage.lies["GetCheckpoint"] = lambda request, reply: v1.GetCheckpointReply(
        checkpoint=reply.checkpoint, consistency=path
    )
    stage.lies["GetProof"] = lambda request, reply: v1.GetProofReply(path=path, leaf=b"leaf")
    for call in (light.refresh(), light.account(ALICE)):
        assert (await refusal(call)).detail_code == code
    assert light.newest.size == 3


async def test_a_promise_by_another_key_is_refused(stage: Stage, reader: Reader) -> None:
    def forge(request: Any, reply: Any) -> Any:
        outcome = reply.outcomes[0]
        outcome.promise = sign_promise(
            stage.params.domain.network, 3, leaf_hash(b"it"), CALLER.sign
        ).signature
        return reply

    stage.lies["Submit"] = forge
    error = await refusal(reader.account("alice").send([transfer()]))
    assert error.detail_code == "invalid_signature"


@pytest.mark.parametrize("count", [0, 2])
async def test_as_many_outcomes_as_entries(stage: Stage, reader: Reader, count: int) -> None:
    stage.lies["Submit"] = lambda request, reply: v1.SubmitReply(
        outcomes=[reply.outcomes[0]] * count
    )
    error = await refusal(reader.account("alice").send([transfer()]))
    assert error.detail_code == "malformed_message"


async def test_a_refusal_prints_on_one_line(stage: Stage, reader: Reader) -> None:
    stage.lies["Submit"] = lambda request, reply: v1.SubmitReply(
        outcomes=[v1.EntryOutcome(index=3, code="evil\ncode", message="a\n\x1b[2Jb" * 999)]
    )
    error = await refusal(reader.account("alice").send([transfer()]))
    assert error.detail_code == "evil code"
    assert error.message.isprintable()
    assert len(error.message) < 1_100


async def test_an_entry_that_was_dropped_convicts_the_operator(
    stage: Stage, reader: Reader
) -> None:
    stage.auto = False
    light = reader.light()
    assert await reader.account("alice", light).send([transfer()], wait=False) == [3]
    dropped = Stage()
    dropped.begin()
    dropped.bind("alice", "paul")
    dropped.pay(2, "paul")
    lead(stage, dropped)
    later = reader.light()  # a later run of the same home remembers
    error = await refusal(later.refresh())
    assert error.detail_code == "broken_promise"
    assert isinstance(error, PeerError)
    evidence = reader.file.with_name("checkpoint.evidence").read_bytes()
    assert evidence == error.evidence
    convicted = convict(decode_evidence(evidence), stage.trust)
    assert (convicted.accused, convicted.fault) == (stage.trust.operator, "broken_promise")


async def test_a_promise_is_forgotten_once_it_is_kept(stage: Stage, reader: Reader) -> None:
    stage.auto = False
    folder = reader.file.with_name("checkpoint.promises")
    light = reader.light()
    account = reader.account("alice", light)
    assert await account.send([transfer()] * 3, wait=False) == [3, 4, 5]
    assert len(list(folder.iterdir())) == 1
    await light.refresh()
    assert len(list(folder.iterdir())) == 1
    stage.publish()
    await reader.light().refresh()
    assert list(folder.iterdir()) == []


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
