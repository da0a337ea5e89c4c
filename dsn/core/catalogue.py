"""The catalogue: a person's names, as a few sorted runs that a slot record points to.

It is a log-structured merge tree with one level a run: a change writes one new run that
swallows the newer runs it outgrows, so each entry is rewritten O(log n) times and the list
of runs always fits in a record (O'Neil et al., The Log-Structured Merge-Tree, 1996).

Spec: docs/spec/data.md#directories-and-the-catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dsn.core import tags
from dsn.core.codec import U32_MAX, Reader, Writer
from dsn.core.keys import LINK_KEY_BYTES, FileKeys
from dsn.core.layout import Scheme
from dsn.core.manifest import FileKind, read_kind, read_scheme
from dsn.core.names import MAX_PATH_BYTES, catalogue_name_fault
from dsn.errors import UsageError
from dsn.ids import ID_BYTES, FileId

VERSION = 1
MAX_RUNS = 40
"""Runs a slot record lists: 52 bytes each, well below a record's 4 KiB."""
GROWTH = 2
"""A run is at least this many times larger than all newer ones together."""
_REMOVED, _PRESENT, _PAID = 0, 1, 2
_LEAST_ROW_BYTES = 6


@dataclass(frozen=True, slots=True)
class Paid:
    """What storing a file costs its owner, and how long it lasts.

    Attributes:
        cost: Base units up to then, if every epoch is proven.
        expires_s: Unix seconds; nodes keep it for the grace of their deals beyond that.
        renew: Whether later puts keep it from expiring.
    """

    cost: int
    expires_s: int
    renew: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored file under its name.

    Attributes:
        name: Unique in the catalogue.
        owner_key: 16 bytes; opens everything.
        file_id: The file.
        size: Plaintext bytes.
        scheme: Its erasure code.
        kind: File or directory.
        added_us: Unix microseconds of the put.
        paid: ``None`` where nobody pays.
    """

    name: str
    owner_key: bytes = field(repr=False)
    file_id: FileId
    size: int
    scheme: Scheme
    kind: FileKind
    added_us: int
    paid: Paid | None = None

    def __post_init__(self) -> None:
        """Refuse what a decoder would refuse."""
        check_name(self.name)

    def keys(self) -> FileKeys:
        """The file's keys."""
        return FileKeys.owner(self.owner_key)


@dataclass(frozen=True, slots=True)
class Removed:
    """A name that is gone; it hides the name in older runs."""

    name: str

    def __post_init__(self) -> None:
        """Refuse what a decoder would refuse."""
        check_name(self.name)


Row = Entry | Removed


def check_name(name: str) -> None:
    """Check that ``name`` can stand in the catalogue.

    Raises:
        UsageError: ``bad_name``.
    """
    if fault := catalogue_name_fault(name):
        raise UsageError(f"{name[:80]!r} cannot be a name: {fault}", code="bad_name")


def encode_run(rows: Sequence[Row]) -> bytes:
    """The fixed encoding of rows sorted by name, each name once."""
    out = Writer().raw(tags.CATALOGUE, tags.TAG_BYTES).u32(len(rows))
    for row in rows:
        out.text(row.name)
        if isinstance(row, Removed):
            out.u8(_REMOVED)
            continue
        out.u8(_PRESENT if row.paid is None else _PAID)
        out.raw(row.owner_key, LINK_KEY_BYTES).raw(row.file_id, ID_BYTES).u64(row.size)
        out.u8(row.scheme.required).u8(row.scheme.total).u8(row.kind.value).u64(row.added_us)
        if row.paid is not None:
            out.u64(row.paid.cost).u64(row.paid.expires_s).u8(row.paid.renew)
    return out.done()


def decode_run(data: bytes) -> tuple[Row, ...]:
    """Read what ``encode_run`` wrote (untrusted).

    Raises:
        MalformedMessage: Anything else.
    """
    reader = Reader(data, "catalogue run")
    if reader.raw(tags.TAG_BYTES) != tags.CATALOGUE:
        raise reader.refuse("it starts with another tag")
    count = reader.u32()
    if count * _LEAST_ROW_BYTES > reader.left:
        raise reader.refuse(f"{reader.left} bytes left for {count} names")
    rows: list[Row] = []
    for _ in range(count):
        row = _read_row(reader)
        if rows and row.name <= rows[-1].name:
            raise reader.refuse("names are not sorted")
        rows.append(row)
    reader.end()
    return tuple(rows)


