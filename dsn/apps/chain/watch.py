"""The watch: what a home does about its chain by itself, while its node or witness runs.

A demand is answered long before its deadline; a frozen vault is left as its windows open; a witness
freezes it when that is due, and shows a judge whatever evidence it has. All of it is looked at
again and again, so whatever fails is tried again, and a home that was away goes on where it was.

Spec: docs/spec/chain.md#watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from dsn.apps.chain.answering import Answering
from dsn.apps.chain.dispute import Asked, demand_of
from dsn.apps.chain.escape import Leaving, Left
from dsn.apps.chain.under_way import Sleep, UnderWay
from dsn.apps.chain.vault import Disputes, Vault
from dsn.chain import Chain
from dsn.errors import DsnError
from dsn.ids import DealId

POLL_S: Final = 5.0
"""Between two looks at the chain."""
AGAIN_S: Final = 600
"""Between two tries of what takes a replay, while nothing says when there is more to do."""
Ids = Callable[[], Awaitable[Sequence[DealId]]]
_WHAT: Final = "watch"
_log = structlog.get_logger("chain")


@dataclass(frozen=True, slots=True)
class _Seen:
    """Events before block ``since`` were seen; the demands on ``deals`` (hex) may still wait."""

    since: int
    deals: list[str]


class DemandWatch:
    """Answers what is demanded of one node."""

    def __init__(
        self, chain: Chain, answering: Answering, running: Ids, under_way: UnderWay
    ) -> None:
        """Watch ``chain``.

        Args:
            chain: Where demands are made.
            answering: Answers one.
            running: Gives the deals that this home provides; asked when nothing was seen before.
            under_way: Remembers what was seen.
        """
        self._chain, self._disputes = chain, Disputes(chain)
        self._answering, self._running, self._under_way = answering, running, under_way
        self._busy, self._given_up = set[DealId](), set[tuple[DealId, int]]()

    async def run(self, sleep: Sleep) -> None:
        """Answer whatever is demanded, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                with going_on("chain not seen"):
                    await self.turn(group)
                await sleep(POLL_S)

    async def turn(self, group: asyncio.TaskGroup) -> None:
        """Look for demands, and have ``group`` answer those that wait: no answer for another.

        Raises:
            Unreachable: ``chain_unreachable``.
        """
        seen = self._under_way.load(_WHAT, _Seen)
        if seen is None:
            deals, since = set(await self._running()), await self._chain.final()
        else:
            found, since = await self._disputes.demands_since(seen.since)
            mine = {DealId(each.deal) for each in found if each.provider == self._chain.account}
            deals = mine | {DealId(bytes.fromhex(each)) for each in seen.deals}
        asked = {deal: await demand_of(self._chain, deal) for deal in deals}
        waiting = [deal for deal in deals if asked[deal] or not await self._is_over(deal)]
        if seen != (now := _Seen(since, sorted(deal.hex() for deal in waiting))):
            self._under_way.save(_WHAT, now)
        for each in asked.values():
            if each is not None and each.deal not in self._busy:
                self._busy.add(each.deal)
                group.create_task(self._serve(each))

    async def _is_over(self, deal: DealId) -> bool:
        """Whether nothing is demanded of ``deal`` for good: until then an answer may be undone."""
        return await demand_of(self._chain, deal, final=True) is None

    async def _serve(self, asked: Asked) -> None:
        """Answer a demand, if there is time; if that fails the next turn tries again."""
        deal = asked.deal.hex()
        try:
            with going_on("not answered", deal=deal, deadline_s=asked.deadline_s):
                _, now_s = await self._chain.newest()
                if now_s > asked.deadline_s:
                    self._give_up(asked)
                    return
                done = await self._answering.answer(asked.deal)
                _log.info("answered", deal=deal, how=done.how, block=done.number, gas=done.gas)
        finally:
            self._busy.discard(asked.deal)

    def _give_up(self, asked: Asked) -> None:
        if (key := (asked.deal, asked.deadline_s)) not in self._given_up:
            self._given_up.add(key)
            _log.error("not answered in time", deal=asked.deal.hex(), leaf=asked.leaf)


class VaultWatch:
    """Leaves a vault that is frozen."""

    def __init__(self, chain: Chain, leaving: Leaving, *, freezes: bool) -> None:
        """Leave by ``leaving``; with ``freezes``, freeze a vault without anchors, too."""
        self._chain, self._vault, self._leaving = chain, Vault(chain), leaving
        self._freezes, self._next_s, self._frozen_s = freezes, 0, 0

    async def turn(self) -> Left | None:
        """Leave as far as that is due; nothing while nobody need.

        Raises:
            As ``Leaving.turn``.
        """
        frozen_s, (_, now_s) = await self._vault.frozen_at(), await self._chain.newest()
        if frozen_s != self._frozen_s:
            _log.error("the vault is frozen", since_s=frozen_s)
            self._frozen_s, self._next_s = frozen_s, 0
        if now_s < self._next_s or not (frozen_s or self._freezes):
            return None
        left = await self._leaving.turn(freezes=self._freezes)
        self._next_s = left.next_s or now_s + AGAIN_S
        if left.frozen_s:
            _log.info("leaving", owed=left.owed, paid=left.paid, gas=left.gas, next_s=left.next_s)
        return left


async def watch(turn: Callable[[], Awaitable[object]], what: str, sleep: Sleep) -> None:
    """Have ``turn`` taken again and again until cancelled; what fails is logged as ``what``."""
    while True:
        with going_on(what):
            await turn()
        await sleep(POLL_S)


@contextmanager
def going_on(what: str, **known: object) -> Iterator[None]:
    """Log what goes wrong in the block: it is tried again, and all else goes on."""
    try:
        yield
    except DsnError as error:
        _log.warning(what, code=error.detail_code, reason=error.message, **known)
    except Exception:
        _log.exception(what, **known)
