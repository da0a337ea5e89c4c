"""Getting in by the public BitTorrent DHT: a place where strangers can leave a note (BEP 44).

An extra, off by default: whoever looks there tells strangers that its address has to do with
this network, and anybody can write over the note.

Spec: docs/guide/getting-in.md#bittorrent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dsn.apps.bootstrap.found import Found
from dsn.apps.bootstrap.note import Sighting, decode_note, encode_note, expand_seed, note_seed
from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact
from dsn.errors import ConfigError, MalformedMessage, TimedOut, Unreachable
from dsn.ids import NetworkId
from dsn.ports import Clock

if TYPE_CHECKING:
    import libtorrent

FIND_S: Final = 30.0
PUBLISH_S: Final = 60.0
"""A BitTorrent node that is gone holds a search up for 15 s, and a note takes two searches."""
PUBLISH_EVERY_S: Final = 3_600
"""BitTorrent nodes forget an item after two hours."""
GRACE_S: Final = 1.0
"""How long a newer note is waited for once there is one."""
_PACKETS: Final = 5
"""Packets a second after which libtorrent shuts an address out: its own bound."""
_ANY_PACKETS: Final = 100_000
_WAIT_MS: Final = 100
_NO_SALT: Final = b""
_HINT: Final = "check that UDP gets out"


@dataclass(frozen=True, slots=True)
class Entrance:
    """Where the BitTorrent DHT is entered.

    ``listen`` and ``routers`` are lists of ``address:port`` with commas; ``address_limits`` is
    off where all of its nodes share addresses (loopback).
    """

    listen: str = "0.0.0.0:0,[::]:0"
    routers: str = "dht.libtorrent.org:25401,router.bittorrent.com:6881"
    address_limits: bool = True


PUBLIC: Final = Entrance()


class Meeting:
    """The note of one network, through a libtorrent session; made by ``meeting``."""

    def __init__(self, session: libtorrent.session, network: NetworkId, clock: Clock) -> None:
        """Read and write the note of ``network`` through ``session``."""
        seed = note_seed(network)
        self._session, self._clock = session, clock
        self._public, self._private = SigningKey(seed).public, expand_seed(seed)
        self._settled = False
        self._alone = asyncio.Lock()

    async def find(self, timeout_s: float = FIND_S) -> Found:
        """Whom the note names, the newest first."""
        try:
            async with self._alone, asyncio.timeout(timeout_s):
                sightings = await self._read()
        except TimeoutError:
            return Found(problems=(_no_answer(timeout_s),))
        except MalformedMessage as error:
            return Found(problems=(error.message,))
        problems = () if sightings else ("no note of this network was found",)
        return Found(tuple(each.contact for each in sightings), problems)

    async def publish(self, contact: Contact, timeout_s: float = PUBLISH_S) -> int:
        """Put ``contact`` first in the note; to be done anew every ``PUBLISH_EVERY_S``.

        Returns:
            How many BitTorrent nodes took it.

        Raises:
            TransportError: Nobody did (``unreachable``), or not in time.
        """
        others: list[Sighting] = []
        try:
            async with self._alone, asyncio.timeout(timeout_s):
                with suppress(MalformedMessage):  # what cannot be read is written over
                    others = await self._read()
                mine = Sighting(contact, int(self._clock.now_s()))
                taken = await self._write(encode_note([mine, *others]))
        except TimeoutError as error:
            raise TimedOut(_no_answer(timeout_s), hint=_HINT) from error
        if not taken:
            raise Unreachable("nobody in the BitTorrent network took the note", hint=_HINT)
        return taken

    def leave(self) -> None:
        """Let the session go, which waits for its threads."""
        del self._session

    async def _read(self) -> list[Sighting]:
        """Before the session has settled, to find nothing only means to ask again."""
        while not self._session.is_dht_running():
            await self._alerts(lambda alert: None)
        while not (note := await self._get()) and not self._settled:
            await self._alerts(lambda alert: None)
        return decode_note(note, self._clock.now_s()) if note else []

    async def _get(self) -> bytes:
        newest, all_asked = (0, b""), False

        def take(alert: Any) -> None:
            nonlocal newest, all_asked
            if alert.what() == "dht_mutable_item":
                all_asked = alert.authoritative
                if isinstance(alert.item, bytes):
                    newest = max(newest, (alert.seq, alert.item))

        self._session.dht_get_mutable_item(self._public, _NO_SALT)
        enough_s = float("inf")
        while not all_asked and self._clock.monotonic_s() < enough_s:
            await self._alerts(take)
            if newest[1]:
                enough_s = min(enough_s, self._clock.monotonic_s() + GRACE_S)
        return newest[1]

    async def _write(self, note: bytes) -> int:
        taken: list[int] = []

        def take(alert: Any) -> None:
            if alert.what() == "dht_put":
                taken.append(alert.num_success)

        self._session.dht_put_mutable_item(self._private, self._public, note, _NO_SALT)
        while not taken:
            await self._alerts(take)
        return taken[0]

    async def _alerts(self, take: Callable[[Any], None]) -> None:
        """Show ``take`` what happened; an alert is gone with the next ``pop_alerts``."""
        await asyncio.to_thread(self._session.wait_for_alert, _WAIT_MS)
        for alert in self._session.pop_alerts():
            self._settled = self._settled or alert.what() == "dht_bootstrap"
            take(alert)


@asynccontextmanager
async def meeting(
    network: NetworkId, clock: Clock, *, entrance: Entrance = PUBLIC, visit: bool = False
) -> AsyncIterator[Meeting]:
    """Take part in the BitTorrent DHT while the context is open.

    Args:
        network: Whose note is read and written.
        clock: Dates what is written.
        entrance: Where to begin.
        visit: Whether to ask only, as one who will soon be gone (BEP 43); else others are
            answered as well, which is what those who publish owe.

    Raises:
        ConfigError: ``missing_extra``: libtorrent is not installed.
    """
    opened = Meeting(_open(entrance, visit), network, clock)
    try:
        yield opened
    finally:
        await asyncio.to_thread(opened.leave)


async def find_by_bittorrent(
    network: NetworkId, clock: Clock, *, entrance: Entrance = PUBLIC, timeout_s: float = FIND_S
) -> Found:
    """Read the note of ``network`` on a short visit; raises as ``meeting``."""
    async with meeting(network, clock, entrance=entrance, visit=True) as opened:
        return await opened.find(timeout_s)


async def publish_by_bittorrent(
    contact: Contact, network: NetworkId, clock: Clock, *, entrance: Entrance = PUBLIC
) -> int:
    """Put ``contact`` first in the note of ``network``, once; raises and returns as ``publish``."""
    async with meeting(network, clock, entrance=entrance) as opened:
        return await opened.publish(contact)


def _no_answer(timeout_s: float) -> str:
    return f"no answer from the BitTorrent network within {timeout_s:g} s"


def _open(entrance: Entrance, visit: bool) -> libtorrent.session:
    try:
        import libtorrent
    except ImportError as error:
        raise ConfigError(
            "the BitTorrent network needs libtorrent",
            code="missing_extra",
            hint="pip install 'dsn[bittorrent]'",
        ) from error
    limits = entrance.address_limits
    settings: libtorrent.settings_pack = {
        "alert_mask": libtorrent.alert.category_t.dht_notification,
        "listen_interfaces": entrance.listen,
        "dht_bootstrap_nodes": entrance.routers,
        "dht_read_only": visit,
        "dht_restrict_routing_ips": limits,
        "dht_restrict_search_ips": limits,
        "dht_ignore_dark_internet": limits,
        "dht_prefer_verified_node_ids": limits,
        "dht_block_ratelimit": _PACKETS if limits else _ANY_PACKETS,
        # the rest is for torrents
        "enable_lsd": False,
        "enable_natpmp": False,
        "enable_upnp": False,
        "enable_incoming_tcp": False,
        "enable_outgoing_tcp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
    }
    return libtorrent.session(settings)
