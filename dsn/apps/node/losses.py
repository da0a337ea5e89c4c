"""Honest loss: shards that are gone are declared, proven out of the holdings, and paid for.

A node that cannot open a leaf is silent, and too many silent epochs cost it the deal. So whatever
nobody gave back in time is declared: it costs the repair, out of collateral, and no more.

Spec: docs/spec/economy.md#losses
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Protocol

import structlog

from dsn.apps.ledger.light import Snapshot
from dsn.apps.node.scrub import Scrub
from dsn.apps.node.terms import Sender
from dsn.errors import DsnError, EntryRefused, NotFound, ShardCorrupt
from dsn.ids import Commit, DealId
from dsn.ledger.bodies import Loss
from dsn.ledger.cells import DealCell, DealState
from dsn.ledger.money import repair_cost
from dsn.ledger.params import LedgerParams
from dsn.ledger.rules.settling import Parties, roll, settle
from dsn.ports import Clock, ShardStore
from dsn.proofs.deletion import build_deletion_proof
from dsn.proofs.inventory import SumTree
from dsn.units import KIB

GiveUp = Callable[[DealId, Sequence[Commit]], Awaitable[int]]
"""Notes durably that these shards of a deal are being declared lost; gives the number to do it
under, above all that was countersigned or given before."""
LOST_EPOCHS: Final = 2
"""How long a shard that is gone may be stored again before it is declared."""
ROTTEN_EPOCHS: Final = 24
"""How long a shard that is partly there may be mended."""
BRINK_EPOCHS: Final = 2
"""With no more than these left to miss under a deal, all of it is declared when something is bad:
that costs the repair, and one more rotten epoch would cost the deal."""
MOST_PROOF_BYTES: Final = 30 * KIB
"""In one entry, which may have 32 KiB."""
MOST_SHARDS: Final = 1_024
"""Declared at a time under one deal; the rest comes next."""
_log = structlog.get_logger("losses")


class Holder(Protocol):
    """What is held, as the ledger has it installed; ``Inventories`` is one."""

    async def see(self) -> Snapshot:
        """The ledger now; what it installed meanwhile is taken over."""
        ...

    async def holdings(self, deal: DealId, number: int) -> SumTree:
        """What ``deal`` held as of revision ``number``."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What is lost under one deal.

    Attributes:
        cell: The deal as the ledger has it.
        held: Its installed holdings.
        shards: Leaves of each lost shard, by commit.
    """

    cell: DealCell
    held: SumTree
    shards: Mapping[Commit, int]

    @property
    def leaves(self) -> int:
        """How many are lost."""
        return sum(self.shards.values())

    @property
    def cost(self) -> int:
        """Base units that go from collateral to the client; whole if collateral reaches."""
        cost = repair_cost(self.cell.terms.repair_price, self.leaves)
        return min(self.cell.collateral, cost)

    @property
    def blocked(self) -> str:
        """Why the ledger would not take it now; empty if it would."""
        if self.cell.state is not DealState.OPEN:
            return "deal_not_open"
        return "demand_pending" if self.cell.demand is not None else ""

    def fields(self) -> dict[str, Any]:
        """For people and programs; amounts as decimal strings."""
        return {
            "deal": self.cell.deal.hex(),
            "shards": [commit.hex() for commit in self.shards],
            "leaves": self.leaves,
            "cost": str(self.cost),
            "blocked": self.blocked,
        }


class _Pressed(NamedTuple):
    """Whether half of what some deal allows was missed, and the deals that have no more to miss."""

    half: bool
    over: Collection[DealId]


class Losses:
    """Declares what one node lost; one declaration at a time."""

    def __init__(
        self,
        holder: Holder,
        scrub: Scrub,
        store: ShardStore,
        account: Sender,
        give_up: GiveUp,
        params: LedgerParams,
        clock: Clock,
    ) -> None:
        """Declare out of ``holder`` what ``scrub`` finds bad.

        Args:
            holder: What is held.
            scrub: What of it is bad, and since when.
            store: Where it was.
            account: Enters the losses.
            give_up: Gives their numbers.
            params: The ledger's.
            clock: This machine's.
        """
        self._holder, self._scrub, self._store = holder, scrub, store
        self._account, self._give_up, self._params = account, give_up, params
        self._clock = clock
        self._busy = asyncio.Lock()

    async def turn(self) -> Sequence[Plan]:
        """Declare what nobody gave back in time; gives what the ledger took.

        Raises:
            DsnError: The ledger cannot be reached.
        """
        bad = self._scrub.bad
        if not bad:
            return []
        async with self._busy:
            snapshot, lost = await self._holder.see(), set(await self._store.lost())
            pressed = self._pressed(snapshot)
            plans = list[Plan]()
            for plan in await self._plans(snapshot, bad, pressed.over):
                due = plan.shards
                if plan.cell.deal not in pressed.over:
                    due = self._due(plan, bad, lost, at_once=pressed.half)
                still = {c: n for c, n in due.items() if c not in bad or await self._is_bad(c)}
                if still and not plan.blocked:
                    plans.append(replace(plan, shards=still))
            return await self._declare(plans)

    async def plan(self, commits: Collection[Commit] = ()) -> Sequence[Plan]:
        """What declaring ``commits``, or all that is lost, would do.

        Raises:
            DsnError: The ledger cannot be reached.
        """
        return await self._plans(await self._holder.see(), commits or await self._store.lost())

    async def declare(self, commits: Collection[Commit] = ()) -> Sequence[Plan]:
        """Declare ``commits``, or all that is lost, wherever it is held; what the ledger took.

        Raises:
            EntryRefused: The ledger took none of it.
            DsnError: It cannot be reached.
        """
        async with self._busy:
            plans = [plan for plan in await self.plan(commits) if not plan.blocked]
            return await self._declare(plans)

    async def answer(self, words: Sequence[str]) -> dict[str, Any]:
        """What ``dsn provider declare-loss`` asks: ``plan`` or ``enter``, then commits in hex."""
        what, *names = words
        commits = [Commit(bytes.fromhex(name)) for name in names]
        try:
            plans = await (self.plan(commits) if what == "plan" else self.declare(commits))
        except DsnError as error:
            return {"error": error.detail_code, "message": error.message, "hint": error.hint}
        return {"losses": [plan.fields() for plan in plans]}

    async def _plans(
        self, snapshot: Snapshot, commits: Collection[Commit], whole: Collection[DealId] = ()
    ) -> list[Plan]:
        """What of ``commits``, and of the deals ``whole``, is installed; a plan a deal."""
        named, plans = set(commits), list[Plan]()
        for cell in self._own(snapshot) if named else ():
            try:
                held = await self._holder.holdings(cell.deal, cell.number)
            except NotFound as error:  # other deals are not to suffer for it
                _log.error("holdings", deal=cell.deal.hex(), code=error.detail_code)
                continue
            found = {
                Commit(key): leaves for key, leaves in held if key in named or cell.deal in whole
            }
            if found:
                plans.append(Plan(cell, held, found))
        return plans

    def _own(self, snapshot: Snapshot) -> list[DealCell]:
        """Deals under which this node holds something."""
        mine, cells = self._account.address, snapshot.deals.values()
        return [cell for cell in cells if cell.shards and cell.terms.provider == mine]

    def _pressed(self, snapshot: Snapshot) -> _Pressed:
        """Where epochs were missed: one link answers for all deals, so rot in one costs all."""
        half, over = False, set[DealId]()
        for cell in self._own(snapshot):
            count, limit = missed(cell, snapshot, self._params.burn_ppm), cell.terms.miss_limit
            half |= 2 * count >= limit
            if count >= limit - BRINK_EPOCHS:
                over.add(cell.deal)
        return _Pressed(half, over)

    def _due(
        self, plan: Plan, bad: Mapping[Commit, int], lost: Collection[Commit], *, at_once: bool
    ) -> dict[Commit, int]:
        """The shards of ``plan`` that have been bad for too long, with their leaves."""
        now_s, due = self._clock.now_s(), dict[Commit, int]()
        for commit, leaves in plan.shards.items():
            most = LOST_EPOCHS if commit in lost else ROTTEN_EPOCHS
            epochs = min(most, plan.cell.terms.miss_limit // 2)
            if at_once or now_s - bad[commit] >= epochs * self._params.epoch_s:
                due[commit] = leaves
        return due

    async def _is_bad(self, commit: Commit) -> bool:
        """Whether a shard is not what it was, at this last look."""
        try:
            return bool(await self._scrub.look(commit))
        except ShardCorrupt:
            return True
        except NotFound:
            return False

    async def _declare(self, plans: Sequence[Plan]) -> list[Plan]:
        """Enter the losses of ``plans``, as far as the ledger takes them."""
        taken, refusal = list[Plan](), None
        for plan in plans:
            some = replace(plan, shards=dict(list(plan.shards.items())[:MOST_SHARDS]))
            parcels = await asyncio.to_thread(proofs_of, some.held, list(some.shards))
            bodies = [
                Loss(some.cell.deal, await self._give_up(some.cell.deal, commits), proofs)
                for commits, proofs in parcels
            ]
            gone = dict[Commit, int]()
            outcomes = await self._account.enter(bodies)
            for (commits, _), outcome in zip(parcels, outcomes, strict=True):
                if isinstance(outcome, EntryRefused):
                    refusal = outcome
                    break
                gone |= {commit: some.shards[commit] for commit in commits}
                for commit in commits:
                    self._scrub.suspect(commit)  # it is gone for good unless others claim it
            if gone:
                taken.append(replace(some, shards=gone))
                _log.warning("declared lost", **taken[-1].fields())
        if taken:
            await self._holder.see()
        elif refusal is not None:
            raise refusal
        return taken


def proofs_of(
    held: SumTree, commits: Sequence[Commit]
) -> list[tuple[tuple[Commit, ...], tuple[bytes, ...]]]:
    """Deletion proofs of ``commits``, each against what the one before left, an entry a parcel.

    Raises:
        NotFound: ``unknown_shard``: one is not held.

    Cost: O(entries) a shard.
    """
    parcels = list[tuple[tuple[Commit, ...], tuple[bytes, ...]]]()
    some, size = dict[Commit, bytes](), 0
    for commit in commits:
        proof = build_deletion_proof(held, commit)
        if some and size + len(proof) + 4 > MOST_PROOF_BYTES:
            parcels.append((tuple(some), tuple(some.values())))
            some, size = dict[Commit, bytes](), 0
        some[commit], size, held = proof, size + len(proof) + 4, held.remove(commit)
    return [*parcels, (tuple(some), tuple(some.values()))] if some else parcels


def missed(cell: DealCell, snapshot: Snapshot, burn_ppm: int) -> int:
    """Epochs missed under a deal by now, though not all may be settled yet."""
    epoch = snapshot.network.epoch
    parties = Parties(cell, roll(snapshot.account, epoch))
    return settle(parties, epoch, burn_ppm).deal.missed
