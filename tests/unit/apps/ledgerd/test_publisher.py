"""What readers get to see: nothing without a quorum, and nobody waits for whoever is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsn.apps.ledgerd.publisher import check_newest
from dsn.errors import ConfigError, PeerError, Unreachable
from dsn.ledger.bodies import Transfer
from dsn.ledger.cells import AccountCell, CellKind, cell_key
from dsn.ledger.checkpoint import (
    SignedCheckpoint,
    format_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
)
from dsn.ledger.cosignature import cosigned_at
from dsn.ledger.trust import Trust
from tests.support.ledger_net import LOG_KEY
from tests.support.ledger_rig import BEN, Rig, rigged


def trusted(rig: Rig, note: bytes) -> SignedCheckpoint:
    """The checkpoint in ``note``, if readers would believe it."""
    signed = parse_checkpoint(note)
    Trust.of(rig.operator.params).verify(signed, int(rig.watch.now_s()))
    return signed


async def test_without_witnesses_readers_see_all_at_once(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig, rig.publishing():
        await rig.timekeeper.step()
        await rig.publisher.covers(1)
        trusted(rig, rig.notes[-1])


async def test_a_quorum_is_enough_and_late_lines_are_added(tmp_path: Path) -> None:
    async with rigged(tmp_path, witnesses=3, quorum=2) as rig:
        away = rig.witnesses[0]
        away.speaks.clear()
        async with rig.publishing():
            await rig.timekeeper.step()
            await rig.publisher.covers(1)
            signed = trusted(rig, rig.notes[-1])
            assert cosigned_at(signed, away.key) is None
            assert set(rig.publisher.cosigned_s) == {each.key.name for each in rig.witnesses[1:]}
    assert [parse_checkpoint(note).checkpoint.size for note in rig.notes] == [1]


async def test_one_that_refused_is_asked_again_until_it_signs(tmp_path: Path) -> None:
    async with rigged(tmp_path, witnesses=2, quorum=2) as rig:
        left = [3]

        def refusal() -> PeerError | None:
            left[0] -= 1
            return PeerError("not yet", code="too_early") if left[0] >= 0 else None

        rig.witnesses[1].refusal = refusal
        async with rig.publishing():
            await rig.timekeeper.step()
            await rig.publisher.covers(1)
        assert rig.publisher.refusals == {"too_early": 3}
        assert [each.checkpoint.size for each in rig.witnesses[1].asked] == [1] * 4


async def test_what_came_meanwhile_is_in_the_next_checkpoint(tmp_path: Path) -> None:
    """While one is on its way no other is signed, however much the log grows."""
    async with rigged(tmp_path, witnesses=1, quorum=1) as rig:
        (witness,) = rig.witnesses
        witness.speaks.clear()
        async with rig.publishing():
            await rig.timekeeper.step()
            for amount in range(1, 6):
                await rig.operator.enter(Transfer(BEN.address, amount))
            assert rig.views.size == 0
            witness.speaks.set()
            await rig.publisher.covers(6)
        sizes = [each.checkpoint.size for each in witness.asked]
        assert len(sizes) == 2 and sizes[-1] == 6
        cell = rig.views.prove(cell_key(CellKind.ACCOUNT, BEN.address)).cell
        assert isinstance(cell, AccountCell) and cell.available == 15


async def test_a_line_for_an_older_checkpoint_counts_for_nothing(tmp_path: Path) -> None:
    async with rigged(tmp_path, witnesses=2, quorum=1) as rig:
        late = rig.witnesses[1]
        late.speaks.clear()
        async with rig.publishing():
            await rig.timekeeper.step()
            await rig.publisher.covers(1)
            await rig.operator.enter(Transfer(BEN.address, 1))
            await rig.publisher.covers(2)
            late.speaks.set()
            await rig.shown(lambda signed: cosigned_at(signed, late.key) is not None)
            trusted(rig, rig.notes[-1])
        assert [each.checkpoint.size for each in late.asked] == [1, 2]


async def test_only_the_operators_own_word_says_that_it_is_behind(tmp_path: Path) -> None:
    async with rigged(tmp_path / "a", witnesses=1, quorum=1) as rig, rig.publishing():
        await rig.timekeeper.step()
        await rig.publisher.covers(1)
        note = rig.notes[-1]
    trust = Trust.of(rig.operator.params)
    check_newest(note, trust, 1)
    check_newest(b"nonsense", trust, 0)
    unsigned = SignedCheckpoint(parse_checkpoint(note).checkpoint)
    alone = unsigned.signed(sign_checkpoint(unsigned.checkpoint, trust.operator, LOG_KEY.sign))
    check_newest(format_checkpoint(alone), trust, 0)
    with pytest.raises(ConfigError) as caught:
        check_newest(note, trust, 0)
    assert caught.value.detail_code == "ledger_behind"


async def test_witnesses_are_asked_before_anything_is_taken(tmp_path: Path) -> None:
    async with rigged(tmp_path / "a", witnesses=3, quorum=1) as rig, rig.publishing():
        await rig.timekeeper.step()
        await rig.publisher.covers(1)
        note = rig.notes[-1]
    async with rigged(tmp_path / "b", witnesses=3, quorum=1) as rig:
        rig.witnesses[0].refusal = lambda: Unreachable("nobody there")
        rig.witnesses[1].refusal = lambda: PeerError("more", code="ledger_behind", evidence=b"?")
        await rig.publisher.consult()
        rig.witnesses[1].refusal = lambda: PeerError("more", code="ledger_behind", evidence=note)
        with pytest.raises(ConfigError) as caught:
            await rig.publisher.consult()
        assert caught.value.detail_code == "ledger_behind"
        assert {each.checkpoint.size for each in rig.witnesses[2].asked} == {0}


async def test_a_checkpoint_is_shown_again_after_a_restart_but_no_cell_is(tmp_path: Path) -> None:
    """Even while no witness answers; and only if readers would believe it."""
    async with rigged(tmp_path, witnesses=1, quorum=1) as rig, rig.publishing():
        await rig.timekeeper.step()
        await rig.publisher.covers(1)
        await rig.operator.enter(Transfer(BEN.address, 1))
        note = rig.notes[-1]
    async with rigged(tmp_path, witnesses=1, quorum=1) as rig:
        bare = SignedCheckpoint(parse_checkpoint(note).checkpoint)
        operator = Trust.of(rig.operator.params).operator
        line = sign_checkpoint(bare.checkpoint, operator, LOG_KEY.sign)
        for wrong in (b"nonsense", format_checkpoint(bare.signed(line))):
            rig.publisher.recall(wrong)
            with pytest.raises(Unreachable):
                rig.views.published()
        rig.publisher.recall(note)
        assert rig.views.published() == parse_checkpoint(note)
        assert rig.views.size == 0
        with pytest.raises(Unreachable):
            rig.views.readable()
