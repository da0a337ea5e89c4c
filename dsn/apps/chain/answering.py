"""Answers to demands on the chain, out of a node's store: the leaf, or a newer revision.

Spec: docs/spec/chain.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from dsn.apps.chain.dispute import Asked, demand_of
from dsn.apps.node.deals import Deals
from dsn.apps.node.openings import Asked as Wanted
from dsn.apps.node.openings import Opener
from dsn.chain import Call, Chain
from dsn.errors import DataLost, InvalidProof, InvalidSignature, NotFound
from dsn.ids import Commit, DealId
from dsn.ledger.bodies import SignedPledge
from dsn.ledger.deal import Deal
from dsn.ledger.onchain.dispute import answer, supersede
from dsn.ledger.revision import DealParties, verify_client_signature
from dsn.ledger.settlement import NO_ADDRESS
from dsn.ports import StoredShard
from dsn.proofs.inventory import SumTree
from dsn.proofs.opening import verify_opening

_log = structlog.get_logger("disputes")


class Holdings(Protocol):
    """What a node holds; ``Inventories`` knows."""

    async def holdings(self, deal: DealId, number: int) -> SumTree:
        """What ``deal`` held as of revision ``number``; raises ``NotFound``."""
        ...

    async def shard(self, commit: Commit) -> StoredShard | None:
        """A shard that is kept here."""
        ...


@dataclass(frozen=True, slots=True)
class Agreement:
    """The newest revision of a deal that both signed."""

    terms: Deal
    signed: SignedPledge


NewestRevision = Callable[[DealId], Awaitable[Agreement | None]]


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a demand: ``how`` is ``opened`` or ``superseded``."""

    deal: DealId
    how: str
    number: int
    gas: int


class Answering:
    """Answers demands on the deals of one node."""

    def __init__(
        self, chain: Chain, held: Holdings, opener: Opener, newest: NewestRevision
    ) -> None:
        """Answer on ``chain``.

        Args:
            chain: Where they are made.
            held: What is held, and was.
            opener: Opens leaves from disk.
            newest: Gives what both signed last.
        """
        self._chain, self._held, self._opener, self._newest = chain, held, opener, newest

    async def answer(self, deal: DealId) -> Answered:
        """Answer the demand that waits on ``deal``; returns once that is in a block.

        It does not wait until that is final: whoever must answer has no time for it.

        Raises:
            NotFound: ``no_demand``.
            DataLost: ``cannot_answer``: the leaf is not here, and no newer revision was signed.
            ChainRefused: ``too_late``, or what the contract finds wrong.
        """
        asked = await demand_of(self._chain, deal)
        if asked is None:
            raise NotFound(f"no demand waits on deal {deal.hex()}", code="no_demand")
        opening = await self._open(asked)
        if opening is not None:
            done = await self._chain.send(Call(*answer(deal, opening)))
            return Answered(deal, "opened", done.number, done.gas)
        agreed = await self._newest(deal)
        if agreed is None or agreed.signed.pledge.number <= asked.number:
            raise DataLost(
                f"leaf {asked.leaf:,} of deal {deal.hex()} is not here, and nothing newer than "
                f"revision {asked.number} was signed",
                code="cannot_answer",
                hint="bring the shard back before the deadline, or the deal is slashed",
            )
        done = await self._chain.send(Call(*supersede(agreed.terms, agreed.signed)))
        return Answered(deal, "superseded", done.number, done.gas)

    async def _open(self, asked: Asked) -> bytes | None:
        """The opening that is asked for, if the leaf is there and right."""
        try:
            held = await self._held.holdings(asked.deal, asked.number)
            wanted = Wanted(held.locate(asked.leaf))
            shard = await self._held.shard(wanted.commit)
            if shard is None:
                return None
            [opening], _ = await self._opener.open_all([wanted], {wanted.commit: shard})
            verify_opening(
                opening, root=asked.root, total=asked.leaves, index=asked.leaf, inventory=False
            )
        except (NotFound, InvalidProof, ValueError) as error:
            _log.warning(
                "leaf not there", deal=asked.deal.hex(), leaf=asked.leaf, reason=str(error)
            )
            return None
        return opening


def newest_of(deals: Deals) -> NewestRevision:
    """The newest revisions that a node's clients and it have both signed."""

    async def newest(deal: DealId) -> Agreement | None:
        signed = await deals.store.get(deal)
        if signed is None:
            return None
        account = await deals.accounts.open(signed.owner, deal)
        revision, by_client, by_node = account.newest
        if account.unsigned or not revision.number:
            return None
        terms, by_delegate = signed.terms, False
        if terms.delegate != NO_ADDRESS:
            parties = DealParties(deals.payee.ledger.params.domain, terms.client, terms.provider)
            try:
                verify_client_signature(revision, parties, by_client)
            except InvalidSignature:
                by_delegate = True
        return Agreement(terms, SignedPledge(revision.pledge, by_delegate, by_client, by_node))

    return newest
