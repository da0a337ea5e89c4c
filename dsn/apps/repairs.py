"""``dsn repair``: one file, or a directory with everything it lists.

Spec: docs/spec/data.md#repair.
"""

from __future__ import annotations

from dsn.apps.client_parts import Parts, Setting
from dsn.apps.directories import child_key
from dsn.apps.repair_file import FileRepair
from dsn.apps.results import FileState, RepairResult
from dsn.apps.targets import Target
from dsn.core.capability import Capability
from dsn.core.directory import Listing
from dsn.core.keys import FileKeys, Kind
from dsn.core.manifest import FileKind
from dsn.ids import FileId


async def repair_all(target: Target, parts: Parts, setting: Setting, dry_run: bool) -> RepairResult:
    """Repair a file, or its owner's directory with all it lists; see ``FileRepair.repair``."""
    file_id, keys = target.file_id, target.keys
    result = await FileRepair(file_id, keys, parts, setting).repair(dry_run=dry_run)
    if keys.kind is not Kind.OWNER:
        return result
    for link, inner in await _listed(file_id, keys, parts):
        more = await FileRepair(link, inner, parts, setting).repair(dry_run=dry_run)
        result = _sum(result, more)
    return result


async def _listed(file_id: FileId, keys: FileKeys, parts: Parts) -> list[tuple[FileId, FileKeys]]:
    """What a directory's listing names, with the owner's keys; nothing of a file."""
    manifest = await parts.manifests.fetch(file_id, keys)
    if manifest.core.open_private(keys.content_key).kind is not FileKind.DIRECTORY:
        return []
    listing = Listing.decode(await parts.gets.read_manifest(manifest))
    own = (item.target for item in listing.items if isinstance(item.target, Capability))
    links = {link.key: link.file_id for link in (*listing.packs, *own)}
    inner = [FileKeys.owner(child_key(keys.owner_key, n)) for n in range(len(links))]
    return [(links[each.read_key], each) for each in inner if each.read_key in links]


def _sum(one: RepairResult, other: RepairResult) -> RepairResult:
    """Two files' results as one: the worse state of both."""
    return RepairResult(
        one.rebuilt + other.rebuilt,
        one.moved + other.moved,
        max(one.state, other.state, key=list(FileState).index),
        one.leaves + other.leaves,
        one.bytes + other.bytes,
        one.seconds + other.seconds,
        None if one.cost is None else one.cost + (other.cost or 0),
        other.locked,
        tuple(sorted({*one.silent, *other.silent})),
    )
