"""What one witness's own clock says of epochs: when it gives a salt, and which shuts it dates.

A shut is dated if a checkpoint over it was brought at most ``salt_ms`` after this witness gave the
salt that stands in it. In that time nobody can compute the beacon that would follow, or drand has
not signed the round that it will be, so whoever ordered the log could not choose among beacons.
Each salt buys one such moment: once it is stale, the same epoch gets a new one, and the old one
dates nothing any more.

Spec: docs/spec/economy.md#witnesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from dsn.core.codec import Reader, Writer
from dsn.ledger.bodies import SALT_BYTES, Salt
from dsn.ledger.params import LedgerParams
from dsn.proofs.drand import fixed_round
from dsn.wire.status import RetryLater

LATE_MOST: Final = 8
LATE_SPAN_EPOCHS: Final = 192
"""So many shuts that no quorum dated are let through in the time of so many epochs.

Without them an operator that died between a shut and its checkpoint could never go on. With them
one that feigns it chooses among beacons in 1 of 24 epochs, and every witness's log says so.
"""


@dataclass(frozen=True, slots=True)
class Watch:
    """What a witness remembers of time, in milliseconds of its own Unix clock.

    Attributes:
        epoch: The newest that it saw open; 0: none.
        opened_ms: When it saw that.
        salt: What it gave to that epoch last; empty: nothing yet.
        given_ms: When it gave that.
        late_ms: When it let an undated shut through; the newest few.
    """

    epoch: int = 0
    opened_ms: int = 0
    salt: bytes = b""
    given_ms: int = 0
    late_ms: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """The fixed encoding, for a file."""
        writer = Writer().u64(self.epoch).u64(self.opened_ms).var(self.salt).u64(self.given_ms)
        writer.u8(len(self.late_ms))
        for each in self.late_ms:
            writer.u64(each)
        return writer.done()

    @classmethod
    def decode(cls, raw: bytes) -> Watch:
        """Read what ``encode`` wrote.

        Raises:
            MalformedMessage: It is something else.
        """
        reader = Reader(raw, "watch")
        epoch, opened_ms, salt = reader.u64(), reader.u64(), reader.var(SALT_BYTES)
        given_ms, late_ms = reader.u64(), tuple(reader.u64() for _ in range(reader.u8()))
        reader.end()
        return cls(epoch, opened_ms, salt, given_ms, late_ms)

    def opened(self, epoch: int, now_ms: int) -> Watch:
        """After ``epoch`` was seen open."""
        return replace(self, epoch=epoch, opened_ms=now_ms, salt=b"", given_ms=0)

    def given(self, fresh: bytes, now_ms: int, params: LedgerParams) -> Watch:
        """After a salt was given: the last one again while it dates a shut, else ``fresh``.

        Raises:
            RetryLater: ``shut_too_early``: the epoch must stay open for longer.
        """
        wait_ms = self.opened_ms + 1_000 * params.open_s - now_ms
        if wait_ms > 0:
            raise RetryLater(
                f"epoch {self.epoch} was opened {(now_ms - self.opened_ms) / 1_000:.1f} s ago, "
                f"{params.open_s} s at least needed",
                retry_after_s=wait_ms / 1_000,
                code="shut_too_early",
            )
        if self.salt and now_ms - self.given_ms <= params.salt_ms:
            return self
        return replace(self, salt=fresh, given_ms=now_ms)

    def doubt(self, salts: Sequence[Salt], own: bytes, seen_ms: int, params: LedgerParams) -> str:
        """Why a shut of this epoch is undated; empty: it is dated.

        Args:
            salts: Those in the shut.
            own: The witness's public key.
            seen_ms: When a checkpoint over it was brought.
            params: The network's.

        Returns:
            ``shut_too_early``, ``salt_missing``, ``salt_stale`` or nothing.
        """
        if seen_ms < self.opened_ms + 1_000 * params.open_s:
            return "shut_too_early"
        if not self.salt or all((s.witness, s.salt) != (own, self.salt) for s in salts):
            return "salt_missing"
        if params.drand and seen_ms >= params.drand.due_ms(fixed_round([s.salt for s in salts])):
            return "salt_stale"
        return "" if seen_ms - self.given_ms <= params.salt_ms else "salt_stale"

    def let_through(self, count: int, now_ms: int, params: LedgerParams) -> Watch | None:
        """After ``count`` undated shuts were let through; nothing if there were too many."""
        since_ms = now_ms - 1_000 * params.epoch_s * LATE_SPAN_EPOCHS
        recent = tuple(each for each in self.late_ms if each > since_ms)
        if len(recent) + count > LATE_MOST:
            return None
        return replace(self, late_ms=recent + (now_ms,) * count)
