"""The witness's judgement: which checkpoints it cosigns, and what it keeps against others.

It cosigns what it found itself by replaying every entry, never two contents of one size, and
never a shut of an epoch that nobody dated.

Spec: docs/spec/economy.md#witnesses.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dsn.apps.ledger.engine import Turning
from dsn.apps.witness.claims import check_claim, claim_in, claim_path
from dsn.apps.witness.files import WitnessFiles
from dsn.apps.witness.follower import Follower
from dsn.apps.witness.replica import Replica
from dsn.apps.witness.served import Course
from dsn.core.keys import SigningKey
from dsn.errors import NotFound, PeerError
from dsn.ledger.bodies import SALT_BYTES, OpenEpoch
from dsn.ledger.cells import Phase
from dsn.ledger.checkpoint import (
    Checkpoint,
    NoteSignature,
    SignedCheckpoint,
    parse_checkpoint,
)
from dsn.ledger.conviction import by_operator
from dsn.ledger.cosignature import cosign, cosigned_at
from dsn.ledger.rules.signatures import salt_preimage
from dsn.ledger.tiles import TILE_WIDTH, Resource
from dsn.ledger.trust import Trust, witness_key
from dsn.ports import Clock, Entropy
from dsn.proofs.drand import ROUND_BYTES, salt_for
from dsn.wire.status import RetryLater

PUBLISHED: Final = "checkpoint"
"""The path of the newest checkpoint that a quorum cosigned."""
NOT_OPEN_RETRY_S: Final = 0.2


class Undated(NamedTuple):
    """A shut, as leaf ``leaf``, that this witness cannot date, and why."""

    leaf: int
    epoch: int
    doubt: str
    seen_ms: int


class Judge:
    """One witness; blocks as its store does, and does one thing at a time."""

    def __init__(
        self,
        key: SigningKey,
        trust: Trust,
        replica: Replica,
        files: WitnessFiles,
        *,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """Go on where ``replica`` and ``files`` end."""
        self._key, self._note_key, self._trust = key, witness_key(key.public), trust
        self._params, self._clock, self._entropy = trust.params, clock, entropy
        self._replica, self._files = replica, files
        self._follower = Follower(trust, replica, files)
        cosigned = files.cosigned.checkpoint.size if files.cosigned else 0
        self._claimed = min(cosigned, self.size)
        now_ms = self._now_ms()
        self.undated = [
            Undated(each.index, each.body.epoch, "salt_stale", now_ms)
            for each in replica.turnings(cosigned)
            if not isinstance(each.body, OpenEpoch)
        ]
        network = replica.state.network
        if network.phase is Phase.OPEN and network.epoch != files.watch.epoch:
            files.set_watch(files.watch.opened(network.epoch, now_ms))

    @property
    def size(self) -> int:
        """Entries that were replayed."""
        return self._follower.size

    @property
    def aim(self) -> int:
        """Entries of the newest checkpoint that the operator signed, as far as is known here."""
        return self._follower.aim

    def resource(self, resource: Resource) -> bytes:
        """A tile or bundle (untrusted) of its own copy; raises ``no_such_tile``."""
        return self._replica.resource(resource)

    def leaf(self, index: int) -> bytes:
        """Leaf ``index`` (untrusted) of its own copy.

        Raises:
            NotFound: ``unknown_entry``.
        """
        if index >= self.size:
            raise NotFound(f"entry {index}: the log has {self.size}", code="unknown_entry")
        return self._replica.leaf(index).encode()

    def status(self) -> dict[str, object]:
        """How it stands, for people."""
        network, cosigned = self._replica.state.network, self._files.cosigned
        return {
            "size": self.size,
            "of": self.aim,
            "epoch": network.epoch,
            "phase": network.phase.name.lower(),
            "cosigned": cosigned.checkpoint.size if cosigned else 0,
            "cosigned_s": self._last_s(),
            "undated": [each.epoch for each in self.undated],
            "let_through": len(self._files.watch.late_ms),
        }

    def salt(self, epoch: int) -> tuple[bytes, bytes]:
        """This witness's salt for ``epoch`` and its signature; only the operator may have it.

        Raises:
            RetryLater: ``epoch_not_open``: not as far as was replayed; or as ``Watch.given``.
        """
        network = self._replica.state.network
        if (network.phase, network.epoch) != (Phase.OPEN, epoch):
            raise RetryLater(
                f"epoch {epoch} is not open here, {network.epoch} is {network.phase.name.lower()}",
                retry_after_s=NOT_OPEN_RETRY_S,
                code="epoch_not_open",
            )
        now_ms = self._now_ms()
        watch = self._files.watch.given(self._fresh_salt(now_ms), now_ms, self._params)
        self._files.set_watch(watch)
        preimage = salt_preimage(self._params.domain.network, epoch, watch.salt)
        return watch.salt, self._key.sign(preimage)

    def _fresh_salt(self, now_ms: int) -> bytes:
        """Random; where drand gives the beacons it begins with a round that is not due soon."""
        chain = self._params.drand
        if chain is None:
            return self._entropy(SALT_BYTES)
        due = chain.after(now_ms + self._params.salt_ms)
        return salt_for(due, self._entropy(SALT_BYTES - ROUND_BYTES))

    def consider(self, signed: SignedCheckpoint, seen_ms: int) -> Course[NoteSignature]:
        """Follow the log to a checkpoint, and cosign it.

        Args:
            signed: By the operator, with both keys; that was checked. Other lines are untrusted.
            seen_ms: When it was brought, in Unix milliseconds.

        Returns:
            The line of this witness, on its disk already.

        Raises:
            PeerError: ``ledger_behind``, with the newest checkpoint as evidence. With evidence
                that convicts the operator: ``forked_ledger``, ``wrong_entry``. Without:
                ``wrong_leaves``, ``malformed_message``: what it serves is not what it signed.
                The chain says otherwise: ``unknown_deposit``, ``unknown_slash``.
            RetryLater: ``shut_too_early``, ``salt_missing``, ``salt_stale``: nobody dated a shut.
        """
        aim = by_operator(signed, self._trust)
        found = yield from self._follower.follow(aim, lambda each: self._turn(each, seen_ms))
        if self._params.settles:
            yield from self._check_claims()
        if self.undated:
            self._hear(signed)
        if self.undated and (published := (yield PUBLISHED)):
            self._hear(parse_checkpoint(published))
        if self.undated:
            self._let_through()
        return self._cosign(found, aim)

    def _check_claims(self) -> Course[None]:
        """Ask the chain about every entry in its name that this witness has not vouched for."""
        while self._claimed < self.size:
            end = min(self.size, self._claimed + TILE_WIDTH)
            for leaf in tuple(self._replica.leaves(self._claimed, end)):
                if claim := claim_in(leaf):
                    check_claim(claim, (yield claim_path(claim)))
                self._claimed += 1

    def _turn(self, turning: Turning, seen_ms: int) -> None:
        """Note that an epoch began, or judge by the clock whether it ended in time."""
        watch, body = self._files.watch, turning.body
        if isinstance(body, OpenEpoch):
            self._files.set_watch(watch.opened(body.epoch, self._now_ms()))
            return
        doubt = "salt_missing"
        if watch.epoch == body.epoch:
            doubt = watch.doubt(body.salts, self._key.public, seen_ms, self._params)
        if doubt:
            self.undated.append(Undated(turning.index, body.epoch, doubt, seen_ms))

    def _hear(self, signed: SignedCheckpoint) -> None:
        """Take the word of a quorum for the shuts that it cosigned (``signed`` is untrusted)."""
        try:
            self._trust.verify(signed, int(self._clock.now_s()))
        except PeerError:
            return
        head = signed.checkpoint.head
        self._follower.check_contradiction(by_operator(signed, self._trust))
        if 0 < head.size <= self.size and self._replica.head_at(head.size) == head:
            self.undated = [each for each in self.undated if each.leaf >= head.size]

    def _let_through(self) -> None:
        """Go on without a date, rarely, once a quorum had time to come to one."""
        newest, now_ms = self.undated[-1], self._now_ms()
        wait_ms = newest.seen_ms + 1_000 * self._params.open_s - now_ms
        watch = self._files.watch.let_through(len(self.undated), now_ms, self._params)
        if wait_ms > 0 or watch is None:
            raise RetryLater(
                f"this witness cannot date the shut of epoch {newest.epoch}, "
                f"{len(self._files.watch.late_ms)} were let through lately",
                retry_after_s=max(1.0, wait_ms / 1_000),
                code=newest.doubt,
                hint="once a quorum cosigned it, this one follows",
            )
        self._files.set_watch(watch)

    def _cosign(self, found: Checkpoint, aim: SignedCheckpoint) -> NoteSignature:
        now_s = max(int(self._clock.now_s()), self._last_s())
        line = cosign(found, self._note_key, self._key.sign, now_s)
        self._files.cosign(aim.signed(line))
        self.undated = []
        return line

    def _last_s(self) -> int:
        """When it last cosigned; 0: never."""
        cosigned = self._files.cosigned
        return (cosigned_at(cosigned, self._note_key) or 0) if cosigned else 0

    def _now_ms(self) -> int:
        return int(self._clock.now_s() * 1_000)
