"""A fraud proof: one step of the ledger that its own rules do not allow.

The operator signed a log with an entry in it that the rules refuse in the state before it, or
with another state root after it than they give: credits from nowhere, an account overdrawn, an
entry its owner never signed, a wrong settlement. Every leaf brings the state root after it, so
the leaf, the one before and the cells that the step reads are all it takes to judge.

Spec: docs/spec/evidence.md#fraud.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES
from dsn.errors import DsnError, InvalidProof
from dsn.ledger.beacons import verify_beacon
from dsn.ledger.bodies import OpenEpoch, ShutEpoch
from dsn.ledger.cells import NetworkCell
from dsn.ledger.checkpoint import SignedCheckpoint
from dsn.ledger.conviction import (
    Conviction,
    EvidenceKind,
    begin,
    by_operator,
    read_note,
    read_path,
    write_note,
    write_path,
)
from dsn.ledger.entry import Body, Entry, SignedEntry
from dsn.ledger.log import (
    MAX_ENTRY_BYTES,
    Hashes,
    LogLeaf,
    TreeHead,
    build_inclusion_proof,
    build_prefix_proof,
    fold_prefix_proof,
    leaf_hash,
    verify_inclusion_proof,
)
from dsn.ledger.params import LedgerParams
from dsn.ledger.partial import PartialState, WatchedCells
from dsn.ledger.radix import LeftOut
from dsn.ledger.refusal import refuse
from dsn.ledger.rules.moves import step
from dsn.ledger.settlement import SETTLEMENT_SIGNATURE_BYTES
from dsn.ledger.state import FIRST_EPOCH, State, genesis
from dsn.ledger.trust import Trust

_MAX_LEAF_BYTES = MAX_ENTRY_BYTES + SETTLEMENT_SIGNATURE_BYTES + HASH_BYTES
_SHOWN = 8
"""Bytes of a hash that a line for people names."""


@dataclass(frozen=True, slots=True)
class Logged:
    """A leaf and its inclusion proof."""

    leaf: LogLeaf
    path: tuple[bytes, ...]

    @classmethod
    def of(cls, leaf: LogLeaf, hashes: Hashes, index: int, size: int) -> Logged:
        """Leaf ``index`` of the log of ``size`` leaves that ``hashes`` are of."""
        return cls(leaf, tuple(build_inclusion_proof(hashes, index, size)))

    def verify(self, head: TreeHead, index: int) -> None:
        """Check that it is leaf ``index`` of the log at ``head``; as ``verify_inclusion_proof``."""
        verify_inclusion_proof(head, index, leaf_hash(self.leaf.encode()), self.path)

    def write(self, writer: Writer) -> None:
        """The fixed encoding."""
        write_path(writer.var(self.leaf.encode()), self.path)

    @classmethod
    def read(cls, reader: Reader) -> Logged:
        """Take one out of ``reader`` (untrusted)."""
        return cls(LogLeaf.decode(reader.var(_MAX_LEAF_BYTES)), read_path(reader))


@dataclass(frozen=True, slots=True)
class Closed:
    """The log as it was where an epoch's open calls it closed.

    Attributes:
        prefix: The prefix proof of that log.
        last: Its last leaf, and the inclusion proof in that log.
    """

    prefix: tuple[bytes, ...]
    last: Logged

    @classmethod
    def of(cls, last: LogLeaf, hashes: Hashes, size: int, whole: int) -> Closed:
        """The first ``size`` leaves, ``last`` at their end, of ``whole`` that have ``hashes``."""
        prefix = tuple(build_prefix_proof(hashes, size, whole))
        return cls(prefix, Logged.of(last, hashes, size - 1, size))

    def verify(self, size: int, whole: TreeHead) -> TreeHead:
        """The log at ``size`` leaves, from 1 up to those of ``whole``, once all of it is proven.

        Raises:
            InvalidProof: ``wrong_path``, or as ``fold_prefix_proof`` and ``Logged.verify``.
        """
        older, newer = fold_prefix_proof(self.prefix, size, whole.size)
        if newer != whole.root:
            raise InvalidProof(
                f"the path is not of the log of {whole.size} leaves", code="wrong_path"
            )
        closed = TreeHead(size, older)
        self.last.verify(closed, size - 1)
        return closed

    def write(self, writer: Writer) -> None:
        """The fixed encoding."""
        write_path(writer, self.prefix)
        self.last.write(writer)

    @classmethod
    def read(cls, reader: Reader) -> Closed:
        """Take one out of ``reader`` (untrusted)."""
        return cls(read_path(reader), Logged.read(reader))


@dataclass(frozen=True, slots=True)
class Fraud:
    """All it takes to judge one step.

    Attributes:
        signed: A checkpoint over the step, with the operator's lines.
        index: The number of the step's leaf.
        step: That leaf.
        previous: The one before; ``None`` for the first, before which comes the genesis.
        closed: The log that the step calls closed, if it opens an epoch over one that was.
        state: What the step reads of the state before it.
    """

    signed: SignedCheckpoint
    index: int
    step: Logged
    previous: Logged | None
    closed: Closed | None
    state: PartialState

    def encode(self) -> bytes:
        """The fixed encoding."""
        writer = begin(EvidenceKind.FRAUD)
        write_note(writer, self.signed)
        self.step.write(writer.u64(self.index))
        if self.previous is not None:
            self.previous.write(writer)
        if self.closed is not None:
            self.closed.write(writer)
        self.state.write(writer)
        return writer.done()

    @classmethod
    def read(cls, reader: Reader) -> Fraud:
        """Take the fields out of ``reader`` (untrusted)."""
        signed, index, leaf = read_note(reader), reader.u64(), Logged.read(reader)
        previous = Logged.read(reader) if index else None
        closed = Closed.read(reader) if closed_before(leaf.leaf, index) else None
        return cls(signed, index, leaf, previous, closed, PartialState.read(reader))


def closed_before(leaf: LogLeaf, index: int) -> int:
    """How many entries before entry ``index`` were closed, says ``leaf``, which is that entry.

    0 unless it opens an epoch over a log that was there.
    """
    try:
        return _closed_size(Entry.decode(leaf.entry).body, index)
    except DsnError:
        return 0


def build_fraud(
    before: State,
    index: int,
    leaves: Callable[[int], LogLeaf],
    signed: SignedCheckpoint,
    hashes: Hashes,
) -> Fraud:
    """Gather what it takes to judge a step, whether there is anything wrong with it or not.

    Args:
        before: The state before the step, with all its cells at hand and the root that the leaf
            before it tells.
        index: The number of the step's leaf, from 0.
        leaves: Gives that leaf, the one before, and the last of those ``closed_before`` it.
        signed: A checkpoint of more than ``index`` leaves, signed by the operator.
        hashes: Of the log that ``signed`` is of.
    """
    leaf, previous = leaves(index), leaves(index - 1) if index else None
    assert previous is None or previous.state_root == before.root
    size, cells = signed.checkpoint.size, WatchedCells(before)
    with contextlib.suppress(DsnError):
        said = SignedEntry(Entry.decode(leaf.entry), leaf.signature)
        step(cells.state, said, _believe, identities=False)
    closed = closed_before(leaf, index)
    return Fraud(
        by_operator(signed, Trust.of(before.params)),
        index,
        Logged.of(leaf, hashes, index, size),
        None if previous is None else Logged.of(previous, hashes, index - 1, size),
        Closed.of(leaves(closed - 1), hashes, closed, size) if closed else None,
        PartialState.of(before, cells.keys, cells.providers),
    )


def judge_fraud(fraud: Fraud, trust: Trust) -> Conviction:
    """Convict the operator of a step that the rules do not allow.

    Args:
        fraud: Untrusted.
        trust: From the network file; evidence brings no key of its own.

    Returns:
        The fault is the code with which the rules refuse the entry; ``state_root_differs`` if
        they take it, but with another state after it; ``checkpoint_differs`` if the checkpoint
        itself says something else of the state at its end.

    Raises:
        InvalidSignature: As ``Trust.verify_operator``.
        InvalidProof: ``other_log``; ``index``, ``short``, ``trailing``, ``not_in_log``: of a leaf;
            ``wrong_path``: of the closed log; ``state_root``: the cells are not of the state
            before; ``incomplete_evidence``: something is missing; ``no_fault``: the step is right.
        MalformedMessage: A partial state that cannot be.
        LimitReached: As before.

    Cost: that of the step; about 20 ms for a beacon.
    """
    trust.verify_operator(fraud.signed)
    before, leaf = _state_before(fraud, trust.params), fraud.step.leaf
    try:
        entry = Entry.decode(leaf.entry)
    except DsnError as error:
        return _refused(fraud, trust, error)
    judge = _LogJudge(fraud, trust.params, _closed_head(fraud, entry.body))
    try:
        after, _ = step(before, SignedEntry(entry, leaf.signature), judge)
    except LeftOut as error:
        raise InvalidProof(f"evidence: {error.message}", code="incomplete_evidence") from error
    except DsnError as error:
        return _refused(fraud, trust, error)
    return _compare(fraud, trust, after)


class _LogJudge:
    """Judges a beacon, and the closed log that it was made over."""

    def __init__(self, fraud: Fraud, params: LedgerParams, head: TreeHead | None) -> None:
        self._fraud, self._params, self._head = fraud, params, head

    def __call__(self, before: NetworkCell, body: OpenEpoch) -> None:
        if body.epoch > FIRST_EPOCH:
            self._check_closed(body)
        verify_beacon(self._params, before, body)

    def _check_closed(self, body: OpenEpoch) -> None:
        size, closed = body.closed.size, self._fraud.closed
        if closed is None or body.closed != self._head:
            raise refuse("bad_closed_log", f"at {size} entries the log was not like that")
        if not _shuts(closed.last.leaf, body.epoch - 1):
            raise refuse(
                "bad_closed_log", f"closed at {size} entries, epoch {body.epoch - 1} was not shut"
            )


def _believe(before: NetworkCell, body: OpenEpoch) -> None:
    """To gather cells a beacon need not be right, nor what a chain cannot judge."""


def _shuts(leaf: LogLeaf, epoch: int) -> bool:
    """Whether ``leaf`` is the shut of ``epoch``."""
    try:
        body = Entry.decode(leaf.entry).body
    except DsnError:
        return False
    return isinstance(body, ShutEpoch) and body.epoch == epoch


def _closed_size(body: Body, index: int) -> int:
    """The size of the closed log that ``body`` names, if the log had it before ``index``; or 0."""
    size = body.closed.size if isinstance(body, OpenEpoch) else 0
    return size if size <= index else 0


def _closed_head(fraud: Fraud, body: Body) -> TreeHead | None:
    """The log as it really was at the size that an epoch's open calls closed, if it was."""
    size = _closed_size(body, fraud.index)
    if not size:
        return None
    if fraud.closed is None:
        raise InvalidProof("evidence: the closed log is left out", code="incomplete_evidence")
    return fraud.closed.verify(size, fraud.signed.checkpoint.head)


