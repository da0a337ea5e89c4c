"""``WitnessService``: notes come in from anybody, and are considered one after another."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from dsn.apps.witness.claims import Source
from dsn.apps.witness.judge import PUBLISHED, Judge
from dsn.apps.witness.source import drive
from dsn.errors import ConfigError, DataLost, DsnError, InvalidSignature, NoSpace
from dsn.ledger.checkpoint import NoteSignature, SignedCheckpoint, parse_checkpoint
from dsn.ledger.settlement import SettlementKey
from dsn.ledger.tiles import parse_path
from dsn.ledger.trust import Trust
from dsn.ledger.typed import sign_typed
from dsn.ports import Clock
from dsn.rpc.ledger import WITNESS_SERVICE, check_tile_size
from dsn.rpc.limits import Budget
from dsn.rpc.server import Method, Unary
from dsn.rpc.tls import Caller
from dsn.runtime.kernel import Kernel
from dsn.v1 import ledger_pb2, witness_pb2
from dsn.wire.status import RetryLater

NOTES_AN_HOUR: Final = 600
"""From anybody but the operator."""
TILES_AN_HOUR: Final = 40_000
"""So that whoever must leave reads ten million entries in an hour, and nobody much more."""
MOST_WAITING: Final = 8
SAY_EVERY_S: Final = 5.0
_LEAF: Final = re.compile(r"leaf/([0-9]{1,18})")
"""The path of one leaf, for bundles that no message holds."""
_log = structlog.get_logger("witness")


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
        self,
        judge: Judge,
        trust: Trust,
        source: Source,
        thread: Kernel,
        clock: Clock,
        root_key: SettlementKey | None = None,
    ) -> None:
        """Serve ``judge``, which only ``thread`` touches from now on.

        Args:
            judge: Decides what is cosigned.
            trust: Whom it believes.
            source: Of what it asks for.
            thread: Its own.
            clock: The time.
            root_key: Signs the same for a chain, if the network has one.
        """
        self._root_key = root_key
        self._judge, self._trust, self._source = judge, trust, source
        self._thread, self._clock = thread, clock
        self._brought = asyncio.Queue[_Brought](MOST_WAITING)
        self._budget = Budget("checkpoints", NOTES_AN_HOUR, clock.monotonic_s)
        self._tiles = Budget("tiles", TILES_AN_HOUR, clock.monotonic_s)
        self.refused: Counter[str] = Counter()
        """By code, checkpoints that were not cosigned."""

    def methods(self) -> tuple[Method, ...]:
        """Every call by its path."""
        at = f"/{WITNESS_SERVICE}/"
        return (
            Unary(at + "Cosign", witness_pb2.CosignRequest, self._cosign),
            Unary(at + "GetSalt", witness_pb2.GetSaltRequest, self._get_salt),
            Unary(at + "GetTile", ledger_pb2.GetTileRequest, self._get_tile),
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
                await self._bring(parse_checkpoint(note))
        except DsnError as error:
            _log.warning("not caught up", code=error.detail_code, reason=error.message)

    async def _cosign(
        self, caller: Caller, request: witness_pb2.CosignRequest
    ) -> witness_pb2.CosignReply:
        if caller.public_key != self._trust.params.log_key:
            self._budget.charge(caller.node_id, 1)
        signed = parse_checkpoint(request.checkpoint)
        line = await self._bring(signed)
        reply = witness_pb2.CosignReply(
            name=line.name, key_id=line.key_id, signature=line.signature
        )
        if self._root_key is not None:
            root, domain = signed.checkpoint.ledger_root, self._trust.params.domain
            reply.root_signature = sign_typed(root, domain, self._root_key)
        return reply

    async def _bring(self, signed: SignedCheckpoint) -> NoteSignature:
        """Have a note (untrusted) considered in its turn, if it is the operator's."""
        seen_ms = int(self._clock.now_s() * 1_000)
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

    async def _get_tile(
        self, caller: Caller, request: ledger_pb2.GetTileRequest
    ) -> ledger_pb2.GetTileReply:
        read = self._reading(request.path)
        self._tiles.charge(caller.node_id, 1)
        data = await self._thread.run(read)
        check_tile_size(request.path, data)
        return ledger_pb2.GetTileReply(data=data)

    def _reading(self, path: str) -> Callable[[], bytes]:
        """How to read what a path (untrusted) names: a tile, a bundle or a single leaf."""
        if leaf := _LEAF.fullmatch(path):
            return partial(self._judge.leaf, int(leaf[1]))
        return partial(self._judge.resource, parse_path(path))

    async def _consider(self, signed: SignedCheckpoint, seen_ms: int) -> NoteSignature:
        """Have the judge consider a checkpoint, and log what came of it."""
        size, said_s = signed.checkpoint.size, self._clock.monotonic_s()

        def moved() -> None:
            nonlocal said_s
            if self._clock.monotonic_s() - said_s > SAY_EVERY_S:
                said_s = self._clock.monotonic_s()
                _log.info("replaying", size=self._judge.size, of=size)

        course = self._judge.consider(signed, seen_ms)
        try:
            line = await drive(course, self._source, self._thread, moved)
        except DsnError as error:
            self.refused[error.detail_code] += 1
            _log.warning("not cosigned", size=size, code=error.detail_code, reason=error.message)
            raise
        _log.debug("cosigned", size=size, epoch=signed.checkpoint.epoch)
        return line
