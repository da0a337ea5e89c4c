"""Demands: what somebody asks for under a bond is shown on the ledger, or given up there, in time.

A deal whose demand runs out is slashed, so what cannot be shown is declared lost: but only when
half of the time has gone, since a disk may come back, and a leaf may be given back.

Spec: docs/spec/economy.md#ledger-state-and-rules
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from dsn.apps.ledger.light import Snapshot
from dsn.apps.node.losses import GiveUp
from dsn.apps.node.openings import Asked, Opener
from dsn.apps.node.proving import Holder
from dsn.apps.node.terms import Sender
from dsn.errors import DataLost, DsnError, EntryRefused, NotFound
from dsn.ids import Commit, DealId
from dsn.ledger.cells import DealCell, Pending
from dsn.ledger.disputes import AllLost, Serve, ServedOpening, Service, ShardLost
from dsn.ledger.params import LedgerParams
from dsn.proofs.deletion import build_deletion_proof
from dsn.proofs.opening import verify_opening
from dsn.proofs.post import Link, build_answer_path
from dsn.store.answers import AnswerStore

_PATIENCE: Final = 2
"""Half of the time to serve is for hoping."""
_log = structlog.get_logger("demands")


class Demands:
    """Serves every demand on one node's deals; ``turn`` is called again and again."""

    def __init__(
        self,
        holder: Holder,
        answers: AnswerStore,
        opener: Opener,
        account: Sender,
        params: LedgerParams,
        give_up: GiveUp,
    ) -> None:
        """Serve from what is held and what was answered.

        Args:
            holder: What is held.
            answers: What was answered.
            opener: Opens leaves from disk.
            account: Enters what is served.
            params: The ledger's.
            give_up: Gives the numbers of losses.
        """
        self._holder, self._answers, self._opener = holder, answers, opener
        self._account, self._params, self._give_up = account, params, give_up
        self._served: set[tuple[DealId, bytes]] = set()

    async def turn(self, snapshot: Snapshot) -> None:
        """Serve what is demanded and was not served yet; what fails is tried again next time."""
        epoch = snapshot.network.epoch
        pending = {
            (cell.deal, cell.demand.encode()): cell
            for cell in snapshot.deals.values()
            if cell.demand is not None
            and cell.terms.provider == self._account.address
            and epoch <= cell.demand.deadline
        }
        self._served &= pending.keys()
        for key, cell in pending.items():
            if key in self._served:
                continue
            try:
                if await self._serve(cell, epoch):
                    self._served.add(key)
            except DsnError as error:
                _log.warning(
                    "not served",
                    deal=cell.deal.hex(),
                    code=error.detail_code,
                    reason=error.message,
                )

    async def _serve(self, cell: DealCell, epoch: int) -> bool:
        """Enter what is due for the demand on ``cell``; whether the ledger took it."""
        demand = cell.demand
        assert demand is not None
        service = await self._service(cell, demand)
        if service is None:
            left = demand.deadline - epoch
            _log.error("cannot serve", deal=cell.deal.hex(), epochs_left=left)
            if left * _PATIENCE >= self._params.demand_epochs:
                return False
            service = await self._loss(cell, demand)
        (outcome,) = await self._account.enter([Serve(cell.deal, service)])
        if isinstance(outcome, EntryRefused):
            raise outcome
        _log.info("served", deal=cell.deal.hex(), what=type(service).__name__)
        return True

    async def _service(self, cell: DealCell, demand: Pending) -> Service | None:
        """The opening that is demanded, if it is there."""
        if demand.link is None:
            return await self._leaf(cell, demand.index)
        return await self._drawn(demand.link, demand)

    async def _drawn(self, link: Link, demand: Pending) -> ServedOpening | None:
        """An opening of ``link`` as it was answered."""
        try:
            answer = await self._answers.get(link.epoch)
        except (NotFound, DataLost):
            return None
        if answer.link != link:
            return None
        path = build_answer_path(answer.openings, demand.place)
        return ServedOpening(answer.openings[demand.place], tuple(path))

    async def _leaf(self, cell: DealCell, index: int) -> ServedOpening | None:
        """Leaf ``index`` of the installed holdings, from disk."""
        asked = await self._located(cell, index)
        shard = await self._holder.shard(asked.commit)
        if shard is None:
            return None
        openings, lost = await self._opener.open_all([asked], {asked.commit: shard})
        if lost:
            return None
        verify_opening(openings[0], root=cell.root, total=cell.leaves, index=index, inventory=False)
        return ServedOpening(openings[0], ())

    async def _loss(self, cell: DealCell, demand: Pending) -> Service:
        """What ends the demand without the opening: an answer costs the deal, a leaf its shard."""
        if demand.link is not None:
            return AllLost(await self._give_up(cell.deal, ()))
        held = await self._holder.holdings(cell.deal, cell.number)
        commit = Commit(held.locate(demand.index).key)
        deletion = await asyncio.to_thread(build_deletion_proof, held, commit)
        return ShardLost(await self._give_up(cell.deal, [commit]), deletion)

    async def _located(self, cell: DealCell, index: int) -> Asked:
        held = await self._holder.holdings(cell.deal, cell.number)
        return Asked(held.locate(index))
