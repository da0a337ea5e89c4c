"""Having stored files last longer: the deals of whoever holds them get a later end."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

from dsn.apps.deals import Deals
from dsn.apps.gets import Gets
from dsn.apps.manifests import Manifest, Manifests
from dsn.apps.results import RenewResult
from dsn.apps.targets import Target
from dsn.core.capability import Capability
from dsn.core.directory import Listing
from dsn.core.keys import Kind
from dsn.core.manifest import FileKind
from dsn.errors import NotFound
from dsn.ids import FileId, NodeId, format_base32, format_node_id

Lengths = dict[NodeId, list[int]]


@dataclass(frozen=True, slots=True)
class _Held:
    """A file, and the lengths of all its shards in bytes by node."""

    name: str | None
    file_id: FileId
    lengths: Lengths


class Renewals:
    """Extends the deals that hold files."""

    def __init__(self, deals: Deals, manifests: Manifests, gets: Gets) -> None:
        """Extend ``deals``; ``manifests`` say who holds what, and ``gets`` what folders list."""
        self._deals, self._manifests, self._gets = deals, manifests, gets

    async def renew(self, targets: Iterable[Target]) -> list[RenewResult]:
        """Have files last as long as this client stores: one entry a deal for all of them.

        Raises:
            NotFound: ``no_deal``: none of a file's holders has a deal with this home.
            LimitReached: ``over_budget``, ``not_enough_credit``, ``term_too_long``.
            Unreachable: ``ledger_unreachable``.
        """
        fetched = [(each, await self._fetch(each)) for each in targets]
        files = [_Held(each.name, each.file_id, await self._held(m)) for each, m in fetched]
        await self._deals.moment()
        ours = {node for file in files for node in self._ours(file)}
        before = [self._deals.cost(file.lengths, moved=False) for file in files]
        refused = await self._deals.reserve(dict.fromkeys(sorted(ours), 0))
        return [self._result(file, cost, refused) for file, cost in zip(files, before, strict=True)]

    def _ours(self, file: _Held) -> list[NodeId]:
        ours = [node for node in file.lengths if self._deals.get(node) is not None]
        if not ours:
            raise NotFound(
                f"{file.name or 'the file'} is under no deal of this home",
                code="no_deal",
                hint="only whoever pays its nodes can renew it; or store it again",
            )
        return ours

    def _result(self, file: _Held, before: int, refused: Container[NodeId]) -> RenewResult:
        ours = self._ours(file)
        expires_s = self._deals.expires_s(ours)
        assert expires_s is not None
        left_out = [node for node in file.lengths if node in refused or node not in ours]
        return RenewResult(
            file.name,
            format_base32(file.file_id),
            expires_s,
            self._deals.cost(file.lengths, moved=False) - before,
            tuple(sorted(map(format_node_id, left_out))),
        )

    async def _fetch(self, target: Target) -> Manifest:
        return await self._manifests.fetch(target.file_id, target.keys)

    async def _held(self, manifest: Manifest) -> Lengths:
        """Who holds a file, or a directory with all it lists."""
        held = {node: list(shards.values()) for node, shards in manifest.shards().items()}
        if manifest.keys.kind not in (Kind.OWNER, Kind.READ):
            return held
        private = manifest.core.open_private(manifest.keys.content_key)
        if private.kind is FileKind.DIRECTORY:
            listing = Listing.decode(await self._gets.read_manifest(manifest))
            own = (item.target for item in listing.items if isinstance(item.target, Capability))
            for link in (*listing.packs, *own):
                inner = await self._manifests.fetch(link.file_id, link.keys())
                for node, lengths in (await self._held(inner)).items():
                    held.setdefault(node, []).extend(lengths)
        return held
