"""Leaving a frozen vault: with what the last anchor says, and with the vouchers of this home.

Nobody needs the operator for it, nor any other party. Every step is taken once, by anybody, so this
can be run again at any time: it does what is due by then and not done yet.

Spec: docs/spec/chain.md#vault.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from dsn.apps.chain.paying_in import units_of
from dsn.apps.chain.replay import LedgerAt, LogCopy, before_any, replay, root_of
from dsn.apps.chain.under_way import Notice, UnderWay
from dsn.apps.chain.vault import Times, Vault
from dsn.chain import Call, Chain
from dsn.errors import ChainRefused, DsnError
from dsn.ids import DealId
from dsn.ledger.bodies import SignedVoucher
from dsn.ledger.cells import DealCell, DealState
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.onchain.escape import escape_account, escape_deal, finish_call, redeem_calls
from dsn.ledger.onchain.leaving import (
    OnRecord,
    account_part,
    bandwidth_left,
    deal_parts,
    voucher_part,
)
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import NO_ADDRESS, Address

Vouchers = Callable[[], Awaitable[Sequence[SignedVoucher]]]
"""Gives the newest vouchers that this home holds, as their provider."""
DONE_ALREADY: Final = frozenset({"escaped_already", "nothing_due"})
"""What the vault says of a step that somebody has taken before."""
_AT_ONCE: Final = 16
"""Calls on their way."""
_WHAT: Final = "escape"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that is not due yet: what, and from when on, in Unix seconds; 0: not known."""

    what: str
    since_s: int


