"""The client: stores, reads, checks and removes files on the nodes of its network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dsn.apps.auditing import audit
from dsn.apps.checks import Check
from dsn.apps.client_parts import Setting, connected
from dsn.apps.confirming import confirmed
from dsn.apps.listing import check_not_expired, described, freed, listed, renewal_due, renewed_rows
from dsn.apps.manifests import Manifest
from dsn.apps.names import Catalogue, removed
from dsn.apps.nodes import CANDIDATES
from dsn.apps.puts import Puts
from dsn.apps.quotes import Quote, quote
from dsn.apps.recovery import recover
from dsn.apps.renewals import Renewals
from dsn.apps.repairs import repair_all
from dsn.apps.results import (
    AuditResult,
    CheckResult,
    FileInfo,
    GetResult,
    ListedFile,
    NoticeSink,
    ProgressSink,
    PutResult,
    RecoverResult,
    RemoveResult,
    RenewResult,
    RepairResult,
    ShareResult,
)
from dsn.apps.sharing import share
from dsn.apps.targets import PutItem, Target, resolve, store_items
from dsn.apps.trace import peers_of, trace
from dsn.apps.uploads import PutSession
from dsn.config import ClientSettings, DhtSettings
from dsn.core.keys import Kind
from dsn.core.layout import Scheme, default_scheme
from dsn.dht.contact import Contact
from dsn.errors import DsnError, NotEnoughShards, NotFound, Unreachable
from dsn.ledger.settlement import Address
from dsn.rpc.verifier import VerifierPeer
from dsn.runtime.clock import SystemClock
from dsn.runtime.entropy import system_entropy
from dsn.runtime.process import tune_allocator
from dsn.store.home import Home

FINDING = DhtSettings()
"""How nodes are found where nothing is set."""
STORING = ClientSettings()
"""How files are stored where nothing is set."""
OutputSpec = Path | None
"""Where a get writes; ``None`` is standard output."""


class Client:
    """One person's files on one network; use it as an asynchronous context."""

    def __init__(self, setting: Setting) -> None:
        """Use ``open``."""
        self._setting, self._home, self._notice = setting, setting.home, setting.notice
        self._clock, self._entropy = setting.clock, setting.entropy
        self._progress = setting.progress
        self._stack = AsyncExitStack()
        self._loaded = False

    @classmethod
    def open(
        cls,
        home: Home,
        *,
        notice: NoticeSink,
        progress: ProgressSink,
        passphrase: bytes | None = None,
        dht: DhtSettings = FINDING,
        storing: ClientSettings = STORING,
    ) -> Client:
        """A client of ``home``; the context takes the home's lock.

        Raises:
            ConfigError: No keys, keys that others can read, or no network.
        """
        root = home.load_root(passphrase)
        home.network()
        clock, entropy = SystemClock(), system_entropy
        return cls(Setting(home, root, dht, storing, notice, progress, clock, entropy))

    async def __aenter__(self) -> Self:
        """Take the home's lock, waiting in turn, and connect."""
        tune_allocator()
        await self._stack.enter_async_context(self._home.lock(self._waiting))
        parts = await self._stack.enter_async_context(connected(self._setting))
        self._parts = parts
        self._dht, self._nodes, self._faults = parts.dht, parts.nodes, parts.faults
        self._deals, self._manifests, self._gets = parts.deals, parts.manifests, parts.gets
        self._holdings, self._catalogue = parts.holdings, parts.catalogue
        self._kernel, self._identity = parts.kernel, parts.identity
        self._connections = parts.connections
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Pay what is owed, close all connections and let the lock go."""
        try:
            if error is None or isinstance(error, DsnError):
                await self._deals.settle()
        finally:
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
    async def puts(
        self,
        scheme: Scheme | None = None,
        *,
        days: float | None = None,
        budget: int | None = None,
        renew: bool = False,
    ) -> AsyncIterator[Puts]:
        """A put session: many files over one set of streams; success counts once it closes.

        Args:
            scheme: Of the files; what the network's size asks for if it is left out.
            days: How long what is stored is paid for, if not as set.
            budget: The most base units that may be locked or spent, if not as set; 0: no bound.
            renew: Whether later puts keep these files from expiring.
        """
        self._limit(days, budget)
        catalogue = await self._load_catalogue()
        session = PutSession(
            self._nodes,
            self._holdings,
            deals=self._deals,
            clock=self._clock,
            entropy=self._entropy,
            kernel=self._kernel,
            notice=self._notice,
            progress=self._progress,
            needed=scheme.total if scheme else 1,
        )
        async with session:
            puts = Puts(
                session,
                catalogue,
                self._manifests,
                self._holdings,
                self._faults,
                deals=self._deals,
                renew=renew,
                clock=self._clock,
                entropy=self._entropy,
                folder=self._home.state,
                scheme=scheme,
            )
            async with puts:
                yield puts
        await self._deals.quit_unused(self._holdings.changed)

    def _limit(self, days: float | None, budget: int | None) -> None:
        if days is not None:
            self._deals.days = days
        if budget is not None:
            self._deals.set_budget(budget)

    async def put(
        self,
        items: Sequence[PutItem],
        *,
        scheme: Scheme | None,
        days: float | None = None,
        budget: int | None = None,
        renew: bool = False,
        confirm_by: Contact | None = None,
    ) -> list[PutResult]:
        """Store files and directories; all of them are safe when this returns.

        See ``puts`` for how long, and for how much. The verifier ``confirm_by`` is asked whether
        it finds every holder; what it says stands in the results.

        Raises:
            UsageError: ``name_taken``, ``bad_scheme``, a directory without ``recursive``.
            NoSpace: The nodes have no room.
            LimitReached: ``over_budget``, ``not_enough_credit``.
            Unreachable: Too few nodes are left; ``ledger_unreachable``.
        """
        async with self.puts(scheme, days=days, budget=budget, renew=renew) as puts:
            await store_items(puts, items, self._notice)
            results = await puts.results()
        if confirm_by is None:
            return results
        verifier = VerifierPeer(self._connections.line(confirm_by))
        return await confirmed(results, puts.stored, verifier, self._nodes.network.network_id)

    async def quote(self, size: int, *, scheme: Scheme | None, days: float | None = None) -> Quote:
        """What storing ``size`` bytes would cost, and how likely they would be lost.

        Raises:
            UsageError: ``bad_scheme``.
            Unreachable: No node answers; ``ledger_unreachable``.
        """
        candidates = await self._nodes.survey()
        chosen = scheme or default_scheme(len({each.group for each in candidates}))
        terms = [self._nodes.terms[each.node].terms for each in candidates]
        moment = await self._deals.moment()
        return quote(size, chosen, days or self._deals.days, candidates, terms, moment)

    async def renew(
        self, targets: Sequence[str] | None, *, days: float | None, budget: int | None
    ) -> list[RenewResult]:
        """Have files last ``days`` from now; ``None`` means all that have a name.

        Raises:
            LimitReached: ``over_budget``, ``not_enough_credit``, ``term_too_long``.
            Unreachable: ``ledger_unreachable``.
        """
        self._limit(days, budget)
        catalogue = await self._load_catalogue()
        names = list(catalogue.entries) if targets is None else targets
        meant = [await self._resolve(name) for name in names]
        results = await Renewals(self._deals, self._manifests, self._gets).renew(meant)
        rows = renewed_rows(catalogue.entries, results)
        if rows:
            async with self.puts(rows[0].scheme) as puts:
                await puts.change(rows)
                await puts.results()
        return results

    async def renew_due(self) -> list[RenewResult]:
        """Renew what was put to be renewed and has not long to go; raises as ``renew``."""
        entries = (await self._load_catalogue()).entries.values()
        names = renewal_due(entries, self._deals.days, self._clock.now_s())
        return await self.renew(names, days=None, budget=None) if names else []

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
            NotFound: ``file_expired``: it is no longer paid for, and gone.
            UsageError: ``output_exists``, ``bad_range``, ``bad_capability``.
        """
        meant = await self._resolve(target)
        try:
            manifest = await self._manifest(meant)
            return await self._gets.get(manifest, out, range_=range_, force=force, digest=digest)
        except (NotEnoughShards, NotFound, Unreachable) as error:
            check_not_expired(meant.name, meant.paid, self._clock.now_s(), error)
            raise

    # look

    async def ls(self) -> list[ListedFile]:
        """All names, sorted, each with its last seen state."""
        catalogue = await self._load_catalogue()
        return [
            listed(entry, self._faults.state(entry.file_id)) for entry in catalogue.entries.values()
        ]

    async def info(self, target: str) -> FileInfo:
        """What a file is and who holds it."""
        meant = await self._resolve(target)
        manifest = await self._manifest(meant)
        return described(
            manifest, meant.name, meant.paid, self._nodes, self._faults.state(meant.file_id)
        )

    async def check(self, target: str, *, deep: bool = False) -> CheckResult:
        """Whether a file is still there; any link is enough to sample."""
        manifest = await self._manifest(await self._resolve(target))
        check = Check(
            manifest,
            self._nodes,
            self._faults,
            deals=self._deals,
            clock=self._clock,
            entropy=self._entropy,
            kernel=self._kernel,
            progress=self._progress,
        )
        return await (check.deep() if deep else check.sampled())

    async def audit(self, target: str, *, leaves: int) -> AuditResult:
        """Have every holder prove a file now; a verify link is enough.

        Args:
            target: A link or a name.
            leaves: Asked for in all.
        """
        began_s = self._clock.monotonic_s()
        return await audit(
            await self._manifest(await self._resolve(target)),
            self._nodes,
            self._faults,
            leaves=leaves,
            identity=self._identity,
            clock=self._clock,
            entropy=self._entropy,
            progress=self._progress,
            meter=self._connections.meter,
            began_s=began_s,
        )

    async def repair(
        self, target: str, *, dry_run: bool, days: float | None, budget: int | None, deals: str = ""
    ) -> RepairResult:
        """Make lost shards again, paid from an owner's ``deals`` if given; see ``FileRepair``."""
        self._limit(days, budget)
        if deals:
            await self._deals.act_for_owner(deals)
        return await repair_all(await self._resolve(target), self._parts, self._setting, dry_run)

    async def share(
        self, target: str, kind: str, to: Address | None = None, budget: int | None = None
    ) -> ShareResult:
        """The weakest link that allows ``kind``: read, repair or verify.

        Repairs by the holder of the account ``to`` are paid for, with at most ``budget``.
        """
        self._limit(None, budget)
        return await share(await self._resolve(target), Kind(kind), to, self._parts)

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
        return [freed(name, shards, told) for name, shards in results]

    async def recover(self) -> RecoverResult:
        """Bring all names and deals back from the network by the keys alone."""
        return await recover(self._parts, self._load_catalogue, self._notice)

    # targets

    async def _resolve(self, target: str) -> Target:
        return await resolve(target, self._load_catalogue)

    async def _manifest(self, target: Target) -> Manifest:
        return await self._manifests.fetch(target.file_id, target.keys)
