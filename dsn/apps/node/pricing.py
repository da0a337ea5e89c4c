"""What a node asks, changed while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dsn.apps.node.terms import TERMS_S, Self, make_terms
from dsn.config import ProviderSettings
from dsn.ports import Clock

PRICES: Final = ("disk", "ingress", "egress", "repair")


class Pricing:
    """Turns prices that a command of its home brings into the node's terms."""

    def __init__(self, me: Self, offered: ProviderSettings, clock: Clock) -> None:
        """Change what ``me`` asks, which is ``offered`` by now."""
        self._me, self._offered, self._clock = me, offered, clock

    def answer(self, words: Sequence[str]) -> dict[str, Any]:
        """Take over prices, each as ``NAME=CREDITS``; what is left out stays.

        Returns:
            Until when, in Unix seconds, deals by the former terms are taken; or an ``error``.
        """
        given = dict(word.partition("=")[::2] for word in words)
        if self._me.payee is None or not all(
            name in PRICES and price.isdecimal() for name, price in given.items()
        ):
            return {"error": "no such price"}
        prices = {f"{name}_price": int(price) for name, price in given.items()}
        self._offered = self._offered.model_copy(update=prices)
        now_s, params = self._clock.now_s(), self._me.payee.ledger.params
        self._me.ask(make_terms(self._offered, params, self._me.payee.key.address), now_s)
        return {"former_until_s": int(now_s) + TERMS_S}
