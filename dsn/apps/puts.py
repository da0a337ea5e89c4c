"""Many files in one put session: names, journals, and success only when all is safe."""

from __future__ import annotations

import asyncio
import mimetypes
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from dsn.apps.deals import Deals
from dsn.apps.faults import Faults
from dsn.apps.holdings import Holdings
from dsn.apps.journal import Journal
from dsn.apps.listing import told
from dsn.apps.manifests import Manifest, Manifests
from dsn.apps.names import Catalogue
from dsn.apps.results import FileState, PutResult
from dsn.apps.stored import StoredFile, sign_removal
from dsn.apps.uploads import PutSession
from dsn.core.capability import Capability, format_capability, make_capability
from dsn.core.catalogue import Entry, Paid, Removed, Row
from dsn.core.directory import Listing
from dsn.core.keys import LINK_KEY_BYTES, FileKeys, Kind
from dsn.core.layout import Scheme, default_scheme
from dsn.core.manifest import FileKind, Private
from dsn.errors import DsnError, NoSpace, NotFound, Unreachable
from dsn.ids import Commit, FileId, NodeId, format_base32, short
from dsn.ports import Clock, Entropy
from dsn.store.transfer import BytesSource, FileSource, Source, SpoolSource, read_all
from dsn.units import INLINE_BYTES, MIB

BATCH_S = 0.1
"""Names of files stored meanwhile share one update of the catalogue."""

ReadManifest = Callable[[Manifest], Awaitable[bytes]]
Shards = dict[NodeId, dict[Commit, int]]


