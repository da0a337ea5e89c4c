"""The operator's clock: it opens and shuts epochs, and goes on from wherever the ledger stands.

Which step is next follows from the network's cell, so a process that died in the middle of one
does it when it is back. An outage makes no epochs: nothing is caught up, and whoever had not proven
the epoch that was open has time to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from dsn.apps.ledgerd.delay import in_background
from dsn.apps.ledgerd.desk import Desk, Operator
from dsn.apps.ledgerd.drand import DrandSource
from dsn.apps.ledgerd.publisher import Publisher
from dsn.apps.ledgerd.witnesses import SALT_S, Witness, gather_salts
from dsn.ledger.bodies import OpenEpoch, ShutEpoch
from dsn.ledger.cells import NetworkCell, Phase
from dsn.ledger.log import TreeHead
from dsn.ledger.state import FIRST_EPOCH
from dsn.ports import Clock
from dsn.proofs.beacon import next_value
from dsn.proofs.drand import drand_evidence, drand_value
from dsn.store.files import write_atomic

RETRY_S: Final = 1.0
"""Between two times that witnesses are asked for salts, if too few gave one."""
Sleep = Callable[[float], Awaitable[None]]
_log = structlog.get_logger("ledger")


class Timekeeper:
    """Opens and shuts epochs."""

    def __init__(
        self,
        desk: Desk,
        operator: Operator,
        publisher: Publisher,
        witnesses: Sequence[Witness],
        *,
        clock: Clock,
        file: Path,
        drand: DrandSource,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Keep time on the ledger.

        Args:
            desk: Tells where time stands.
            operator: Signs.
            publisher: Has every step cosigned before the next.
            witnesses: Give salts.
            clock: How long an epoch has been open.
            file: Remembers when the epoch was opened.
            drand: Where rounds come from, if the network's beacons are drand's.
            sleep: Waits.
        """
        self._desk, self._operator, self._publisher = desk, operator, publisher
        self._witnesses, self._clock, self._file = witnesses, clock, file
        self._params, self._sleep, self._drand = operator.params, sleep, drand
        self.doing = "starting"
        """For people: what it waits for."""

    async def run(self) -> None:
        """Keep time for good."""
        while True:
            await self.step()

    async def step(self) -> None:
        """Open the next epoch, or wait out and shut the one that is open."""
        network = await self._desk.ask(self._desk.books.network)
        if network.phase is Phase.SHUT:
            await self._open(network)
        else:
            await self._shut(network.epoch)

    async def _open(self, network: NetworkCell) -> None:
        """Have a beacon for the log that closed, once witnesses have seen that log."""
        epoch, closed = network.epoch, network.closed
        if epoch > FIRST_EPOCH:
            closed = await self._desk.ask(self._desk.books.closed)
            self.doing = f"waiting for cosignatures of the end of epoch {epoch - 1}"
            await self._publisher.covers(closed.size)
        value, evidence = await self._beacon(network, closed)
        await self._operator.enter(OpenEpoch(epoch, closed, value, evidence))
        _log.info("epoch opened", epoch=epoch)

    async def _beacon(self, network: NetworkCell, closed: TreeHead) -> tuple[bytes, bytes]:
        """The value of the next epoch, and its evidence."""
        params, epoch, due = self._params, network.epoch, network.round
        if params.drand is not None and due:
            self.doing = f"waiting for round {due} of drand"
            evidence = drand_evidence(due, await self._drand.signature(params.drand, due))
            return drand_value(params.domain.network, epoch, evidence), evidence
        self.doing = f"making the beacon of epoch {epoch}"
        make = partial(next_value, params.domain.network, epoch, closed.root)
        return await in_background(
            partial(make, iterations=params.vdf_iterations, bits=params.vdf_bits)
        )

    async def _shut(self, epoch: int) -> None:
        """Wait until the epoch is over for everybody, then freeze the inventories."""
        self.doing = f"waiting for cosignatures of the beginning of epoch {epoch}"
        await self._publisher.covers(self._desk.size)
        self.doing = f"epoch {epoch} is open"
        await self._sleep(self._left_s(epoch))
        patience_s = min(SALT_S, self._params.salt_ms / 2_000)
        while True:
            # Salts grow stale, so nothing else is on its way to the witnesses meanwhile.
            async with self._publisher.alone():
                salts = await gather_salts(self._witnesses, epoch, timeout_s=patience_s)
                if len(salts) >= self._params.quorum:
                    end = await self._operator.enter_last(ShutEpoch(epoch, salts))
                    await self._publisher.publish(end)
                    break
            self.doing = f"{len(salts)} of {self._params.quorum} salts to shut epoch {epoch}"
            _log.warning("no quorum", epoch=epoch, salts=len(salts), needed=self._params.quorum)
            await self._sleep(RETRY_S)
        _log.info("epoch shut", epoch=epoch)

    def _left_s(self, epoch: int) -> float:
        """Seconds until ``epoch`` may be shut; it begins when it is first asked about.

        One that an earlier process opened stays open for ``open_s`` more at least: nobody could
        prove it while there was no ledger.
        """
        now_s, span_s = self._clock.now_s(), self._params.epoch_s
        try:
            known, opened_s = map(float, self._file.read_text("ascii").split())
        except (OSError, ValueError):
            known, opened_s = 0.0, now_s
        if known != epoch or opened_s > now_s:
            opened_s = now_s
            write_atomic(self._file, f"{epoch} {opened_s}\n".encode("ascii"))
        return max(self._params.open_s, opened_s + span_s - now_s)
