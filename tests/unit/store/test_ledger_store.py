"""What every ``LedgerStore`` promises: on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from dsn.core.hashing import HASH_BYTES, sha256
from dsn.errors import ConfigError, DataLost, DsnError, NotFound, Unreachable
from dsn.ledger.log import Frontier, TreeHead, build_inclusion_proof, leaf_hash
from dsn.ledger.log import verify_inclusion_proof as verify
from dsn.ledger.tiles import Tile, grown_tiles, hashes_of_tiles
from dsn.ports import LedgerStore, StoredCell
from dsn.store.ledger import LEDGER_FILE, create_ledger, open_ledger, shown
from tests.support.ledger_stores import (
    FIRST_CELLS,
    GENESIS,
    PLACES,
    START,
    Growing,
    cell,
    leaf,
    steps,
)


@pytest.fixture(params=PLACES.values(), ids=PLACES.keys())
def empty_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    made: str = request.param(tmp_path)
    return made


@pytest.fixture
def place(empty_place: str) -> str:
    create_ledger(empty_place, GENESIS, FIRST_CELLS)
    return empty_place


@pytest.fixture
def store(place: str) -> Iterator[LedgerStore]:
    with closing(open_ledger(place, signer=True)) as store:
        yield store


def refused(code: str, call: Callable[[], object]) -> DsnError:
    with pytest.raises(DsnError) as caught:
        call()
    assert caught.value.detail_code == code
    return caught.value


def fill(store: LedgerStore, *counts: int) -> Growing:
    log = START
    for log, batch in steps(*counts):
        store.append(batch)
        log = log.after(batch)
    return log


def execute(place: str, statement: str) -> None:
    """Change a ledger behind the store's back."""
    url = place.replace("postgresql://", "postgresql+psycopg://")
    if url == place:
        url = f"sqlite:///{place}/{LEDGER_FILE}"
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(statement))


# an empty one


def test_it_begins_with_what_it_was_created_for(store: LedgerStore) -> None:
    assert store.genesis == GENESIS
    assert store.head() == store.fenced() == START.head
    assert list(store.all_cells()) == sorted(FIRST_CELLS)
    assert list(store.leaves(0, 10)) == []
    refused("no_such_tile", lambda: store.tile(Tile(0, 0, 1)))


def test_a_place_holds_one_ledger(place: str) -> None:
    error = refused("ledger_exists", lambda: create_ledger(place, "other", []))
    assert isinstance(error, ConfigError)
    with closing(open_ledger(place, signer=False)) as store:
        assert store.genesis == GENESIS


@pytest.mark.parametrize("signer", [True, False])
def test_where_none_is_none_is_made(empty_place: str, signer: bool) -> None:
    for _ in range(2):
        assert isinstance(
            refused("no_ledger", lambda: open_ledger(empty_place, signer=signer)), NotFound
        )
    create_ledger(empty_place, GENESIS, [*FIRST_CELLS])
    open_ledger(empty_place, signer=signer).close()


def test_another_version_is_left_alone(place: str) -> None:
    execute(place, "UPDATE ledger SET version = 2")
    refused("other_version", lambda: open_ledger(place, signer=True))
    refused("other_version", lambda: open_ledger(place, signer=False))


# appending


@pytest.mark.parametrize("counts", [(1,), (1, 1, 1), (256,), (255, 2), (300, 212, 3), (2_500, 70)])
def test_what_was_appended_is_there_after_a_restart(place: str, counts: tuple[int, ...]) -> None:
    with closing(open_ledger(place, signer=True)) as store:
        log = fill(store, *counts)
    with closing(open_ledger(place, signer=True)) as store:
        total = sum(counts)
        assert store.head() == log.head
        assert list(store.leaves(0, total)) == [leaf(number) for number in range(total)]
        newest = cell(b"newest", b"%d" % (total - counts[-1]))
        assert list(store.all_cells()) == sorted([*FIRST_CELLS, newest])
        for tile in grown_tiles(0, total):
            assert len(store.tile(tile)) == tile.width * HASH_BYTES
        assert Frontier.at(hashes_of_tiles(store.tile, total), total).head == log.head


def test_every_proof_comes_from_the_tiles(store: LedgerStore) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    log = fill(store, 300, 257, 1)
    hashes = hashes_of_tiles(store.tile, log.head.size)
    for index in rng.sample(range(log.head.size), 20):
        path = build_inclusion_proof(hashes, index, log.head.size)
        verify(log.head, index, leaf_hash(leaf(index).encode()), path)


def test_any_range_of_leaves_can_be_read(store: LedgerStore) -> None:
    fill(store, 2_100)
    for start, end in [(0, 0), (5, 5), (0, 1), (1_023, 1_025), (1_000, 2_100), (2_099, 9_999)]:
        expected = [leaf(number) for number in range(start, min(end, 2_100))]
        assert list(store.leaves(start, end)) == expected


