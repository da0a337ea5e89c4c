"""Getting in where the address book and the network file do not lead, and letting others in.

What speaks DNS, multicast and BitTorrent is imported only when it is needed: most starts of
most commands need none of it.

Spec: docs/guide/getting-in.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import structlog

from dsn.apps.dht import Dht
from dsn.config import DhtSettings
from dsn.dht.contact import Contact
from dsn.errors import DsnError
from dsn.ports import Clock

if TYPE_CHECKING:
    from dsn.apps.bootstrap.sources import Report

_log = structlog.get_logger("dht")
_RETRY_S: Final = 600.0


class Entrance:
    """Every way into one network that this home's settings open."""

    def __init__(self, dht: Dht, settings: DhtSettings, clock: Clock) -> None:
        """Look for contacts of ``dht``."""
        self._dht, self._settings, self._clock = dht, settings, clock
        self._lan = settings.lan and dht.network.genesis.address_limits

    def look(self) -> AsyncIterator[Report]:
        """Go through the ways in until enough contacts answer; the book hears of all."""
        from dsn.apps.bootstrap import bittorrent, lan
        from dsn.apps.bootstrap.sources import find_contacts, ways_in

        network, book = self._dht.network, self._dht.book
        ways = ways_in(
            network,
            book,
            self._clock,
            dns_names=network.dns,
            dns_server=self._settings.dns_server,
            lan=lan.ALL if self._lan else None,
            bittorrent=bittorrent.PUBLIC if self._settings.bittorrent else None,
        )
        return find_contacts(ways, book, self._dht.ping, self._clock, me=self._dht.table.me)

    async def seek(self) -> int:
        """Look everywhere; how many contacts answered."""
        return len({each.node_id async for report in self.look() for each in report.answered})

    @asynccontextmanager
    async def opened(self, me: Contact, bound: str) -> AsyncIterator[None]:
        """Let others find ``me`` through BitTorrent, and on the LAN at ``bound``, meanwhile."""
        task = asyncio.create_task(self._publish(me)) if self._settings.bittorrent else None
        try:
            if not self._lan:
                yield
                return
            async with _announced(Contact(me.public_key, bound), self._dht):
                yield
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _publish(self, me: Contact) -> None:
        from dsn.apps.bootstrap import bittorrent

        while True:
            wait_s: float = bittorrent.PUBLISH_EVERY_S
            try:
                await bittorrent.publish_by_bittorrent(
                    me, self._dht.network.network_id, self._clock
                )
            except DsnError as error:
                _log.warning("not in the BitTorrent DHT", reason=error.message, hint=error.hint)
                wait_s = _RETRY_S
            await asyncio.sleep(wait_s)


@asynccontextmanager
async def _announced(me: Contact, dht: Dht) -> AsyncIterator[None]:
    """``lan.announced``; a machine without multicast only loses that way in."""
    from dsn.apps.bootstrap import lan

    announcing = lan.announced(me, dht.network.network_id)
    try:
        await announcing.__aenter__()
    except DsnError as error:
        _log.warning("not announced on the LAN", reason=error.message)
        yield
        return
    try:
        yield
    finally:
        await announcing.__aexit__(None, None, None)
