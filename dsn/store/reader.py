"""Reading what is stored, from wherever compaction has put it by now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from dsn.core.merkle import ShardHasher
from dsn.errors import DataLost, ShardCorrupt, UsageError
from dsn.ids import Commit
from dsn.store import rules
from dsn.store.changes import RecordPut, Revised, SmallStored, decode
from dsn.store.committer import Committer, OnDisk
from dsn.store.direct import read_range
from dsn.store.index import Index
from dsn.store.log import Log
from dsn.store.state import Place, Row, kept_bytes
from dsn.store.volume import Volume
from dsn.units import FRAME_BYTES, GROUP_LEAVES, LEAF_BYTES, format_size

T = TypeVar("T")
_GROUP_BYTES = GROUP_LEAVES * LEAF_BYTES


class Reader:
    """Looks up, reads, and notes what turns out to be lost."""

    def __init__(
        self, volume: Volume, log: Log, index: Index, committer: Committer, on_disk: OnDisk
    ) -> None:
        """Read from ``volume`` what ``index`` knows of."""
        self._volume, self._log, self._index = volume, log, index
        self._committer, self._on_disk = committer, on_disk

    async def part(self, commit: Commit, start: int, end: int) -> bytes:
        """Bytes ``[start, end)`` of a shard; raises as ``ShardStore.read``."""
        return await self.reading(commit, lambda row: self._cut(row, start, end))

    async def groups(self, commit: Commit) -> bytes:
        """A shard's kept hashes; raises as ``ShardStore.groups``."""
        return await self.reading(commit, self._kept)

    async def sample(self, commit: Commit, numbers: Sequence[int]) -> tuple[bytes, list[bytes]]:
        """Kept hashes and some 64-leaf groups in one turn of a disk thread."""

        def read(row: Row) -> tuple[bytes, list[bytes]]:
            starts = [number * _GROUP_BYTES for number in numbers]
            parts = [self._cut(row, at, min(at + _GROUP_BYTES, row.length)) for at in starts]
            return self._kept(row), parts

        return await self.reading(commit, read)

    def _cut(self, row: Row, start: int, end: int) -> bytes:
        if not 0 <= start < end <= row.length or end - start > FRAME_BYTES:
            raise UsageError(
                f"range {start}-{end} of a shard of {format_size(row.length)}; "
                f"at most {format_size(FRAME_BYTES)} inside it can be read",
                code="bad_range",
            )
        if row.large:
            return read_range(self._volume.file(row.commit), start, end, self._volume.direct)
        return self._small(row)[start:end]

    def _kept(self, row: Row) -> bytes:
        if not row.large:
            return ShardHasher.over(self._small(row)).groups()
        end = row.length + kept_bytes(row.length)
        path, flag = self._volume.file(row.commit), self._volume.direct
        return b"".join(
            read_range(path, at, min(at + FRAME_BYTES, end), flag)
            for at in range(row.length, end, FRAME_BYTES)
        )

    async def record(self, key: bytes) -> RecordPut | Revised | None:
        """What stands under ``key``.

        Raises:
            DataLost: ``record_lost``.
        """
        seen: Place | None = None
        while place := (await self._index.records((key,)))[key]:
            try:
                change = decode(await self._on_disk(self._log.read, place))
            except (FileNotFoundError, ShardCorrupt) as error:
                if place == seen:
                    raise DataLost(
                        f"what stood under {key.hex()[:10]} is lost here", code="record_lost"
                    ) from error
                seen = place
                continue
            assert isinstance(change, RecordPut | Revised)
            return change
        return None

    async def reading(self, commit: Commit, read: Callable[[Row], T]) -> T:
        """``read`` the shard where it stands; one that stands there twice in vain is lost.

        Args:
            commit: Which.
            read: Runs in a disk thread; raises if what should be there is not.

        Raises:
            NotFound: ``unknown_shard``.
            ShardCorrupt: ``shard_lost``, or a ``disk_error`` that ``read`` met.
        """
        seen: Row | None = None
        while True:
            row = (await self._index.rows((commit,)))[commit]
            if row is None:
                raise rules.unknown_shard(commit)
            if row.lost or (seen and row.place == seen.place):
                await self._committer.propose(rules.lose(commit, row.place), commits=(commit,))
                raise ShardCorrupt(f"shard {commit.hex()[:10]} is lost here", code="shard_lost")
            try:
                return await self._on_disk(read, row)
            except (FileNotFoundError, ShardCorrupt) as error:
                if isinstance(error, ShardCorrupt) and error.detail_code == "disk_error":
                    raise
                seen = row

    def _small(self, row: Row) -> bytes:
        change = decode(self._log.read(row.place))
        assert isinstance(change, SmallStored)
        return change.data
