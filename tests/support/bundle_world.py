"""Bundles of both kinds over real shards, real placements and a real log, and their networks.

``live()`` and ``epoch()`` make unsigned ones that hold, and ``NETWORK`` judges them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from dsn.core.cipher import seal_box
from dsn.core.keys import FileKeys, SigningKey, node_id_of
from dsn.core.layout import Scheme
from dsn.core.manifest import Core, Head, SegmentSeal, sign_head
from dsn.core.placement import Copy, PageRef, ShardPlace, encode_page, page_hash
from dsn.dht.network import Genesis, Network, sign_network
from dsn.ids import NO_NETWORK, DealId, NodeId
from dsn.ledger.bodies import SubmitLink
from dsn.ledger.bundle import (
    EpochBundle,
    EpochPart,
    LiveBundle,
    LivePart,
    Logged,
    OpenedEpoch,
    ProvenCell,
    ProvenProvider,
    format_bundle,
)
from dsn.ledger.checkpoint import (
    Checkpoint,
    SignedCheckpoint,
    format_checkpoint,
    log_origin,
    sign_checkpoint,
    sign_root,
)
from dsn.ledger.cosignature import cosign
from dsn.ledger.disputes import ServedOpening
from dsn.ledger.log import build_consistency_proof, build_inclusion_proof
from dsn.ledger.params import LedgerParams
from dsn.ledger.radix import StateStep
from dsn.ledger.trust import Trust, witness_key
from dsn.proofs.por import (
    Answer,
    Challenge,
    answer_root,
    build_challenge,
    draw,
    sign_answer,
)
from dsn.proofs.post import build_answer_path
from dsn.proofs.verdict import (
    NO_NONCE,
    Outcome,
    SignedVerdict,
    Verdict,
    account_subject,
)
from dsn.units import LEAF_BYTES
from tests.support.ledger_world import KEYS, WITNESSES, World, address, terms
from tests.support.proof_world import Holdings, Shard
from tests.support.witness_world import LEDGER
from tests.vectors.core_vectors import data

FOUNDER, LOG_KEY = SigningKey(b"\x61" * 32), SigningKey(b"\x99" * 32)
VERIFIER = SigningKey(b"\x62" * 32)
AT_S = 1_800_000_000
UNSIGNED = bytes(64)


def network(name: str = "bundles", **changes: Any) -> Network:
    """A network with a ledger, whose parameters have ``changes``; another name is another one."""
    domain = replace(LEDGER.domain, network=NO_NETWORK)
    genesis = Genesis(
        name,
        1_700_000_000,
        FOUNDER.public,
        "node",
        address_limits=False,
        ledger=replace(LEDGER, domain=domain, **changes),
    )
    return sign_network(genesis, (), FOUNDER.sign)


NETWORK = network()


def draft(**said: Any) -> SignedVerdict:
    """A verdict that nobody signed yet."""
    usual: dict[str, Any] = {
        "network": NETWORK.network_id,
        "verifier": VERIFIER.public,
        "epoch": 0,
        "nonce": NO_NONCE,
        "outcome": Outcome.HELD,
        "reason": "",
        "leaves": 0,
        "size_bytes": 0,
        "response_ms": 12,
        "at_s": AT_S,
    }
    return SignedVerdict(Verdict(**{**usual, **said}), UNSIGNED)


def signed(bundle: LiveBundle | EpochBundle) -> bytes:
    """Its text."""
    return format_bundle(bundle, VERIFIER.sign)


# a file


SCHEME, SIZE = Scheme(2, 3), 40_000
"""One segment, whose shards have 20 leaves each."""


class Holder(NamedTuple):
    """A node, and what it holds of the file."""

    key: SigningKey
    held: Holdings

    @property
    def node(self) -> NodeId:
        """Its id."""
        return node_id_of(self.key.public)


class File:
    """A file whose placement is signed, and the nodes that hold it with all they have."""

    def __init__(self) -> None:
        keys = FileKeys.owner(data("bundle.owner", 16))
        placer = SigningKey(keys.place_seed)
        core = Core(
            SCHEME, SIZE, placer.public, (SegmentSeal(bytes(16), data("seal", 32)),), b"\x01" * 40
        )
        length = core.layout.segment(0).shard_bytes
        shards = [Shard(data(f"bundle.{n}", length)) for n in range(SCHEME.total)]
        nodes = [SigningKey(data(f"bundle.node.{n}", 32)) for n in range(SCHEME.total)]
        row = tuple(ShardPlace(n, 0, shard.commit) for n, shard in enumerate(shards))
        page = encode_page([row])
        boxes = [Shard(seal_box(keys.head_key, page, bytes([n]) * 12)) for n in range(2)]
        ref = PageRef(page_hash(page), tuple(Copy(n, box.commit) for n, box in enumerate(boxes)))
        ids = [node_id_of(key.public) for key in nodes]
        self.head: Head = sign_head(core, 1_700_000_000_000_000, ids, [ref], placer.sign)
        self.pages = (page,)
        extra = Shard(data("bundle.head", 700))
        """A sealed copy of the head: the head cannot name it."""
        self.holders = [
            Holder(nodes[0], Holdings([shards[0], boxes[0], extra])),
            Holder(nodes[1], Holdings([shards[1], boxes[1]])),
            Holder(nodes[2], Holdings([shards[2]])),
        ]


@cache
def file() -> File:
    """The one file."""
    return File()


def asked(holder: Holder, leaves: int = 4, name: str = "nonce") -> Challenge:
    """A challenge on all that ``holder`` has of the file."""
    nonce = data(f"{name}.{holder.node.hex()}", 32)
    return build_challenge(
        holder.held.pairs, nonce=nonce, leaves=leaves, deadline_ms=AT_S * 1000 + 10_000
    )


def answered(holder: Holder, challenge: Challenge, wrong: Iterable[int] = ()) -> Answer:
    """What ``holder`` answers, with a bit of each opening in ``wrong`` changed."""
    network_id = NETWORK.network_id
    drawn = draw(challenge, holder.held.tree, network=network_id, node=holder.node)
    openings = [holder.held.opened(at) for at in drawn]
    for place in wrong:
        openings[place] = spoiled(openings[place])
    return sign_answer(holder.key.sign, challenge, openings, network=network_id, node=holder.node)


def spoiled(opening: bytes) -> bytes:
    """With the last bit changed: the shard path fails."""
    return opening[:-1] + bytes([opening[-1] ^ 1])


def live_part(holder: Holder, *, leaves: int = 4, wrong: Sequence[int] = ()) -> LivePart:
    """``holder`` challenged, and the verdict that it earns."""
    challenge = asked(holder, leaves)
    said: dict[str, Any] = {"outcome": Outcome.WRONG, "reason": "shard"}
    if not wrong:
        said = {"leaves": leaves, "size_bytes": holder.held.tree.total * LEAF_BYTES}
    verdict = draft(
        node=holder.node, subject=file().head.core.file_id, nonce=challenge.nonce, **said
    )
    answer = answered(holder, challenge, wrong)
    return LivePart(holder.key.public, challenge, dict(holder.held.pairs), answer, verdict)


def silent_part(holder: Holder, reason: str = "timed_out", *, known: bool = True) -> LivePart:
    """``holder`` challenged in vain; not ``known``: nobody could tell where it is."""
    challenge = asked(holder)
    verdict = draft(
        node=holder.node,
        subject=file().head.core.file_id,
        nonce=challenge.nonce,
        outcome=Outcome.SILENT,
        reason=reason,
    )
    key = holder.key.public if known else b""
    return LivePart(key, challenge, dict(holder.held.pairs), None, verdict)


def live(*parts: LivePart) -> LiveBundle:
    """An audit of the file; of all its holders, who all hold, if no ``parts`` are given."""
    audited = parts or tuple(map(live_part, file().holders))
    head = file().head.encode()
    return LiveBundle(NETWORK.network_id, VERIFIER.public, AT_S, head, file().pages, tuple(audited))


# a ledger


class BundleWorld(World):
    """A network's ledger, and what its verifier can show of it."""

    def __init__(self, network: Network = NETWORK) -> None:
        params = network.ledger_params
        assert isinstance(params, LedgerParams)
        super().__init__(params, signed=True)
        self.opened: dict[int, tuple[int, int]] = {}
        """Where each epoch was opened, and how long the log was that was closed before it."""

    def open_epoch(self) -> None:
        self.opened[self.epoch] = len(self.leaves), self.shut_head.size
        super().open_epoch()

    def lie(self, name: str, *lies: tuple[int, int]) -> None:
        """Link this epoch with byte ``at`` of opening ``place`` changed, for each (place, at)."""
        link, held, _, opened = self.answer(name)
        spoilt = [bytearray(opening) for opening in opened]
        for place, at in lies:
            spoilt[place][at] ^= 1
        answers = tuple(map(bytes, spoilt))
        link = replace(link, answer_root=answer_root(answers))
        self.do(name, SubmitLink(link))
        self.answers[name, self.epoch] = (len(self.leaves) - 1, link, held, answers)

    def checkpoint(self, *witnesses: SigningKey, **changes: Any) -> bytes:
        """A note of all there is, with ``changes`` to what is true, cosigned by two at least."""
        found = Checkpoint(
            log_origin(self.params.domain.network),
            *self.frontier.head,
            self.leaves[-1].state_root,
            self.epoch,
        )
        checkpoint = replace(found, **changes)
        signed = SignedCheckpoint(checkpoint)
        operator = Trust.of(self.params).operator
        signed = signed.signed(sign_checkpoint(checkpoint, operator, LOG_KEY.sign))
        signed = signed.signed(sign_root(checkpoint, self.params.domain, KEYS["operator"]))
        for key in witnesses or WITNESSES[:2]:
            signed = signed.signed(cosign(checkpoint, witness_key(key.public), key.sign, AT_S))
        return format_checkpoint(signed)

    def logged(self, index: int) -> Logged:
        """A leaf of the log as it is now."""
        path = build_inclusion_proof(self.nodes.__getitem__, index, len(self.leaves))
        return Logged(self.leaves[index], index, tuple(path))

    def opened_epoch(self, epoch: int) -> OpenedEpoch:
        """How ``epoch`` was opened."""
        index, closed = self.opened[epoch]
        size = len(self.leaves)
        grown = build_consistency_proof(self.nodes.__getitem__, closed, size) if closed else []
        return OpenedEpoch(self.logged(index), tuple(grown))

    def provider(self, name: str, *deals: DealId) -> ProvenProvider:
        """The account of ``name`` and some of its deals, proven."""
        account = self.account(name)
        cells = [self.deal(deal) for deal in deals]
        return ProvenProvider(
            ProvenCell(account, self._steps(account.key)),
            tuple(ProvenCell(cell, self._steps(cell.key)) for cell in cells),
        )

    def _steps(self, key: bytes) -> tuple[StateStep, ...]:
        _, steps = self.state.tree.build_proof(key)
        return tuple(steps)

    def part(
        self, name: str, epoch: int, places: Sequence[int] = (0, 1, 2), **said: Any
    ) -> EpochPart:
        """Some answers of ``name``, and the verdict that they earn if they hold."""
        index, link, _, opened = self.answers[name, epoch]
        served = {
            place: ServedOpening(opened[place], tuple(build_answer_path(opened, place)))
            for place in places
        }
        usual: dict[str, Any] = {"leaves": len(places), "size_bytes": link.total * LEAF_BYTES}
        if not places:
            usual = {"outcome": Outcome.SILENT, "reason": "no_answer"}
        subject, node = account_subject(address(name)), self.account(name).node
        usual["network"] = self.params.domain.network
        verdict = draft(**{"node": node, "subject": subject, "epoch": epoch, **usual, **said})
        return EpochPart(self.logged(index), served, verdict)

    def bundle(
        self, parts: Sequence[EpochPart], deals: Mapping[str, Sequence[DealId]]
    ) -> EpochBundle:
        """A bundle of ``parts``; ``deals`` are those that bind each provider's account."""
        epochs = sorted({part.verdict.verdict.epoch for part in parts})
        names = sorted(deals, key=address)
        return EpochBundle(
            self.params.domain.network,
            VERIFIER.public,
            AT_S,
            self.checkpoint(),
            tuple(self.opened_epoch(epoch) for epoch in epochs),
            tuple(self.provider(name, *deals[name]) for name in names),
            tuple(parts),
        )


