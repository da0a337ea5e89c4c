"""The network's witnesses as its ledger sees them; nothing they say is believed unchecked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

import structlog

from dsn.core.keys import verify_signature
from dsn.dht.contact import Contact
from dsn.errors import DsnError, InvalidSignature, Unreachable
from dsn.ledger.bodies import SALT_BYTES, Salt
from dsn.ledger.checkpoint import (
    Checkpoint,
    NoteKey,
    NoteSignature,
    SignedCheckpoint,
    format_checkpoint,
    root_line,
)
from dsn.ledger.cosignature import cosigned_at
from dsn.ledger.params import LedgerParams
from dsn.ledger.rules.signatures import salt_preimage
from dsn.ledger.settlement import recover
from dsn.ledger.trust import witness_key
from dsn.ledger.typed import digest
from dsn.rpc.channel import Connections
from dsn.rpc.ledger import WitnessPeer

COSIGN_S: Final = 30.0
"""A witness that was away replays what it missed before it answers."""
SALT_S: Final = 2.0
"""What each gets to give its salt; less where salts grow stale sooner."""
_log = structlog.get_logger("ledger")


class Witness(Protocol):
    """One of those who follow the log."""

    @property
    def key(self) -> NoteKey:
        """What it cosigns with."""
        ...

    async def cosign(self, signed: SignedCheckpoint) -> Sequence[NoteSignature]:
        """Its lines under ``signed``, which is the operator's: one more if there is a vault.

        Raises:
            DsnError: Why it does not sign, or cannot be reached.
        """
        ...

    async def salt(self, epoch: int) -> Salt:
        """Its salt for ``epoch``; raises as ``cosign``."""
        ...


class RemoteWitness:
    """A ``Witness`` over the network."""

    def __init__(self, contact: Contact, connections: Connections, params: LedgerParams) -> None:
        """Reach the witness at ``contact``."""
        self.key = witness_key(contact.public_key)
        self._contact, self._connections, self._params = contact, connections, params

    async def cosign(self, signed: SignedCheckpoint) -> Sequence[NoteSignature]:
        """See ``Witness``.

        Raises:
            InvalidSignature: The line is not its cosignature, or what it signed for the chain is
                not by one of the network's cosigners.
        """
        try:
            reply = await self._peer().cosign(format_checkpoint(signed), timeout_s=COSIGN_S)
        except Unreachable:
            self._connections.forget(self._contact)
            raise
        line = NoteSignature(reply.name, reply.key_id, reply.signature)
        if cosigned_at(SignedCheckpoint(signed.checkpoint, (line,)), self.key) is None:
            raise InvalidSignature(f"{self.key.name} cosigned under another name")
        if not self._params.settles:
            return [line]
        return [line, self._root_line(signed.checkpoint, reply.root_signature)]

    def _root_line(self, checkpoint: Checkpoint, signature: bytes) -> NoteSignature:
        """The line that ``signature`` (untrusted) is, if a chain will take it for a cosigner's."""
        signer = recover(digest(self._params.domain, checkpoint.ledger_root), signature)
        if signer not in self._params.cosigners:
            raise InvalidSignature(f"{self.key.name} did not sign for the chain as a cosigner")
        return root_line(checkpoint, signer, signature, self.key.name)

    async def salt(self, epoch: int) -> Salt:
        """See ``Witness``.

        Raises:
            InvalidSignature: The salt is not by it, or not for this epoch.
        """
        reply = await self._peer().get_salt(epoch)
        if len(reply.salt) != SALT_BYTES:
            raise InvalidSignature(f"a salt of {len(reply.salt)} bytes, {SALT_BYTES} needed")
        preimage = salt_preimage(self._params.domain.network, epoch, reply.salt)
        verify_signature(self.key.public, preimage, reply.signature)
        return Salt(self.key.public, reply.salt, reply.signature)

    def _peer(self) -> WitnessPeer:
        return WitnessPeer(self._connections.line(self._contact))


async def gather_salts(
    witnesses: Sequence[Witness], epoch: int, *, timeout_s: float
) -> tuple[Salt, ...]:
    """The salts for ``epoch`` of all witnesses that give one in time, by their keys."""
    given: list[Salt] = []

    async def ask(witness: Witness) -> None:
        try:
            given.append(await witness.salt(epoch))
        except DsnError as error:
            _log.warning("no salt", witness=witness.key.name, code=error.detail_code)

    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as group:
            for witness in witnesses:
                group.create_task(ask(witness))
    return tuple(sorted(given, key=lambda salt: salt.witness))
