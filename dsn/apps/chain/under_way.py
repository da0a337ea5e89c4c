"""What a home has begun on the chain and not finished, on disk before it is begun.

A file a matter, named after the vault: a home that changes networks mixes nothing up.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dsn.errors import ConfigError
from dsn.ledger.settlement import Address
from dsn.store.files import PRIVATE_DIRECTORY, write_atomic
from dsn.store.lock import FileLock

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)

FOLDER: Final = "chain"
"""Below a home's state."""
POLL_S: Final = 2.0
"""Between two looks at what others have to do."""
Sleep = Callable[[float], Awaitable[None]]
"""Waits for so many seconds; ``asyncio.sleep``."""
Notice = Callable[[str], None]
"""Told how far it is, in words for people."""


class UnderWay:
    """The files of one home about one vault."""

    def __init__(self, folder: Path, vault: Address) -> None:
        """Keep them in ``folder``, which is made with the first."""
        self._folder, self._vault = folder, vault

    def load(self, what: str, kind: type[T]) -> T | None:
        """What was saved as ``what``, if anything was.

        Raises:
            ConfigError: ``bad_state_file``: something else is there. To take it for nothing could
                do a thing twice.
        """
        file = self._file(what)
        try:
            known: Mapping[str, Any] = json.loads(file.read_bytes())
            return kind(**known)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"{file} does not say what is under way",
                code="bad_state_file",
                hint="see 'dsn wallet balance' for what was done; then remove the file",
            ) from error

    def save(self, what: str, plan: DataclassInstance) -> None:
        """Keep ``plan``, of plain fields; it survives a crash once this returns."""
        self._folder.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        write_atomic(self._file(what), json.dumps(asdict(plan)).encode())

    def forget(self, what: str) -> None:
        """Nothing is under way any more."""
        self._file(what).unlink(missing_ok=True)

    def turn(self, what: str) -> FileLock:
        """For ``async with``: whoever goes on with ``what`` meanwhile is alone, in any process."""
        self._folder.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        return FileLock(self._folder / f"{what}.lock", what=f"the {what} of this home")

    def _file(self, what: str) -> Path:
        return self._folder / f"{what}-{self._vault.hex()}.json"
