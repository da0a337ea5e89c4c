"""A check finds a single changed byte wherever it is, and says after which entry."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random, SystemRandom

import pytest

from dsn.apps.ledger.batch import Submission
from dsn.apps.ledger.check import LedgerFault, Report, check_lines, check_store, export_lines
from dsn.apps.ledger.engine import open_sequencer
from dsn.core.hashing import HASH_BYTES
from dsn.errors import DsnError
from dsn.ledger.bodies import Transfer
from dsn.ledger.cells import CellKind, cell_key
from dsn.ledger.checkpoint import Checkpoint, log_origin
from dsn.ledger.entry import Entry
from dsn.ledger.log import EMPTY_ROOT, TreeHead
from dsn.ledger.settlement import format_address
from dsn.ledger.state import genesis
from dsn.store.ledger import LEDGER_FILE, open_ledger
from tests.support.ledger_stores import PLACES
from tests.support.ledger_story import make_ledger, story, submission, submissions, transfers
from tests.support.ledger_world import KEYS, NETWORK, PARAMS, address

MORE = 270
"""Payments after the story, so that there are full tiles and two levels of them."""


def fill(place: str) -> None:
    make_ledger(place)
    with open_sequencer(place) as sequencer:
        for _ in sequencer.submit(submissions(story())):
            pass
        sequencer.checkpoint()
        nonces = sequencer.state.account(address("sam")).nonce
        for _ in sequencer.submit(payments(nonces)):
            pass


@cache
def payments(nonces: int) -> tuple[Submission, ...]:
    return tuple(
        submission(
            Entry(NETWORK, address("sam"), nonces + 1 + at, Transfer(address("bob"), 1 + at)),
            KEYS["sam"],
        )
        for at in range(MORE)
    )


SIZE = len(story().leaves) + MORE


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("filled") / "ledger"
    fill(str(place))
    return place


@pytest.fixture
def place(filled: Path, tmp_path: Path) -> str:
    shutil.copytree(filled, tmp_path / "ledger")
    return str(tmp_path / "ledger")


@pytest.fixture(scope="module")
def lines(filled: Path) -> list[str]:
    with closing(open_ledger(str(filled), signer=False)) as store:
        return list(export_lines(store))


def checked(place: str, checkpoint: Checkpoint | None = None) -> Report:
    with closing(open_ledger(place, signer=False)) as store:
        return check_store(store, checkpoint)


def flip(place: str, table: str, column: str, where: str, at: int, bit: int) -> None:
    """Change one bit of one stored value."""
    with closing(sqlite3.connect(Path(place) / LEDGER_FILE)) as database, database:
        [(raw,)] = database.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchall()
        bad = bytearray(raw)
        bad[at % len(bad)] ^= 1 << bit
        database.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (bytes(bad),))


def fault_of(report: Report) -> LedgerFault:
    assert report.fault is not None
    assert report.entries == report.fault.index
    return report.fault


# good ledgers


@pytest.mark.parametrize("kind", PLACES)
def test_a_good_ledger_is_good(kind: str, tmp_path: Path) -> None:
    place = PLACES[kind](tmp_path)
    make_ledger(place)
    assert checked(place) == Report(0, TreeHead(0, EMPTY_ROOT), None)
    with open_sequencer(place) as sequencer:
        for _ in sequencer.submit(submissions(story())):
            pass
        sequencer.checkpoint()
        assert checked(place) == Report(sequencer.head.size, sequencer.head, None)
    with closing(open_ledger(place, signer=False)) as store:
        exported = list(export_lines(store))
    world = story()
    assert check_lines(PARAMS, exported) == Report(len(exported), world.frontier.head, None)


def test_a_ledger_of_more_than_one_tile_is_good(place: str, lines: list[str]) -> None:
    report = checked(place)
    assert (report.entries, report.fault) == (SIZE, None)
    assert check_lines(PARAMS, lines) == report


# what is exported


def test_a_line_says_what_an_entry_did(lines: list[str]) -> None:
    world = story()
    for leaf, line in zip(world.leaves, lines, strict=False):
        told, entry = json.loads(line), Entry.decode(leaf.entry)
        assert told["entry"] == leaf.entry.hex()
        assert told["signature"] == leaf.signature.hex()
        assert told["state_root"] == leaf.state_root.hex()
        assert told["signer"] == format_address(entry.signer)
        assert (told["kind"], told["nonce"]) == (entry.body.kind.name.lower(), entry.nonce)
        assert 1 <= len(told["cells"]) <= 5
    assert [json.loads(line)["index"] for line in lines] == list(range(SIZE))


def test_the_last_line_of_each_cell_is_the_state(place: str, lines: list[str]) -> None:
    """Whoever sums the integer fields up has the ledger's own figures."""
    newest = {
        (cell["cell"], cell["name"]): cell for line in lines for cell in json.loads(line)["cells"]
    }
    with open_sequencer(place) as sequencer:
        for name in ("alice", "bob", "paul", "petra", "sam"):
            account = sequencer.state.account(address(name))
            told = newest["account", format_address(address(name))]
            for field in ("available", "withdrawn", "burned", "nonce", "deals", "bits", "rolled"):
                assert told[field] == getattr(account, field)
        for (kind, name), told in newest.items():
            if kind == "deal":
                deal = sequencer.state.cell(CellKind.DEAL, bytes.fromhex(name))
                assert deal is not None
                integers = {k: v for k, v in told.items() if isinstance(v, int)}
                assert integers == {k: int(getattr(deal, k)) for k in integers}
                assert {"disk_escrow", "collateral", "voucher_paid", "state"} <= integers.keys()


