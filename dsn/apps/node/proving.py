"""Proof of spacetime, the node's side: each epoch is answered from disk, kept, and linked.

Nothing here decides what is asked: the ledger's frozen inventory and the epoch's beacon do. What
goes wrong costs an epoch's pay and no more: a node that cannot answer is silent, never wrong.

Spec: docs/spec/proofs.md#proof-of-spacetime.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, Protocol

import structlog

from dsn.apps.ledger.light import Snapshot
from dsn.apps.node.inventories import Inventory
from dsn.apps.node.openings import Asked, Opener
from dsn.apps.node.stale import LEAVES_AT_ONCE, Leaves, Twins, opened_body
from dsn.apps.node.terms import Self, Sender
from dsn.core.hashing import HASH_BYTES
from dsn.errors import DsnError, EntryRefused, InvalidProof, NotFound, PeerError
from dsn.ids import Commit, DealId
from dsn.ledger.bodies import SubmitLink
from dsn.ledger.cells import KEPT_BITS, AccountCell, NetworkCell, Phase
from dsn.ledger.params import LedgerParams
from dsn.ledger.rules.settling import roll
from dsn.ports import Clock, StoredShard
from dsn.proofs.inventory import Located, SumTree
from dsn.proofs.opening import DealPart, verify_opening
from dsn.proofs.por import answer_root
from dsn.proofs.post import Link, beacon_hash, drawn_indices, leaves_asked
from dsn.store.answers import AnswerStore, StoredAnswer

_LINKED_ALREADY: Final = "linked_already"
_NO_ROOT: Final = bytes(HASH_BYTES)
_log = structlog.get_logger("proving")


class Holder(Protocol):
    """What is held, as the ledger's inventories name it; ``Inventories`` is one."""

    async def frozen(self, snapshot: Snapshot) -> Inventory:
        """What the epoch of ``snapshot`` asks about.

        Raises:
            NotFound: ``inventory_unknown``.
        """
        ...

    async def holdings(self, deal: DealId, number: int) -> SumTree:
        """What ``deal`` held as of revision ``number``."""
        ...

    async def shard(self, commit: Commit) -> StoredShard | None:
        """A shard that is kept here, for whatever reason."""
        ...


