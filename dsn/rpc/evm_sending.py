"""Having calls done on an EVM chain: signed here, sent, watched, sent again, paid for better.

A call has a nonce, and a chain runs only one call of an account for each. So whatever is sent for
a call has that call's nonce, until another process with the same key took it: sending again never
does anything twice.

Spec: docs/spec/chain.md#sending; EIP-155, EIP-1559, EIP-2718.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, replace
from typing import Final

from eth_account.typed_transactions.typed_transaction import TypedTransaction

from dsn.errors import ChainRefused, LimitReached, Unreachable
from dsn.kernels.keccak import keccak256
from dsn.ledger.settlement import Address, SettlementKey, format_address
from dsn.rpc.evm_abi import refusal
from dsn.rpc.evm_endpoint import Endpoint, Mined, Refused
from dsn.rpc.evm_values import hexed

GAS_MARGIN: Final = 5, 4
MORE_GAS: Final = 50_000
"""What may be used over the estimate, in part and on top: others change the state until the call
is run, and a word of storage that was full by then may be empty. What is not used costs nothing."""
BUMP: Final = 5, 4
"""What a call is paid for more when it is stuck; nodes want a tenth more at least."""
MAX_BUMPS: Final = 12
"""Fourteen times what it began with: beyond that it is not the fee that is wrong."""
UNLIKE_GAS: Final = 10_000
"""Two equal calls by two processes with one key must not be one call: their gas differs."""
EMPTY_GAS: Final = 21_000
LAG_LOOKS: Final = 5
"""How often a nonce must be seen used without a receipt: an endpoint may be many machines."""
_TYPE: Final = 2


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done: a call of ``to``, or the making of a contract if that is ``None``."""

    to: Address | None
    data: bytes
    wei: int = 0

    def request(self, sender: Address) -> dict[str, str]:
        """As an endpoint runs it without sending."""
        asked = {"from": hexed(sender), "data": hexed(self.data), "value": hex(self.wei)}
        return asked if self.to is None else asked | {"to": hexed(self.to)}