class Past(NamedTuple):
    """A ledger with some epochs behind it."""

    world: BundleWorld
    deals: Mapping[str, tuple[DealId, ...]]
    """Of each provider."""


@cache
def past() -> Past:
    """Paul held two deals and linked epochs 2 and 3, Petra one and linked epoch 3 with two lies.

    Opening 1 fails in its shard path, opening 2 in its bracket.
    """
    world = BundleWorld()
    world.bind("alice", "bob", "paul", "petra")
    world.open_epoch()
    usual = terms()
    first, second = world.open(usual), world.open(terms(salt=b"\x01" * 32))
    third = world.open(terms(provider=address("petra")))
    for deal, numbers in ((first, (1, 2)), (second, (3,)), (third, (5, 6, 7))):
        world.hold(deal, *numbers)
    world.pass_epochs(1)
    world.link("paul")
    world.pass_epochs(1)
    world.link("paul")
    world.lie("petra", (1, -1), (2, 40))
    return Past(world, {"paul": (first, second), "petra": (third,)})


def epoch(*places: int) -> EpochBundle:
    """Epochs 2 and 3 of Paul, who holds, by ``places`` of each; the first three by default."""
    world, deals = past()
    parts = [world.part("paul", number, places or (0, 1, 2)) for number in (2, 3)]
    return world.bundle(parts, {"paul": deals["paul"][:1]})
