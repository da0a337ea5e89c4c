"""Withdrawals: credits leave the ledger, and the vault pays them by an anchor that has it.

An anchor can be paid against once nobody could show it wrong for the vault's challenge period.

Spec: docs/spec/chain.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dsn.apps.chain.ledger_now import Ledger
from dsn.apps.chain.paying_in import units_of
from dsn.apps.chain.replay import LogCopy, read_cell
from dsn.apps.chain.under_way import POLL_S, Notice, Sleep, UnderWay
from dsn.apps.chain.vault import Anchored, Vault
from dsn.chain import Call, Chain
from dsn.errors import ChainRefused, EntryRefused, UsageError
from dsn.ledger.bodies import Withdraw
from dsn.ledger.cells import AccountCell, CellKind
from dsn.ledger.onchain.tuples import account_tuple
from dsn.wire.ledger import Wanted

_WHAT = "withdrawal"


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """How both sides stand after a withdrawal; amounts in base units.

    Attributes:
        collected: What the vault paid just now; 0 if nothing was ready.
        withdrawn: Ever taken out on the ledger.
        paid: Of that, ever paid by the vault.
        units: What this home has on the chain.
        gas: What collecting took; 0 if nothing was sent.
        due_s: From when on the rest can be had, in Unix seconds; ``None`` if there is no rest,
            or no anchor has it yet.
        challenge_s: How long an anchor can be challenged.
    """

    collected: int
    withdrawn: int
    paid: int
    units: int
    gas: int
    due_s: int | None
    challenge_s: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """A withdrawal under way: entered once the account has withdrawn ``target`` in all.

    A log of ``size`` entries has it; 0: not entered yet. Of one that nobody waits for ``amount``
    is 0.
    """

    amount: int
    target: int
    size: int = 0


class PayingOut:
    """Withdrawals by one home, one at a time."""

    def __init__(
        self,
        chain: Chain,
        ledger: Ledger,
        copies: Sequence[LogCopy],
        under_way: UnderWay,
        sleep: Sleep,
        notice: Notice,
    ) -> None:
        """Take from the account on the ledger; the vault pays to the same on the chain.

        Args:
            chain: Has the vault.
            ledger: Where it is taken from.
            copies: Of the log, to show what was anchored.
            under_way: Keeps what is.
            sleep: Waits.
            notice: Told how far it is.
        """
        self._chain, self._vault, self._ledger = chain, Vault(chain), ledger
        self._copies, self._under_way = copies, under_way
        self._sleep, self._notice = sleep, notice

    async def withdraw(self, amount: int, *, wait: bool = True) -> Withdrawn:
        """Take ``amount`` base units out of the ledger, and wait until the vault has paid them.

        Again with the same amount it goes on with a withdrawal that is under way.

        Args:
            amount: How many.
            wait: Whether to wait for the anchor; ``collect`` fetches the units later.

        Raises:
            UsageError: ``unfinished_withdrawal``: another one is under way.
            EntryRefused: ``not_enough_credit``.
            ChainRefused: ``frozen``.
            As ``Ledger.enter``.
        """
        async with self._under_way.turn(_WHAT):
            await self._withdraw(amount, wait)
            return await self._collected()

    async def _withdraw(self, amount: int, wait: bool) -> None:
        plan = self._under_way.load(_WHAT, _Plan)
        if plan is None or not plan.amount:
            cell = await self._ledger.account(self._chain.account)
            plan = _Plan(amount, cell.withdrawn + amount)
            self._under_way.save(_WHAT, plan)
        elif plan.amount != amount:
            raise UsageError(
                f"a withdrawal of {plan.amount:,} credits is under way",
                code="unfinished_withdrawal",
                hint="'dsn wallet withdraw' without an amount fetches it first",
            )
        else:
            self._notice("going on with the withdrawal that was begun before")
        if not plan.size:
            plan = await self._enter(plan)
        if wait:
            await self._until_final(plan.size)
        else:
            self._under_way.save(_WHAT, replace(plan, amount=0))

    async def collect(self) -> Withdrawn:
        """Fetch what an anchor that nobody can challenge any more says; perhaps nothing.

        Raises:
            ChainRefused: ``frozen``.
            As ``replay``.
        """
        async with self._under_way.turn(_WHAT):
            return await self._collected()

    async def _collected(self) -> Withdrawn:
        await self._check_frozen()
        me, gas = self._chain.account, 0
        before = await self._vault.paid(me)
        if (anchor := await self._newest_final()) is not None:
            gas = await self._collect(anchor, before)
        paid, cell = await self._vault.paid(me), await self._ledger.account(me)
        size, plan = await self._ledger.size(), self._under_way.load(_WHAT, _Plan)
        if plan is not None and plan.size:
            size = plan.size
            if paid >= plan.target:
                self._under_way.forget(_WHAT)
        due_s = await self._due_s(size) if cell.withdrawn > paid else None
        times, units = await self._vault.times(), await units_of(self._chain)
        return Withdrawn(paid - before, cell.withdrawn, paid, units, gas, due_s, times.challenge_s)

    async def _collect(self, anchor: Anchored, paid: int) -> int:
        """Have the vault pay by ``anchor``, if that says more than was paid; gives the gas."""
        wanted = Wanted(CellKind.ACCOUNT, self._chain.account)
        found = await read_cell(self._ledger, wanted, anchor, self._copies, self._notice)
        if found is None:
            return 0
        cell, place = found
        assert isinstance(cell, AccountCell)
        if cell.withdrawn <= paid:
            return 0
        call = Call("Vault", "withdraw", (anchor.number, account_tuple(cell), place))
        try:
            return (await self._chain.send(call, final=True)).gas
        except ChainRefused as error:
            if error.detail_code != "nothing_due":  # anybody may have it paid
                raise
            return 0

    async def _enter(self, plan: _Plan) -> _Plan:
        """Have the entry in the log, once, though its reply may have been lost before."""
        if (await self._ledger.account(self._chain.account)).withdrawn < plan.target:
            try:
                await self._ledger.enter([Withdraw(plan.amount)])
            except EntryRefused:
                self._under_way.forget(_WHAT)
                raise
        plan = replace(plan, size=await self._ledger.size())
        self._under_way.save(_WHAT, plan)
        return plan

    async def _until_final(self, size: int) -> None:
        """Return once an anchor of ``size`` entries or more is final."""
        challenge_s, said = (await self._vault.times()).challenge_s, -1
        while True:
            await self._check_frozen()
            _, now_s = await self._chain.newest()
            due_s = await self._due_s(size)
            if due_s is not None and due_s <= now_s:
                return
            if said != (due_s or 0):
                said = due_s or 0
                self._notice(
                    f"anchored: the vault pays in {due_s - now_s:,} s"
                    if due_s
                    else f"waiting for an anchor of the first {size:,} entries; the vault pays "
                    f"{challenge_s:,} s after it"
                )
            await self._sleep(POLL_S)

    async def _newest_final(self) -> Anchored | None:
        """The newest anchor that nobody can challenge any more."""
        _, now_s = await self._chain.newest()
        latest_s = now_s - (await self._vault.times()).challenge_s
        young = await self._first(lambda anchor: anchor.time_s > latest_s)
        return await self._vault.anchor(young - 1) if young else None

    async def _due_s(self, size: int) -> int | None:
        """When the first anchor of ``size`` entries or more is final, if there is one."""
        found = await self._first(lambda anchor: anchor.size >= size)
        newest = await self._vault.newest()
        if newest is None or found > newest.number:
            return None
        anchor, times = await self._vault.anchor(found), await self._vault.times()
        return anchor.time_s + times.challenge_s

    async def _first(self, holds: Callable[[Anchored], bool]) -> int:
        """The number of the first anchor that ``holds``, as all after it do; else their count."""
        newest = await self._vault.newest()
        low, high = 0, 0 if newest is None else newest.number + 1
        while low < high:
            middle = (low + high) // 2
            if holds(await self._vault.anchor(middle)):
                high = middle
            else:
                low = middle + 1
        return low

    async def _check_frozen(self) -> None:
        if await self._vault.frozen_at():
            raise ChainRefused(
                "the vault is frozen, and pays nobody by an anchor any more",
                code="frozen",
                hint="'dsn escape' leaves it with what the last anchor says",
            )