@dataclass(frozen=True, slots=True)
class Left:
    """How far this home has left; amounts in base units.

    Attributes:
        frozen_s: When the vault was frozen, in Unix seconds; 0: it is not.
        size: Entries of the last anchor that stands; ``None`` while that may still fall.
        credited: By what brought it: ``account``, and ``deal``, ``vouchers`` or ``rest`` and the
            deal's id; ``other`` is what was due for another reason, such as a conviction.
        owed: What of all that the vault still has.
        paid: What of it it paid.
        units: What this home has on the chain.
        waiting: What is not due yet.
        gas: What this run took.
    """

    frozen_s: int
    size: int | None
    credited: Counter[str]
    owed: int
    paid: int
    units: int
    waiting: tuple[Waiting, ...]
    gas: int

    @property
    def next_s(self) -> int | None:
        """When there is more to do, if that is known."""
        return min((each.since_s for each in self.waiting if each.since_s), default=None)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What final blocks before number ``since`` credited to this home in all, and for what.

    ``rows`` has vouchers and rests, by their deal: what others did for this home is not in it.
    """

    since: int = 0
    amount: int = 0
    rows: dict[str, int] = field(default_factory=dict)


class Leaving:
    """Takes one home out of one vault, step by step."""

    def __init__(
        self,
        chain: Chain,
        params: LedgerParams,
        copies: Sequence[LogCopy],
        vouchers: Vouchers,
        under_way: UnderWay,
        notice: Notice,
    ) -> None:
        """Leave with what is due to the account of ``chain``.

        Args:
            chain: Has the vault.
            params: The ledger's.
            copies: Of its log; witnesses have some.
            vouchers: Gives what this home can redeem.
            under_way: Remembers what was seen.
            notice: Told how far it is.
        """
        self._chain, self._vault, self._params = chain, Vault(chain), params
        self._copies, self._vouchers, self._notice = copies, vouchers, notice
        self._under_way, self._me = under_way, chain.account
        self._at: LedgerAt | None = None

    async def turn(self, *, freezes: bool = True) -> Left:
        """Do what is due by now.

        Args:
            freezes: Whether to freeze a vault that may be frozen, too.

        Raises:
            LimitReached: ``not_enough_gas``.
            InvalidProof, NotFound: As ``replay``.
            Unreachable: ``chain_unreachable``.
        """
        async with self._under_way.turn(_WHAT):
            return await self._turn(freezes)

    async def _turn(self, freezes: bool) -> Left:
        frozen_s, times = await self._frozen_at(freezes), await self._vault.times()
        _, now_s = await self._chain.newest()
        opens_s = frozen_s + times.challenge_s
        run = _Run()
        if not frozen_s:
            run.wait("the vault can be frozen", await self._freezable_s(times))
        elif now_s < opens_s:
            run.wait("the last anchor is final, and all can leave", opens_s)
        else:
            await self._leave(run, now_s, opens_s + times.voucher_s)
            await self._collect(run)
        if run.failed is not None:
            raise run.failed
        total, owed = await self._credited(), await self._vault.owed(self._me)
        run.credited.update(self._load().rows)
        run.credited["other"] = total - run.credited.total()
        rows = Counter({row: amount for row, amount in run.credited.items() if amount})
        size = self._at.root.size if self._at is not None and run.left else None
        units = await units_of(self._chain)
        waiting = tuple(run.waiting)
        return Left(frozen_s, size, rows, owed, total - owed, units, waiting, run.gas)

    # before

    async def _frozen_at(self, freezes: bool) -> int:
        if freezes and not await self._vault.frozen_at():
            try:
                await self._chain.send(Call("Vault", "freeze"), final=True)
                self._notice("the vault is frozen: no anchor came for too long")
            except ChainRefused as error:
                if error.detail_code not in ("still_time", "frozen"):
                    raise
        return await self._vault.frozen_at()

    async def _freezable_s(self, times: Times) -> int:
        newest = await self._vault.newest()
        return newest.time_s + times.escape_s if newest else 0

    # leaving

    async def _leave(self, run: _Run, now_s: int, rest_s: int) -> None:
        ledger, run.left = await self._ledger(), True
        deals = [each for each in ledger.deals_of(self._me) if each.state is not DealState.CLOSED]
        slashes = {each.deal: await self._slash_of(each.deal) for each in deals}
        first = [escape_account(ledger.state, self._me)] if await self._is_there(ledger) else []
        calls = [*first, *(escape_deal(ledger.state, each.deal) for each in deals)]
        await self._send_all(run, calls)
        run.credited["account"] += await self._account_part(ledger)
        for each in deals:
            provider = ledger.state.account(each.terms.provider)
            terms = ledger.root.epoch, self._params.burn_ppm
            parts = deal_parts(each, provider, *terms, slashes[each.deal])
            run.credited[f"deal {each.deal.hex()}"] += parts[self._me]
        left = {each.deal: bandwidth_left(each, slashes[each.deal]) for each in deals}
        await self._redeem(run, deals, left)
        await self._finish(run, deals, now_s, rest_s)

    async def _ledger(self) -> LedgerAt:
        """The ledger at the last anchor that stands; that changes no more by now."""
        anchor = await self._vault.newest()
        root = before_any(self._params) if anchor is None else root_of(anchor)
        if self._at is None or self._at.root != root:
            self._notice(f"replaying the {root.size:,} entries that are anchored")
            self._at = await replay(self._params, root, self._copies)
        return self._at

    async def _is_there(self, ledger: LedgerAt) -> bool:
        """Whether the account has anything to leave with."""
        return ledger.account(self._me) is not None or await self._read("deposits", self._me) > 0

    async def _account_part(self, ledger: LedgerAt) -> int:
        me, cell = self._me, ledger.state.account(self._me)
        serial = await self._read("deposits", me)
        entered = await self._read("deposited", me, min(cell.deposits, serial))
        since = await self._read("deposited", me, serial) - entered
        return account_part(cell, since, await self._vault.paid(me))

    async def _redeem(
        self, run: _Run, deals: Iterable[DealCell], left: Mapping[DealId, int]
    ) -> None:
        """Redeem this home's vouchers, as far as there is something left for them."""
        held, due = defaultdict[DealId, list[SignedVoucher]](list), dict[DealId, int]()
        for signed in await self._vouchers():
            held[signed.voucher.deal].append(signed)
        for each in deals:
            part = voucher_part(each, left[each.deal], held[each.deal])
            paid = left[each.deal] - await self._unredeemed(each.deal)
            if each.terms.provider == self._me and part > paid:
                due[each.deal] = part
        await self._send_all(run, redeem_calls([v for deal in due for v in held[deal]]))
        self._keep({f"vouchers {deal.hex()}": part for deal, part in due.items()})

    async def _finish(self, run: _Run, deals: Iterable[DealCell], now_s: int, rest_s: int) -> None:
        """Take back what no voucher claimed of this home's deals."""
        mine = [each.deal for each in deals if each.terms.client == self._me]
        rests = {deal: rest for deal in mine if (rest := await self._unredeemed(deal))}
        if rests and now_s < rest_s:
            run.wait(f"{sum(rests.values()):,} units come back that no voucher claims", rest_s)
            return
        await self._send_all(run, map(finish_call, rests))
        self._keep({f"rest {deal.hex()}": rest for deal, rest in rests.items()})

    async def _collect(self, run: _Run) -> None:
        if await self._vault.owed(self._me):
            await self._send_all(run, [OnChain("Vault", "collect", (self._me,))])

    async def _send_all(self, run: _Run, calls: Iterable[OnChain]) -> None:
        """Have ``calls`` done for good; what somebody else has done is done.

        One that fails holds up no other, nor any later step: ``run`` remembers the first.
        """
        waiting = list(calls)
        for at in range(0, len(waiting), _AT_ONCE):
            some = (self._send(Call(*each)) for each in waiting[at : at + _AT_ONCE])
            for outcome in await asyncio.gather(*some, return_exceptions=True):
                if isinstance(outcome, DsnError):
                    run.failed = run.failed or outcome
                elif isinstance(outcome, BaseException):
                    raise outcome
                else:
                    run.gas += outcome

    async def _send(self, call: Call) -> int:
        try:
            return (await self._chain.send(call, final=True)).gas
        except ChainRefused as error:
            if error.detail_code not in DONE_ALREADY:
                raise
            return 0

    # figures

    async def _credited(self) -> int:
        """All that the vault ever credited to this home, by its events."""
        kept = self._load()
        events, after = await self._chain.events("Vault", "Credited", kept.since, final=False)
        mine = [
            (each.number, int(each.values["amount"]))
            for each in events
            if each.values["account"] == self._me
        ]
        settled = sum(amount for number, amount in mine if number < after)
        now = replace(kept, since=after, amount=kept.amount + settled)
        self._under_way.save(_WHAT, now)
        return kept.amount + sum(amount for _, amount in mine)

    def _load(self) -> _Kept:
        return self._under_way.load(_WHAT, _Kept) or _Kept()

    def _keep(self, rows: Mapping[str, int]) -> None:
        if rows:
            kept = self._load()
            self._under_way.save(_WHAT, replace(kept, rows={**kept.rows, **rows}))

    async def _slash_of(self, deal: DealId) -> OnRecord | None:
        number, _, asker = await self._chain.read(Call("Dispute", "slashes", (deal,)))
        return None if asker == NO_ADDRESS else OnRecord(number, Address(asker))

    async def _unredeemed(self, deal: DealId) -> int:
        return await self._read("unredeemed", deal)

    async def _read(self, function: str, *args: Any) -> int:
        return int(await self._chain.read(Call("Vault", function, args)))


class _Run:
    """One turn."""

    def __init__(self) -> None:
        self.credited, self.waiting = Counter[str](), list[Waiting]()
        self.gas, self.left = 0, False
        self.failed: DsnError | None = None

    def wait(self, what: str, since_s: int) -> None:
        self.waiting.append(Waiting(what, since_s))