def test_a_cell_is_replaced_by_its_newest_form(store: LedgerStore) -> None:
    log = START
    for value in (b"a", b"b" * 5_000, b""):
        batch = log.batch(1, cell(b"one", value), cell(b"two", value * 2))
        store.append(batch)
        log = log.after(batch)
        keys = [sha256(b"one"), sha256(b"nobody")]
        assert store.cells(keys) == {keys[0]: StoredCell(keys[0], 2, value)}
    assert store.cells([]) == {}
    assert len(list(store.all_cells())) == len(FIRST_CELLS) + 2


def test_many_cells_come_sorted_and_once(store: LedgerStore) -> None:
    many = [cell(b"%d" % number, b"%d" % number) for number in range(2_500)]
    store.append(START.batch(1, *many))
    assert list(store.all_cells()) == sorted([*many, *FIRST_CELLS])
    assert store.cells(each.key for each in many) == {each.key: each for each in many}


def test_a_batch_is_stored_whole_or_not_at_all(store: LedgerStore) -> None:
    """Whichever part of it the database refuses, the first or the last."""
    log = fill(store, 3)
    before, good = list(store.all_cells()), log.batch(2, cell(b"newest", b"torn"))
    nothing: Any = None
    for torn in (
        replace(good, cells=[StoredCell(sha256(b"newest"), 2, nothing)]),
        replace(good, tiles={**good.tiles, Tile(3, 0, 1): nothing}),
    ):
        with pytest.raises(DsnError):
            store.append(torn)
        assert (store.head(), list(store.all_cells())) == (log.head, before)
        assert list(store.leaves(0, 9)) == [leaf(0), leaf(1), leaf(2)]
    store.append(good)
    assert (store.head(), len(list(store.leaves(0, 9)))) == (good.head, 5)


def test_a_batch_goes_on_from_the_head_and_nothing_else(store: LedgerStore) -> None:
    log = fill(store, 2)
    fork = START.after(START.batch(2, salt=b"fork"))
    earlier, later = START.after(START.batch(1)), log.after(log.batch(1))
    for other in (START, earlier, fork, later):
        refused("ledger_moved", lambda other=other: store.append(other.batch(1)))
    batch = log.batch(1)
    store.append(batch)
    refused("ledger_moved", lambda: store.append(batch))
    assert list(store.leaves(0, 9)) == [leaf(0), leaf(1), leaf(2)]


# fencing


def test_a_signature_needs_the_newest_head_fenced(store: LedgerStore) -> None:
    store.fence(START.head)
    log = fill(store, 2)
    refused("ledger_moved", lambda: store.fence(START.head))
    refused("ledger_moved", lambda: store.fence(TreeHead(2, bytes(32))))
    refused("ledger_moved", lambda: store.fence(TreeHead(3, log.head.root)))
    store.fence(log.head)
    store.fence(log.head)
    assert store.fenced() == log.head


def test_a_fence_outlives_its_signer(place: str) -> None:
    with closing(open_ledger(place, signer=True)) as store:
        log = fill(store, 2)
        store.fence(log.head)
    with closing(open_ledger(place, signer=True)) as store:
        assert store.fenced() == log.head
        batch = log.batch(1)
        store.append(batch)
        store.fence(batch.head)


@pytest.mark.parametrize("size", [2, 3])
def test_a_ledger_that_went_back_signs_nothing_beside_what_was_signed(
    place: str, size: int
) -> None:
    """As after restoring an older copy of the log under a fence that was kept."""
    other = START.after(START.batch(size, salt=b"other"))
    with closing(open_ledger(place, signer=True)) as store:
        log = fill(store, 2)
        execute(
            place,
            f"UPDATE ledger SET fenced_size = {size}, fenced_root = "
            + (
                f"'\\x{other.head.root.hex()}'" if "://" in place else f"x'{other.head.root.hex()}'"
            ),
        )
        refused("ledger_moved", lambda: store.fence(log.head))
        assert store.fenced() == other.head


@pytest.mark.parametrize("package", ["psycopg", "dsn.store.ledger_tables"])
def test_what_is_not_installed_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for call in (
        lambda: open_ledger("postgresql://nowhere", signer=True),
        lambda: create_ledger("postgresql://nowhere", GENESIS, []),
    ):
        error = refused("missing_extra", call)
        assert package in error.message and "dsn[postgresql]" in error.hint


# durability


def test_a_commit_waits_for_the_disk(place: str) -> None:
    from dsn.store.ledger_tables import connect

    file = place if "://" in place else Path(place) / LEDGER_FILE
    with connect(file) as connection:
        if isinstance(file, Path):
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2, "FULL"
        else:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"


def test_a_ledger_is_its_owners_alone(tmp_path: Path) -> None:
    create_ledger(str(tmp_path / "ledger"), GENESIS, FIRST_CELLS)
    assert (tmp_path / "ledger").stat().st_mode & 0o077 == 0


# who may