class Puts:
    """A put session as commands use it."""

    def __init__(
        self,
        session: PutSession,
        catalogue: Catalogue,
        manifests: Manifests,
        holdings: Holdings,
        faults: Faults,
        *,
        deals: Deals,
        renew: bool,
        clock: Clock,
        entropy: Entropy,
        folder: Path,
        scheme: Scheme | None,
    ) -> None:
        """Store under ``scheme``, or what the network's size asks for, paid by ``deals``."""
        self.session, self.catalogue = session, catalogue
        self._manifests, self._holdings, self._faults = manifests, holdings, faults
        self.clock, self._entropy, self.folder = clock, entropy, folder
        self._scheme, self._deals, self._renew = scheme, deals, renew
        self._named: list[tuple[str, StoredFile, float]] = []
        self._changes: dict[str, Row] = {}
        self._flushing = asyncio.Lock()
        self._flusher: asyncio.Task[None] | None = None
        self._journals: list[Journal] = []
        self._finished = False
        self._open = ExitStack()

    def new_key(self) -> bytes:
        """A fresh owner key."""
        return self._entropy(LINK_KEY_BYTES)

    @property
    def scheme(self) -> Scheme:
        """The scheme of every file here; checked against the groups that answered."""
        if self._scheme is None:
            self._scheme = default_scheme(self.session.groups)
        return self._scheme

    # files in

    async def put_path(self, path: Path | None, name: str) -> StoredFile:
        """Store one file, or standard input, under ``name``."""
        self.catalogue.check_free(name)
        if path is None:
            return await self._put_stdin(name)
        began_s, source = self.clock.monotonic_s(), FileSource(path)
        try:
            folder = self.folder / "puts"
            journal = Journal.open(folder, path.absolute(), name, source.fingerprint, self.clock)
            key = journal.owner_key or self.new_key()
            file = self._new_file(name, source, key, mtime_us=source.mtime_us)
            if file.source is not None:
                self._journals.append(journal)
                journal.begin(file, self.session.alive, self._holdings)
            await self.session.put(file)
            source.check_unchanged()
        finally:
            source.close()
        self._name(file, FileKind.FILE, began_s)
        return file

    async def _put_stdin(self, name: str) -> StoredFile:
        """Standard input cannot be read twice, so it passes through an unnamed file here."""
        began_s = self.clock.monotonic_s()
        spool = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 (closed with the session)
        self._open.callback(spool.close)
        await asyncio.to_thread(_spool, sys.stdin.buffer, spool)
        file = self._new_file(name, SpoolSource(spool), self.new_key())
        await self.session.put(file)
        self._name(file, FileKind.FILE, began_s)
        return file

    async def put_bytes(self, data: bytes, name: str) -> StoredFile:
        """Store ``data`` as a file under ``name``."""
        self.catalogue.check_free(name)
        began_s = self.clock.monotonic_s()
        file = self._new_file(name, BytesSource(data), self.new_key())
        await self.session.put(file)
        self._name(file, FileKind.FILE, began_s)
        return file

    async def put_run(self, data: bytes) -> StoredFile:
        """Store a part of the catalogue, on as many nodes as are left: it names what is safe."""
        total = min(self.scheme.total, self.session.groups)
        scheme = Scheme(min(self.scheme.required, total), total)
        file = self._new_file("", BytesSource(data), self.new_key(), scheme=scheme)
        await self.session.put(file)
        return file

    async def put_listing(
        self,
        listing: Listing,
        children: Sequence[StoredFile],
        *,
        name: str,
        owner_key: bytes,
        mtime_us: int,
        began_s: float,
    ) -> StoredFile:
        """Store a directory's listing under ``name``; its ``children`` are stored already."""
        source, kind = BytesSource(listing.encode()), FileKind.DIRECTORY
        file = self._new_file(name, source, owner_key, mtime_us=mtime_us, kind=kind)
        file.content_bytes = sum(item.size for item in listing.items)
        file.children = list(children)
        await self.session.put(file)
        self._name(file, kind, began_s)
        return file

    async def put_child(self, source: Source, owner_key: bytes) -> StoredFile:
        """Store a directory's file; only the directory's listing names it."""
        file = self._new_file("", source, owner_key)
        await self.session.put(file)
        return file

    def _new_file(
        self,
        name: str,
        source: Source,
        owner_key: bytes,
        *,
        mtime_us: int = 0,
        kind: FileKind = FileKind.FILE,
        scheme: Scheme | None = None,
    ) -> StoredFile:
        scheme = scheme or self.scheme
        inline = read_all(source) if source.size <= INLINE_BYTES else None
        own = name.rsplit("/", 1)[-1]
        media_type = mimetypes.guess_type(own)[0] or ""
        private = Private(own, media_type, mtime_us, {}, kind, inline)
        upload = self.session.place(scheme, source.size)
        kept = source if inline is None else None
        return StoredFile(name, owner_key, scheme, source.size, private, upload, kept)

    # names

    def _name(self, file: StoredFile, kind: FileKind, began_s: float) -> None:
        entry = Entry(
            file.name,
            file.owner_key,
            file.file_id,
            file.content_bytes,
            file.scheme,
            kind,
            int(self.clock.now_s() * 1e6),
            self._paid(file),
        )
        self._named.append((file.name, file, began_s))
        self._changes[file.name] = entry
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush_later())

    def _paid(self, file: StoredFile) -> Paid | None:
        parts = [part.shards() for part in (file, *file.children)]
        expires_s = self._deals.expires_s({node for shards in parts for node in shards})
        if expires_s is None:
            return None
        cost = sum(
            self._deals.cost({node: held.values() for node, held in shards.items()})
            for shards in parts
        )
        return Paid(cost, expires_s, self._renew)

    async def _flush_later(self) -> None:
        await asyncio.sleep(BATCH_S)
        await self.flush()

    async def flush(self) -> None:
        """Write the names that wait into the catalogue."""
        async with self._flushing:
            changes, self._changes = self._changes, {}
            if changes:
                await self.catalogue.change(
                    list(changes.values()), self.put_run, self._free_run, self.session.pointers
                )

    async def change(self, rows: Sequence[Row]) -> None:
        """Change the catalogue by ``rows``."""
        for row in rows:
            self._changes[row.name] = row
        await self.flush()

    async def _free_run(self, file_id: FileId, keys: FileKeys) -> None:
        mine = next((f for f in self.session.files if f.core and f.file_id == file_id), None)
        if mine is not None:
            self.session.files.remove(mine)
            self._drop(mine.shards())
            return
        with suppress(DsnError):  # an old list of names that is out of reach harms nobody
            self._drop((await self._manifests.fetch(file_id, keys)).shards())

    def _drop(self, shards: Shards) -> None:
        for node, commits in shards.items():
            self._holdings.drop(node, commits)

    async def free(self, file_id: FileId, keys: FileKeys, read: ReadManifest) -> Shards:
        """Let go of a stored file, and of what it lists if it is a directory.

        Returns:
            What was freed: shard lengths by commit, by node; empty if nobody knows the file.
        """
        try:
            manifest = await self._manifests.fetch(file_id, keys)
        except (NotFound, Unreachable):
            return {}
        shards = manifest.shards()
        if manifest.core.open_private(keys.content_key).kind is FileKind.DIRECTORY:
            listing = Listing.decode(await read(manifest))
            own = (item.target for item in listing.items if isinstance(item.target, Capability))
            for link in (*listing.packs, *own):
                for node, inner in (await self.free(link.file_id, link.keys(), read)).items():
                    shards.setdefault(node, {}).update(inner)
        if keys.kind is Kind.OWNER:
            await self._bury(manifest)
        self._drop(shards)
        self._faults.forget(file_id, [c for commits in shards.values() for c in commits])
        return shards

    async def _bury(self, manifest: Manifest) -> None:
        """Have the pointer say that the file was removed, so that nobody carries it on."""
        record = sign_removal(manifest, self.session.nodes.network.network_id, self.clock.now_s())
        with suppress(DsnError):  # a pointer that stays leads to nothing
            await self.session.pointers.hold(record, [copy.node for copy in manifest.copies])

    # the end

    @property
    def stored(self) -> list[tuple[str, StoredFile]]:
        """Every name of this session, and the file or directory behind it."""
        return [(name, file) for name, file, _ in self._named]

    async def results(self) -> list[PutResult]:
        """Make everything safe: names, signatures of both sides, samples read back.

        Raises:
            Unreachable: ``not_placed``: a file has too few shards; all of the session is freed.
        """
        if self._flusher is not None:
            await self._flusher
        await self.flush()
        await self.session.settle()
        await self.session.pointers.flush()
        for name, file, _ in self._named:
            for part in (file, *file.children):
                self._check_placed(name, part)
                if part is not file:
                    file.warnings += part.warnings
        self._finished = True
        for journal in self._journals:
            journal.remove()
        return [self._result(*named) for named in self._named]

    def _check_placed(self, name: str, file: StoredFile) -> None:
        placed = file.upload.placed(file.layout.segments)
        if placed == file.scheme.total:
            self._faults.set_state(file.file_id, FileState.HEALTHY)
            return
        rows = file.upload.missing()
        where = ", ".join(sorted({short(row.node) for row in rows}))
        if placed <= file.scheme.repair_at:
            raise Unreachable(
                f"{name}: only {placed} of {file.scheme.total} shards could be placed, "
                f"{file.scheme.repair_at + 1} needed (missing: {where})",
                code="not_placed",
                hint="start more nodes, or take a scheme with fewer shards",
            )
        self._faults.set_state(file.file_id, FileState.DEGRADED)
        file.warnings.append(
            f"{name}: {placed} of {file.scheme.total} shards placed; missing on {where}: "
            + ", ".join(f"segment {r.segment} shard {r.index}" for r in rows[:8])
            + (" ..." if len(rows) > 8 else "")
        )

    def _result(self, name: str, file: StoredFile, began_s: float) -> PutResult:
        def link(kind: Kind) -> str:
            return format_capability(make_capability(file.keys, kind, file.file_id))

        segments = file.layout.segments
        placed = file.upload.placed(segments) if segments else len(file.copies)
        total = file.scheme.total if segments else file.scheme.manifest_copies
        paid = self.catalogue.entries[name].paid
        return PutResult(
            name,
            link(Kind.READ),
            link(Kind.REPAIR),
            link(Kind.VERIFY),
            format_base32(file.file_id),
            file.content_bytes,
            str(file.scheme),
            segments,
            placed,
            total,
            file.sent_bytes + sum(child.sent_bytes for child in file.children),
            self.clock.monotonic_s() - began_s,
            None if paid is None else paid.cost,
            None if paid is None else paid.expires_s,
            tuple(file.warnings),
            tuple(map(told, self.session.explain(file))),
        )

    async def __aenter__(self) -> Self:
        """Use it in a block; ``results`` ends it well."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """After a failure, free what was stored; after an interrupt, keep it to go on with."""
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.gather(self._flusher, return_exceptions=True)
        with self._open:
            if isinstance(error, DsnError) and not self._finished:
                await self._undo()
        self._holdings.save_drops()

    async def _undo(self) -> None:
        for journal in self._journals:
            journal.remove()
        await self.session.all_receipts()
        for file in self.session.files:
            self._drop(file.shards())
        stored = [Removed(name) for name, _, _ in self._named if name in self.catalogue.entries]
        with suppress(DsnError):
            if stored:
                self.session.files.clear()
                await self.change(stored)
            await self.session.revise_all()


def _spool(source: IO[bytes], spool: IO[bytes]) -> None:
    try:
        while data := source.read(MIB):
            spool.write(data)
        spool.flush()
    except OSError as error:
        raise NoSpace(f"standard input does not fit on this disk: {error.strerror}") from error
