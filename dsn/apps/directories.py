"""A folder on disk as one stored directory, and back."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsn.apps.manifests import Manifest
from dsn.apps.outputs import open_output
from dsn.apps.puts import Puts
from dsn.apps.results import NoticeSink
from dsn.apps.stored import StoredFile
from dsn.core import tags
from dsn.core.capability import Capability, make_capability
from dsn.core.directory import (
    MODE_MASK,
    PACK_BELOW_BYTES,
    Item,
    ItemKind,
    Listing,
    Pack,
    Packed,
    plan_packs,
)
from dsn.core.keys import LINK_KEY_BYTES, Kind, hkdf
from dsn.errors import DsnError, UsageError
from dsn.ids import FileId
from dsn.store.transfer import FileSource, PackSource
from dsn.units import MIB

if TYPE_CHECKING:
    from dsn.apps.gets import Gets


def child_key(owner_key: bytes, number: int) -> bytes:
    """The owner's 16-byte key of file ``number`` that a directory's put stored with it."""
    return hkdf(owner_key, tags.DIRECTORY + number.to_bytes(4, "big"), LINK_KEY_BYTES)


async def store_directory(puts: Puts, folder: Path, name: str, notice: NoticeSink) -> None:
    """Store ``folder`` with all it holds under ``name``.

    Files below 1 MiB share packs; larger ones are files of their own. The owner keys of both
    derive from the directory's, so its catalogue entry is enough to free them all.
    """
    puts.catalogue.check_free(name)
    began_s, owner_key = puts.clock.monotonic_s(), puts.new_key()
    paths = list(_walk(folder, notice))
    sizes = {path: status.st_size for path, status in paths if stat.S_ISREG(status.st_mode)}
    packs = plan_packs((path, size) for path, size in sizes.items())
    keys = (child_key(owner_key, number) for number in itertools.count())
    targets: dict[str, Capability | Packed] = {}
    children, links = [], []
    for number, pack in enumerate(packs):
        file = await _store_pack(puts, folder, pack, next(keys))
        children.append(file)
        links.append(_read_link(file))
        targets.update((m.path, Packed(number, m.start)) for m in pack.members)
    for path, size in sizes.items():
        if size >= PACK_BELOW_BYTES:
            file = await _store_large(puts, folder / path, next(keys))
            children.append(file)
            targets[path] = _read_link(file)
    items = tuple(_item(folder, path, status, targets.get(path)) for path, status in paths)
    await puts.put_listing(
        Listing(items, tuple(links)),
        children,
        name=name,
        owner_key=owner_key,
        mtime_us=folder.stat().st_mtime_ns // 1000,
        began_s=began_s,
    )


def _read_link(file: StoredFile) -> Capability:
    return make_capability(file.keys, Kind.READ, file.file_id)


def _walk(folder: Path, notice: NoticeSink) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below ``folder`` that can be stored, sorted by path."""
    found: list[tuple[str, os.stat_result]] = []

    def visit(prefix: str, entries: Sequence[os.DirEntry[str]]) -> None:
        for entry in entries:
            path, status = prefix + entry.name, entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                found.append((path, status))
                visit(path + "/", list(os.scandir(entry.path)))
            elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                found.append((path, status))
            else:
                notice(f"{path} is neither file, folder nor link, and is left out")

    visit("", list(os.scandir(folder)))
    return iter(sorted(found))


def _item(
    folder: Path, path: str, status: os.stat_result, target: Capability | Packed | None
) -> Item:
    mode, mtime_us = status.st_mode & MODE_MASK, status.st_mtime_ns // 1000
    if stat.S_ISDIR(status.st_mode):
        return Item(path, ItemKind.DIRECTORY, mode, mtime_us)
    if stat.S_ISLNK(status.st_mode):
        return Item(path, ItemKind.SYMLINK, mode, mtime_us, link=os.readlink(folder / path))
    return Item(path, ItemKind.FILE, mode, mtime_us, status.st_size, target)


async def _store_pack(puts: Puts, folder: Path, pack: Pack, key: bytes) -> StoredFile:
    members = [(folder / member.path, member.end - member.start) for member in pack.members]
    return await puts.put_child(PackSource(members), key)


async def _store_large(puts: Puts, path: Path, key: bytes) -> StoredFile:
    source = FileSource(path)
    try:
        file = await puts.put_child(source, key)
        source.check_unchanged()
    finally:
        source.close()
    return file


async def read_directory(gets: Gets, manifest: Manifest, out: Path, *, force: bool) -> int:
    """Restore a stored directory as ``out``; returns the bytes of its files.

    Every path in the listing is relative and has its parents listed, so nothing lands outside
    ``out``; links that lead out of it are left out.
    """
    if out.exists() and not force:
        raise UsageError(
            f"{out} exists", code="output_exists", hint="add --force to write into it, or choose -o"
        )
    listing = Listing.decode(await gets.read_manifest(manifest))
    out.mkdir(parents=True, exist_ok=True)
    for item in listing.items:
        if item.kind is ItemKind.DIRECTORY:
            (out / item.path).mkdir(exist_ok=True)
    await _read_packs(gets, listing, out)
    for item in listing.items:
        await _restore(gets, item, out)
    for item in reversed(listing.items):
        if item.kind is ItemKind.DIRECTORY:
            _dress(out / item.path, item)
    return sum(item.size for item in listing.items)


async def _read_packs(gets: Gets, listing: Listing, out: Path) -> None:
    members: dict[int, list[Item]] = {}
    for item in listing.items:
        if isinstance(item.target, Packed):
            members.setdefault(item.target.pack, []).append(item)
    for number, items in members.items():
        link = listing.packs[number]
        spool = out / f".pack-{number}"
        with open_output(spool, link.file_id, None, force=True, digest=False) as output:
            await gets.read_into(link.file_id, link.keys(), output)
        try:
            with spool.open("rb") as pack:
                for item in items:
                    _unpack(pack.fileno(), item, out / item.path)
        finally:
            spool.unlink()


def _unpack(pack: int, item: Item, path: Path) -> None:
    assert isinstance(item.target, Packed)
    with path.open("wb") as file:
        at, end = item.target.start, item.target.start + item.size
        while at < end:
            data = os.pread(pack, min(MIB, end - at), at)
            if not data:
                raise DsnError(f"{item.path}: its pack ends too early", code="malformed_message")
            at += file.write(data)
    _dress(path, item)


async def _restore(gets: Gets, item: Item, out: Path) -> None:
    path = out / item.path
    if item.kind is ItemKind.SYMLINK:
        if not item.escapes:
            path.unlink(missing_ok=True)
            path.symlink_to(item.link)
    elif item.kind is ItemKind.FILE and item.target is None:
        path.write_bytes(b"")
        _dress(path, item)
    elif isinstance(item.target, Capability):
        link = item.target
        with open_output(path, FileId(link.file_id), None, force=True, digest=False) as output:
            await gets.read_into(link.file_id, link.keys(), output)
        _dress(path, item)


def _dress(path: Path, item: Item) -> None:
    path.chmod(item.mode)
    os.utime(path, ns=(item.mtime_us * 1000, item.mtime_us * 1000))
