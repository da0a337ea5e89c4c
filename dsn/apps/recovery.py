"""What the phrase alone brings back: a home's deals with nodes, and its names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dsn.apps.client_parts import Parts
from dsn.apps.names import Catalogue
from dsn.apps.results import NoticeSink, RecoverResult
from dsn.errors import TransportError
from dsn.ids import format_node_id


async def recover(
    parts: Parts, load: Callable[[], Awaitable[Catalogue]], notice: NoticeSink
) -> RecoverResult:
    """Find deals again, then read the names: what is read under a deal is paid from it.

    Args:
        parts: Of the client.
        load: Reads the catalogue.
        notice: Told why deals could not be looked for; the names come back without them.

    Raises:
        As ``load``.
    """
    deals, missing = 0, 0
    try:
        deals, missing = await parts.deals.recover()
    except TransportError as error:
        notice(f"deals were not looked for: {error.message}; 'dsn recover' does it later")
    entries = (await load()).entries.values()
    size = sum(entry.size for entry in entries)
    return RecoverResult(format_node_id(parts.dht.table.me), len(entries), size, deals, missing)
