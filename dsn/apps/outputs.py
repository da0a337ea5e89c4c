"""Where a get writes: standard output, or a file that appears only when it is whole."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from dsn.core.layout import FileLayout
from dsn.errors import UsageError
from dsn.ids import FileId
from dsn.store.transfer import FileSink, StreamSink


class Output:
    """A sink with an end: nothing stands under the final name before ``finish``."""

    def __init__(self, sink: FileSink | StreamSink, path: Path | None, resumed: int) -> None:
        """Write to ``sink``, whose file becomes ``path``; ``resumed`` bytes are there."""
        self.sink, self.resumed, self._path = sink, resumed, path

    @property
    def sha256(self) -> str:
        """Of everything written, in hex; empty if it was not asked for."""
        return self.sink.sha256.hexdigest() if self.sink.sha256 is not None else ""

    def finish(self) -> None:
        """Give the file its name."""
        if isinstance(self.sink, FileSink) and self._path is not None:
            self.sink.close()
            os.replace(self.sink.path, self._path)

    def __enter__(self) -> Self:
        """Use it in a block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close; what was not finished stays beside for the same command to go on with."""
        if isinstance(self.sink, FileSink):
            self.sink.close()
            if error is not None and self.sink.path.exists() and not self.sink.path.stat().st_size:
                self.sink.path.unlink()


def open_output(
    out: Path | None, file_id: FileId, layout: FileLayout | None, *, force: bool, digest: bool
) -> Output:
    """Open the output of one file.

    An interrupted attempt left ``.NAME.<file id>.part`` beside the output: whole segments in
    it are kept, since they were written in order and each was checked.

    Args:
        out: The file to write; ``None`` is standard output.
        file_id: Names the partial file.
        layout: Of the whole file; ``None`` for a range, which is never resumed.
        force: Replace a file that is there.
        digest: Hash what is written.

    Raises:
        UsageError: ``output_exists``, or the folder is not there.
    """
    if out is None:
        sys.stdout.flush()
        return Output(StreamSink(sys.stdout.fileno()), None, 0)
    if out.exists() and not force:
        raise UsageError(
            f"{out} exists",
            code="output_exists",
            hint="add --force to replace it, or choose -o PATH",
        )
    if not out.absolute().parent.is_dir():
        raise UsageError(f"{out.parent} is not a folder", hint="make it first, or choose -o PATH")
    partial = out.absolute().parent / f".{out.name}.{file_id.hex()[:16]}.part"
    resumed = 0
    if layout is not None and layout.segments and partial.exists():
        whole = min(partial.stat().st_size // layout.segment_bytes, layout.segments - 1)
        resumed = whole * layout.segment_bytes
    return Output(FileSink(partial, resumed, digest=digest), out, resumed)