def test_one_signer_at_a_time(place: str) -> None:
    with closing(open_ledger(place, signer=True)) as store:
        error = refused("ledger_in_use", lambda: open_ledger(place, signer=True))
        assert isinstance(error, ConfigError)
        fill(store, 1)
    with closing(open_ledger(place, signer=True)) as store:
        assert store.head().size == 1


def test_a_reader_sees_the_ledger_as_it_stood(place: str) -> None:
    with closing(open_ledger(place, signer=True)) as signer:
        log = fill(signer, 2)
        with closing(open_ledger(place, signer=False)) as reader:
            before = list(reader.all_cells())
            batch = log.batch(2, cell(b"newest", b"later"))
            signer.append(batch)
            assert reader.head() == log.head
            assert len(list(reader.leaves(0, 9))) == 2
            assert list(reader.all_cells()) == before
        with closing(open_ledger(place, signer=False)) as reader:
            assert reader.head() == batch.head


def test_a_closed_store_does_nothing_more(place: str) -> None:
    store = open_ledger(place, signer=True)
    store.close()
    store.close()
    for call in (store.head, store.fenced, lambda: store.append(START.batch(1))):
        assert isinstance(refused("ledger_closed", call), Unreachable)
    open_ledger(place, signer=True).close()


# damage


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM leaves WHERE number = 1",
        "UPDATE leaves SET leaf = 'short' WHERE number = 1",
    ],
)
def test_a_leaf_that_is_missing_or_none_is_damage(
    store: LedgerStore, place: str, statement: str
) -> None:
    fill(store, 4)
    execute(place, statement)
    leaves = store.leaves(0, 4)
    assert next(leaves) == leaf(0)
    error = refused("ledger_damaged", lambda: next(leaves))
    assert isinstance(error, DataLost)


def test_a_file_that_is_no_database_is_damage(tmp_path: Path) -> None:
    create_ledger(str(tmp_path), GENESIS, FIRST_CELLS)
    (tmp_path / LEDGER_FILE).write_bytes(b"not a database" * 1_000)
    for signer in (True, False):
        refused("ledger_damaged", lambda signer=signer: open_ledger(str(tmp_path), signer=signer))


def test_numbers_where_bytes_were_are_damage(tmp_path: Path) -> None:
    """SQLite's columns take any type, so a rotten page may claim one."""
    create_ledger(str(tmp_path), GENESIS, FIRST_CELLS)
    with closing(open_ledger(str(tmp_path), signer=True)) as store:
        fill(store, 1)
        execute(str(tmp_path), "UPDATE leaves SET leaf = 1000000000000")
        execute(str(tmp_path), "UPDATE cells SET raw = 7")
        refused("ledger_damaged", lambda: list(store.leaves(0, 1)))
        refused("ledger_damaged", lambda: list(store.all_cells()))


# a server


@pytest.fixture
def server_place(tmp_path: Path) -> str:
    place = PLACES["postgresql"](tmp_path)
    create_ledger(place, GENESIS, FIRST_CELLS)
    return place


def test_a_signer_cut_off_from_its_lock_never_writes_again(server_place: str) -> None:
    """The server ended its session: another signer may be at work, so reconnecting is wrong."""
    cut_off = open_ledger(server_place, signer=True)
    log = fill(cut_off, 1)
    execute(
        server_place,
        "SELECT pg_terminate_backend(pid) FROM pg_locks "
        "WHERE locktype = 'advisory' AND objid::bigint::bit(32) = "
        "hashtext(current_schema())::bit(32)",
    )
    with pytest.raises(Unreachable):
        cut_off.append(log.batch(1))
    refused("ledger_closed", lambda: cut_off.append(log.batch(1)))
    with closing(open_ledger(server_place, signer=True)) as store:
        assert store.head() == log.head


def test_a_server_set_to_acknowledge_early_is_told_not_to(server_place: str) -> None:
    from dsn.store.ledger_tables import connect

    early = server_place + "%20-csynchronous_commit%3Doff"
    with connect(early) as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"


def test_two_schemas_have_two_signers(server_place: str, tmp_path: Path) -> None:
    other = PLACES["postgresql"](tmp_path)
    create_ledger(other, GENESIS, FIRST_CELLS)
    with (
        closing(open_ledger(server_place, signer=True)),
        closing(open_ledger(other, signer=True)),
    ):
        pass


def test_nobody_at_the_address(tmp_path: Path) -> None:
    place = f"postgresql://ann:secret@/postgres?host={tmp_path}"
    error = refused("ledger_unreachable", lambda: open_ledger(place, signer=True))
    assert isinstance(error, Unreachable)
    refused("ledger_unreachable", lambda: create_ledger(place, GENESIS, []))


def test_passwords_are_not_shown() -> None:
    assert shown("postgresql://ann:se:cr@t@db:5432/x") == "postgresql://ann@db:5432/x"
    assert shown("postgresql://ann@db/x") == "postgresql://ann@db/x"
    assert shown("/var/lib/a:b@c") == "/var/lib/a:b@c"
