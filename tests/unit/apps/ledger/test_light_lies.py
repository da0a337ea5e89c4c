"""What a light client does about a ledger that lies: nothing is believed, lies convict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dsn.core.hashing import sha256
from dsn.core.keys import node_id_of
from dsn.errors import PeerError
from dsn.ids import format_node_id
from dsn.ledger.cells import CellKind, cell_key
from dsn.ledger.checkpoint import NoteSignature, format_checkpoint
from dsn.ledger.evidence import convict, decode_evidence
from dsn.ledger.log import leaf_hash
from dsn.ledger.promise import sign_promise
from dsn.v1 import ledger_pb2 as v1
from dsn.wire.ledger import cell_to_wire
from tests.support.ledger_stage import (
    CALLER,
    LOG_KEY,
    Reader,
    Stage,
    forked,
    refusal,
    transfer,
)
from tests.support.ledger_world import IDENTITIES, WITNESSES, address

SAM, ALICE = address("sam"), address("alice")


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
