"""The sequencer: what it takes, what it says of the rest, and what it finds when it is back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random, SystemRandom

import pytest
import sqlalchemy

from dsn.apps.ledger.batch import Accepted, Outcome, Refused, Submission
from dsn.apps.ledger.engine import BATCH, Sequencer, open_sequencer
from dsn.errors import ConfigError, DataLost
from dsn.ledger.bodies import OpenEpoch, Transfer
from dsn.ledger.cells import CellKind, cell_digest
from dsn.ledger.checkpoint import Checkpoint, log_origin
from dsn.ledger.entry import Entry
from dsn.ledger.log import TreeHead
from dsn.ledger.state import genesis
from dsn.ledger.tiles import hashes_of_tiles
from dsn.ports import LedgerStore, StoredCell
from dsn.store.ledger import LEDGER_FILE, open_ledger
from tests.support.ledger_stores import PLACES
from tests.support.ledger_story import (
    make_ledger,
    story,
    submission,
    submissions,
    transfers,
)
from tests.support.ledger_world import KEYS, NETWORK, PARAMS, address


@pytest.fixture(params=PLACES.values(), ids=PLACES.keys())
def any_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    made: str = request.param(tmp_path)
    make_ledger(made)
    return made


@pytest.fixture
def place(tmp_path: Path) -> str:
    make_ledger(str(tmp_path / "ledger"))
    return str(tmp_path / "ledger")


def accepted(outcomes: Iterator[Outcome]) -> list[Accepted]:
    kept = list(outcomes)
    refused = [(each.index, each.error) for each in kept if isinstance(each, Refused)]
    assert refused == []
    return [each for each in kept if isinstance(each, Accepted)]


def codes(outcomes: Iterator[Outcome]) -> list[str]:
    return [each.error.detail_code if isinstance(each, Refused) else "" for each in outcomes]


def damage(place: str, statement: str) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{place}/{LEDGER_FILE}")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(statement))
    engine.dispose()


def reading(place: str) -> list[StoredCell]:
    with closing(open_ledger(place, signer=False)) as store:
        return list(store.all_cells())


# taking entries


def test_it_starts_from_genesis(any_place: str) -> None:
    with open_sequencer(any_place) as sequencer:
        assert sequencer.head.size == 0
        assert sequencer.state.root == genesis(PARAMS).root
        assert sequencer.state.params == PARAMS


@pytest.mark.parametrize("count", [1, 7, 1_000])
def test_a_story_becomes_the_log_that_its_parties_computed(any_place: str, count: int) -> None:
    """However it is cut into calls and restarts, and on either store."""
    world, told = story(), submissions(story())
    for start in range(0, len(told), count):
        with open_sequencer(any_place) as sequencer:
            outcomes = accepted(sequencer.submit(told[start : start + count]))
            for outcome in outcomes:
                assert outcome.leaf == world.leaves[outcome.index]
            assert [each.index for each in outcomes] == list(
                range(start, min(start + count, len(told)))
            )
    with open_sequencer(any_place) as sequencer:
        assert sequencer.head == world.frontier.head
        assert sequencer.state.root == world.state.root
    with closing(open_ledger(any_place, signer=False)) as store:
        assert list(store.leaves(0, len(told))) == world.leaves
        stored = {cell.key: cell.raw for cell in store.all_cells()}
        assert stored == {key: cell.encode() for key, cell in world.state.cells.items()}
        assert all(
            hashes_of_tiles(store.tile, len(told))(node) == digest
            for node, digest in world.nodes.items()
        )


@pytest.mark.parametrize("count", [1, 5])
def test_one_sequencer_goes_on_call_by_call(place: str, count: int) -> None:
    """What later entries rest on, inventories too, is in its memory and not in a restart."""
    world, told = story(), submissions(story())
    with open_sequencer(place) as sequencer:
        for start in range(0, len(told), count):
            accepted(sequencer.submit(told[start : start + count]))
        assert (sequencer.head, sequencer.state.root) == (world.frontier.head, world.state.root)


def test_outcomes_say_what_an_entry_touched(place: str) -> None:
    with open_sequencer(place) as sequencer:
        (outcome,) = accepted(sequencer.submit(transfers(1, seed=4)))
    assert [cell.kind for cell in outcome.cells] == [CellKind.ACCOUNT] * 2
    payer, payee = outcome.cells
    assert payer.nonce == 1 and payee.nonce == 0  # type: ignore[union-attr]
    assert outcome.signed.entry.encode() == outcome.leaf.entry


def test_nothing_is_taken_twice(place: str) -> None:
    with open_sequencer(place) as sequencer:
        told = transfers(10, seed=1)
        assert codes(sequencer.submit([*told, *told])) == [""] * 10 + ["nonce_used"] * 10
        assert codes(sequencer.submit(told)) == ["nonce_used"] * 10
        assert sequencer.head.size == 10


def test_a_refused_entry_leaves_no_trace(place: str) -> None:
    """Between good ones, and of every kind: bytes, signatures, rules."""
    good = transfers(4, seed=2)
    nobody = submission(Entry(NETWORK, address("sam"), 9, Transfer(address("bob"), 1)), KEYS["sam"])
    rich = Entry(NETWORK, address("sam"), 1, Transfer(address("bob"), 1 << 40))
    bad = {
        "malformed_message": Submission(b"\x06", good[0].signature),
        "unknown_kind": Submission(b"\xff" + good[0].entry[1:], good[0].signature),
        "entry_too_large": Submission(bytes(40_000), good[0].signature),
        "invalid_signature": Submission(good[0].entry, good[1].signature),
        "malleated_signature": Submission(good[0].entry, good[0].signature[:-1] + b"\x00"),
        "nonce_gap": nobody,
        "not_enough_credit": submission(rich, KEYS["sam"]),
    }
    with open_sequencer(place) as sequencer:
        mixed = [good[0], *bad.values(), *good[1:]]
        outcomes = list(sequencer.submit(mixed))
        assert codes(iter(outcomes)) == ["", *bad, "", "", ""]
        assert [each.index for each in outcomes] == [0, *[1] * len(bad), 1, 2, 3]
        refused = [each for each in outcomes if isinstance(each, Refused)]
        assert [each.submission for each in refused] == list(bad.values())
        head, root = sequencer.head, sequencer.state.root
        assert codes(sequencer.submit(bad.values())) == list(bad)
        assert (sequencer.head, sequencer.state.root) == (head, root)
    clean = place + "-clean"
    make_ledger(clean)
    with open_sequencer(clean) as sequencer:
        accepted(sequencer.submit(good))
        assert (sequencer.head, sequencer.state.root) == (head, root)


def test_a_batch_is_on_disk_before_any_of_it_is_acknowledged(place: str) -> None:
    with open_sequencer(place) as sequencer:
        outcomes = sequencer.submit(iter(transfers(2 * BATCH + 1, seed=3)))
        for expected in (BATCH, BATCH, 1):
            first = next(outcomes)
            assert isinstance(first, Accepted)
            with closing(open_ledger(place, signer=False)) as reader:
                assert reader.head().size == first.index + expected
            for _ in range(expected - 1):
                next(outcomes)
        assert list(outcomes) == []


class Failing:
    """A store whose disk fails at the next append, before or after it wrote."""

    def __init__(self, store: LedgerStore, *, after: bool) -> None:
        self._store, self._after = store, after

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def append(self, batch: object) -> None:
        if self._after:
            self._store.append(batch)  # type: ignore[arg-type]
        raise OSError(5, "input/output error")


@pytest.mark.parametrize("after", [False, True])
def test_what_failed_on_the_way_to_disk_is_not_acknowledged(place: str, after: bool) -> None:
    told = transfers(3, seed=5)
    with closing(open_ledger(place, signer=True)) as store:
        sequencer = Sequencer(Failing(store, after=after))  # type: ignore[arg-type]
        before = sequencer.head, sequencer.state.root
        with pytest.raises(OSError, match="input/output"):
            next(sequencer.submit(told))
        assert (sequencer.head, sequencer.state.root) == before
    with open_sequencer(place) as sequencer:
        expected = "nonce_used" if after else ""
        assert codes(sequencer.submit(told)) == [expected] * 3
        assert sequencer.head.size == 3


# the closed log


@pytest.mark.parametrize("apart", [False, True])
def test_an_epoch_opens_over_the_log_as_it_was(place: str, apart: bool) -> None:
    """Whether the log that closed is on disk yet or still in the same batch."""
    world, told = story(), submissions(story())
    opened = [
        index
        for index, leaf in enumerate(world.leaves)
        if isinstance(Entry.decode(leaf.entry).body, OpenEpoch)
    ]
    index = opened[2]
    entry = Entry.decode(told[index].entry)
    assert isinstance(entry.body, OpenEpoch)
    right = entry.body.closed
    wrong = [
        TreeHead(right.size, bytes(32)),
        TreeHead(right.size - 1, right.root),
        TreeHead(index + 1, right.root),
        TreeHead(1 << 62, right.root),
    ]
    lies = [
        submission(replace(entry, body=replace(entry.body, closed=head)), KEYS["operator"])
        for head in wrong
    ]
    with open_sequencer(place) as sequencer:
        calls = (
            [told[:index], [*lies, told[index]]] if apart else [[*told[:index], *lies, told[index]]]
        )
        found = [code for call in calls for code in codes(sequencer.submit(call))]
        assert found == [""] * index + ["bad_closed_log"] * len(lies) + [""]


# checkpoints


def test_a_checkpoint_says_what_is_on_disk_and_is_fenced(any_place: str) -> None:
    world = story()
    with closing(open_ledger(any_place, signer=True)) as store:
        sequencer = Sequencer(store)
        accepted(sequencer.submit(submissions(world)))
        assert sequencer.checkpoint() == Checkpoint(
            log_origin(NETWORK), *world.frontier.head, world.state.root, world.epoch
        )
        assert sequencer.checkpoint().head == store.fenced() == world.frontier.head


def test_a_ledger_behind_what_was_signed_signs_nothing(place: str) -> None:
    with open_sequencer(place) as sequencer:
        accepted(sequencer.submit(transfers(2, seed=6)))
    damage(place, "UPDATE ledger SET fenced_size = 3")
    with open_sequencer(place) as sequencer, pytest.raises(ConfigError) as caught:
        sequencer.checkpoint()
    assert caught.value.detail_code == "ledger_moved"


# starting on damage

STATEMENTS = [
    "UPDATE cells SET raw = (SELECT raw FROM cells ORDER BY key LIMIT 1)",
    "DELETE FROM cells WHERE key = (SELECT max(key) FROM cells)",
    "UPDATE cells SET kind = 9",
    "UPDATE cells SET raw = x'00'",
    "UPDATE cells SET key = zeroblob(32) WHERE key = (SELECT max(key) FROM cells)",
    "UPDATE cells SET raw = (SELECT raw FROM old.cells WHERE key = cells.key)",
    "DELETE FROM leaves WHERE number = 299",
    "UPDATE leaves SET leaf = (SELECT leaf FROM leaves WHERE number = 298) WHERE number = 299",
    "DELETE FROM tiles WHERE level = 1",
    "DELETE FROM tiles WHERE number = 1",
    "UPDATE tiles SET hashes = zeroblob(length(hashes))",
    "UPDATE tiles SET hashes = substr(hashes, 1, 32)",
    "UPDATE ledger SET size = 299",
    "UPDATE ledger SET size = 301",
    "UPDATE ledger SET root = zeroblob(32)",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_ledger_that_contradicts_itself_is_not_gone_on_with(
    place: str, tmp_path: Path, statement: str
) -> None:
    with open_sequencer(place) as sequencer:
        told = transfers(300, seed=7)
        accepted(sequencer.submit(told[:200]))
        old = {cell.key: cell.raw for cell in reading(place)}
        accepted(sequencer.submit(told[200:]))
    if "old.cells" in statement:
        for key, raw in old.items():
            damage(place, f"UPDATE cells SET raw = x'{raw.hex()}' WHERE key = x'{key.hex()}'")
    else:
        damage(place, statement)
    with pytest.raises(DataLost) as caught, open_sequencer(place):
        pass
    assert caught.value.detail_code == "ledger_damaged"
    open_ledger(place, signer=True).close()


def test_a_last_leaf_that_agrees_with_rewound_cells_is_not_believed(place: str) -> None:
    """Whoever rewinds the cells has to forge the last leaf's state root, and its hash shows it."""
    told = transfers(9, seed=8)
    with open_sequencer(place) as sequencer:
        accepted(sequencer.submit(told[:8]))
        old = [(cell.raw, cell.key) for cell in reading(place)]
        root = sequencer.state.root
        (last,) = accepted(sequencer.submit(told[8:]))
    forged = replace(last.leaf, state_root=root).encode()
    with closing(sqlite3.connect(Path(place) / LEDGER_FILE)) as database, database:
        database.executemany("UPDATE cells SET raw = ? WHERE key = ?", old)
        database.execute("UPDATE leaves SET leaf = ? WHERE number = 8", (forged,))
    with pytest.raises(DataLost, match="last leaf"), open_sequencer(place):
        pass


def test_many_entries_in_a_random_order_come_out_as_the_rules_say(place: str) -> None:
    """Shuffled payments: only those whose turn has come are taken; the rest can be sent again."""
    seed = SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    random, left = Random(seed), transfers(120, seed)
    with open_sequencer(place) as sequencer:
        while left:
            random.shuffle(left)
            outcomes = list(sequencer.submit(left))
            again = [each.submission for each in outcomes if isinstance(each, Refused)]
            assert len(again) < len(left), "the lowest nonce of each is always good"
            assert {each.error.detail_code for each in outcomes if isinstance(each, Refused)} <= {
                "nonce_gap"
            }
            left = again
        paid = sequencer.state
        total = sum(paid.account(address(name)).nonce for name in KEYS)
        assert (sequencer.head.size, total) == (120, 120)
        assert paid.root != genesis(PARAMS).root
        assert cell_digest(paid.account(address("alice")))
