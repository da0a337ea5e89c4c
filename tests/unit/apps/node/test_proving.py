"""The prover on the rules' own ledger: what it links, and that nothing makes it wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsn.errors import DataLost, DsnError
from dsn.ledger.bodies import SubmitLink
from dsn.ledger.cells import Phase
from dsn.proofs.opening import verify_opening
from dsn.proofs.post import drawn_indices, leaves_asked
from tests.support.ledger_world import shard
from tests.support.prover_world import NODE, Field, unreachable


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path)


def links(field: Field) -> list[int]:
    return [body.link.epoch for body in field.paul.entered if isinstance(body, SubmitLink)]


async def test_nothing_held_needs_no_link_and_lets_growth_be_claimed(field: Field) -> None:
    prover = field.prover()
    field.world.pass_epochs(1)
    await prover.turn(field.snapshot())
    assert (links(field), prover.next_proof_s()) == ([], None)
    assert prover.proven == field.world.epoch


async def test_each_epoch_gets_one_link_and_it_holds(field: Field) -> None:
    field.hold(1, 2, 3)
    field.hold(4, 5, salt=b"2" * 32)
    prover = field.prover()
    await prover.turn(field.snapshot())
    for _ in range(4):
        field.world.pass_epochs(1)
        before = prover.proven
        for _ in range(3):
            await prover.turn(field.snapshot())
        assert (before, prover.proven) == (prover.proven - 1, field.world.epoch)
    assert links(field) == [2, 3, 4, 5]
    assert field.world.account(NODE).proven(5)
    assert field.answers.epochs == {2, 3, 4, 5}
    answer = await field.answers.get(4)
    link, beacon = answer.link, field.world.values[4]
    network, node = field.world.params.domain.network, field.world.account(NODE).node
    drawn = drawn_indices(link, beacon, network=network, node=node)
    assert len(answer.openings) == link.count == leaves_asked(link.total)
    for index, opening in zip(drawn, answer.openings, strict=True):
        verify_opening(opening, root=link.root, total=link.total, index=index, inventory=True)


async def test_the_ledgers_own_answer_is_the_same(field: Field) -> None:
    field.hold(1, 2, 3, 6, 7)
    field.world.pass_epochs(1)
    link, _, _, opened = field.world.answer(NODE)
    await field.prover().turn(field.snapshot())
    answer = await field.answers.get(field.world.epoch)
    assert (answer.link, answer.openings) == (link, opened)


async def test_a_shut_epoch_is_not_linked(field: Field) -> None:
    field.hold(1)
    field.world.shut_epoch()
    await field.prover().turn(field.snapshot())
    assert links(field) == []
    field.world.open_epoch()
    await field.prover().turn(field.snapshot())
    assert links(field) == [2]


async def test_what_is_installed_now_is_not_asked_before_the_next_epoch(field: Field) -> None:
    deal = field.hold(1)
    field.world.pass_epochs(1)
    await field.prover().turn(field.snapshot())
    field.world.hold(deal, 1, 2)
    field.disk.gone.add(shard(2).commit)
    field.world.pass_epochs(1)
    field.world.shards[deal, 3] = (1, 2)
    await field.prover().turn(field.snapshot())
    assert (await field.answers.get(2)).link.total == shard(1).leaves


@pytest.mark.parametrize("how", ["gone", "rotten", "not here"])
async def test_lost_data_makes_it_silent_and_somebody_is_told(field: Field, how: str) -> None:
    field.hold(3)
    bad = shard(3).commit
    if how == "gone":
        field.disk.gone.add(bad)
    elif how == "rotten":
        field.disk.rotten[bad] = 5
    else:
        del field.disk.shards[bad]
    field.world.pass_epochs(1)
    prover = field.prover()
    for _ in range(3):
        await prover.turn(field.snapshot())
    assert (links(field), field.rot) == ([], [] if how == "not here" else [bad])
    assert (field.answers.epochs, prover.next_proof_s()) == (frozenset(), 3_600)
    field.disk.gone.clear()
    field.disk.rotten.clear()
    field.disk.shards[bad] = shard(3)
    field.world.pass_epochs(1)
    await prover.turn(field.snapshot())
    assert links(field) == [3]
    assert not field.world.account(NODE).proven(2)


async def test_an_inventory_that_is_not_known_is_not_proven(field: Field) -> None:
    field.hold(1)
    field.world.pass_epochs(1)
    field.holding.forgotten = True
    await field.prover().turn(field.snapshot())
    assert (links(field), field.rot) == ([], [])


async def test_what_no_verifier_would_take_is_never_linked(field: Field) -> None:
    """The home believes that other shards were installed: every opening would be wrong."""
    deal = field.hold(3)
    field.world.pass_epochs(1)
    field.world.shards[deal, 1] = (7,)
    prover = field.prover()
    for _ in range(2):
        await prover.turn(field.snapshot())
    assert (links(field), field.answers.epochs) == ([], frozenset())


async def test_a_beacon_that_the_ledger_does_not_show(field: Field) -> None:
    field.hold(1)
    field.world.pass_epochs(1)
    opened = len(field.world.leaves) - 1
    field.hide.add(opened)
    prover = field.prover()
    with pytest.raises(DsnError) as raised:
        await prover.turn(field.snapshot())
    assert raised.value.detail_code == "wrong_leaves"
    field.hide.clear()
    await prover.turn(field.snapshot())
    assert links(field) == [2]


class Failing:
    """Lets the system's calls through, but for one."""

    def __init__(self, number: int) -> None:
        self._number, self._calls, self.is_over = number, 0, False

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **names: Any) -> Any:
            self._calls += 1
            if self._calls == self._number:
                self.is_over = True
                raise OSError(5, "input/output error")
            return call(*arguments, **names)

        return wrapped