def _read_row(reader: Reader) -> Row:
    name, state = reader.text(MAX_PATH_BYTES), reader.u8()
    if state > _PAID:
        raise reader.refuse(f"unknown state {state} of a name")
    try:
        if state == _REMOVED:
            return Removed(name)
        owner_key, file_id = reader.raw(LINK_KEY_BYTES), FileId(reader.raw(ID_BYTES))
        size, scheme = reader.u64(), read_scheme(reader)
        kind, added_us = read_kind(reader), reader.u64()
        paid = _read_paid(reader) if state == _PAID else None
        return Entry(name, owner_key, file_id, size, scheme, kind, added_us, paid)
    except UsageError as error:
        raise reader.refuse(error.message) from error


def _read_paid(reader: Reader) -> Paid:
    cost, expires_s, renew = reader.u64(), reader.u64(), reader.u8()
    if renew > 1:
        raise reader.refuse(f"a flag of {renew}, 0 or 1 needed")
    return Paid(cost, expires_s, renew == 1)


def merge(runs: Iterable[Iterable[Row]]) -> dict[str, Entry]:
    """What is in the catalogue, by name, sorted; ``runs`` come oldest first."""
    rows = merge_rows(runs, oldest=True)
    return {row.name: row for row in rows if isinstance(row, Entry)}


def merge_rows(runs: Iterable[Iterable[Row]], *, oldest: bool) -> tuple[Row, ...]:
    """One run out of several.

    Args:
        runs: Neighbours, oldest first.
        oldest: Whether nothing older stays beside the result: removed names vanish then.
    """
    newest = {row.name: row for run in runs for row in run}
    rows = (newest[name] for name in sorted(newest))
    return tuple(row for row in rows if not oldest or isinstance(row, Entry))


@dataclass(frozen=True, slots=True)
class RunRef:
    """Where a run is stored: a file of its own.

    Attributes:
        owner_key: 16 bytes.
        file_id: The run's file.
        rows: Names in it, removed ones counted.
    """

    owner_key: bytes = field(repr=False)
    file_id: FileId
    rows: int


def plan_update(runs: Sequence[RunRef], changes: int) -> int:
    """Decide which runs stay when ``changes`` rows are written.

    Every run that stays is at least ``GROWTH`` times the new one, so there are at most
    log2(n) + 1 runs, and each rewrite puts a row into a run at least 1.5 times larger.

    Args:
        runs: The slot's, oldest first.
        changes: Rows to add.

    Returns:
        How many of the oldest runs stay; the others are merged, with the changes, into
        the one run to be written.
    """
    keep, rows = len(runs), changes
    while keep and (runs[keep - 1].rows < GROWTH * rows or keep >= MAX_RUNS):
        keep -= 1
        rows += runs[keep].rows
    return keep


@dataclass(frozen=True, slots=True)
class SlotBody:
    """The sealed body of a slot record: the catalogue's runs, oldest first."""

    runs: tuple[RunRef, ...] = ()

    def encode(self) -> bytes:
        """The fixed encoding."""
        assert len(self.runs) <= MAX_RUNS
        out = Writer().u8(VERSION).u8(len(self.runs))
        for run in self.runs:
            assert 0 < run.rows <= U32_MAX
            out.raw(run.owner_key, LINK_KEY_BYTES).raw(run.file_id, ID_BYTES).u32(run.rows)
        return out.done()

    @classmethod
    def decode(cls, data: bytes) -> SlotBody:
        """Read what ``encode`` wrote (untrusted).

        Raises:
            MalformedMessage: Anything else.
        """
        reader = Reader(data, "slot body")
        version, count = reader.u8(), reader.u8()
        if version != VERSION or count > MAX_RUNS:
            raise reader.refuse(f"version {version} with {count} runs")
        runs = tuple(
            RunRef(reader.raw(LINK_KEY_BYTES), FileId(reader.raw(ID_BYTES)), reader.u32())
            for _ in range(count)
        )
        reader.end()
        if not all(run.rows for run in runs):
            raise reader.refuse("a run without names")
        return cls(runs)
