"""One file repaired: leaves given back, lost shards made again, and a manifest that says so.

Two repairers at once do no harm: they choose alike (``machines.repair``), each unites its
placement with what the other published before it publishes, and looks again after that.

Spec: docs/spec/data.md#repair.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from dsn.apps.checks import judge
from dsn.apps.client_parts import Parts, Setting
from dsn.apps.manifests import Manifest
from dsn.apps.pointers import Pointers
from dsn.apps.repair_cost import repair_cost
from dsn.apps.repair_leaves import Leaves
from dsn.apps.repair_log import RepairLog
from dsn.apps.repair_look import Damage, Held, look, silent_lines
from dsn.apps.repair_manifest import copies_wanted, seal_repaired
from dsn.apps.repair_shards import ShardRepair
from dsn.apps.repair_store import RepairStore
from dsn.apps.results import FileState, RepairResult, SegmentHealth
from dsn.core.keys import FileKeys, Kind, SigningKey
from dsn.dht.record import next_sequence
from dsn.errors import DsnError, NotFound, Unreachable
from dsn.ids import Commit, FileId, NodeId
from dsn.machines.placement import Candidate
from dsn.machines.repair import Repair, same_places
from dsn.machines.upload import Row

ROUNDS: Final = 8
"""How often a repair starts over because a node failed it at the end, or another one published."""


class FileRepair:
    """Repairs one file."""

    def __init__(self, file_id: FileId, keys: FileKeys, parts: Parts, setting: Setting) -> None:
        """Work with ``parts`` for the home of ``setting``.

        Raises:
            UsageError: ``bad_capability``: ``keys`` cannot place shards.
        """
        self._file_id, self._keys = file_id, keys
        self._sign = SigningKey(keys.place_seed).sign
        self._parts, self._setting = parts, setting
        self._log = RepairLog(setting.home.state, file_id, setting.clock)
        self._candidates: list[Candidate] = []
        self._damage, self._leaves = Damage(), 0

    async def repair(self, *, dry_run: bool) -> RepairResult:
        """Bring the file back to ``total`` shards a segment, as far as there are nodes for it.

        Args:
            dry_run: Only say what would be done.

        Raises:
            NotFound: No node knows the file; ``removed``: what this home held of it is let go.
            NotEnoughShards: Of some segment; nothing was changed.
            LimitReached: ``over_budget``, ``not_enough_credit``.
            Unreachable: No copy of the manifest can be had; ``not_published``.
        """
        began_s = self._setting.clock.monotonic_s()
        before = await self._manifest()
        repair = await self._examine(before, dry_run=dry_run)
        result = await (self._plan if dry_run else self._work)(before, repair)
        seconds = self._setting.clock.monotonic_s() - began_s
        return replace(result, seconds=seconds, silent=silent_lines(self._damage))

    async def _manifest(self) -> Manifest:
        try:
            return await self._parts.manifests.fetch(self._file_id, self._keys)
        except NotFound as error:
            if error.detail_code == "removed":
                await self._let_go()
            raise

    async def _let_go(self) -> None:
        """The file is no more: neither is what this home stored of it."""
        holdings = self._parts.holdings
        for kept in self._log.kept:
            holdings.drop(kept.node, [kept.commit])
        for node in holdings.changed:
            with suppress(DsnError):  # told at the next change
                await holdings.revise(node)
        holdings.save_drops()
        self._log.keep_only(())

    async def _examine(self, manifest: Manifest, *, dry_run: bool) -> Repair:
        """See what is lost, and have leaves that rotted returned."""
        self._damage = damage = await look(manifest, self._parts, self._setting)
        self._leaves = sum(map(len, damage.rotten.values()))
        if not dry_run:
            self._leaves = await Leaves(manifest, self._parts).give_back(damage)
        core = manifest.core
        lengths = [core.layout.segment(n).shard_bytes for n in range(len(core.segments))]
        repair = Repair(manifest.file_id, manifest.placement, core.scheme, lengths)
        for node in damage.silent:
            repair.lose_node(node)
        for shard in damage.bad:
            repair.lose_shard(*shard)
        repair.check()
        return repair

    async def _offer(self, manifest: Manifest, repair: Repair) -> None:
        """Find nodes that may take shards over."""
        self._candidates = await self._parts.nodes.survey()
        self._learn_groups(manifest, repair)
        repair.offer(self._candidates)

    def _learn_groups(self, manifest: Manifest, repair: Repair) -> None:
        nodes, groups = self._parts.nodes, {}
        for node in manifest.placement.nodes:
            with suppress(Unreachable):
                groups[node] = nodes.group(nodes.contact(node))
        repair.learn_groups(groups)

    # only say

    async def _plan(self, manifest: Manifest, repair: Repair) -> RepairResult:
        """What ``_work`` would do, and what that costs."""
        rows: list[Row] = []
        if repair.broken():
            await self._offer(manifest, repair)
            rows = repair.plan()
        stored: dict[NodeId, list[int]] = {}
        read: dict[NodeId, int] = {}
        for row in rows:
            stored.setdefault(row.node, []).append(row.length)
        for segment, length in {row.segment: row.length for row in rows}.items():
            for index in repair.good(segment)[: repair.scheme.required]:
                node = repair.holder(segment, index)
                assert node is not None
                read[node] = read.get(node, 0) + length
        moment = await self._parts.deals.moment()
        days, price = self._parts.deals.days, None
        if moment is not None:
            copies = self._holders(manifest, repair) if rows else []
            price = repair_cost(stored, copies, read, self._parts.nodes, days, moment)
        least = FileState.DEGRADED if self._damage.rotten else FileState.HEALTHY
        return RepairResult(
            len(rows),
            _moved(manifest, rows),
            max(least, self._state(manifest, repair), key=list(FileState).index),
            self._leaves,
            sum(row.length for row in rows),
            0.0,
            cost=None if price is None else price.cost,
            locked=None if price is None else price.locked,
        )

    # do

    async def _work(self, before: Manifest, repair: Repair) -> RepairResult:
        if not (repair.broken() or self._bad_copies(before) or self._log.kept):
            return self._result(before, before, repair, 0)
        await self._offer(before, repair)
        store = RepairStore(repair, self._candidates, self._log, self._parts, self._setting)
        async with store:
            store.resume()
            after = await self._rounds(before, store)
            await self._clean(before, after, store)
        return self._result(before, after, repair, store.sent_bytes)

    async def _rounds(self, before: Manifest, store: RepairStore) -> Manifest:
        """Rebuild, and publish until everybody agrees; the manifest that they agree on."""
        manifest, repair, published = before, store.repair, False
        for _ in range(ROUNDS):
            repair.plan()
            holders = self._holders(manifest, repair, store.failed)
            await ShardRepair(manifest, store, self._parts, self._setting.progress).rebuild(holders)
            newest = await self._manifest()
            if newest.sequence > manifest.sequence:
                self._learn_groups(newest, repair)
                repair.merge(newest.placement)
                manifest = replace(newest, placement=repair.base)
                continue
            changed = not same_places(newest.placement, repair.placement())
            if not changed and (published or not self._bad_copies(newest)):
                return newest
            holders = self._holders(manifest, repair, store.failed)
            published = await self._publish(manifest, holders, store)
        raise Unreachable(
            "the repaired file could not be published: nodes fail, or others keep repairing it",
            code="not_published",
            hint="repair it again in a while; what was stored is kept for that",
        )

    async def _publish(
        self, manifest: Manifest, holders: Sequence[NodeId], store: RepairStore
    ) -> bool:
        """Store copies that say where everything is, and point to them; whether that went well."""
        if not holders:
            raise Unreachable("no node is left to hold the manifest", hint="try again")
        now_s = self._setting.clock.now_s()
        sealed = seal_repaired(
            manifest,
            store.repair.placement(),
            holders,
            self._sign,
            next_sequence(manifest.sequence, int(now_s * 1e6)),
            self._good_copy,
            self._parts.nodes.network.network_id,
            now_s,
            self._setting.entropy,
        )
        done = await store.store_copies(sealed.copies)
        if not await store.settle() or len(done) < len(holders):
            commits = {commit for boxes in sealed.copies.values() for _, commit in boxes}
            store.drop(kept for kept in self._log.kept if kept.commit in commits)
            return False
        pointers = Pointers(self._parts.nodes)
        await pointers.hold(sealed.pointer, done)
        await pointers.flush()
        return True

    def _holders(
        self, manifest: Manifest, repair: Repair, failed: Collection[NodeId] = ()
    ) -> list[NodeId]:
        """Who is to hold the manifest: nodes that hold shards or had a copy, then any other."""
        placement = repair.placement()
        used = {placement.nodes[p.node] for row in placement.rows for p in row if p.held}
        used |= {copy.node for copy in manifest.copies}
        suspects = {shard.node for shard in self._damage.bad}
        used |= {row.node for row in repair.planned}
        ranked = [each.node for each in repair.ranked if each.node not in failed]
        ranked.sort(key=lambda node: (node in suspects, node not in used))
        return ranked[: copies_wanted(manifest)]

    def _good_copy(self, node: NodeId, commit: Commit) -> bool:
        return node not in self._damage.silent and Held(node, commit) not in self._damage.bad

    def _bad_copies(self, manifest: Manifest) -> bool:
        """Whether the manifest has fewer good copies than it should have."""
        return any(
            not self._good_copy(copy.node, commit)
            for copy in manifest.copies
            for commit, _ in copy.shards
        )

    async def _clean(self, before: Manifest, after: Manifest, store: RepairStore) -> None:
        """Let go of what this home holds of the file and the manifest names no more."""
        named = {Held(node, commit) for node, held in after.shards().items() for commit in held}
        old = [kept for kept in self._log.kept if Held(kept.node, kept.commit) not in named]
        store.drop(old)
        for node, held in before.shards().items():
            gone = [commit for commit in held if Held(node, commit) not in named]
            for commit in gone:
                self._parts.faults.clear(commit)
            if gone and self._keys.kind is Kind.OWNER:
                self._parts.holdings.drop(node, gone)
        await store.revise_all()
        self._log.keep_only(kept for kept in self._log.kept if kept not in old)

    def _result(
        self, before: Manifest, after: Manifest, repair: Repair, sent_bytes: int
    ) -> RepairResult:
        mine = {(kept.node, kept.commit) for kept in self._log.kept}
        rows = []
        for segment, places in enumerate(after.placement.rows):
            for index, place in enumerate(places):
                node = after.placement.holder(segment, index)
                new = place != before.placement.rows[segment][index]
                if node is not None and new and (node, place.commit) in mine:
                    rows.append(Row(segment, index, node, place.generation, place.commit))
        state = self._state(after, repair)
        self._parts.faults.set_state(self._file_id, state)
        stored: dict[NodeId, list[int]] = {}
        for row in rows:
            stored.setdefault(row.node, []).append(repair.lengths[row.segment])
        deals = self._parts.deals
        return RepairResult(
            len(rows),
            _moved(before, rows),
            state,
            self._leaves,
            sent_bytes,
            0.0,
            cost=deals.cost(stored) if deals.paid else None,
            locked=deals.spent if deals.paid else None,
        )

    def _state(self, manifest: Manifest, repair: Repair) -> FileState:
        scheme = repair.scheme
        worst = min((repair.held(n) for n in range(len(repair.lengths))), default=scheme.total)
        state = judge(SegmentHealth(worst, scheme.required, scheme.total), 0, scheme)
        whole = state is not FileState.HEALTHY or not self._bad_copies(manifest)
        return state if whole else FileState.DEGRADED


def _moved(before: Manifest, rows: Sequence[Row]) -> int:
    """How many of ``rows`` are on another node than their shards were."""
    return sum(before.placement.holder(row.segment, row.index) != row.node for row in rows)