@dataclass(frozen=True, slots=True)
class Fees:
    """Wei a gas: what a miner gets, and the most in all."""

    tip: int
    most: int

    def bumped(self, now: Fees) -> Fees:
        """What a node takes in place of these, and no less than what is usual ``now``."""
        more, whole = BUMP
        return Fees(
            max(self.tip * more // whole + 1, now.tip),
            max(self.most * more // whole + 1, now.most),
        )


@dataclass(frozen=True, slots=True)
class Flight:
    """An order with its nonce, as it was signed last, and the hashes of all that was sent."""

    order: Order
    nonce: int
    gas: int
    fees: Fees
    raw: bytes = b""
    hashes: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Landed:
    """What became of an order: in which block, by which signed call."""

    mined: Mined
    hash: bytes


class Sender:
    """Sends what one key signs, on one chain."""

    def __init__(
        self, endpoint: Endpoint, key: SettlementKey, chain_id: int, finality: int
    ) -> None:
        """Send through ``endpoint``; ``finality`` blocks on top make one final."""
        self._endpoint, self._key, self._chain_id = endpoint, key, chain_id
        self._finality = finality
        self._turn = asyncio.Lock()
        self._flying = set[int]()

    async def send(self, order: Order, *, final: bool, nonce: int | None = None) -> Landed:
        """Have ``order`` done, and wait until it is.

        Args:
            order: What.
            final: Wait until it is final, too.
            nonce: The only one that will do; by default the account's next.

        Raises:
            ChainRefused: It reverts; nothing is sent where that can be known before.
                ``nonce_taken``: something else was sent under ``nonce``.
            LimitReached: ``not_enough_gas``.
            Unreachable: ``chain_unreachable``: the endpoint is away, or no block takes it.
        """
        while True:
            gas = await self._dry_run(order)
            async with self._turn:
                flight = await self._launch(order, gas, nonce)
                self._flying.add(flight.nonce)
            try:
                landed = await self._follow(flight, final)
            finally:
                self._flying.discard(flight.nonce)
            if landed is None and nonce is None:
                continue
            if landed is None:
                raise _nonce_taken(flight.nonce)
            if not landed.mined.succeeded:
                await self._tell_why(order, landed.mined.number)
            return landed

    async def _dry_run(self, order: Order) -> int:
        """The gas to send along; raises why the chain would refuse."""
        account = self._key.address
        if order.wei and (has := await self._endpoint.balance(account)) < order.wei:
            raise _not_enough(account, has, order.wei)
        try:
            gas = await self._endpoint.estimate(order.request(account))
        except Refused as refused:
            raise refusal(refused.text, refused.data) from None
        more, whole = GAS_MARGIN
        return gas * more // whole + MORE_GAS

    async def _launch(self, order: Order, gas: int, nonce: int | None) -> Flight:
        """Sign ``order`` and get it into the pool of calls that wait."""
        chosen = await self._next_nonce() if nonce is None else nonce
        unlike = secrets.randbelow(UNLIKE_GAS)
        flight = Flight(order, chosen, gas + unlike, await self._usual_fees())
        problem = ""
        for _ in range(MAX_BUMPS):
            flight = self._signed(flight)
            try:
                await self._endpoint.send(flight.raw)
                return flight
            except Refused as refused:
                if await self._endpoint.knows(flight.hashes[-1]):
                    return flight
                problem = refused.text
            await self._check_funds(flight)
            if nonce is None:
                if (later := await self._next_nonce()) <= flight.nonce:
                    break
                flight = replace(flight, nonce=later, hashes=())
            elif await self._endpoint.count(self._key.address) > nonce:
                raise _nonce_taken(nonce)
            else:
                flight = replace(flight, fees=flight.fees.bumped(await self._usual_fees()))
        raise refusal(problem, b"")

    async def _next_nonce(self) -> int:
        """After all that is on its way."""
        waiting = await self._endpoint.count(self._key.address, pending=True)
        return max(waiting, *(number + 1 for number in self._flying), 0)

    async def _follow(self, flight: Flight, final: bool) -> Landed | None:
        """Wait until one of what was sent is mined; ``None``: another call took the nonce."""
        pace, clock = self._endpoint.pace, asyncio.get_running_loop().time
        given_up_s, stuck_s, lost = clock() + pace.mined_s, clock() + pace.stuck_s, 0
        while clock() < given_up_s:
            head = await self._endpoint.head()
            landed = await self._landed(flight)
            if landed is not None:
                lost = 0
                if not final or head.number - landed.mined.number >= self._finality:
                    return landed
            elif (used := await self._endpoint.count(self._key.address)) > flight.nonce:
                lost += 1
                if lost == LAG_LOOKS:
                    return None
            elif clock() >= stuck_s:
                if used < flight.nonce:
                    await self._clear(used)
                else:
                    flight = await self._bump(flight)
                stuck_s = clock() + pace.stuck_s
            else:
                await self._offer(flight)
            await asyncio.sleep(pace.poll_s)
        raise self._given_up(f"no block took the call in {pace.mined_s:.0f} s")

    async def _landed(self, flight: Flight) -> Landed | None:
        for digest in reversed(flight.hashes):
            mined = await self._endpoint.mined(digest)
            if mined is not None:
                return Landed(mined, digest)
        return None

    async def _bump(self, flight: Flight) -> Flight:
        """The same call with more for the miner, unless it has had enough or costs too much."""
        better = replace(flight, fees=flight.fees.bumped(await self._usual_fees()))
        try:
            if len(flight.hashes) > MAX_BUMPS:
                return flight
            await self._check_funds(better)
        except LimitReached:
            return flight
        signed = self._signed(better)
        await self._offer(signed)
        return signed

    async def _clear(self, nonce: int) -> None:
        """Have something done for a nonce that others wait for: nothing, at a better price.

        Only if a process that is gone left a call stuck there; one that lives sends its call anew.
        """
        if nonce in self._flying:
            return
        order = Order(self._key.address, b"")
        flight = Flight(order, nonce, EMPTY_GAS, await self._usual_fees())
        for _ in range(MAX_BUMPS):
            flight = self._signed(flight)
            try:
                await self._endpoint.send(flight.raw)
            except Refused:
                flight = replace(flight, fees=flight.fees.bumped(flight.fees))
            else:
                return

    async def _offer(self, flight: Flight) -> None:
        """Remind the network of a signed call: nodes forget, and a reorganisation drops."""
        try:
            await self._endpoint.send(flight.raw)
        except Refused:
            if not await self._endpoint.knows(flight.hashes[-1]):
                await self._check_funds(flight)

    async def _usual_fees(self) -> Fees:
        """What is usual now; the base fee may double until it is mined."""
        tip, head = await self._endpoint.tip(), await self._endpoint.head()
        return Fees(tip, 2 * head.base_fee + tip)

    async def _check_funds(self, flight: Flight) -> None:
        """Check that the account can pay for all that the call may cost."""
        needed = flight.gas * flight.fees.most + flight.order.wei
        has = await self._endpoint.balance(self._key.address)
        if has < needed:
            raise _not_enough(self._key.address, has, needed)

    def _signed(self, flight: Flight) -> Flight:
        order = flight.order
        said = {
            "type": _TYPE,
            "chainId": self._chain_id,
            "nonce": flight.nonce,
            "gas": flight.gas,
            "maxFeePerGas": flight.fees.most,
            "maxPriorityFeePerGas": flight.fees.tip,
            "to": order.to or b"",
            "value": order.wei,
            "data": order.data,
        }
        signature = self._key.sign(bytes(TypedTransaction.from_dict(said).hash()))
        r, s = (int.from_bytes(signature[at : at + 32], "big") for at in (0, 32))
        signed = TypedTransaction.from_dict(said | {"v": signature[64] - 27, "r": r, "s": s})
        raw = bytes(signed.encode())
        return replace(flight, raw=raw, hashes=(*flight.hashes, keccak256(raw)))

    async def _tell_why(self, order: Order, number: int) -> None:
        """Raise why a mined call reverted, as far as it can be found out."""
        try:
            await self._endpoint.call(order.request(self._key.address), number)
        except Refused as refused:
            raise refusal(refused.text, refused.data) from None
        raise ChainRefused(
            f"the call reverted in block {number:,}", hint="the state changed meanwhile; try again"
        )

    def _given_up(self, why: str) -> Unreachable:
        return Unreachable(
            f"the chain at {self._endpoint.place}: {why}",
            code="chain_unreachable",
            hint="it may still be done: look before you try again",
        )


def _nonce_taken(nonce: int) -> ChainRefused:
    return ChainRefused(
        f"something else was sent as call {nonce:,} of this account",
        code="nonce_taken",
        hint="let no other program use the key meanwhile",
    )


def _not_enough(account: Address, has: int, needed: int) -> LimitReached:
    return LimitReached(
        f"{format_address(account)} has {has:,} wei, the call may take {needed:,} wei",
        code="not_enough_gas",
        hint="send some of the chain's own coin to it",
    )
