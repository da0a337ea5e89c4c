"""An operator's log made by hand, honest or not, and a witness that is shown it.

Nothing runs here: the witness's judgement asks for paths and the operator's world answers, at
times that a test sets.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dsn.apps.ledger.engine import genesis_of
from dsn.apps.witness.claims import ChainSource
from dsn.apps.witness.files import EVIDENCE, WitnessFiles
from dsn.apps.witness.judge import PUBLISHED, Judge
from dsn.apps.witness.replica import Replica
from dsn.core.keys import SigningKey
from dsn.ledger.bodies import OpenEpoch, Salt, ShutEpoch, Transfer
from dsn.ledger.checkpoint import (
    Checkpoint,
    NoteSignature,
    SignedCheckpoint,
    format_checkpoint,
    log_origin,
    sign_checkpoint,
    sign_root,
)
from dsn.ledger.cosignature import cosign
from dsn.ledger.log import TreeHead
from dsn.ledger.params import LedgerParams
from dsn.ledger.rules.signatures import salt_preimage
from dsn.ledger.tiles import TILE_WIDTH, Tile, build_tile, encode_bundle, parse_path
from dsn.ledger.trust import Trust, witness_key
from dsn.proofs.beacon import next_value
from dsn.store.ledger import create_ledger, open_ledger
from tests.support.ledger_world import (
    CHAIN_PARAMS,
    KEYS,
    NETWORK,
    PARAMS,
    WITNESSES,
    World,
    address,
)
from tests.support.memory_chain import MemoryChain

LOG_KEY = SigningKey(b"\x99" * 32)
WITNESS, OTHER, THIRD = WITNESSES
OPEN_S, EPOCH_S, SALT_MS = 100, 600, 2_000
LEDGER = replace(
    PARAMS,
    log_key=LOG_KEY.public,
    epoch_s=EPOCH_S,
    open_s=OPEN_S,
    salt_ms=SALT_MS,
    vdf_iterations=100,
    vdf_bits=256,
)
TRUST = Trust.of(LEDGER)
SETTLED = replace(
    LEDGER,
    domain=CHAIN_PARAMS.domain,
    cosigners=CHAIN_PARAMS.cosigners,
    allocation=(),
)
"""The same on a chain."""
START_S = 1_700_000_000.0


class Hand:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time_s = START_S

    def now_s(self) -> float:
        return self.time_s

    def monotonic_s(self) -> float:
        return self.time_s


class Operator(World):
    """A world whose log is signed and served, and whose beacons are real."""

    def __init__(self, params: LedgerParams = LEDGER) -> None:
        super().__init__(params, signed=True)
        self.published = b""
        self.served: dict[str, bytes] = {}
        """What it serves in place of the truth, by path."""
        self.asked: list[str] = []

    def fork(self) -> Operator:
        """Another log that begins like this one."""
        other = copy(self)
        other.leaves, other.nodes = list(self.leaves), dict(self.nodes)
        other.served, other.asked = {}, []
        return other

    def open_epoch(self) -> None:
        """Open the next epoch over the log as it was when the last one was shut."""
        self.do("operator", self.opening(self.shut_head))

    def opening(self, closed: TreeHead) -> OpenEpoch:
        value, evidence = next_value(
            NETWORK,
            self.epoch,
            closed.root,
            iterations=LEDGER.vdf_iterations,
            bits=LEDGER.vdf_bits,
        )
        return OpenEpoch(self.epoch, closed, value, evidence)

    def shut_with(self, salts: Sequence[Salt]) -> None:
        self.do("operator", ShutEpoch(self.epoch, tuple(salts)))
        self.shut_head = self.frontier.head

    def pay(self, count: int = 1) -> None:
        for _ in range(count):
            self.do("alice", Transfer(address("bob"), 1))

    def signed_now(self, **changes: Any) -> SignedCheckpoint:
        """A checkpoint of all there is, with ``changes`` to what is true."""
        state_root = self.leaves[-1].state_root if self.leaves else self.state.root
        found = Checkpoint(log_origin(NETWORK), *self.frontier.head, state_root, self.epoch)
        checkpoint = replace(found, **changes)
        lines = (
            sign_checkpoint(checkpoint, TRUST.operator, LOG_KEY.sign),
            sign_root(checkpoint, self.params.domain, KEYS["operator"]),
        )
        return SignedCheckpoint(checkpoint, lines)

    def read(self, path: str) -> bytes:
        self.asked.append(path)
        if path in self.served:
            return self.served[path]
        if path == PUBLISHED:
            return self.published
        resource = parse_path(path)
        if isinstance(resource, Tile):
            return build_tile(self.nodes.__getitem__, resource)
        first = resource.index * TILE_WIDTH
        return encode_bundle(
            [leaf.encode() for leaf in self.leaves[first : first + resource.width]]
        )


def cosigned_by(
    signed: SignedCheckpoint, *witnesses: SigningKey, time_s: float = START_S
) -> SignedCheckpoint:
    """With the lines of witnesses that look at nothing."""
    for key in witnesses:
        line = cosign(signed.checkpoint, witness_key(key.public), key.sign, int(time_s))
        signed = signed.signed(line)
    return signed


def note(signed: SignedCheckpoint) -> bytes:
    return format_checkpoint(signed)


def salt_of(key: SigningKey, epoch: int, salt: bytes = b"\x05" * 32) -> Salt:
    """A salt by a witness that is not there."""
    return Salt(key.public, salt, key.sign(salt_preimage(NETWORK, epoch, salt)))


@dataclass
class Home:
    """A witness's directory, and the witness that is at work in it; ``restart`` is another one."""

    path: Path
    clock: Hand = field(default_factory=Hand)
    key: SigningKey = WITNESS
    params: LedgerParams = LEDGER
    chain: MemoryChain = field(default_factory=MemoryChain)
    judge: Judge = field(init=False)

    def __post_init__(self) -> None:
        self._held, self._salts = ExitStack(), 0
        create_ledger(str(self.path / "ledger"), *genesis_of(self.params))
        self.restart()

    def restart(self) -> None:
        """End the witness as a kill would, and start it again from what is on disk."""
        self._held.close()
        store = open_ledger(str(self.path / "ledger"), signer=True)
        self._held.callback(store.close)
        self.files = WitnessFiles(self.path / "state", self.path / EVIDENCE)
        self.judge = Judge(
            self.key,
            Trust.of(self.params),
            Replica(store),
            self.files,
            clock=self.clock,
            entropy=self._entropy,
        )

    def close(self) -> None:
        self._held.close()

    @property
    def now_ms(self) -> int:
        return int(self.clock.time_s * 1_000)

    @property
    def kept(self) -> dict[str, bytes]:
        """Evidence files."""
        return {file.name: file.read_bytes() for file in self.path.glob(f"{EVIDENCE}/*")}

    def show(self, operator: Operator, signed: SignedCheckpoint | None = None) -> NoteSignature:
        """Have a checkpoint cosigned; it is brought now."""
        course = self.judge.consider(signed or operator.signed_now(), self.now_ms)
        try:
            path = next(course)
            while True:
                path = course.send(self._read(operator, path))
        except StopIteration as done:
            line: NoteSignature = done.value
            return line

    def _read(self, operator: Operator, path: str) -> bytes:
        if not path.startswith("chain/"):
            return operator.read(path)

        class Nothing:
            async def read(self, path: str) -> bytes:
                raise AssertionError(path)

        return asyncio.run(ChainSource(self.chain.settling, Nothing()).read(path))

    def salt(self, epoch: int) -> Salt:
        salt, signature = self.judge.salt(epoch)
        return Salt(self.key.public, salt, signature)

    def _entropy(self, size: int) -> bytes:
        self._salts += 1
        return hashlib.shake_256(b"salt %d" % self._salts).digest(size)