class Prover:
    """Makes one node's links; ``turn`` is called again and again, by one task."""

    def __init__(
        self,
        me: Self,
        holder: Holder,
        answers: AnswerStore,
        opener: Opener,
        account: Sender,
        leaves: Leaves,
        params: LedgerParams,
        clock: Clock,
    ) -> None:
        """Prove for ``me``.

        Args:
            me: The node, and its account.
            holder: What it holds.
            answers: Where answers are kept.
            opener: Opens leaves from disk.
            account: Enters the links.
            leaves: Reads the log, where the beacons are.
            params: The ledger's.
            clock: This machine's.
        """
        self._me, self._holder, self._answers, self._opener = me, holder, answers, opener
        self._account, self._leaves, self._params = account, leaves, params
        self._clock = clock
        self._twins = Twins(answers, leaves, params.domain, account.address)
        self.proven = 0
        """The newest epoch that counts as proven on the ledger."""
        self._silent = 0
        self._seen, self._seen_s = 0, clock.monotonic_s()
        self._asked = False
        self._beacon = b""

    async def turn(self, snapshot: Snapshot) -> None:
        """Link the epoch if it is open, asks for something and has no link yet.

        Raises:
            ConfigError: ``home_is_stale``.
            DsnError: It could not be done now; another turn tries again.
        """
        time = snapshot.network
        account = roll(snapshot.account, time.epoch)
        await self._notice(account, snapshot)
        if account.proven(time.epoch):
            self.proven = max(self.proven, time.epoch)
        if not await self._twins.may_link(snapshot, self._oldest(snapshot)):
            return
        if not _is_due(time, account) or self._silent == time.epoch:
            return
        answer = await self._answer(snapshot, account)
        if answer is not None:
            await self._submit(answer.link)

    def next_proof_s(self) -> int | None:
        """Seconds until the next link is due, by this clock; ``None`` if nothing is asked for."""
        if not self._asked:
            return None
        if self.proven < self._seen and self._silent < self._seen:
            return 0
        passed_s = self._clock.monotonic_s() - self._seen_s
        return max(0, round(self._params.epoch_s - passed_s))

    async def _notice(self, account: AccountCell, snapshot: Snapshot) -> None:
        """Note the time, and see off the epochs that are over."""
        self._asked = bool(account.frozen_leaves or account.live_leaves)
        epoch = snapshot.network.epoch
        if epoch == self._seen:
            return
        if self._seen:
            for each in range(max(self._seen, epoch - KEPT_BITS), epoch):
                if not account.proven(each):
                    _log.warning("epoch missed", epoch=each)
        self._seen, self._seen_s = epoch, self._clock.monotonic_s()
        await self._answers.drop_before(self._oldest(snapshot))

    def _oldest(self, snapshot: Snapshot) -> int:
        """The first epoch whose answer is kept.

        Somebody may demand it as long as a dispute may last, and the demand may then be served
        for a while; and as long as the account tells of an epoch this home must know its link.
        """
        disputes = (cell.terms.dispute for cell in snapshot.deals.values())
        kept = max(KEPT_BITS, max(disputes, default=0) + self._params.demand_epochs)
        return snapshot.network.epoch - kept

    async def _answer(self, snapshot: Snapshot, account: AccountCell) -> StoredAnswer | None:
        """The answer of the epoch: the one that was made before, or a new one, now on disk."""
        epoch = snapshot.network.epoch
        if epoch in self._answers:
            try:
                return await self._answers.get(epoch)
            except NotFound as error:
                self._be_silent(epoch, error)
                return None
        try:
            answer = await self._build(snapshot, account)
        except (NotFound, InvalidProof) as error:
            self._be_silent(epoch, error)
            return None
        if answer is not None:
            await self._answers.put(answer)
        return answer

    async def _build(self, snapshot: Snapshot, account: AccountCell) -> StoredAnswer | None:
        """An answer that holds in the eyes of any verifier; ``None`` if the disk has lost some.

        Raises:
            NotFound: ``inventory_unknown``.
            InvalidProof: An opening fails for no reason that the disk gave.
        """
        time, network = snapshot.network, self._me.network
        inventory = await self._holder.frozen(snapshot)
        root, total = inventory.tree.root, inventory.tree.total
        if (root, total) != (account.frozen, account.frozen_leaves):
            raise NotFound(
                f"the ledger asks about {account.frozen_leaves} leaves, {total} are known here",
                code="inventory_unknown",
            )
        draft = Link(time.epoch, time.beacon, root, total, leaves_asked(total), _NO_ROOT)
        beacon = await self._read_beacon(snapshot)
        drawn = drawn_indices(draft, beacon, network=network, node=self._me.node_id)
        asked = await self._locate(inventory, drawn)
        openings = await self._open(asked, time.epoch)
        if openings is None:
            return None
        await asyncio.to_thread(_judge, openings, drawn, draft)
        return StoredAnswer(replace(draft, answer_root=answer_root(openings)), tuple(openings))

    async def _locate(self, inventory: Inventory, drawn: Sequence[int]) -> list[Asked]:
        """Where the drawn leaves are; of all trees only those of drawn deals are built, in turn."""
        by_deal = dict[DealId, list[tuple[int, Located]]]()
        for place, index in enumerate(drawn):
            at = inventory.tree.locate(index)
            by_deal.setdefault(DealId(at.key), []).append((place, at))
        found = dict[int, Asked]()
        for deal, places in by_deal.items():
            entry = inventory.entries[deal]
            held = await self._holder.holdings(deal, entry.number)
            for place, at in places:
                found[place] = Asked(held.locate(at.offset), DealPart(entry, at.steps))
        return [found[place] for place in range(len(drawn))]

    async def _open(self, asked: Sequence[Asked], epoch: int) -> list[bytes] | None:
        """The openings of ``asked`` from disk, or ``None`` if some shard cannot be opened."""
        shards = dict[Commit, StoredShard]()
        missing = list[Commit]()
        for commit in {each.commit for each in asked}:
            shard = await self._holder.shard(commit)
            if shard is None:
                missing.append(commit)
            else:
                shards[commit] = shard
        openings = list[bytes]()
        if not missing:
            openings, missing = await self._opener.open_all(asked, shards)
        if not missing:
            return openings
        self._report(missing, epoch)
        return None

    def _report(self, lost: Iterable[Commit], epoch: int) -> None:
        """Say nothing on the ledger in this epoch."""
        self._silent = epoch
        for commit in lost:
            _log.error("not proven", epoch=epoch, code="shard_lost", commit=commit.hex())

    def _be_silent(self, epoch: int, error: DsnError) -> None:
        self._silent = epoch
        _log.error("not proven", epoch=epoch, code=error.detail_code, reason=error.message)

    async def _read_beacon(self, snapshot: Snapshot) -> bytes:
        """The value of the epoch's beacon; the ledger's state has its hash, the log has it.

        Raises:
            PeerError: ``wrong_leaves``: the log that was served has no such value.
        """
        time = snapshot.network
        if beacon_hash(self._beacon) == time.beacon:
            return self._beacon
        for start in range(time.closed.size, snapshot.size, LEAVES_AT_ONCE):
            end = min(snapshot.size, start + LEAVES_AT_ONCE)
            for leaf in await self._leaves(start, end):
                body = opened_body(leaf)
                if body is not None and beacon_hash(body.value) == time.beacon:
                    self._beacon = body.value
                    return body.value
        raise PeerError(
            f"the ledger shows no beacon of epoch {time.epoch}",
            code="wrong_leaves",
            hint="tried again at once; if it goes on, the ledger lies",
        )

    async def _submit(self, link: Link) -> None:
        """Enter ``link``; again and again is harmless."""
        (outcome,) = await self._account.enter([SubmitLink(link)])
        if not isinstance(outcome, EntryRefused):
            self.proven = max(self.proven, link.epoch)
            _log.info("proven", epoch=link.epoch, leaves=link.count, of=link.total)
        elif outcome.detail_code != _LINKED_ALREADY:  # else the next snapshot shows it
            self._be_silent(link.epoch, outcome)


def _is_due(time: NetworkCell, account: AccountCell) -> bool:
    """Whether a link is taken, and pays."""
    is_open = time.phase is Phase.OPEN and account.frozen_leaves > 0
    return is_open and not account.proven(time.epoch)


def _judge(openings: Sequence[bytes], drawn: Sequence[int], link: Link) -> None:
    """Check an answer as a stranger will, before anybody sees it.

    Raises:
        InvalidProof: As ``verify_opening``.
    """
    for index, opening in zip(drawn, openings, strict=True):
        verify_opening(opening, root=link.root, total=link.total, index=index, inventory=True)
