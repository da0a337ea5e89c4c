"""The one checkpoint that a reader believes, and what happens when the next one contradicts it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from dsn.apps.ledger.asking import Asking
from dsn.apps.ledger.reading import prefix_proof
from dsn.errors import ConfigError, DsnError, InvalidProof, PeerError, TransportError
from dsn.ledger.checkpoint import (
    Checkpoint,
    SignedCheckpoint,
    format_checkpoint,
    parse_checkpoint,
    verify_growth,
)
from dsn.ledger.evidence import Contradiction, accuse
from dsn.ledger.log import leaf_hash, verify_inclusion_proof
from dsn.ledger.trust import Trust
from dsn.ports import Clock
from dsn.store.files import PRIVATE_DIRECTORY, write_atomic

EVIDENCE: Final = "evidence"


class Belief:
    """The newest checkpoint that was believed, on disk before anybody acts on it."""

    def __init__(self, file: Path, trust: Trust, ask: Asking, clock: Clock) -> None:
        """Go on from what ``file`` remembers.

        Raises:
            ConfigError: ``bad_checkpoint_file``.
        """
        self._file, self._trust, self._ask, self._clock = file, trust, ask, clock
        self.signed = self._load()

    @property
    def size(self) -> int:
        """Of its log; 0 before anything is believed."""
        return 0 if self.signed is None else self.signed.checkpoint.size

    async def follow(self, signed: SignedCheckpoint) -> Checkpoint:
        """Believe a checkpoint (untrusted) that came without a proof of how the log grew to it.

        Raises:
            As ``adopt``.
        """
        known, new = self.signed, signed.checkpoint
        if known is not None and known.checkpoint == new:
            return new
        path: Sequence[bytes] = ()
        if 0 < self.size < new.size:
            self._trust.verify(signed, int(self._clock.now_s()))
            old_size = self.size
            path = (await self._ask(lambda peer: peer.get_consistency(old_size, new.size))).path
        return await self.adopt(signed, path)

    async def adopt(self, signed: SignedCheckpoint, path: Sequence[bytes]) -> Checkpoint:
        """Believe ``signed`` (untrusted), which ``path`` (untrusted) shows to have grown.

        Raises:
            PeerError: ``forked_ledger``: somebody signed two things that cannot both be true, and
                the evidence is written.
            TransportError: ``ledger_behind``: it is older than what is known.
            InvalidSignature: As ``Trust.verify``.
            InvalidProof: As ``verify_growth``.
        """
        self._trust.verify_operator(signed)
        known, new = self.signed, signed.checkpoint
        if known is not None:
            try:
                verify_growth(known.checkpoint, new, path)
            except InvalidProof as error:
                await self._refuse(known, signed, error)
        self._trust.verify(signed, int(self._clock.now_s()))
        if known is None or new.size > self.size:
            await asyncio.to_thread(self._save, signed)
            self.signed = signed
        return new

    def convict(self, evidence: bytes, reason: str, code: str) -> NoReturn:
        """Keep ``evidence`` beside the checkpoint, and say so.

        Raises:
            PeerError: Always, with ``code``.
        """
        file = beside(self._file, EVIDENCE)
        with suppress(FileExistsError):  # the first is as good
            write_atomic(file, evidence, replace=False)
        raise PeerError(
            f"the ledger contradicts itself: {reason}",
            code=code,
            hint=f"'dsn ledger check --evidence {file}' proves it to anyone; pay nothing here",
            peer=self._ask.name,
            evidence=evidence,
        )

    async def _refuse(
        self, known: SignedCheckpoint, signed: SignedCheckpoint, error: InvalidProof
    ) -> NoReturn:
        """Say why ``signed`` cannot follow ``known``; a fault that is proven comes first."""
        evidence = await self._evidence(known, signed)
        if evidence is not None:
            self.convict(evidence.encode(), error.message, "forked_ledger")
        if error.detail_code == "log_shrunk":
            raise behind(signed.checkpoint, known.checkpoint) from error
        raise error

    async def _evidence(
        self, known: SignedCheckpoint, signed: SignedCheckpoint
    ) -> Contradiction | None:
        """What convicts the operator, or a witness, of having signed both."""
        old, new = known.checkpoint, signed.checkpoint
        paths = [list[bytes]()]
        if 0 < old.size < new.size:
            with suppress(DsnError):  # who cannot show its own log will not help to convict itself
                last = old.size - 1
                reply = await self._ask(lambda peer: peer.get_inclusion(last, new.size))
                digest = leaf_hash(reply.leaf)
                verify_inclusion_proof(new.head, last, digest, reply.path)
                paths.append(prefix_proof(old.size, digest, reply.path))
        for key in (self._trust.operator, *self._trust.quorum.witnesses):
            for path in paths:
                with suppress(PeerError):
                    return accuse(known, signed, key, path)
        return None

    def _load(self) -> SignedCheckpoint | None:
        try:
            signed = parse_checkpoint(self._file.read_bytes())
            self._trust.verify_operator(signed)
        except FileNotFoundError:
            return None
        except PeerError as error:
            raise ConfigError(
                f"{self._file} is no checkpoint of this ledger: {error.message}",
                code="bad_checkpoint_file",
                hint="remove it, and the next checkpoint is taken as the first",
            ) from error
        return signed

    def _save(self, signed: SignedCheckpoint) -> None:
        self._file.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        write_atomic(self._file, format_checkpoint(signed))


def behind(shown: Checkpoint, known: Checkpoint) -> TransportError:
    """The error for a ledger that shows less than it did."""
    return TransportError(
        f"the ledger shows {shown.size} entries, {known.size} were cosigned before",
        code="ledger_behind",
        hint="it may be catching up: try again later",
    )


def beside(file: Path, what: str) -> Path:
    """Another file about the same, next to ``file``."""
    return file.with_name(f"{file.name}.{what}")