# one changed bit

SEED = SystemRandom().randrange(1 << 32)


def places_in_a_leaf() -> Iterator[tuple[int, int, int]]:
    random = Random(SEED)
    for _ in range(25):
        yield random.randrange(SIZE), random.randrange(1 << 16), random.randrange(8)


@pytest.mark.parametrize("part", ["entry", "signature", "state_root"])
def test_a_flipped_bit_in_a_leaf_is_found_where_it_is(place: str, part: str) -> None:
    print(f"seed {SEED}")
    for index, at, bit in places_in_a_leaf():
        at = {"entry": at % 60, "signature": -33 - at % 65, "state_root": -1 - at % 32}[part]
        spot = ("leaves", "leaf", f"number = {index}", at, bit)
        flip(place, *spot)
        assert fault_of(checked(place)).index == index
        flip(place, *spot)
    assert checked(place).fault is None


@pytest.mark.parametrize(("level", "number"), [(0, 0), (0, 1), (1, 0)])
def test_a_flipped_bit_in_a_hash_is_found_where_it_is(place: str, level: int, number: int) -> None:
    random = Random(SEED)
    print(f"seed {SEED}")
    for _ in range(5):
        width = min(256, (SIZE >> 8 * level) - 256 * number)
        at = random.randrange(width * HASH_BYTES)
        spot = ("tiles", "hashes", f"level = {level} AND number = {number}", at, at % 8)
        flip(place, *spot)
        fault = fault_of(checked(place))
        assert fault.detail_code == "hash_differs"
        assert fault.index == 256 * number + at // HASH_BYTES << 8 * level
        flip(place, *spot)


@pytest.mark.parametrize("name", ["sam", "petra", "dora"])
def test_a_flipped_bit_in_a_cell_is_found_where_it_was_written(place: str, name: str) -> None:
    """Dora's account has not been touched since genesis."""
    key = cell_key(CellKind.ACCOUNT, address(name))
    for column, at in (("raw", 30), ("key", 3)):
        copy = place + column
        shutil.copytree(place, copy)
        flip(copy, "cells", column, f"key = x'{key.hex()}'", at, 2)
        fault = fault_of(checked(copy))
        assert fault.detail_code == "cell_differs"
        newest = {"sam": SIZE - 1, "dora": 0}
        if name in newest:
            assert fault.index == newest[name]
        else:
            assert 0 < fault.index < len(story().leaves)


@pytest.mark.parametrize("column", ["root", "fenced_root"])
def test_a_flipped_bit_in_a_root_is_found(place: str, column: str) -> None:
    flip(place, "ledger", column, "true", 9, 7)
    fault = fault_of(checked(place))
    assert fault.detail_code == "root_differs"
    assert fault.index == (SIZE if column == "root" else len(story().leaves)) - 1


@pytest.mark.parametrize(
    ("statement", "code", "index"),
    [
        ("DELETE FROM leaves WHERE number = 200", "ledger_damaged", 200),
        (f"DELETE FROM leaves WHERE number = {SIZE - 1}", "log_too_short", SIZE - 1),
        (f"UPDATE ledger SET size = {SIZE - 1}", "root_differs", SIZE - 2),
        (f"UPDATE ledger SET size = {1 << 62}", "log_too_short", SIZE),
        (f"UPDATE ledger SET fenced_size = {SIZE + 1}", "log_too_short", SIZE),
        ("UPDATE leaves SET leaf = 7 WHERE number = 5", "ledger_damaged", 5),
        ("UPDATE leaves SET number = -1 WHERE number = 0", "ledger_damaged", 0),
        ("DELETE FROM tiles WHERE level = 1", "hash_differs", 0),
        ("DELETE FROM tiles WHERE number = 1", "hash_differs", 256),
        ("DELETE FROM cells", "cell_differs", 0),
        ("UPDATE ledger SET genesis = replace(genesis, 'entry_fee = 3', 'entry_fee = 2')",
         "state_root_differs", 0),
        ("UPDATE ledger SET genesis = replace(genesis, ' = 1000000', ' = 1000001')",
         "state_root_differs", 0),
    ],
)  # fmt: skip
def test_what_is_missing_or_moved_is_found(
    place: str, statement: str, code: str, index: int
) -> None:
    with closing(sqlite3.connect(Path(place) / LEDGER_FILE)) as database, database:
        assert database.execute(statement).rowcount
    fault = fault_of(checked(place))
    assert (fault.detail_code, fault.index) == (code, index)


