"""The chain that a network settles on, as the rest of the program sees it.

Any EVM chain will do, reached over any JSON-RPC endpoint: whoever implements this knows nodes,
nonces and gas; whoever uses it knows neither.

Spec: docs/spec/chain.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from dsn.ledger.settlement import Address


@dataclass(frozen=True, slots=True)
class Call:
    """A function of one of the network's contracts, and what it is called with.

    Attributes:
        contract: ``Vault``, ``Dispute``, one of the ``Fraud`` family, or ``TestCredit``: the name
            of what is shipped in ``dsn/rpc/contracts``.
        function: Its name.
        args: Integers, bytes, booleans, lists and tuples (structs), in the order of the ABI.
    """

    contract: str
    function: str
    args: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Happened:
    """An event that a contract logged; ``values`` by name."""

    values: dict[str, Any]
    number: int
    """Of the block."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a call that was sent: in which block it stands, and what it cost."""

    number: int
    gas: int
    hash: bytes


class Chain(Protocol):
    """Reads and writes; every method raises ``Unreachable`` (``chain_unreachable``) if it must."""

    @property
    def account(self) -> Address:
        """Who signs and pays for what is sent."""
        ...

    async def newest(self) -> tuple[int, int]:
        """Number and time (Unix seconds) of the newest block."""
        ...

    async def final(self) -> int:
        """Number of the newest block that is final: as many lie on it as the settings say."""
        ...

    async def balance(self) -> int:
        """Wei of ``account``, to pay for gas with."""
        ...

    async def read(self, call: Call, *, final: bool = False) -> Any:
        """What ``call`` returns, in the newest or the newest final block.

        Raises:
            ChainRefused: It reverts; ``code`` is its reason.
        """
        ...

    async def events(
        self, contract: str, event: str, since: int, *, final: bool
    ) -> tuple[list[Happened], int]:
        """Those in blocks from ``since`` on, and the number to ask from the next time.

        Args:
            contract: As in ``Call``.
            event: Its name.
            since: Number of a block.
            final: Only those that are.
        """
        ...

    async def send(self, call: Call, *, wei: int = 0, final: bool = False) -> Done:
        """Have ``call`` done, signed by this home's key, and wait until it is.

        What a reorganisation of the chain dropped is sent again.

        Args:
            call: What.
            wei: Sent along.
            final: Wait until it is final, too.

        Raises:
            ChainRefused: It reverts; nothing is sent where that can be known before.
            LimitReached: ``not_enough_gas``: ``account`` cannot pay for it.
        """
        ...
