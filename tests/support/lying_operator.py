"""An operator with its real keys, two witnesses that sign anything for it, and one that looks.

The operator serves whatever log a test makes, over a real port, under checkpoints that a quorum
cosigned: two of the three witnesses are bribed. The third is a real one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dsn.apps.witness import run
from dsn.apps.witness.files import EVIDENCE
from dsn.dht.contact import Contact
from dsn.dht.network import Network, format_network
from dsn.errors import PeerError
from dsn.ledger.bodies import OpenEpoch, Salt, ShutEpoch, Transfer
from dsn.ledger.checkpoint import (
    Checkpoint,
    NoteSignature,
    SignedCheckpoint,
    format_checkpoint,
    sign_checkpoint,
)
from dsn.ledger.evidence import Contradiction
from dsn.ledger.fraud import build_fraud
from dsn.ledger.log import TreeHead, build_inclusion_proof, leaf_hash
from dsn.ledger.promise import BrokenPromise, sign_promise
from dsn.ledger.rules.signatures import salt_preimage
from dsn.ledger.tiles import Tile, build_tile, parse_path
from dsn.proofs.beacon import next_value
from dsn.rpc.channel import Connections
from dsn.rpc.ledger import WitnessPeer
from dsn.runtime.clock import SystemClock
from dsn.runtime.entropy import system_entropy
from dsn.v1 import ledger_pb2 as v1
from tests.support.ledger_stage import GENESIS, LOG_KEY, Reader, Stage, serving
from tests.support.ledger_world import KEYS, WITNESSES, World

HONEST, *BRIBED = WITNESSES
assert GENESIS.ledger is not None
_GENESIS = replace(
    GENESIS,
    ledger=replace(GENESIS.ledger, open_s=0, salt_ms=60_000, vdf_iterations=1, vdf_bits=256),
)


class Liar(Stage):
    """The operator. What it ``publish``es, the bribed quorum cosigned."""

    def __init__(self, name: str = "stage") -> None:
        super().__init__(replace(_GENESIS, name=name))
        self.spoiled: set[str] = set()
        """Paths of tiles that it serves wrong."""
        self.world.open_epoch()
        self.publish()

    def publish(self) -> None:
        self.show(self.checkpoint())

    def show(self, checkpoint: Checkpoint, now_s: int = 0) -> SignedCheckpoint:
        """Publish ``checkpoint`` of the log as it stands, cosigned at ``now_s``."""
        signed = self.sign(checkpoint, BRIBED, now_s=now_s)
        self.published = (self.snapshot(), signed)
        return signed

    def fork(self) -> World:
        """Another log that begins like this one; ``world`` may be set to it."""
        other = self.snapshot()
        other.nodes = dict(other.nodes)
        return other

    def opening(self, closed: TreeHead) -> OpenEpoch:
        """The open of the next epoch, with the beacon that follows from ``closed``."""
        params, epoch = self.params, self.world.epoch
        value, evidence = next_value(
            params.domain.network,
            epoch,
            closed.root,
            iterations=params.vdf_iterations,
            bits=params.vdf_bits,
        )
        return OpenEpoch(epoch, closed, value, evidence)

    def _get_tile(self, request: v1.GetTileRequest) -> v1.GetTileReply:
        tile = parse_path(request.path)
        if not isinstance(tile, Tile):
            return super()._get_tile(request)
        raw = build_tile(self.world.nodes.__getitem__, tile)
        return v1.GetTileReply(data=bytes(len(raw)) if request.path in self.spoiled else raw)


@dataclass
class Scene:
    """The operator, the witness that looks, and a home that reads the ledger."""

    liar: Liar
    reader: Reader
    witness: WitnessPeer
    folder: Path

    @property
    def network(self) -> Network:
        return self.reader.network

    async def agree(self) -> SignedCheckpoint:
        """Publish what there is with the line of the witness that looks, too."""
        signed = self.liar.show(self.liar.checkpoint())
        reply = await self.witness.cosign(format_checkpoint(signed))
        signed = signed.signed(NoteSignature(reply.name, reply.key_id, reply.signature))
        self.liar.published = (self.liar.snapshot(), signed)
        return signed

    async def refused(self) -> PeerError:
        """Why the witness does not cosign what is published."""
        assert self.liar.published is not None
        with pytest.raises(PeerError) as failure:
            await self.witness.cosign(format_checkpoint(self.liar.published[1]))
        return failure.value

    async def shut(self) -> None:
        """Shut the epoch, with the witness's salt and that of a bribed one."""
        epoch, network = self.liar.world.epoch, self.network.network_id
        reply, bribed = await self.witness.get_salt(epoch), BRIBED[0]
        given = Salt(HONEST.public, reply.salt, reply.signature)
        bought = Salt(
            bribed.public, bytes(32), bribed.sign(salt_preimage(network, epoch, bytes(32)))
        )
        self.liar.do("operator", ShutEpoch(epoch, (given, bought)))

    def kept(self) -> list[Path]:
        """Evidence of the witness."""
        return sorted((self.folder / "witness" / EVIDENCE).glob("*"))

    @property
    def evidence(self) -> Path:
        """Where the reader leaves its evidence."""
        return self.reader.file.with_name(f"{self.reader.file.name}.evidence")


def evidence_files(liar: Liar, *, guilty: bool) -> dict[str, bytes]:
    """By kind, a file about the next entry: one that convicts the operator, or convicts nobody."""
    before, index, other = liar.world.state, len(liar.world.leaves), liar.fork()
    other.do("alice", Transfer(KEYS["sam"].address, 1))
    leaf = other.leaves[-1]
    if guilty:
        liar.world.add(replace(leaf, state_root=bytes(32)))
    else:
        liar.world = other
    leaves, hashes = liar.world.leaves, liar.world.nodes.__getitem__
    newest, trust = liar.checkpoint(), liar.trust
    rival = replace(newest, epoch=9) if guilty else liar.checkpoint(index)
    lines = [
        SignedCheckpoint(each, (sign_checkpoint(each, trust.operator, LOG_KEY.sign),))
        for each in sorted((rival, newest), key=lambda each: (each.size, each.body))
    ]
    signed, there = liar.sign(newest, ()), leaf_hash(leaves[index].encode())
    promised = leaf_hash(leaf.encode())
    promise = sign_promise(liar.params.domain.network, index, promised, LOG_KEY.sign)
    path = tuple(build_inclusion_proof(hashes, index, newest.size))
    return {
        "contradiction": Contradiction(*lines).encode(),
        "broken_promise": BrokenPromise(promise, signed, there, path).encode(),
        "fraud": build_fraud(before, index, leaves.__getitem__, signed, hashes).encode(),
    }


@asynccontextmanager
async def on_scene(folder: Path) -> AsyncIterator[Scene]:
    """All of them over real ports; the network's file stays in ``folder`` as ``network.toml``."""
    liar, clock = Liar(), SystemClock()
    own = folder / "witness"
    own.mkdir()
    async with (
        serving(liar, folder) as reader,
        run.serving(
            reader.network, HONEST, own, "127.0.0.1:0", clock=clock, entropy=system_entropy
        ) as witness,
        Connections(LOG_KEY, reader.network.network_id) as connections,
    ):
        (folder / "network.toml").write_text(format_network(reader.network))
        line = connections.line(Contact(HONEST.public, witness.ready.address))
        yield Scene(liar, reader, WitnessPeer(line), folder)
