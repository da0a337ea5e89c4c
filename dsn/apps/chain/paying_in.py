"""Deposits: units of a home's account on the chain become credits on the ledger.

The vault takes what it is allowed to take and no more, and a deposit uses its allowance up. So a
deposit that a crash left open is made once at most: what was taken is not taken again.

Spec: docs/spec/chain.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dsn.apps.chain.ledger_now import Ledger
from dsn.apps.chain.under_way import POLL_S, Notice, Sleep, UnderWay
from dsn.chain import Call, Chain, Done
from dsn.errors import ChainRefused, LimitReached, UsageError
from dsn.ledger.cells import AccountCell
from dsn.ledger.settlement import Address, format_address, parse_address

ERC20 = "TestCredit"
"""The name by which the vault's ERC-20 is called, whichever it is."""
DEPOSIT = "deposit"
"""Under which name a deposit is written down."""


@dataclass(frozen=True, slots=True)
class Deposited:
    """A deposit that the ledger has credited; amounts in base units.

    Attributes:
        account: Whose credits they became.
        amount: How many.
        serial: Which of the account's deposits it is.
        number: The block that has it.
        gas: What paying in took, if this very command did it; else 0.
        units: What this home has left on the chain.
        available: What the account has on the ledger.
    """

    account: Address
    amount: int
    serial: int
    number: int
    gas: int
    units: int
    available: int


@dataclass(frozen=True, slots=True)
class DepositPlan:
    """A deposit under way.

    ``allowed`` says that the vault may take the units, or took them; with ``serial`` it did, for
    good.
    """

    to: str
    amount: int
    since: int
    allowed: bool = False
    serial: int = 0
    number: int = 0
    gas: int = 0


class PayingIn:
    """Deposits by one home, one at a time."""

    def __init__(
        self, chain: Chain, ledger: Ledger, under_way: UnderWay, sleep: Sleep, notice: Notice
    ) -> None:
        """Pay from the account of ``chain``; ``ledger`` shows what it credited."""
        self._chain, self._ledger, self._under_way = chain, ledger, under_way
        self._vault = ledger.params.domain.vault
        self._sleep, self._notice = sleep, notice

    async def deposit(self, amount: int, to: Address) -> Deposited:
        """Pay ``amount`` base units in, and wait until the ledger has credited them to ``to``.

        Again with the same arguments it goes on with a deposit that is under way.

        Raises:
            UsageError: ``unfinished_deposit``: another one is under way.
            LimitReached: ``not_enough_units``, ``not_enough_gas``.
            ChainRefused: ``frozen``.
            As ``Ledger.account``: the deposit stands, and the same call goes on with it.
        """
        async with self._under_way.turn(DEPOSIT):
            return await self._deposit(amount, to)

    async def _deposit(self, amount: int, to: Address) -> Deposited:
        plan = self._under_way.load(DEPOSIT, DepositPlan)
        if plan is None:
            plan = await self._begin(amount, to)
        elif (parse_address(plan.to), plan.amount) != (to, amount):
            raise UsageError(
                f"a deposit of {plan.amount:,} units to {plan.to} is under way",
                code="unfinished_deposit",
                hint=f"finish it first: dsn wallet deposit {plan.amount} --to {plan.to}",
            )
        else:
            self._notice("going on with the deposit that was begun before")
        while not plan.serial:
            plan = await self._pay_in(plan, to)
            self._under_way.save(DEPOSIT, plan)
        cell = await self._credited(plan, to)
        self._under_way.forget(DEPOSIT)
        units = await units_of(self._chain)
        made = plan.serial, plan.number, plan.gas
        return Deposited(to, amount, *made, units, cell.available)

    async def _begin(self, amount: int, to: Address) -> DepositPlan:
        """Write down what is meant; nothing has happened yet."""
        if (units := await units_of(self._chain)) < amount:
            raise LimitReached(
                f"{format_address(self._chain.account)} has {units:,} units on the chain, "
                f"{amount:,} needed",
                code="not_enough_units",
                hint="send it some of the ERC-20 that this network settles in",
            )
        plan = DepositPlan(format_address(to), amount, (await self._chain.newest())[0])
        self._under_way.save(DEPOSIT, plan)
        return plan

    async def _pay_in(self, plan: DepositPlan, to: Address) -> DepositPlan:
        """Bring ``plan`` further, to its final deposit if all goes well."""
        if not plan.allowed:
            self._notice("letting the vault take the units, and waiting until that is final")
            await self._allow(plan.amount)
            return replace(plan, allowed=True)
        if await self._allowance() >= plan.amount:
            if (done := await self._take(plan, to)) is None:
                return plan
            while not (made := await self._made(plan, to)):
                await self._sleep(POLL_S)
            return replace(plan, serial=made[0], number=made[1], gas=done.gas)
        await self._until_final()
        if made := await self._made(plan, to):
            return replace(plan, serial=made[0], number=made[1])
        return plan  # a reorganisation took it back

    async def _allow(self, amount: int) -> None:
        """Let the vault take exactly ``amount``, for good: no reorganisation takes it back.

        Some ERC-20s want an allowance to be gone before there is another.
        """
        there = await self._allowance()
        for wanted in (0, amount) if there not in (0, amount) else (amount,):
            if there != wanted:
                call = Call(ERC20, "approve", (self._vault, wanted))
                await self._chain.send(call, final=True)

    async def _take(self, plan: DepositPlan, to: Address) -> Done | None:
        """Have the vault take the units; nothing if it took them just before."""
        self._notice(f"paying {plan.amount:,} units in, and waiting until that is final")
        try:
            return await self._chain.send(Call("Vault", "deposit", (to, plan.amount)), final=True)
        except ChainRefused:
            if await self._allowance() >= plan.amount:
                raise
            return None

    async def _made(self, plan: DepositPlan, to: Address) -> tuple[int, int] | None:
        """Serial and block of the deposit, once it is final."""
        events, _ = await self._chain.events("Vault", "Deposited", plan.since, final=True)
        found = [
            (int(each.values["serial"]), each.number)
            for each in events
            if (each.values["account"], each.values["amount"]) == (to, plan.amount)
        ]
        return found[-1] if found else None

    async def _until_final(self) -> None:
        """Return once all that happened by now is final, or undone."""
        newest, _ = await self._chain.newest()
        while await self._chain.final() < newest:
            await self._sleep(POLL_S)

    async def _credited(self, plan: DepositPlan, to: Address) -> AccountCell:
        """The account on the ledger, once it has the deposit."""
        self._notice(f"final in block {plan.number:,}; waiting for the ledger to credit it")
        while (cell := await self._ledger.account(to)).deposits < plan.serial:
            await self._sleep(POLL_S)
        return cell

    async def _allowance(self) -> int:
        call = Call(ERC20, "allowance", (self._chain.account, self._vault))
        return int(await self._chain.read(call))


async def units_of(chain: Chain) -> int:
    """What the account of ``chain`` has of the vault's ERC-20, base units."""
    return int(await chain.read(Call(ERC20, "balanceOf", (chain.account,))))
