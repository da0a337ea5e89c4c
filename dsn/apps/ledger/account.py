"""A settlement key at work: entries signed with the right nonces, once each.

Nonces are shared with whatever else runs on the same key. An entry whose nonce was used meanwhile
is signed anew, but only after the log itself showed that it was used by another: a reply may be
lost, and a ledger may lie, and neither may have the same thing done twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from dsn.apps.ledger.asking import pauses
from dsn.apps.ledger.light import LightClient
from dsn.apps.ledger.reading import read_frontier, read_leaves
from dsn.errors import EntryRefused, TimedOut, Unreachable
from dsn.ledger.bodies import TopUp, Transfer, Withdraw
from dsn.ledger.checkpoint import Checkpoint
from dsn.ledger.entry import Body, Entry, SignedEntry, sign_entry
from dsn.ledger.log import Frontier
from dsn.ledger.settlement import Address, SettlementKey

MOST_RACES: Final = 5
"""How often nonces that others took are tried anew."""
CATCH_UP_S: Final = 30.0
_NONCE_USED: Final = "nonce_used"
_NONCE_GAP: Final = "nonce_gap"
_NOT_TWICE: Final = (Transfer, Withdraw, TopUp)
"""What would do more if it were entered twice; every other entry has an effect once."""


class LedgerAccount:
    """One account; of several in one process each takes its turn."""

    def __init__(self, light: LightClient, key: SettlementKey) -> None:
        """Sign with ``key`` and enter through ``light``."""
        self.address: Address = key.address
        self._light, self._key = light, key
        self._used = 0
        self._turn = asyncio.Lock()

    async def send(self, bodies: Sequence[Body], *, wait: bool = True) -> list[int]:
        """Enter ``bodies``, all of them; gives their indices in the log.

        Args:
            bodies: In order. Those after one that is refused are entered too, as far as they can
                be; ``enter`` tells which were.
            wait: Whether to return only once a cosigned checkpoint has them.

        Raises:
            EntryRefused: The first refusal, with its code and the entry's kind in the message.
            As ``LightClient.submit``.
        """
        indices = list[int]()
        for outcome in await self.enter(bodies, wait=wait):
            if isinstance(outcome, EntryRefused):
                raise outcome
            indices.append(outcome)
        return indices

    async def enter(self, bodies: Sequence[Body], *, wait: bool = True) -> list[int | EntryRefused]:
        """As ``send``, but a refusal is an outcome.

        A transfer, withdrawal or top-up that comes after a refused entry is refused too, as
        ``nonce_gap``: signed anew with the nonce that is free now, it could be entered twice.

        Raises:
            As ``LightClient.submit``.
        """
        async with self._turn:
            batch = _Batch(self._light, self._key, bodies, self._used)
            outcomes = await batch.enter()
            self._used = batch.used
        entered = [outcome for outcome in outcomes if isinstance(outcome, int)]
        if wait and entered:
            await self._light.wait_included(max(entered))
        return outcomes


class _Batch:
    """Bodies on their way into the log."""

    def __init__(
        self, light: LightClient, key: SettlementKey, bodies: Sequence[Body], used: int
    ) -> None:
        self._light, self._key, self._bodies = light, key, bodies
        self.used = used
        """The highest nonce that is known to be used."""
        self._outcomes: dict[int, int | EntryRefused] = {}

    async def enter(self) -> list[int | EntryRefused]:
        races = 0
        while waiting := [at for at in range(len(self._bodies)) if at not in self._outcomes]:
            account = await self._light.account(self._key.address)
            base = self._light.newest
            self.used = max(self.used, account.nonce)
            signed = {at: self._sign(at, self.used + n) for n, at in enumerate(waiting, 1)}
            again = await self._submit(signed)
            races += waiting[0] in again
            if races > MOST_RACES:
                self._outcomes |= again
            elif any(error.detail_code == _NONCE_USED for error in again.values()):
                await self._look_up({at: signed[at] for at in again}, base)
            elif waiting[0] in again:
                self.used = 0  # what was promised before is not there
        return [self._outcomes[at] for at in range(len(self._bodies))]

    def _sign(self, at: int, nonce: int) -> SignedEntry:
        domain = self._light.params.domain
        entry = Entry(domain.network, self._key.address, nonce, self._bodies[at])
        return sign_entry(entry, domain, self._key)

    async def _submit(self, signed: dict[int, SignedEntry]) -> dict[int, EntryRefused]:
        """Submit; gives the refusals that are not final, because only the nonce was wrong."""
        try:
            results = await self._light.submit(list(signed.values()))
        except Unreachable as error:
            raise Unreachable(
                f"{error.message}; whether it took {len(signed)} entries is not known",
                code="outcome_unknown",
                hint="see 'dsn wallet history' before you repeat this",
                peer=error.peer,
            ) from error
        again = dict[int, EntryRefused]()
        for (at, entry), result in zip(signed.items(), results, strict=True):
            if isinstance(result, int):
                self._outcomes[at] = result
                self.used = max(self.used, entry.entry.nonce)
            elif _is_final(entry.entry.body, result.detail_code):
                self._outcomes[at] = _described(entry, result)
            else:
                again[at] = _described(entry, result)
        return again

    async def _look_up(self, signed: dict[int, SignedEntry], base: Checkpoint) -> None:
        """Find those of ``signed`` in the log that went in without our hearing of it."""
        newest = await self._caught_up(min(each.entry.nonce for each in signed.values()))
        places = {(each.entry.encode(), each.signature): at for at, each in signed.items()}
        frontier = await read_frontier(self._light.ask, base.head) if base.size else Frontier()
        found, index = dict[int, int | EntryRefused](), base.size
        async for leaves, _ in read_leaves(self._light.ask, frontier, newest.head):
            for leaf in leaves:
                if (at := places.get((leaf.entry, leaf.signature))) is not None:
                    found[at] = index
                index += 1
        self._outcomes |= found

    async def _caught_up(self, nonce: int) -> Checkpoint:
        """The newest checkpoint, once the account's proven nonce has reached ``nonce``.

        Raises:
            TimedOut: ``not_included``.
        """
        try:
            async with asyncio.timeout(CATCH_UP_S):
                for pause_s in pauses():
                    if (await self._light.account(self._key.address)).nonce >= nonce:
                        break
                    await asyncio.sleep(pause_s)
        except TimeoutError:
            raise TimedOut(
                f"the ledger says that nonce {nonce} was used, and does not show it "
                f"after {CATCH_UP_S:g} s",
                code="not_included",
                hint="'dsn wallet history' shows what was entered",
            ) from None
        return self._light.newest


def _is_final(body: Body, code: str) -> bool:
    """Whether an entry with another nonce would, or may, do no better."""
    return code not in (_NONCE_USED, _NONCE_GAP) or (
        code == _NONCE_GAP and isinstance(body, _NOT_TWICE)
    )


def _described(signed: SignedEntry, refused: EntryRefused) -> EntryRefused:
    """``refused`` with the entry's kind in front."""
    kind = signed.entry.body.kind.name.lower().replace("_", " ")
    return EntryRefused(
        f"{kind}: {refused.message}", code=refused.detail_code, hint=refused.hint, peer=refused.peer
    )
