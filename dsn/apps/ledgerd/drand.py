"""Rounds of drand, fetched when they are due; nothing of them is believed unchecked."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from functools import partial
from typing import Final
from urllib.request import urlopen

import structlog

from dsn.errors import MalformedMessage
from dsn.ports import Clock
from dsn.proofs.drand import DrandChain, is_signed

TIMEOUT_S: Final = 5.0
RETRY_S: Final = 1.0
"""Between two attempts; a round appears a moment after it is due."""
MAX_REPLY_BYTES: Final = 4_096
_log = structlog.get_logger("ledger")


class DrandSource:
    """Asks relays over HTTP, one after another, until one has the round."""

    def __init__(self, urls: Sequence[str], clock: Clock) -> None:
        """Ask at ``urls``, each of which ends in the chain's hash; ``clock`` says what is due."""
        self._urls, self._clock = urls, clock

    async def signature(self, chain: DrandChain, number: int) -> bytes:
        """The signature of round ``number``, which is awaited if it is not due yet."""
        wait_s = chain.due_ms(number) / 1_000 - self._clock.now_s()
        await asyncio.sleep(max(0.0, wait_s))
        for url in itertools.cycle(self._urls):
            try:
                signature = await asyncio.to_thread(_fetch, f"{url.rstrip('/')}/public/{number}")
                if await asyncio.to_thread(partial(is_signed, chain.key, number, signature)):
                    return signature
                _log.warning("drand", relay=url, round=number, reason="the round is not signed")
            except (OSError, ValueError, RecursionError, MalformedMessage) as error:
                _log.warning("drand", relay=url, round=number, reason=str(error))
            await asyncio.sleep(RETRY_S)
        raise AssertionError("settings name a relay at least")


def _fetch(url: str) -> bytes:
    """The signature in a relay's reply (untrusted).

    Raises:
        OSError: No reply.
        ValueError: It is no JSON, or has no signature.
        MalformedMessage: It is longer than any reply.
    """
    with urlopen(url, timeout=TIMEOUT_S) as reply:
        raw = reply.read(MAX_REPLY_BYTES + 1)
    if len(raw) > MAX_REPLY_BYTES:
        raise MalformedMessage(f"a reply of more than {MAX_REPLY_BYTES} bytes")
    said = json.loads(raw)
    if not isinstance(said, dict) or not isinstance(said.get("signature"), str):
        raise ValueError("a reply without a signature")
    return bytes.fromhex(said["signature"])
