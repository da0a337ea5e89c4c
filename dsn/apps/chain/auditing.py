"""Holding what is anchored against its log, and against the chain itself.

Whoever has a copy of the log sees alone what is wrong with an anchor: an entry against the rules, a
log that does not begin as it did, an end that is not what was anchored, deposits and slashes of the
chain that were made up or left out. Each finding is the call that convicts the operator of it.

Spec: docs/spec/chain.md#fraud.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from dsn.apps.chain.accusing import Convicted
from dsn.apps.chain.replay import (
    LogCopy,
    Reached,
    Traced,
    Wrong,
    read_log,
    root_of,
    state_before,
    trace,
)
from dsn.apps.chain.said import Said, learn
from dsn.apps.chain.under_way import Notice, UnderWay
from dsn.apps.chain.vault import Anchored, Disputes, Slashed, Vault
from dsn.apps.chain.watch import AGAIN_S
from dsn.chain import Call, Chain
from dsn.errors import ChainRefused
from dsn.ledger.bodies import Deposit
from dsn.ledger.cells import AccountCell, CellKind, DealCell, DealState
from dsn.ledger.checkpoint import Checkpoint, SignedCheckpoint
from dsn.ledger.disputes import SlashJudged
from dsn.ledger.fraud import Logged, build_fraud
from dsn.ledger.log import Hashes, LogLeaf, TreeHead, build_prefix_proof
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.onchain.cases import on_chain
from dsn.ledger.onchain.log_faults import deposit_call, end_call, fork_call, slash_call
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import format_address
from dsn.ledger.trust import Trust

_WHAT: Final = "audited"
_DECIDED: Final = frozenset({"convicted_already", "no_anchor", "no_fault"})
"""What the chain says for good."""
_SHOWN: Final = 16
_log = structlog.get_logger("chain")


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with an anchor.

    Attributes:
        anchor: Its number.
        index: Of the entry from which on it is; anchors with that entry fall, if they can.
        fault: As the chain says it.
        text: For people.
        call: What convicts of it.
    """

    anchor: int
    index: int
    fault: str
    text: str
    call: OnChain


@dataclass(frozen=True, slots=True)
class Audit:
    """What came of an audit.

    Attributes:
        anchor: The newest.
        deposits: How many on the chain it was held against.
        slashes: As much of slashes.
        findings: The one by which most falls comes first; none if all is right.
    """

    anchor: Anchored
    deposits: int
    slashes: int
    findings: tuple[Finding, ...]


async def audit(
    chain: Chain,
    params: LedgerParams,
    copies: Sequence[LogCopy],
    under_way: UnderWay,
    notice: Notice,
) -> Audit | None:
    """Audit the newest anchor, and those before it that can still fall; nothing without any.

    A deposit or a slash counts once it is final on the chain. No signature is looked at:
    ``dsn ledger check`` does that.

    Args:
        chain: Has the vault.
        params: The ledger's.
        copies: Of its log; witnesses have some.
        under_way: Remembers what the chain said.
        notice: Told how far it is.

    Raises:
        NotFound: ``no_log``: no copy of the log comes to the newest anchor.
        InvalidProof: As ``learn``.
        Unreachable: ``chain_unreachable``.
    """
    anchors = await _anchors(chain)
    if not anchors:
        return None
    said, newest = await learn(chain, under_way), anchors[-1]
    notice(f"replaying the {newest.size:,} entries that are anchored")
    traced = await trace(params, root_of(newest), copies, [each.size for each in anchors])
    found = [
        *await _Steps(chain, params, anchors, traced, said).faults(),
        *await _Omissions(chain, newest, traced, said).faults(),
    ]
    return Audit(newest, *said.counts, tuple(sorted(found, key=lambda each: each.index)))


async def convict(chain: Chain, findings: Sequence[Finding]) -> Convicted:
    """Have the chain convict the operator, by the first of ``findings`` that it takes.

    Raises:
        ChainRefused: It takes none: ``convicted_already``, ``no_anchor``, ``no_fault``, or
            something that may be otherwise later.
        LimitReached: ``not_enough_gas``.
    """
    refused = list[ChainRefused]()
    for each in findings:
        try:
            done = await chain.send(Call(*each.call))
        except ChainRefused as error:
            refused.append(error)
        else:
            return Convicted(each.index, each.fault, each.anchor, each.call.contract, done.gas)
    raise min(refused, key=lambda error: error.detail_code in _DECIDED)


async def _anchors(chain: Chain) -> list[Anchored]:
    """Those that can still fall, the newest last, and before them the last that cannot."""
    vault = Vault(chain)
    newest, times, (_, now_s) = await vault.newest(), await vault.times(), await chain.newest()
    found = [newest] if newest is not None else []
    while found and found[0].number and now_s < found[0].time_s + times.challenge_s:
        found.insert(0, await vault.anchor(found[0].number - 1))
    return found


