"""Epochs whose beacons are rounds of a drand chain, with a real ledger, witnesses and relay."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dsn.ledger.bodies import OpenEpoch, ShutEpoch
from dsn.ledger.entry import Entry
from dsn.ledger.log import LogLeaf
from dsn.ledger.tiles import decode_bundle
from dsn.proofs.drand import drand_value, fixed_round
from dsn.runtime.clock import SystemClock
from tests.support.drand_chain import own_chain, relay
from tests.support.ledger_net import PATIENCE_S, Served
from tests.support.witness_town import living, reaches

SALT_MS = 3_000
"""This machine may be busy; a round is due that much later."""


async def test_rounds_that_nobody_knew_at_the_shut_open_the_epochs(tmp_path: Path) -> None:
    clock = SystemClock()
    chain = own_chain(int(clock.now_s()) - 100, 1)
    with relay(chain, clock) as rounds:
        town = living(tmp_path, 2, 2, relays=[rounds.url], drand=chain, salt_ms=SALT_MS)
        async with town as (witnesses, served):
            assert await served.next_epoch() == 2
            rounds.lies = True
            served.ticks.go()
            async with asyncio.timeout(PATIENCE_S):
                while not rounds.asked or rounds.asked[-1] == rounds.asked[0]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert served.time().epoch == 3
            rounds.lies = False
            await served.opened(3)
            for number in range(2):
                status = await reaches(witnesses, number, served.ledger.desk.size)
                assert (status["epoch"], status["undated"]) == (3, [])
            shut, opened = await _epochs(served)
    network = served.network.network_id
    for body in (opened[2], opened[3]):
        due = fixed_round([salt.salt for salt in shut[body.epoch - 1].salts])
        assert int.from_bytes(body.evidence[:8], "big") == due
        assert body.value == drand_value(network, body.epoch, body.evidence)


async def _epochs(served: Served) -> tuple[dict[int, ShutEpoch], dict[int, OpenEpoch]]:
    """The shuts and opens in the log, by epoch."""
    size = served.ledger.desk.size
    async with served.peer() as peer:
        raw = await peer.get_tile(f"tile/entries/000.p/{size}")
    bodies = [Entry.decode(LogLeaf.decode(leaf).entry).body for leaf in decode_bundle(raw, size)]
    shut = {each.epoch: each for each in bodies if isinstance(each, ShutEpoch)}
    return shut, {each.epoch: each for each in bodies if isinstance(each, OpenEpoch)}
