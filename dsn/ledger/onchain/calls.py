"""A function of one of the network's contracts, and what it is called with.

Spec: docs/spec/chain.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class OnChain(NamedTuple):
    """What somebody is to have done on the chain; who sends it, and pays, is the caller's matter.

    ``args`` are integers, bytes, booleans, lists and tuples (structs), in the order of the ABI.
    """

    contract: str
    function: str
    args: tuple[Any, ...] = ()
