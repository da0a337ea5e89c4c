"""``WitnessService``: notes come in from anybody, and are considered one after another."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import structlog

from dsn.apps.ledger.asking import Asking
from dsn.apps.witness.judge import PUBLISHED, Judge
from dsn.apps.witness.served import Course
from dsn.core.codec import U16_MAX
from dsn.errors import (
    ConfigError,
    DataLost,
    DsnError,
    InvalidSignature,
    LimitReached,
    MalformedMessage,
    NoSpace,
    NotFound,
    PeerError,
    TransportError,
    Unreachable,
)
from dsn.ledger.checkpoint import NoteSignature, SignedCheckpoint, parse_checkpoint
from dsn.ledger.tiles import TILE_WIDTH, Bundle, encode_bundle, parse_path
from dsn.ledger.trust import Trust
from dsn.ports import Clock
from dsn.rpc.ledger import WITNESS_SERVICE
from dsn.rpc.limits import Budget
from dsn.rpc.server import Method, Unary
from dsn.rpc.tls import Caller
from dsn.runtime.kernel import Kernel
from dsn.v1 import witness_pb2
from dsn.wire.status import RetryLater

NOTES_AN_HOUR: Final = 600
"""From anybody but the operator."""
MOST_WAITING: Final = 8
SAY_EVERY_S: Final = 5.0
_TOO_LARGE: Final = "too_large"
_log = structlog.get_logger("witness")


class LedgerSource:
    """Gives what a ``Judge`` asks for; the ledger serves it, and may serve anything."""

    def __init__(self, ask: Asking) -> None:
        """Reach it by ``ask``."""
        self._ask = ask

    async def read(self, path: str) -> bytes:
        """The bytes under ``path``; of a checkpoint that is not there yet, none.

        Raises:
            TransportError: The ledger cannot be reached.
            PeerError: ``ledger_refused``, or what it answers is nothing that it may.
            RetryLater: It is too busy.
        """
        try:
            return await self._read(path)
        except (TransportError, PeerError, RetryLater):
            raise
        except DsnError as error:
            reason = f"the ledger does not give {path}: {error.message}"
            raise PeerError(reason, code="ledger_refused", peer=error.peer) from error

    async def _read(self, path: str) -> bytes:
        if path == PUBLISHED:
            try:
                return (await self._ask(lambda peer: peer.get_checkpoint())).checkpoint
            except (NotFound, Unreachable):  # nothing was published yet, or nobody is there
                return b""
        try:
            return await self._ask(lambda peer: peer.get_tile(path))
        except DsnError as error:
            bundle = parse_path(path)
            large = isinstance(error, LimitReached) or error.detail_code == _TOO_LARGE
            if not large or isinstance(error, RetryLater) or not isinstance(bundle, Bundle):
                raise
            return await self._leaf_by_leaf(bundle)

    async def _leaf_by_leaf(self, bundle: Bundle) -> bytes:
        """A bundle whose entries are so large that no message holds them all."""
        first = bundle.index * TILE_WIDTH
        end = first + bundle.width
        leaves = [await self._leaf(index, end) for index in range(first, end)]
        if max(map(len, leaves)) > U16_MAX:
            raise MalformedMessage(f"a leaf beyond {U16_MAX} bytes")
        return encode_bundle(leaves)

    async def _leaf(self, index: int, size: int) -> bytes:
        return (await self._ask(lambda peer: peer.get_inclusion(index, size))).leaf


@dataclass(eq=False, slots=True)
class _Brought:
    """A note that waits for its answer."""

    signed: SignedCheckpoint
    seen_ms: int
    answer: asyncio.Future[NoteSignature] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class WitnessService:
    """A witness's calls."""

    def __init__(
        self, judge: Judge, trust: Trust, source: LedgerSource, thread: Kernel, clock: Clock
    ) -> None:
        """Serve ``judge``, which only ``thread`` touches from now on."""
        self._judge, self._trust, self._source = judge, trust, source
        self._thread, self._clock = thread, clock
        self._brought = asyncio.Queue[_Brought](MOST_WAITING)
        self._budget = Budget("checkpoints", NOTES_AN_HOUR, clock.monotonic_s)
        self.refused: Counter[str] = Counter()
        """By code, checkpoints that were not cosigned."""

    def methods(self) -> tuple[Method, ...]:
        """Every call by its path."""
        at = f"/{WITNESS_SERVICE}/"
        return (
            Unary(at + "Cosign", witness_pb2.CosignRequest, self._cosign),
            Unary(at + "GetSalt", witness_pb2.GetSaltRequest, self._get_salt),
        )

    async def run(self) -> None:
        """Consider what is brought, one after another, for good.

        Raises:
            DsnError: The replica or a file cannot be written any more.
        """
        while True:
            brought = await self._brought.get()
            try:
                line = await self._consider(brought.signed, brought.seen_ms)
            except DsnError as error:
                if not brought.answer.done():
                    brought.answer.set_exception(error)
                if isinstance(error, ConfigError | DataLost | NoSpace):
                    raise  # its own disk failed: what is on it shows at the next start
            else:
                if not brought.answer.done():
                    brought.answer.set_result(line)

    async def catch_up(self) -> None:
        """Bring what the ledger shows, so that the first to ask finds this witness ready."""
        try:
            if note := await self._source.read(PUBLISHED):
                await self._bring(note)
        except DsnError as error:
            _log.warning("not caught up", code=error.detail_code, reason=error.message)

    async def _cosign(
        self, caller: Caller, request: witness_pb2.CosignRequest
    ) -> witness_pb2.CosignReply:
        if caller.public_key != self._trust.params.log_key:
            self._budget.charge(caller.node_id, 1)
        line = await self._bring(request.checkpoint)
        return witness_pb2.CosignReply(name=line.name, key_id=line.key_id, signature=line.signature)

    async def _bring(self, note: bytes) -> NoteSignature:
        """Have a note (untrusted) considered in its turn, if it is the operator's."""
        seen_ms = int(self._clock.now_s() * 1_000)
        signed = parse_checkpoint(note)
        self._trust.verify_operator(signed)
        brought = _Brought(signed, seen_ms)
        try:
            self._brought.put_nowait(brought)
        except asyncio.QueueFull:
            raise RetryLater(
                f"{self._judge.size} of {self._judge.aim} entries are replayed",
                retry_after_s=1.0,
                code="catching_up",
            ) from None
        return await brought.answer

    async def _get_salt(
        self, caller: Caller, request: witness_pb2.GetSaltRequest
    ) -> witness_pb2.GetSaltReply:
        if caller.public_key != self._trust.params.log_key:
            raise InvalidSignature("salts are for the ledger's operator", code="not_the_operator")
        salt, signature = await self._thread.run(self._judge.salt, request.epoch)
        return witness_pb2.GetSaltReply(salt=salt, signature=signature)

    async def _consider(self, signed: SignedCheckpoint, seen_ms: int) -> NoteSignature:
        """Drive the judge: its arithmetic in the thread, what it asks for over the network."""
        course, size = self._judge.consider(signed, seen_ms), signed.checkpoint.size
        said_s, answer = self._clock.monotonic_s(), b""
        try:
            reached = await self._thread.run(_begin, course)
            while isinstance(reached, str):
                answer = await self._source.read(reached)
                reached = await self._thread.run(_go_on, course, answer)
                if self._clock.monotonic_s() - said_s > SAY_EVERY_S:
                    said_s = self._clock.monotonic_s()
                    _log.info("replaying", size=self._judge.size, of=size)
        except DsnError as error:
            self.refused[error.detail_code] += 1
            _log.warning("not cosigned", size=size, code=error.detail_code, reason=error.message)
            raise
        finally:
            course.close()
        _log.debug("cosigned", size=size, epoch=signed.checkpoint.epoch)
        return reached


def _begin(course: Course[NoteSignature]) -> str | NoteSignature:
    try:
        return next(course)
    except StopIteration as done:
        line: NoteSignature = done.value
        return line


def _go_on(course: Course[NoteSignature], answer: bytes) -> str | NoteSignature:
    try:
        return course.send(answer)
    except StopIteration as done:
        line: NoteSignature = done.value
        return line
