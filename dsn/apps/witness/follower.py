"""Following a log by replaying it: whatever does not follow from what came before is refused.

It does no I/O but on its own files; what it needs of the ledger it asks for by path, so whoever
drives it decides how that is fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn, TypeAlias

from dsn.apps.ledger.engine import Turning
from dsn.apps.witness.files import ReplayFiles
from dsn.apps.witness.replica import Departure, Replica
from dsn.apps.witness.served import Course, ServedLog
from dsn.errors import DsnError, InvalidProof, PeerError
from dsn.ledger.checkpoint import Checkpoint, SignedCheckpoint, format_checkpoint
from dsn.ledger.evidence import accuse
from dsn.ledger.fraud import build_fraud, judge_fraud
from dsn.ledger.log import LogLeaf, build_prefix_proof
from dsn.ledger.trust import Trust

FORKED: Final = "forked_ledger"
Turned: TypeAlias = Callable[[Turning], None]
"""Told of each epoch that began or ended, once it is replayed and on disk."""


class Follower:
    """Takes a replica from one checkpoint to the next; blocks as its store does."""

    def __init__(self, trust: Trust, replica: Replica, files: ReplayFiles) -> None:
        """Go on where ``replica`` and ``files`` end."""
        self._trust, self.replica, self._files = trust, replica, files

    @property
    def size(self) -> int:
        """Entries that were replayed."""
        return self.replica.head.size

    @property
    def aim(self) -> int:
        """Entries of the newest checkpoint that the operator signed, as far as is known here."""
        return self._files.followed.checkpoint.size if self._files.followed else 0

    def follow(self, aim: SignedCheckpoint, turned: Turned) -> Course[Checkpoint]:
        """Replay the log up to a checkpoint.

        Args:
            aim: By the operator, with both keys; that was checked. No other lines.
            turned: Told of epochs on the way.

        Returns:
            What was found, which is what ``aim`` says.

        Raises:
            PeerError: ``ledger_behind``, with the newest checkpoint as evidence. With evidence
                that convicts the operator: ``forked_ledger``, ``wrong_entry``. Without:
                ``wrong_leaves``, ``malformed_message``: what it serves is not what it signed.
        """
        self._compare(aim)
        log = ServedLog(aim.checkpoint.head)
        if self.size < self.aim < log.head.size:
            yield from self._check_grown(aim, log)
        while self.size < log.head.size:
            yield from self._advance(aim, log, turned)
        found = self.replica.checkpoint()
        if found != aim.checkpoint:
            raise log.wrong()
        return found

    def _compare(self, aim: SignedCheckpoint) -> None:
        """Refuse what contradicts the newest known checkpoint, or comes before it."""
        known, size = self._files.followed, aim.checkpoint.size
        if known is None:
            return
        self.check_contradiction(aim)
        if size < known.checkpoint.size:
            raise PeerError(
                f"a checkpoint of {size} entries, one of {known.checkpoint.size} was signed before",
                code="ledger_behind",
                evidence=format_checkpoint(known),
            )

    def check_contradiction(self, one: SignedCheckpoint) -> None:
        """Refuse ``one``, by the operator, if it contradicts the newest known checkpoint.

        That is, as far as this replica can show it.

        Raises:
            PeerError: ``forked_ledger``, with evidence that convicts the operator.
        """
        known = self._files.followed
        if known is None:
            return
        paths, size = [list[bytes]()], one.checkpoint.size
        if 0 < size < known.checkpoint.size == self.size:
            paths.append(build_prefix_proof(self.replica.hashes, size, self.size))
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

    def _advance(self, aim: SignedCheckpoint, log: ServedLog, turned: Turned) -> Course[None]:
        """Replay one more bundle, once it is known to be in the log."""
        leaves = yield from log.leaves(self.size)
        grown = self.replica.head_with(leaves)
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
            turnings = self.replica.follow(leaves, aim.checkpoint)
        except Departure as departure:
            yield from self._depart(aim, log, leaves, departure)
        else:
            for each in turnings:
                turned(each)

    def _depart(
        self, aim: SignedCheckpoint, log: ServedLog, leaves: list[LogLeaf], departure: Departure
    ) -> Course[NoReturn]:
        """Make a proof of the step that does not follow, of hashes that nobody vouches for."""
        at, start = departure, self.size

        def leaf(index: int) -> LogLeaf:
            return leaves[index - start] if index >= start else self.replica.leaf(index)

        fraud = yield from log.build(
            lambda hashes: build_fraud(at.before, at.index, leaf, aim, hashes)
        )
        try:
            judge_fraud(fraud, self._trust)
        except DsnError as error:
            raise log.wrong() from error
        reason = f"entry {at.index}: {at.error.detail_code}: {at.error.message}"
        self._convict("wrong_entry", reason, aim, fraud.encode())

    def _convict(self, code: str, reason: str, aim: SignedCheckpoint, evidence: bytes) -> NoReturn:
        file = self._files.keep_evidence(code, aim.checkpoint.size, evidence)
        raise PeerError(
            f"the ledger at {aim.checkpoint.size} entries: {reason}",
            code=code,
            hint=f"{file.name} is kept: 'dsn ledger check --evidence' proves it",
            evidence=evidence,
        )