class TestCrashes:
    """Whatever breaks, wherever: at most one link an epoch, and that one is right."""

    async def test_the_ledger_is_away_before_it_took_the_link(self, field: Field) -> None:
        field.hold(1, 2)
        field.world.pass_epochs(1)
        field.before_entering = unreachable
        with pytest.raises(DsnError):
            await field.prover().turn(field.snapshot())
        made = (await field.answers.get(2)).link
        field.before_entering = None
        await field.prover().turn(field.snapshot())
        assert field.paul.entered == [SubmitLink(made)]

    async def test_the_reply_was_lost_after_it_took_the_link(self, field: Field) -> None:
        field.hold(1, 2)
        field.world.pass_epochs(1)
        before = field.snapshot()
        field.after_entering = unreachable
        prover = field.prover()
        with pytest.raises(DsnError):
            await prover.turn(before)
        field.after_entering = None
        await prover.turn(before)
        assert (links(field), prover.proven) == ([2], 0)
        again = field.prover()
        await again.turn(field.snapshot())
        assert (links(field), again.proven) == ([2], 2)

    @pytest.mark.parametrize("restart", [False, True])
    async def test_every_step_of_writing_fails_once(
        self, tmp_path: Path, restart: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The n-th call on the system fails, for every n there is, and the node lives on or not."""
        for number in range(1, 100):
            field = Field(tmp_path / str(number))
            field.hold(1, 2)
            field.world.pass_epochs(1)
            prover, failing = field.prover(), Failing(number)
            with monkeypatch.context() as broken:
                for name in ("open", "fchmod", "pwrite", "fsync", "link", "unlink"):
                    broken.setattr(os, name, failing.wrap(getattr(os, name)))
                with suppress(DataLost):
                    await prover.turn(field.snapshot())
            if restart:
                prover = field.prover()
            await prover.turn(field.snapshot())
            assert links(field) == [2], f"call {number}"
            assert field.restart().epochs == {2}
            if not failing.is_over:
                assert number > 5, "the last call is known to be the sixth or later"
                return
        raise AssertionError("writing an answer takes a hundred calls")

    async def test_a_kill_between_the_answer_and_the_link(self, field: Field) -> None:
        field.hold(1, 2)
        field.world.pass_epochs(1)

        def killed() -> None:
            raise KeyboardInterrupt

        field.before_entering = killed
        with pytest.raises(KeyboardInterrupt):
            await field.prover().turn(field.snapshot())
        field.before_entering = None
        reads = len(field.disk.reads)
        await field.prover().turn(field.snapshot())
        assert links(field) == [2]
        assert len(field.disk.reads) == reads, "built anew, not sent again"

    async def test_a_damaged_answer_is_never_followed_by_a_second_link(self, field: Field) -> None:
        field.hold(1, 2)
        field.world.pass_epochs(1)
        field.before_entering = unreachable
        with pytest.raises(DsnError):
            await field.prover().turn(field.snapshot())
        field.before_entering = None
        file = field.folder / "2.answer"
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        await field.prover().turn(field.snapshot())
        assert links(field) == []
        field.world.pass_epochs(1)
        await field.prover().turn(field.snapshot())
        assert links(field) == [3]


async def test_a_refused_link_is_not_tried_again_in_its_epoch(field: Field) -> None:
    field.hold(1)
    field.world.pass_epochs(1)
    snapshot = field.snapshot()
    field.world.shut_epoch()
    prover = field.prover()
    await prover.turn(snapshot)
    await prover.turn(snapshot)
    assert (links(field), prover.proven) == ([], 0)


async def test_answers_go_when_nobody_can_ask_for_them(tmp_path: Path) -> None:
    field = Field(tmp_path, max_term=1_000)
    field.hold(1, dispute=800)
    prover = field.prover()
    field.world.pass_epochs(1)
    await prover.turn(field.snapshot())
    assert field.answers.size_bytes == (field.folder / "2.answer").stat().st_size
    kept, now = 800 + field.world.params.demand_epochs, field.snapshot()
    for epoch, there in ((2 + kept, True), (3 + kept, False)):
        time = replace(now.network, epoch=epoch, phase=Phase.SHUT)
        await prover.turn(replace(now, network=time))
        assert (2 in field.answers.epochs) is there
    assert field.answers.size_bytes == 0
