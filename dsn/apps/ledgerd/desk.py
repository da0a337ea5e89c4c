"""The desk where entries are handed in: callers wait in line, one thread does the books."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import ParamSpec, TypeVar

import structlog

from dsn.apps.ledger.batch import Accepted, Outcome, Submission
from dsn.apps.ledger.engine import BATCH
from dsn.apps.ledgerd.books import Books, Candidate
from dsn.apps.ledgerd.queue import Allowance, Queue, refused
from dsn.core.keys import SigningKey
from dsn.errors import NoSpace
from dsn.ids import NodeId
from dsn.ledger.entry import Body, Entry, sign_entry
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import Address, SettlementKey
from dsn.ports import Clock
from dsn.runtime.kernel import Kernel

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")
_log = structlog.get_logger("ledger")


class Desk:
    """Takes entries of all callers, in batches, and lets others look into the books."""

    def __init__(self, books: Books, kernel: Kernel, clock: Clock) -> None:
        """Take entries into ``books``, which only ``kernel`` may touch."""
        self.books, self._kernel = books, kernel
        self._allowance = Allowance(clock.monotonic_s)
        self.queue = Queue()
        self.grown = asyncio.Event()
        """Set whenever entries were added."""
        self.size = books.sequencer.head.size
        self.refused: Counter[str] = Counter()
        """By code, entries that were not taken."""

    async def run(self) -> None:
        """Work until the queue is closed and empty.

        Raises:
            DataLost, ConfigError, Unreachable: The store failed; nothing more can be taken.
        """
        while batch := await self.queue.take(BATCH):
            calls, submissions = zip(*batch, strict=True)
            try:
                outcomes = await self.ask(self.books.enter, submissions)
            except Exception as error:
                for call in calls:
                    call.fail(error)
                if not isinstance(error, NoSpace):  # then nothing has changed
                    raise
                _log.error("disk full", reason=error.message)
                continue
            self._note(outcomes)
            for call, outcome in zip(calls, outcomes, strict=True):
                call.settle(outcome)

    async def submit(self, caller: NodeId, submissions: Sequence[Submission]) -> list[Outcome]:
        """Enter what ``caller`` sent (untrusted), in its order; refused entries count double.

        Raises:
            RetryLater: ``ledger_busy``.
            TransportError: ``stopping``.
            DsnError: The store failed.
        """
        self._allowance.charge(caller, len(submissions))
        outcomes = await self.queue.put(caller, submissions).done
        self._allowance.fine(caller, len(refused(outcomes)))
        return outcomes

    async def enter_own(self, signer: Address, sign: Callable[[int], Submission]) -> Outcome:
        """Enter what ``sign`` makes of the next nonce of ``signer``, before whatever waits."""
        outcome = await self.ask(self.books.enter_own, signer, sign)
        self._note([outcome])
        return outcome

    async def enter_last(
        self, signer: Address, sign: Callable[[int], Submission]
    ) -> tuple[Outcome, Candidate | None]:
        """As ``enter_own``, and propose the log that ends with the entry."""
        outcome, candidate = await self.ask(self.books.enter_last, signer, sign)
        self._note([outcome])
        return outcome, candidate

    async def ask(
        self, method: Callable[_Args, _Result], *args: _Args.args, **kwargs: _Args.kwargs
    ) -> _Result:
        """Call a method of the books in their thread."""
        return await self._kernel.run(method, *args, **kwargs)

    def _note(self, outcomes: Sequence[Outcome]) -> None:
        self.refused.update(each.error.detail_code for each in refused(outcomes))
        taken = len(outcomes) - len(refused(outcomes))
        if taken:
            self.size += taken
            self.grown.set()


class Operator:
    """The operator's own hand: signs what its clock and its faucet enter."""

    def __init__(
        self, params: LedgerParams, log_key: SigningKey, key: SettlementKey, desk: Desk
    ) -> None:
        """Sign with ``key`` what goes to ``desk``, and checkpoints with both keys."""
        self.params, self.log_key, self.key = params, log_key, key
        self._desk = desk

    async def enter(self, body: Body) -> Accepted:
        """Have ``body`` in the log.

        Raises:
            DsnError: The rules refuse it.
        """
        return _accepted(await self._desk.enter_own(self.key.address, partial(self._sign, body)))

    async def enter_last(self, body: Body) -> Candidate:
        """Have ``body`` in the log, and propose the log that ends with it; raises as ``enter``."""
        sign = partial(self._sign, body)
        outcome, candidate = await self._desk.enter_last(self.key.address, sign)
        _accepted(outcome)
        assert candidate is not None
        return candidate

    def _sign(self, body: Body, nonce: int) -> Submission:
        entry = Entry(self.params.domain.network, self.key.address, nonce, body)
        return Submission(entry.encode(), sign_entry(entry, self.params.domain, self.key).signature)


def _accepted(outcome: Outcome) -> Accepted:
    if not isinstance(outcome, Accepted):
        raise outcome.error
    return outcome
