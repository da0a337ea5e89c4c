"""The scrub: everything that is stored is read and hashed once a month, so that rot is found.

It reads at an even rate, one shard after the other in the order of their commits, and goes on
after a restart where it stood. Whoever meets rot elsewhere has the shard looked at next.

Spec: docs/spec/store.md#scrub
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from dsn.errors import NotFound, ShardCorrupt
from dsn.ids import Commit
from dsn.ports import Clock, ShardStore
from dsn.store.files import write_atomic

DAY_S: Final = 86_400.0
LONGEST_PAUSE_S: Final = 3_600.0
"""How long nothing is read at most: what is stored, and so the pace, may change meanwhile."""
SAVE_S: Final = 60.0
"""What a crash makes the scrub read again at most."""
_log = structlog.get_logger("scrub")


@dataclass(slots=True)
class Round:
    """How far the scrub is.

    Attributes:
        after: The last commit that was read, in hex.
        bytes: Read since the round began.
        failed: Shards found rotten or lost since the node was set up.
        finished_s: When the last full round ended, in Unix seconds; 0: never.
        bad: Shards that are rotten or lost, by commit in hex, and since when in Unix seconds.
    """

    after: str = ""
    bytes: int = 0
    failed: int = 0
    finished_s: int = 0
    bad: dict[str, int] = field(default_factory=dict)


class Scrub:
    """Reads one store through, again and again."""

    def __init__(self, store: ShardStore, file: Path, days: float, clock: Clock) -> None:
        """Go on where ``file`` says.

        Args:
            store: What is read.
            file: Keeps how far it got; anything unreadable there begins a new round.
            days: In which everything is to be read once.
            clock: This machine's.
        """
        self._store, self._file, self._days, self._clock = store, file, days, clock
        self._round = _load(file)
        self._suspects: dict[Commit, None] = {}
        self._woken = asyncio.Event()
        self._saved_s = clock.monotonic_s()

    @property
    def bad(self) -> Mapping[Commit, int]:
        """Shards that are rotten or lost as far as is known; since when, in Unix seconds."""
        return {Commit(bytes.fromhex(name)): at_s for name, at_s in self._round.bad.items()}

    def status(self) -> dict[str, Any]:
        """What ``dsn provider status`` says of it."""
        at = self._round
        return {
            "scrubbed": at.bytes,
            "last_scrub_s": at.finished_s,
            "rotten": len(at.bad),
            "failed_reads": at.failed,
        }

    def suspect(self, commit: Commit) -> None:
        """Have a shard looked at next: somebody could not open a leaf of it."""
        self._suspects[commit] = None
        self._woken.set()

    async def run(self) -> None:
        """Read until cancelled, then note how far it got."""
        try:
            for commit in await self._store.lost():
                self._note(commit, rotten=True)
            while True:
                pause_s = await self.turn()
                if not self._suspects:
                    self._woken.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause_s):
                            await self._woken.wait()
        finally:
            self.save()

    async def turn(self) -> float:
        """Look at one shard: a suspect if there is one, else the next in order.

        Returns:
            Seconds until the next one in order is due.
        """
        if self._suspects:
            commit = next(iter(self._suspects))
            del self._suspects[commit]
            with suppress(NotFound, ShardCorrupt):
                await self.look(commit)
            return 0.0
        after = bytes.fromhex(self._round.after)
        found = await self._store.commits(after, 1)
        if not found:
            return self._ended()
        size = 0
        if (shard := await self._store.stat(found[0])) is not None:
            size = shard.length
            with suppress(NotFound, ShardCorrupt):
                await self.look(found[0])
        self._round.after, self._round.bytes = found[0].hex(), self._round.bytes + size
        if self._clock.monotonic_s() - self._saved_s >= SAVE_S:
            self.save()
        return self._pause_s(size)

    async def look(self, commit: Commit) -> list[int]:
        """Read one shard now; gives the leaves that may be rotten, and notes whether it is bad.

        Raises:
            NotFound: ``unknown_shard``.
            ShardCorrupt: ``shard_lost``, ``disk_error``.
        """
        try:
            leaves = await self._store.rotten(commit)
        except NotFound:
            self._note(commit, rotten=False)
            raise
        except ShardCorrupt:
            self._note(commit, rotten=True)
            raise
        self._note(commit, rotten=bool(leaves))
        return leaves

    def save(self) -> None:
        """Write down how far it got; a home without room for that costs a round at most."""
        try:
            write_atomic(self._file, json.dumps(asdict(self._round)).encode())
        except OSError as error:
            _log.warning("not saved", reason=str(error))
        self._saved_s = self._clock.monotonic_s()

    def _note(self, commit: Commit, *, rotten: bool) -> None:
        bad, name = self._round.bad, commit.hex()
        if rotten == (name in bad):
            return
        if rotten:
            bad[name] = int(self._clock.now_s())
            self._round.failed += 1
            _log.warning("rotten", shard=name)
        else:
            del bad[name]
            _log.info("whole again", shard=name)
        self.save()

    def _ended(self) -> float:
        """A round is over: the next one begins."""
        at = self._round
        if at.after:
            _log.info("scrubbed", bytes=at.bytes, rotten=len(at.bad))
            at.after, at.bytes, at.finished_s = "", 0, int(self._clock.now_s())
            self.save()
            return 0.0
        return LONGEST_PAUSE_S

    def _pause_s(self, size: int) -> float:
        """What reading ``size`` bytes may take if everything is to take ``days``."""
        used = max(1, self._store.space().used)
        return min(LONGEST_PAUSE_S, self._days * DAY_S * size / used)


def _load(file: Path) -> Round:
    try:
        return Round(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return Round()
