"""What all signed statements that nodes keep for others have in common, and how it is judged.

Spec: docs/spec/network.md#records.
"""

from __future__ import annotations

from typing import Final, Protocol

from dsn.errors import MalformedMessage, PeerError
from dsn.ids import NetworkId

MAX_AHEAD_S: Final = 2 * 3_600
"""How far a sequence may run ahead of the reader's clock: wrong clocks, but no squatting."""
_US: Final = 1_000_000


class Signed(Protocol):
    """A record, or a batch of them."""

    @property
    def network(self) -> NetworkId:
        """The only network where it holds."""
        ...

    @property
    def sequence(self) -> int:
        """Unix microseconds; the higher one wins."""
        ...

    @property
    def expires_s(self) -> int:
        """Unix seconds: the first one at which it holds no more."""
        ...


def check_dates(signed: Signed, network: NetworkId, now_s: float) -> None:
    """Check that ``signed`` (untrusted) holds here and now.

    Args:
        signed: What to judge.
        network: The network that the reader is on.
        now_s: Unix seconds by the reader's clock.

    Raises:
        PeerError: ``other_network``, ``expired``, or ``from_future`` (its sequence is over two
            hours ahead: accepted, it would lock out its own writer).
    """
    if signed.network != network:
        raise PeerError("record: it is of another network", code="other_network")
    if signed.expires_s <= now_s:
        raise PeerError(
            f"record: expired at {signed.expires_s} s, it is {now_s:.0f} s", code="expired"
        )
    check_not_ahead(signed.sequence / _US, now_s)


def check_not_ahead(written_s: float, now_s: float) -> None:
    """Check that a record says it was written (Unix seconds, untrusted) by about now.

    Raises:
        PeerError: ``from_future``.
    """
    if written_s > now_s + MAX_AHEAD_S:
        raise PeerError(
            f"record: written at {written_s:.0f} s, over {MAX_AHEAD_S} s ahead of {now_s:.0f} s",
            code="from_future",
            hint="check both clocks",
        )


def check_size(size_bytes: int, most_bytes: int) -> None:
    """Check that bytes to read (untrusted) are not too many to be looked at.

    Raises:
        MalformedMessage: ``too_large``.
    """
    if size_bytes > most_bytes:
        raise MalformedMessage(
            f"record: {size_bytes} bytes, at most {most_bytes} allowed", code="too_large"
        )
