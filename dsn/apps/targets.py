"""What a person names: the paths that a put stores, and the file that a command means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsn.apps.directories import store_directory
from dsn.apps.names import Catalogue
from dsn.apps.puts import Puts
from dsn.apps.results import NoticeSink
from dsn.core.capability import is_capability, parse_capability
from dsn.core.catalogue import Paid
from dsn.core.keys import FileKeys
from dsn.errors import UsageError
from dsn.ids import FileId


@dataclass(frozen=True, slots=True)
class PutItem:
    """What to store: a path (``None`` is standard input) and the name it gets."""

    path: Path | None
    name: str
    recursive: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A file that a command means: by name, or by a link."""

    name: str | None
    file_id: FileId
    keys: FileKeys
    paid: Paid | None = None


async def resolve(target: str, catalogue: Callable[[], Awaitable[Catalogue]]) -> Target:
    """The file of a link, or of a name in ``catalogue``, which a link does without.

    Raises:
        NotFound: The catalogue has no such name.
        UsageError: ``bad_capability``.
    """
    if is_capability(target):
        link = parse_capability(target)
        return Target(None, link.file_id, link.keys())
    entry = (await catalogue()).get(target)
    return Target(entry.name, entry.file_id, entry.keys(), entry.paid)


async def store_items(puts: Puts, items: Sequence[PutItem], notice: NoticeSink) -> None:
    """Store every item of ``items``; none is begun before all their names are free.

    Raises:
        UsageError: ``name_taken``, or ``is_directory``: one without ``recursive``.
    """
    for item in items:
        puts.catalogue.check_free(item.name)
    for item in items:
        if item.path is None or not item.path.is_dir():
            await puts.put_path(item.path, item.name)
        elif item.recursive:
            await store_directory(puts, item.path, item.name, notice)
        else:
            raise UsageError(
                f"{item.path} is a directory",
                code="is_directory",
                hint="add -r to store all it holds",
            )