def test_a_flipped_bit_anywhere_in_the_file_is_found_or_means_nothing(
    place: str, lines: list[str]
) -> None:
    """Free space and page bookkeeping say nothing: then the export is what it was."""
    print(f"seed {SEED}")
    random, file = Random(SEED), Path(place) / LEDGER_FILE
    good = file.read_bytes()
    found, unreadable = 0, set[str]()
    for _ in range(40):
        at = random.randrange(len(good))
        file.write_bytes(good[:at] + bytes([good[at] ^ 1 << random.randrange(8)]) + good[at + 1 :])
        try:
            report = checked(place)
        except DsnError as error:
            unreadable.add(error.detail_code)
            found += 1
            continue
        if report.fault:
            found += 1
            continue
        with closing(open_ledger(place, signer=False)) as store:
            assert list(export_lines(store)) == lines, at
    assert found > 10
    assert unreadable <= {"ledger_damaged", "bad_ledger_params", "no_ledger", "other_version"}


def test_a_flipped_bit_in_an_export_is_found_where_it_is(lines: list[str]) -> None:
    print(f"seed {SEED}")
    random = Random(SEED)
    for _ in range(25):
        index = random.randrange(SIZE)
        raw = bytearray(lines[index].encode())
        raw[random.randrange(len(raw))] ^= 1 << random.randrange(8)
        text = "".join([*lines[:index], raw.decode("utf-8", "replace"), *lines[index + 1 :]])
        changed = [line + "\n" for line in text.split("\n")[:-1]]
        if not text.endswith("\n"):
            changed.append(text.rpartition("\n")[2])
        fault = fault_of(check_lines(PARAMS, changed))
        assert fault.index == index


def test_lines_left_out_doubled_or_swapped_are_found(lines: list[str]) -> None:
    for changed in (lines[:7] + lines[8:], lines[:7] + lines[6:], lines[:7] + lines[8:6:-1]):
        assert fault_of(check_lines(PARAMS, changed)).index == 7
    assert check_lines(PARAMS, lines[:7]).fault is None, "a beginning is a ledger too"


# the operator's word


def test_a_checkpoint_must_be_met(place: str, lines: list[str]) -> None:
    size = len(story().leaves)
    signed = Checkpoint(
        log_origin(NETWORK), *story().frontier.head, story().state.root, story().epoch
    )
    empty = Checkpoint(log_origin(NETWORK), 0, EMPTY_ROOT, genesis(PARAMS).root, 1)
    for checkpoint in (signed, empty):
        assert checked(place, checkpoint).fault is None
        assert check_lines(PARAMS, lines, checkpoint).fault is None
    for wrong in (
        replace(signed, origin="another"),
        replace(signed, root=bytes(32)),
        replace(signed, state_root=bytes(32)),
        replace(signed, epoch=0),
        replace(empty, state_root=bytes(32)),
    ):
        for report in (checked(place, wrong), check_lines(PARAMS, lines, wrong)):
            fault = fault_of(report)
            assert (fault.detail_code, fault.index) == ("root_differs", max(wrong.size - 1, 0))
    fault = fault_of(check_lines(PARAMS, lines[: size - 1], signed))
    assert (fault.detail_code, fault.index) == ("log_too_short", size - 1)


def test_an_export_stops_where_the_ledger_is_wrong(place: str) -> None:
    flip(place, "leaves", "leaf", "number = 40", -1, 0)
    with closing(open_ledger(place, signer=False)) as store:
        exported = export_lines(store)
        assert len([next(exported) for _ in range(40)]) == 40
        with pytest.raises(LedgerFault) as caught:
            next(exported)
    assert (caught.value.index, caught.value.detail_code) == (40, "state_root_differs")


def test_another_order_of_the_same_payments_is_another_ledger(tmp_path: Path) -> None:
    told = transfers(20, seed=SEED)
    heads = set()
    for number, order in enumerate((told, told[::-1])):
        place = str(tmp_path / str(number))
        make_ledger(place)
        with open_sequencer(place) as sequencer:
            for _ in sequencer.submit(order):
                pass
            heads.add(sequencer.head)
        assert checked(place).fault is None
    assert len(heads) == 2
