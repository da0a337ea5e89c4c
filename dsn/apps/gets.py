"""Reading stored files: into memory, into an output, whole directories."""

from __future__ import annotations

from pathlib import Path

from dsn.apps.deals import Deals
from dsn.apps.directories import read_directory
from dsn.apps.downloads import Reader
from dsn.apps.faults import Faults
from dsn.apps.manifests import Manifest, Manifests
from dsn.apps.nodes import Nodes
from dsn.apps.outputs import Output, open_output
from dsn.apps.results import FileState, GetResult, ProgressSink
from dsn.core.keys import FileKeys
from dsn.core.manifest import FileKind
from dsn.errors import UsageError
from dsn.ids import FileId
from dsn.ports import Clock
from dsn.runtime.kernel import Kernel
from dsn.store.transfer import MemorySink, Sink


class Gets:
    """Reads files through one set of connections."""

    def __init__(
        self,
        nodes: Nodes,
        manifests: Manifests,
        faults: Faults,
        clock: Clock,
        kernel: Kernel,
        progress: ProgressSink,
        *,
        deals: Deals,
    ) -> None:
        """Read from ``nodes``, paid by ``deals``; note in ``faults`` who sent what is wrong."""
        self._nodes, self._manifests, self._faults = nodes, manifests, faults
        self._deals = deals
        self._clock, self._kernel, self._progress = clock, kernel, progress

    async def get(
        self,
        manifest: Manifest,
        out: Path | None,
        *,
        range_: tuple[int, int] | None,
        force: bool,
        digest: bool,
    ) -> GetResult:
        """Read the file or directory of ``manifest``; see ``Client.get``."""
        began_s = self._clock.monotonic_s()
        private = manifest.core.open_private(manifest.keys.content_key)
        if private.kind is FileKind.DIRECTORY and range_ is None:
            if out is None:
                raise UsageError(
                    f"{private.name} is a directory",
                    hint="get it with -o FOLDER",
                    code="is_directory",
                )
            size, sha256 = await read_directory(self, manifest, out, force=force), ""
        else:
            start, end = _checked_range(range_, manifest.core.size)
            layout = None if range_ else manifest.core.layout
            output = open_output(out, manifest.file_id, layout, force=force, digest=digest)
            with output:
                await self._read(manifest, start + output.resumed, end, output.sink)
                output.finish()
            size, sha256 = end - start, output.sha256
        self._remember(manifest)
        seconds = self._clock.monotonic_s() - began_s
        warnings = tuple(f"node {f.node[:10]}: {f.kind} {f.what}" for f in self._faults.seen)
        return GetResult(size, sha256, seconds, warnings)

    async def read_bytes(self, file_id: FileId, keys: FileKeys) -> bytes:
        """A whole small file in memory."""
        return await self.read_manifest(await self._manifests.fetch(file_id, keys))

    async def read_manifest(self, manifest: Manifest) -> bytes:
        """A whole small file in memory, its manifest at hand."""
        sink = MemorySink()
        await self._read(manifest, 0, manifest.core.size, sink)
        return sink.data()

    async def read_into(self, file_id: FileId, keys: FileKeys, output: Output) -> None:
        """A whole file into ``output``."""
        manifest = await self._manifests.fetch(file_id, keys)
        await self._read(manifest, 0, manifest.core.size, output.sink)
        output.finish()
        self._remember(manifest)

    async def _read(self, manifest: Manifest, start: int, end: int, sink: Sink) -> None:
        inline = manifest.core.open_private(manifest.keys.content_key).inline
        if inline is None:
            reader = Reader(
                manifest, self._nodes, self._deals, self._faults, self._kernel, self._progress
            )
            await reader.read(start, end, sink)
        elif start < end:
            sink.room(end - start)[:] = inline[start:end]
            sink.commit(end - start)

    def _remember(self, manifest: Manifest) -> None:
        """A fault that this read met makes the file's remembered state worse, never better."""
        known = self._faults.state(manifest.file_id)
        if self._faults.seen and known in (FileState.HEALTHY, FileState.UNKNOWN):
            self._faults.set_state(manifest.file_id, FileState.DEGRADED)


def _checked_range(range_: tuple[int, int] | None, size: int) -> tuple[int, int]:
    if range_ is None:
        return 0, size
    start, end = range_
    if not 0 <= start < end <= size:
        raise UsageError(
            f"range {start}-{end} is not within the file's {size} bytes",
            code="bad_range",
            hint=f"bytes 0-{size} can be read",
        )
    return start, end