class _Steps:
    """What the log convicts of: its steps, and where it was anchored."""

    def __init__(
        self,
        chain: Chain,
        params: LedgerParams,
        anchors: Sequence[Anchored],
        traced: Traced,
        said: Said,
    ) -> None:
        self._vault, self._disputes = Vault(chain), Disputes(chain)
        self._params, self._traced, self._said = params, traced, said
        self._anchors, self._newest = anchors, anchors[-1]
        self._read: tuple[Sequence[LogLeaf], Hashes] | None = None

    async def faults(self) -> list[Finding]:
        found = list[Finding]()
        for anchor in self._anchors:
            reached = self._traced.reached[anchor.size]
            if reached.head != TreeHead(anchor.size, anchor.root):
                found.append(await self._fork(anchor))
            elif _ends_otherwise(anchor, reached):
                found.append(await self._end(anchor, reached))
        wrong = await self._made_up() or self._traced.wrong
        if wrong is not None:
            found.append(await self._step(wrong))
        return found

    async def _made_up(self) -> Wrong | None:
        """The first entry that has the chain say what it does not, not even in its newest block."""
        wrong = self._traced.wrong
        for index, body in self._traced.claims.items():
            if wrong is not None and wrong.index < index:
                break
            if isinstance(body, SlashJudged):
                if not await self._is_judged(body):
                    what = f"no such slash of deal {body.deal.hex()[:_SHOWN]} is on the chain"
                    return Wrong(index, "slash_differs", f"entry {index:,}: {what}")
            elif not await self._is_paid_in(body):
                what = f"deposit {body.serial} of {format_address(body.account)}"
                amount = f"not of {body.amount:,} units, or not on the chain"
                return Wrong(index, "deposit_differs", f"entry {index:,}: {what} is {amount}")
        return None

    async def _is_paid_in(self, body: Deposit) -> bool:
        if self._said.amount(body.account, body.serial) == body.amount:
            return True
        made = await self._vault.deposit_of(body.account, body.serial, final=False)
        return made == body.amount

    async def _is_judged(self, body: SlashJudged) -> bool:
        judged = await self._disputes.judged(body.deal, final=False)
        return judged is not None and judged.slash == Slashed(body.deal, body.number, body.asker)

    # findings

    async def _log(self) -> tuple[Sequence[LogLeaf], Hashes]:
        """All leaves of the newest anchor's log, and its hashes; only proofs need them."""
        if self._read is None:
            self._read = await read_log(root_of(self._newest), [self._traced.copy])
        return self._read

    async def _fork(self, older: Anchored) -> Finding:
        _, hashes = await self._log()
        number = self._newest.number
        prefix = build_prefix_proof(hashes, older.size, self._newest.size)
        what = f"its log does not begin with the {older.size:,} entries of anchor {older.number:,}"
        call = fork_call(older.number, number, prefix)
        return Finding(number, older.size, "log_forked", what, call)

    async def _end(self, anchor: Anchored, reached: Reached) -> Finding:
        _, hashes = await self._log()
        index, epoch = anchor.size - 1, reached.network.epoch
        ends, says = reached.tree.root.hex()[:_SHOWN], anchor.state_root.hex()[:_SHOWN]
        what = (
            f"its log ends in epoch {epoch:,} with state {ends}, "
            f"and it says epoch {anchor.epoch:,} and {says}"
        )
        last = Logged.of(reached.last, hashes, index, anchor.size)
        call = end_call(anchor.number, last, reached.network, reached.tree)
        return Finding(anchor.number, index, "end_differs", what, call)

    async def _step(self, wrong: Wrong) -> Finding:
        """A step of the log, as the one who judges its kind takes it."""
        (leaves, hashes), anchor = await self._log(), self._newest
        before = await asyncio.to_thread(state_before, self._params, leaves[: wrong.index])
        name = Trust.of(self._params).operator.name
        roots = anchor.root, anchor.state_root
        note = SignedCheckpoint(Checkpoint(name, anchor.size, *roots, anchor.epoch))
        fraud = build_fraud(before, wrong.index, leaves.__getitem__, note, hashes)
        call = on_chain(fraud, self._params, anchor.number)
        return Finding(anchor.number, wrong.index, wrong.fault, wrong.text, call)


