"""The witness's judgement: which checkpoints it cosigns, and what it keeps against others.

It cosigns what it found itself by replaying every entry, never two contents of one size, and
never a shut of an epoch that nobody dated. It does no I/O but on its own files; what it needs of
the ledger it asks for by path, so whoever drives it decides how that is fetched.

Spec: docs/spec/economy.md#witnesses.
"""

from __future__ import annotations

from typing import Final, NamedTuple, NoReturn

from dsn.apps.ledger.engine import Turning
from dsn.apps.witness.files import WitnessFiles
from dsn.apps.witness.replica import Departure, Replica
from dsn.apps.witness.served import Course, ServedLog
from dsn.core.keys import SigningKey
from dsn.errors import DsnError, InvalidProof, PeerError
from dsn.ledger.bodies import SALT_BYTES, OpenEpoch
from dsn.ledger.cells import Phase
from dsn.ledger.checkpoint import (
    Checkpoint,
    NoteSignature,
    SignedCheckpoint,
    format_checkpoint,
    parse_checkpoint,
)
from dsn.ledger.conviction import by_operator
from dsn.ledger.cosignature import cosign, cosigned_at
from dsn.ledger.evidence import accuse
from dsn.ledger.fraud import build_fraud, judge_fraud
from dsn.ledger.log import LogLeaf, build_prefix_proof
from dsn.ledger.rules.signatures import salt_preimage
from dsn.ledger.trust import Trust, witness_key
from dsn.ports import Clock, Entropy
from dsn.wire.status import RetryLater

PUBLISHED: Final = "checkpoint"
"""The path of the newest checkpoint that a quorum cosigned."""
FORKED: Final = "forked_ledger"
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
        cosigned = files.cosigned.checkpoint.size if files.cosigned else 0
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
        return self._replica.head.size

    @property
    def aim(self) -> int:
        """Entries of the newest checkpoint that the operator signed, as far as is known here."""
        return self._files.followed.checkpoint.size if self._files.followed else 0

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
        watch = self._files.watch.given(self._entropy(SALT_BYTES), self._now_ms(), self._params)
        self._files.set_watch(watch)
        preimage = salt_preimage(self._params.domain.network, epoch, watch.salt)
        return watch.salt, self._key.sign(preimage)

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
            RetryLater: ``shut_too_early``, ``salt_missing``, ``salt_stale``: nobody dated a shut.
        """
        aim = by_operator(signed, self._trust)
        self._compare(aim)
        log = ServedLog(aim.checkpoint.head)
        if self.size < self.aim < log.head.size:
            yield from self._check_grown(aim, log)
        while self.size < log.head.size:
            yield from self._advance(aim, log, seen_ms)
        found = self._replica.checkpoint()
        if found != aim.checkpoint:
            raise log.wrong()
        if self.undated:
            self._hear(signed)
        if self.undated and (published := (yield PUBLISHED)):
            self._hear(parse_checkpoint(published))
        if self.undated:
            self._let_through()
        return self._cosign(found, aim)

    def _compare(self, aim: SignedCheckpoint) -> None:
        """Refuse what contradicts the newest known checkpoint, or comes before it."""
        known, size = self._files.followed, aim.checkpoint.size
        if known is None:
            return
        self._check_contradiction(aim, known)
        if size < known.checkpoint.size:
            raise PeerError(
                f"a checkpoint of {size} entries, one of {known.checkpoint.size} was signed before",
                code="ledger_behind",
                evidence=format_checkpoint(known),
            )

    def _check_contradiction(self, one: SignedCheckpoint, known: SignedCheckpoint) -> None:
        """Refuse ``one`` if it contradicts ``known``, as far as this replica can show it."""
        paths, size = [list[bytes]()], one.checkpoint.size
        if 0 < size < known.checkpoint.size == self.size:
            paths.append(build_prefix_proof(self._replica.hashes, size, self.size))
        for path in paths:
            try:
                evidence = accuse(one, known, self._trust.operator, path)
            except InvalidProof:
                continue
            self._convict(FORKED, "two checkpoints contradict each other", one, evidence.encode())

    def _check_grown(self, aim: SignedCheckpoint, log: ServedLog) -> Course[None]:
        """Check that the log begins with the one that was followed before."""
        known = self._files.followed
        assert known is not None
        root, path = yield from log.prefix(known.checkpoint.size)
        if root != known.checkpoint.root:
            evidence = accuse(aim, known, self._trust.operator, path).encode()
            self._convict(FORKED, "the log does not begin as it did", aim, evidence)

    def _advance(self, aim: SignedCheckpoint, log: ServedLog, seen_ms: int) -> Course[None]:
        """Replay one more bundle, once it is known to be in the log."""
        leaves = yield from log.leaves(self.size)
        grown = self._replica.head_with(leaves)
        root = log.head.root
        if grown.size < log.head.size:
            root, _ = yield from log.prefix(grown.size)
        if grown.root != root:
            if 0 < self.aim < log.head.size:
                yield from self._check_grown(aim, log)
            raise log.wrong()
        if aim != self._files.followed:
            self._files.follow(aim)
        try:
            turnings = self._replica.follow(leaves, aim.checkpoint)
        except Departure as departure:
            yield from self._depart(aim, log, leaves, departure)
        else:
            for each in turnings:
                self._turn(each, seen_ms)

    def _depart(
        self, aim: SignedCheckpoint, log: ServedLog, leaves: list[LogLeaf], departure: Departure
    ) -> Course[NoReturn]:
        """Make a proof of the step that does not follow, of hashes that nobody vouches for."""
        at, start = departure, self.size

        def leaf(index: int) -> LogLeaf:
            return leaves[index - start] if index >= start else self._replica.leaf(index)

        fraud = yield from log.build(
            lambda hashes: build_fraud(at.before, at.index, leaf, aim, hashes)
        )
        try:
            judge_fraud(fraud, self._trust)
        except DsnError as error:
            raise log.wrong() from error
        reason = f"entry {at.index}: {at.error.detail_code}: {at.error.message}"
        self._convict("wrong_entry", reason, aim, fraud.encode())

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
        if self._files.followed is not None:
            self._check_contradiction(by_operator(signed, self._trust), self._files.followed)
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

    def _convict(self, code: str, reason: str, aim: SignedCheckpoint, evidence: bytes) -> NoReturn:
        file = self._files.keep_evidence(code, aim.checkpoint.size, evidence)
        raise PeerError(
            f"the ledger at {aim.checkpoint.size} entries: {reason}",
            code=code,
            hint=f"the witness keeps {file.name}: 'dsn ledger check --evidence' proves it",
            evidence=evidence,
        )

    def _now_ms(self) -> int:
        return int(self._clock.now_s() * 1_000)
