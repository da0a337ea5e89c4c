"""Epoch bundles: all that others need to judge a look at a link without asking anybody."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass

from dsn.apps.verifier.archive import Archive, Logged, Span
from dsn.apps.verifier.installed import tree_of
from dsn.apps.verifier.judging import Asked, Judged
from dsn.core.codec import Writer
from dsn.core.hashing import HASH_BYTES
from dsn.errors import InvalidProof, MalformedMessage
from dsn.ids import DealId, NetworkId, NodeId
from dsn.ledger import bundle_parts as parts
from dsn.ledger.bodies import OpenEpoch, SubmitLink
from dsn.ledger.cells import CellKind, DealCell, DealState, cell_key
from dsn.ledger.checkpoint import SignedCheckpoint, format_checkpoint
from dsn.ledger.entry import Entry
from dsn.ledger.log import build_consistency_proof
from dsn.ledger.radix import StateStep
from dsn.ledger.settlement import Address
from dsn.ledger.state import FIRST_EPOCH
from dsn.proofs.opening import proven_deal
from dsn.proofs.post import drawn_indices
from dsn.proofs.verdict import SignedVerdict


@dataclass(frozen=True, slots=True)
class Looked:
    """A link, what was asked about it, and what came of that."""

    network: NetworkId
    span: Span
    logged: Logged
    asked: Asked
    judged: Judged
    took_ms: int = 0

    @property
    def drawn(self) -> list[int]:
        """The leaf at each place of the link."""
        asked = self.asked
        return drawn_indices(asked.link, asked.beacon, network=self.network, node=asked.node)


def build_bundle(
    archive: Archive,
    signed: SignedCheckpoint,
    looked: Looked,
    verdict: SignedVerdict,
) -> parts.EpochBundle:
    """The bundle of one look, not signed yet.

    Args:
        archive: At the checkpoint ``signed``.
        signed: With a quorum's lines.
        looked: What was found.
        verdict: On it.
    """
    logged, size = looked.logged, signed.checkpoint.size
    link = _logged(archive, logged.index, size)
    bracket, deals = b"", _shown_deals(looked)
    if looked.judged.shown and not deals:
        bracket, deals = _named_deal(archive, looked)
    return parts.EpochBundle(
        looked.network,
        verdict.verdict.verifier,
        verdict.verdict.at_s,
        format_checkpoint(signed),
        (_opened(archive, looked.span, size),),
        (_provider(archive, logged.account, deals),),
        (parts.EpochPart(link, dict(sorted(looked.judged.shown.items())), verdict, bracket),),
    )


def read_question(bundle: parts.EpochBundle, node: NodeId) -> tuple[Span, Logged]:
    """Which link of ``node`` a bundle of ours is about, and its epoch."""
    (part,), (opened,) = bundle.parts, bundle.opened
    body = Entry.decode(opened.logged.leaf.entry).body
    entry = Entry.decode(part.link.leaf.entry)
    if not isinstance(body, OpenEpoch) or not isinstance(entry.body, SubmitLink):
        raise MalformedMessage("a bundle that is about no link")
    span = Span(body.epoch, opened.logged.index, body.value)
    return span, Logged(part.link.index, part.link.leaf, entry.signer, node, entry.body.link)


def _opened(archive: Archive, span: Span, size: int) -> parts.OpenedEpoch:
    body = Entry.decode(archive.replica.leaf(span.opened).entry).body
    assert isinstance(body, OpenEpoch)
    growth = list[bytes]()
    if span.epoch > FIRST_EPOCH and body.closed.size < size:
        growth = build_consistency_proof(archive.replica.hashes, body.closed.size, size)
    return parts.OpenedEpoch(
        _logged(archive, span.opened, size), tuple(growth), _shut_before(archive, body, size)
    )


def _shut_before(archive: Archive, body: OpenEpoch, size: int) -> parts.Logged | None:
    """The entry that shut the epoch before, where it fixes the round of drand."""
    if archive.replica.state.params.drand is None or body.epoch == FIRST_EPOCH:
        return None
    return _logged(archive, body.closed.size - 1, size)


def _logged(archive: Archive, index: int, size: int) -> parts.Logged:
    return parts.Logged(archive.replica.leaf(index), index, tuple(archive.inclusion(index, size)))


def _provider(
    archive: Archive, account: Address, named: AbstractSet[DealId]
) -> parts.ProvenProvider:
    """The account, and its deals ``named`` as far as they are not closed; else any other."""
    state = archive.replica.state
    cells = (state.cell(CellKind.DEAL, deal) for deal in named)
    deals = [
        cell for cell in cells if isinstance(cell, DealCell) and cell.state is not DealState.CLOSED
    ]
    if not deals:
        deals = archive.deals_of(account)[:1]
    return parts.ProvenProvider(
        parts.ProvenCell(state.account(account), _steps(archive, CellKind.ACCOUNT, account)),
        tuple(
            parts.ProvenCell(cell, _steps(archive, CellKind.DEAL, cell.deal))
            for cell in sorted(deals, key=lambda cell: cell.deal)
        ),
    )


def known_bracket(archive: Archive, looked: Looked, index: int) -> bytes:
    """The way to the deal that leaf ``index`` of the link's inventory falls in, if it is known."""
    entries = archive.installed.frozen(looked.logged.account, looked.span.epoch)
    tree = tree_of(entries)
    if tree.root != looked.asked.link.root:
        return b""
    at = tree.locate(index)
    entry = entries[DealId(at.key)]
    writer = Writer().raw(entry.deal, HASH_BYTES).u64(entry.number)
    writer.raw(entry.holdings_root, HASH_BYTES).u64(entry.leaves)
    for left_sum, sibling in at.steps:
        writer.u64(left_sum).raw(sibling, HASH_BYTES)
    return writer.done()


def _named_deal(archive: Archive, looked: Looked) -> tuple[bytes, set[DealId]]:
    """The bracket of the first opening and the deal that it names, if that is known."""
    link, index = looked.asked.link, looked.drawn[min(looked.judged.shown)]
    bracket = known_bracket(archive, looked, index)
    if not bracket:
        return b"", set()
    return bracket, {proven_deal(bracket, root=link.root, total=link.total, index=index).deal}


def _shown_deals(looked: Looked) -> set[DealId]:
    """The deals that are proven by what was shown."""
    link, drawn, deals = looked.asked.link, looked.drawn, set[DealId]()
    for place, served in looked.judged.shown.items():
        with suppress(InvalidProof):
            at = proven_deal(served.opening, root=link.root, total=link.total, index=drawn[place])
            deals.add(at.deal)
    return deals


def _steps(archive: Archive, kind: CellKind, name: bytes) -> tuple[StateStep, ...]:
    _, steps = archive.replica.state.tree.build_proof(cell_key(kind, name))
    return tuple(steps)
