"""The catalogue in the network: names to owner keys, found again from the phrase alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from dsn.apps.nodes import Nodes
from dsn.apps.pointers import Pointers
from dsn.apps.stored import StoredFile
from dsn.core.catalogue import (
    Entry,
    Removed,
    Row,
    RunRef,
    SlotBody,
    decode_run,
    encode_run,
    merge,
    merge_rows,
    plan_update,
)
from dsn.core.cipher import open_box, seal_box
from dsn.core.keys import FileKeys, IdentityKeys, SigningKey
from dsn.dht.record import SlotRecord, next_sequence, parse_record, sign_slot, slot_key, verify
from dsn.errors import DsnError, NotFound, UsageError
from dsn.ids import FileId, NodeId
from dsn.ports import Clock, Entropy
from dsn.store.files import write_atomic

SLOT_TERM_S = 365 * 86_400
MOST_HOLDERS = 8
"""Nodes that keep the slot of an empty catalogue; else the newest run's holders do."""

ReadFile = Callable[[FileId, FileKeys], Awaitable[bytes]]
WriteFile = Callable[[bytes], Awaitable[StoredFile]]
FreeFile = Callable[[FileId, FileKeys], Awaitable[None]]


class Catalogue:
    """All names of one person, as the newest slot record and its runs say.

    A copy of the newest slot and its runs in ``folder`` saves asking for them; the network's
    is taken whenever it is newer.
    """

    def __init__(
        self, folder: Path, keys: IdentityKeys, nodes: Nodes, clock: Clock, entropy: Entropy
    ) -> None:
        """Keep the copy in ``folder``."""
        self._folder, self._nodes, self._clock, self._entropy = folder, nodes, clock, entropy
        self._signer = SigningKey(keys.slot_seed)
        self._seal_key = keys.slot_seal_key
        self._sequence = 0
        self._holders: set[NodeId] = set()
        self._runs: list[tuple[RunRef, tuple[Row, ...]]] = []
        self.entries: dict[str, Entry] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def load(self, read: ReadFile) -> None:
        """Take the newest of our copy and the network's.

        Args:
            read: Reads a stored file whole.

        Raises:
            Unreachable: No node answers and there is no copy.
        """
        local = self._load_local()
        try:
            found = await self._nodes.find_record(slot_key(self._signer.public))
        except DsnError:
            if local is None:
                raise
            found = None
        newest = max(
            (r for r in (local, found) if isinstance(r, SlotRecord)),
            key=lambda record: record.sequence,
            default=None,
        )
        if newest is not None and newest.sequence != self._sequence:
            await self._take(newest, read)

    async def _take(self, record: SlotRecord, read: ReadFile) -> None:
        body = SlotBody.decode(open_box(self._seal_key, record.body))

        async def run(ref: RunRef) -> tuple[Row, ...]:
            path = self._run_file(ref)
            if path.exists():
                return decode_run(path.read_bytes())
            data = await read(ref.file_id, FileKeys.owner(ref.owner_key))
            rows = decode_run(data)
            write_atomic(path, data, 0o600)
            return rows

        rows = await asyncio.gather(*(run(ref) for ref in body.runs))
        self._runs = list(zip(body.runs, rows, strict=True))
        self._sequence = record.sequence
        self.entries = merge(rows)
        write_atomic(self._folder / "slot", record.encode(), 0o600)

    def _load_local(self) -> SlotRecord | None:
        try:
            record = parse_record((self._folder / "slot").read_bytes())
            verify(record, self._nodes.network.network_id, self._clock.now_s())
        except (FileNotFoundError, DsnError):
            return None
        return record if isinstance(record, SlotRecord) else None

    def _run_file(self, ref: RunRef) -> Path:
        return self._folder / f"{ref.file_id.hex()}.run"

    def get(self, name: str) -> Entry:
        """The file stored under ``name``.

        Raises:
            NotFound: There is none.
        """
        try:
            return self.entries[name]
        except KeyError:
            raise NotFound(
                f"there is no file named {name!r}",
                hint="dsn ls lists the names",
                code="unknown_name",
            ) from None

    def check_free(self, name: str) -> None:
        """Raise if ``name`` is taken."""
        if name in self.entries:
            raise UsageError(
                f"the name {name!r} is taken",
                code="name_taken",
                hint="choose another one with --as NAME, or remove it first: dsn rm NAME",
            )

    async def change(
        self, changes: Sequence[Row], write: WriteFile, free: FreeFile, pointers: Pointers
    ) -> None:
        """Write ``changes`` (one a name) as a new run and publish the slot; then free old runs.

        Args:
            changes: Entries to add, names to remove.
            write: Stores bytes as a file of its own.
            free: Lets a stored file go.
            pointers: Where the slot record goes.
        """
        keep = plan_update([ref for ref, _ in self._runs], len(changes))
        old = self._runs[keep:]
        ordered = tuple(sorted(changes, key=lambda row: row.name))
        rows = merge_rows([*(run for _, run in old), ordered], oldest=keep == 0)
        runs, holders = self._runs[:keep], self._holders
        if rows:
            data = encode_run(rows)
            stored = await write(data)
            ref = RunRef(stored.owner_key, stored.file_id, len(rows))
            write_atomic(self._run_file(ref), data, 0o600)
            runs, holders = [*runs, (ref, rows)], set(stored.copies)
        await self._publish(runs, holders, pointers)
        self._runs = runs
        self.entries = merge(run for _, run in runs)
        for ref, _ in old:
            await free(ref.file_id, FileKeys.owner(ref.owner_key))
            self._run_file(ref).unlink(missing_ok=True)

    async def _publish(
        self,
        runs: Sequence[tuple[RunRef, tuple[Row, ...]]],
        holders: set[NodeId],
        pointers: Pointers,
    ) -> None:
        now_s = self._clock.now_s()
        body = SlotBody(tuple(ref for ref, _ in runs)).encode()
        record = sign_slot(
            self._signer.sign,
            network=self._nodes.network.network_id,
            slot_public=self._signer.public,
            sequence=next_sequence(self._sequence, int(now_s * 1e6)),
            expires_s=int(now_s) + SLOT_TERM_S,
            body=seal_box(self._seal_key, body, self._entropy(12)),
        )
        holders = holders or set(list(self._nodes.dht.proven)[:MOST_HOLDERS])
        await pointers.hold(record, holders)
        await pointers.flush()
        self._holders = holders
        self._sequence = record.sequence
        write_atomic(self._folder / "slot", record.encode(), 0o600)


def removed(names: Sequence[str]) -> list[Row]:
    """Rows that take ``names`` out."""
    return [Removed(name) for name in names]
