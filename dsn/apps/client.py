"""The client: stores, reads, checks and removes files on the nodes of its network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dsn.apps.checks import Check
from dsn.apps.dht import Dht
from dsn.apps.directories import store_directory
from dsn.apps.entrance import Entrance
from dsn.apps.faults import Faults
from dsn.apps.gets import Gets
from dsn.apps.holdings import Holdings
from dsn.apps.manifests import Manifest, Manifests
from dsn.apps.names import Catalogue, removed
from dsn.apps.nodes import CANDIDATES, Nodes
from dsn.apps.puts import Puts
from dsn.apps.results import (
    CheckResult,
    FileInfo,
    GetResult,
    Holder,
    ListedFile,
    NoticeSink,
    ProgressSink,
    PutResult,
    RecoverResult,
    RemoveResult,
    ShareResult,
)
from dsn.apps.trace import peers_of, trace
from dsn.apps.uploads import PutSession
from dsn.config import DhtSettings
from dsn.core.capability import (
    format_capability,
    is_capability,
    make_capability,
    parse_capability,
)
from dsn.core.keys import FileKeys, IdentityKeys, Kind, SigningKey, node_id_of
from dsn.core.layout import Scheme
from dsn.errors import UsageError
from dsn.ids import FileId, NodeId, format_base32, format_node_id
from dsn.rpc.channel import Connections
from dsn.runtime.clock import SystemClock
from dsn.runtime.entropy import system_entropy
from dsn.runtime.kernel import Kernel
from dsn.runtime.process import tune_allocator
from dsn.store.home import Home

ALLOWS = {
    Kind.READ: "whoever has this link can read the file and check that it is stored",
    Kind.REPAIR: "whoever has this link can rebuild and move the file's shards, not read them",
    Kind.VERIFY: "whoever has this link can check that the file is stored, not read it",
}


@dataclass(frozen=True, slots=True)
class PutItem:
    """What to store: a path (``None`` is standard input) and the name it gets."""

    path: Path | None
    name: str
    recursive: bool = False


FINDING = DhtSettings()
"""How nodes are found where nothing is set."""
OutputSpec = Path | None
"""Where a get writes; ``None`` is standard output."""


@dataclass(frozen=True, slots=True)
class Target:
    """A file that a command means: by name, or by a link."""

    name: str | None
    file_id: FileId
    keys: FileKeys


class Client:
    """One person's files on one network; use it as an asynchronous context."""

    def __init__(
        self,
        home: Home,
        *,
        notice: NoticeSink,
        progress: ProgressSink,
        passphrase: bytes | None,
        dht: DhtSettings,
    ) -> None:
        """Use ``open``."""
        self._home, self._notice, self._progress = home, notice, progress
        self._settings = dht
        self._clock, self._entropy = SystemClock(), system_entropy
        self._keys = IdentityKeys.derive(home.load_root(passphrase))
        self._identity = SigningKey(self._keys.identity_seed)
        self._network = home.network()
        self._stack = AsyncExitStack()

    @classmethod
    def open(
        cls,
        home: Home,
        *,
        notice: NoticeSink,
        progress: ProgressSink,
        passphrase: bytes | None = None,
        dht: DhtSettings = FINDING,
    ) -> Client:
        """A client of ``home``; the context takes the home's lock.

        Raises:
            ConfigError: No keys, keys that others can read, or no network.
        """
        return cls(home, notice=notice, progress=progress, passphrase=passphrase, dht=dht)

    async def __aenter__(self) -> Self:
        """Take the home's lock, waiting in turn, and connect."""
        tune_allocator()
        await self._stack.enter_async_context(self._home.lock(self._waiting))
        self._kernel = self._stack.enter_context(Kernel())
        connections = await self._stack.enter_async_context(
            Connections(self._identity, self._network.network_id)
        )
        state = self._home.state
        state.mkdir(exist_ok=True, mode=0o700)
        self._dht = Dht(
            connections,
            self._network,
            node_id_of(self._identity.public),
            self._home.book(self._network),
            clock=self._clock,
            entropy=self._entropy,
        )
        self._stack.callback(lambda: self._home.save_book(self._dht.book))
        entrance = Entrance(self._dht, self._settings, self._clock)
        self._nodes = Nodes(self._dht, connections, entrance.seek, self._clock, self._entropy)
        self._faults = Faults(state / "faults.json", self._notice)
        self._stack.callback(self._faults.save)
        self._manifests = Manifests(self._nodes, self._faults)
        self._holdings = Holdings(state / "holdings", self._nodes, self._identity)
        self._catalogue = Catalogue(
            state / "catalogue", self._keys, self._nodes, self._clock, self._entropy
        )
        self._gets = Gets(
            self._nodes, self._manifests, self._faults, self._clock, self._kernel, self._progress
        )
        self._loaded = False
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections and let the lock go."""
        await self._stack.aclose()

    def _waiting(self, pid: int) -> None:
        self._notice(f"waiting for another dsn command on this home (process {pid})")

    async def _load_catalogue(self) -> Catalogue:
        if not self._loaded:
            await self._catalogue.load(self._gets.read_bytes)
            self._loaded = True
        return self._catalogue

    # put

    @asynccontextmanager
    async def puts(self, scheme: Scheme | None = None) -> AsyncIterator[Puts]:
        """A put session: many files over one set of streams; success counts once it closes."""
        catalogue = await self._load_catalogue()
        session = PutSession(
            self._nodes,
            self._holdings,
            clock=self._clock,
            entropy=self._entropy,
            kernel=self._kernel,
            notice=self._notice,
            progress=self._progress,
        )
        async with session:
            puts = Puts(
                session,
                catalogue,
                self._manifests,
                self._holdings,
                self._faults,
                clock=self._clock,
                entropy=self._entropy,
                folder=self._home.state,
                scheme=scheme,
            )
            async with puts:
                yield puts

    async def put(self, items: Sequence[PutItem], *, scheme: Scheme | None) -> list[PutResult]:
        """Store files and directories; all of them are safe when this returns.

        Raises:
            UsageError: ``name_taken``, ``bad_scheme``, a directory without ``recursive``.
            NoSpace: The nodes have no room.
            Unreachable: Too few nodes are left.
        """
        async with self.puts(scheme) as puts:
            for item in items:
                puts.catalogue.check_free(item.name)
            for item in items:
                if item.path is not None and item.path.is_dir():
                    if not item.recursive:
                        raise UsageError(
                            f"{item.path} is a directory",
                            code="is_directory",
                            hint="add -r to store all it holds",
                        )
                    await store_directory(puts, item.path, item.name, self._notice)
                else:
                    await puts.put_path(item.path, item.name)
            return await puts.results()

    # get

    async def get(
        self,
        target: str,
        out: OutputSpec,
        *,
        range_: tuple[int, int] | None = None,
        force: bool = False,
        digest: bool = True,
    ) -> GetResult:
        """Read a file or directory back.

        Args:
            target: A link or a name.
            out: Where to; ``None`` is standard output.
            range_: Bytes ``[start, end)`` only.
            force: Replace what is there.
            digest: Compute the SHA-256 of what was written.

        Raises:
            NotEnoughShards: Of some segment.
            UsageError: ``output_exists``, ``bad_range``, ``bad_capability``.
        """
        manifest = await self._manifest(await self._resolve(target))
        return await self._gets.get(manifest, out, range_=range_, force=force, digest=digest)

    # look

    async def ls(self) -> list[ListedFile]:
        """All names, sorted, each with its last seen state."""
        catalogue = await self._load_catalogue()
        return [
            ListedFile(
                entry.name,
                entry.size,
                self._faults.state(entry.file_id),
                entry.kind.name.lower(),
                str(entry.scheme),
                entry.added_us // 1_000_000,
            )
            for entry in catalogue.entries.values()
        ]

    async def info(self, target: str) -> FileInfo:
        """What a file is and who holds it."""
        meant = await self._resolve(target)
        manifest = await self._manifest(meant)
        core, readable = manifest.core, meant.keys.kind in (Kind.OWNER, Kind.READ)
        private = core.open_private(meant.keys.content_key) if readable else None
        holders = tuple(
            Holder(
                format_node_id(node),
                self._nodes.address(node),
                len(shards),
                sum(shards.values()),
                None if node not in self._nodes.late else False,
            )
            for node, shards in sorted(manifest.shards().items())
        )
        return FileInfo(
            meant.name or (private.name if private else None),
            format_base32(meant.file_id),
            private.kind.name.lower() if private else None,
            core.size,
            str(core.scheme),
            len(core.segments),
            private.media_type if private else None,
            private.mtime_us // 1_000_000 if private else None,
            manifest.sequence,
            holders,
            self._faults.state(meant.file_id),
        )

    async def check(self, target: str, *, deep: bool = False) -> CheckResult:
        """Whether a file is still there; any link is enough to sample."""
        manifest = await self._manifest(await self._resolve(target))
        check = Check(
            manifest,
            self._nodes,
            self._faults,
            clock=self._clock,
            entropy=self._entropy,
            kernel=self._kernel,
            progress=self._progress,
        )
        return await (check.deep() if deep else check.sampled())

    async def share(self, target: str, kind: str) -> ShareResult:
        """The weakest link that allows ``kind``: read, repair or verify."""
        meant, wanted = await self._resolve(target), Kind(kind)
        link = make_capability(meant.keys, wanted, meant.file_id)
        return ShareResult(kind, format_capability(link), ALLOWS[wanted])

    # the network

    async def peers(self) -> list[dict[str, Any]]:
        """The nodes that let this client in, and those that they name."""
        await self._nodes.discover(CANDIDATES)
        return peers_of(self._dht, self._clock.now_s())

    async def trace(self, keys: Sequence[bytes], *, paths: int) -> list[dict[str, Any]]:
        """Search for each key, and tell every step."""
        return [await trace(self._dht, key, self._clock, paths=paths) for key in keys]

    # change

    async def rm(self, names: Sequence[str]) -> list[RemoveResult]:
        """Take names out of the catalogue and free what they stored."""
        catalogue = await self._load_catalogue()
        entries = [catalogue.get(name) for name in names]
        results = []
        async with self.puts() as puts:
            for entry in entries:
                shards = await puts.free(entry.file_id, entry.keys(), self._gets.read_manifest)
                results.append((entry.name, shards))
            await puts.change(removed([entry.name for entry in entries]))
            await puts.results()
        told = set(self._holdings.changed)
        return [
            RemoveResult(
                name,
                sum(sum(each.values()) for each in shards.values()),
                tuple(sorted(format_node_id(node) for node in shards if node in told)),
            )
            for name, shards in results
        ]

    async def recover(self) -> RecoverResult:
        """Bring all names back from the network by the keys alone."""
        catalogue = await self._load_catalogue()
        entries = catalogue.entries.values()
        node = format_node_id(NodeId(node_id_of(self._identity.public)))
        return RecoverResult(node, len(entries), sum(entry.size for entry in entries))

    # targets

    async def _resolve(self, target: str) -> Target:
        if is_capability(target):
            link = parse_capability(target)
            return Target(None, link.file_id, link.keys())
        entry = (await self._load_catalogue()).get(target)
        return Target(entry.name, entry.file_id, entry.keys())

    async def _manifest(self, target: Target) -> Manifest:
        return await self._manifests.fetch(target.file_id, target.keys)