class _Omissions:
    """What the chain has, and the newest anchor should have and has not."""

    def __init__(self, chain: Chain, newest: Anchored, traced: Traced, said: Said) -> None:
        self._vault, self._disputes = Vault(chain), Disputes(chain)
        self._newest, self._state, self._said = newest, traced.at.state, said

    async def faults(self) -> list[Finding]:
        """Nothing where the anchor says of no cell what the log does: that is a fault by itself."""
        if self._state.root != self._newest.state_root:
            return []
        limit_s = self._newest.time_s - (await self._vault.times()).inclusion_s
        found = list[Finding]()
        for who, made in self._said.made().items():
            account = self._state.account(who)
            if account.deposits < made and await self._is_late(account, limit_s):
                found.append(self._deposit(account))
        for deal in self._said.slashed():
            cell = self._state.cell(CellKind.DEAL, deal)
            if isinstance(cell, DealCell) and await self._is_slashed(cell, limit_s):
                found.append(self._slash(cell))
        return found

    async def _is_late(self, account: AccountCell, limit_s: int) -> bool:
        """Whether the first deposit that ``account`` lacks was made before ``limit_s``."""
        made_s = await self._vault.deposit_time(account.address, account.deposits + 1)
        return 0 < made_s < limit_s

    async def _is_slashed(self, deal: DealCell, limit_s: int) -> bool:
        """Whether ``deal`` still is what it was slashed as, before ``limit_s``."""
        judged = await self._disputes.judged(deal.deal)
        if judged is None or deal.state not in (DealState.OPEN, DealState.ENDED):
            return False
        return deal.number <= judged.slash.number and judged.time_s < limit_s

    def _deposit(self, account: AccountCell) -> Finding:
        number, serial = self._newest.number, account.deposits + 1
        what = f"it is without deposit {serial} of {format_address(account.address)}"
        call = deposit_call(number, serial, account, self._state.tree)
        return Finding(number, self._newest.size - 1, "deposit_omitted", what, call)

    def _slash(self, deal: DealCell) -> Finding:
        number = self._newest.number
        what = f"it is without the slash of deal {deal.deal.hex()[:_SHOWN]}"
        call = slash_call(number, deal, self._state.tree)
        return Finding(number, self._newest.size - 1, "slash_omitted", what, call)


def _ends_otherwise(anchor: Anchored, reached: Reached) -> bool:
    """Whether a log that is right up to its end was anchored with another state or epoch.

    Where the log itself lies at its end, an entry is wrong, and that is what convicts.
    """
    right = reached.last.state_root == reached.tree.root
    says, ends = (anchor.state_root, anchor.epoch), (reached.tree.root, reached.network.epoch)
    return right and says != ends


@dataclass(frozen=True, slots=True)
class _Done:
    """The anchor that was audited last; its roots in hexadecimal digits."""

    number: int
    root: str
    state_root: str

    @classmethod
    def of(cls, anchor: Anchored) -> _Done:
        return cls(anchor.number, anchor.root.hex(), anchor.state_root.hex())


class AuditWatch:
    """Audits every new anchor once, and has the operator convicted of what is wrong with it."""

    def __init__(
        self, chain: Chain, params: LedgerParams, copies: Sequence[LogCopy], under_way: UnderWay
    ) -> None:
        """Audit again and again; ``under_way`` remembers what was; the rest is as for ``audit``."""
        self._chain, self._params, self._copies = chain, params, copies
        self._under_way, self._vault = under_way, Vault(chain)
        self._tried: _Done | None = None
        self._again_s = 0

    async def turn(self) -> Audit | None:
        """Audit the newest anchor, unless that was done, or failed less than ``AGAIN_S`` ago.

        Raises:
            As ``audit`` and ``Chain.send``.
        """
        newest, (_, now_s) = await self._vault.newest(), await self._chain.newest()
        if newest is None or (now := _Done.of(newest)) == self._under_way.load(_WHAT, _Done):
            return None
        if now == self._tried and now_s < self._again_s:
            return None
        self._tried, self._again_s = now, now_s + AGAIN_S
        parts = self._chain, self._params, self._copies, self._under_way
        if (found := await audit(*parts, _tell)) is None:
            return None
        if found.findings:
            await self._convict(found.findings)
        self._under_way.save(_WHAT, _Done.of(found.anchor))
        return found

    async def _convict(self, findings: Sequence[Finding]) -> None:
        for each in findings:
            _log.error("wrong anchor", anchor=each.anchor, fault=each.fault, reason=each.text)
        try:
            done = await convict(self._chain, findings)
            _log.error("convicted", anchor=done.anchor, fault=done.fault, gas=done.gas)
        except ChainRefused as error:
            if error.detail_code not in _DECIDED:
                raise
            _log.warning("not convicted", code=error.detail_code)


def _tell(text: str) -> None:
    _log.info(text)