def _state_before(fraud: Fraud, params: LedgerParams) -> State:
    """The state before the step, once all that is shown of it and of the log is proven."""
    head = fraud.signed.checkpoint.head
    fraud.step.verify(head, fraud.index)
    if fraud.previous is None:
        root = genesis(params).root
    else:
        fraud.previous.verify(head, fraud.index - 1)
        root = fraud.previous.leaf.state_root
    before = fraud.state.state(params)
    if before.root != root:
        raise InvalidProof(
            f"evidence: the cells are not of the state before entry {fraud.index}",
            code="state_root",
        )
    return before


def _compare(fraud: Fraud, trust: Trust, after: State) -> Conviction:
    index, said, checkpoint = fraud.index, fraud.step.leaf.state_root, fraud.signed.checkpoint
    if after.root != said:
        text = (
            f"entry {index} leads to state {after.root[:_SHOWN].hex()}..., "
            f"the log says {said[:_SHOWN].hex()}..."
        )
        return Conviction(trust.operator, "state_root_differs", text)
    if index + 1 == checkpoint.size:
        epoch = after.network.epoch
        if (checkpoint.state_root, checkpoint.epoch) != (said, epoch):
            text = (
                f"after {checkpoint.size} entries the state is {said[:_SHOWN].hex()}... in epoch "
                f"{epoch}, the checkpoint says {checkpoint.state_root[:_SHOWN].hex()}... in epoch "
                f"{checkpoint.epoch}"
            )
            return Conviction(trust.operator, "checkpoint_differs", text)
    raise InvalidProof(f"entry {index} is as the rules have it", code="no_fault")


def _refused(fraud: Fraud, trust: Trust, error: DsnError) -> Conviction:
    text = f"the log has entry {fraud.index}, which the rules refuse: {error.message}"
    return Conviction(trust.operator, error.detail_code, text)
