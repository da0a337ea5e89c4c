"""Bringing evidence to the chain: whoever shows a wrong step of an anchored log has it dropped.

Spec: docs/spec/chain.md; docs/spec/evidence.md#fraud.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from dsn.apps.chain.replay import LogCopy, read_log, root_of
from dsn.apps.chain.under_way import UnderWay
from dsn.apps.chain.vault import Anchored, Vault
from dsn.chain import Call, Chain
from dsn.errors import DsnError, InvalidProof, NotFound, PeerError
from dsn.ledger.checkpoint import parse_checkpoint
from dsn.ledger.evidence import convict, decode_evidence
from dsn.ledger.fraud import Closed, Fraud, Logged
from dsn.ledger.log import Hashes, LogLeaf
from dsn.ledger.onchain.anchor import equivocation_call
from dsn.ledger.onchain.cases import on_chain
from dsn.ledger.params import LedgerParams
from dsn.ledger.trust import Trust

_WHAT: Final = "accused"
_DECIDED: Final = frozenset({"convicted_already", "no_fault"})
"""What the chain says for good."""
_log = structlog.get_logger("chain")


@dataclass(frozen=True, slots=True)
class Convicted:
    """A conviction on the chain.

    Attributes:
        index: The wrong entry's number.
        fault: As the evidence says it.
        anchor: The number of the anchor whose log has it.
        contract: Which one judged.
        gas: What it took.
    """

    index: int
    fault: str
    anchor: int
    contract: str
    gas: int


async def bring(
    chain: Chain, raw: bytes, params: LedgerParams, copies: Sequence[LogCopy]
) -> Convicted:
    """Have the chain judge a file of evidence.

    Args:
        chain: Has the vault and its judges.
        raw: The file, untrusted.
        params: The ledger's.
        copies: Of its log, where the evidence is of another size than what is anchored.

    Raises:
        InvalidProof: It convicts nobody; ``not_for_a_chain``: a chain cannot judge it.
        NotFound: ``not_anchored``: no anchor has the wrong entry; ``no_log``.
        ChainRefused: ``no_fault``, ``convicted_already``, or what does not fit.
        LimitReached: ``not_enough_gas``.
    """
    evidence = decode_evidence(raw)
    found = convict(evidence, Trust.of(params))
    if not isinstance(evidence, Fraud):
        raise InvalidProof(
            f"{found.fault}: a chain judges wrong entries, and no Ed25519 signatures",
            code="not_for_a_chain",
            hint="show the file to people: dsn ledger check --evidence FILE",
        )
    anchor = await Vault(chain).newest()
    if anchor is None or anchor.size <= evidence.index:
        raise NotFound(
            f"no anchor has entry {evidence.index:,}: it harms nobody on the chain",
            code="not_anchored",
        )
    shown = evidence
    if evidence.signed.checkpoint.ledger_root != root_of(anchor):
        shown = await _under(evidence, anchor, copies)
    call = Call(*on_chain(shown, params, anchor.number))
    done = await chain.send(call)
    return Convicted(evidence.index, found.fault, anchor.number, call.contract, done.gas)


async def bring_notes(chain: Chain, one: bytes, other: bytes, params: LedgerParams) -> int:
    """Have the chain judge two checkpoints of one size; the gas it took.

    Args:
        chain: Has the vault.
        one: A signed note, untrusted.
        other: Another.
        params: The ledger's.

    Raises:
        MalformedMessage: One is no checkpoint.
        InvalidSignature, InvalidProof: As ``equivocation_call``.
        ChainRefused: ``convicted_already``.
        LimitReached: ``not_enough_gas``.
    """
    call = equivocation_call(parse_checkpoint(one), parse_checkpoint(other), params)
    return (await chain.send(Call(*call))).gas


async def _under(fraud: Fraud, anchor: Anchored, copies: Sequence[LogCopy]) -> Fraud:
    """The same step with its proofs in the log of ``anchor``."""
    return _proven(fraud, *await read_log(root_of(anchor), copies))


def _proven(fraud: Fraud, leaves: Sequence[LogLeaf], hashes: Hashes) -> Fraud:
    index, size = fraud.index, len(leaves)
    if leaves[index] != fraud.step.leaf:
        raise NotFound(f"entry {index:,} of the anchored log is another", code="not_anchored")
    previous = Logged.of(leaves[index - 1], hashes, index - 1, size) if index else None
    closed = fraud.closed
    if closed is not None:
        until = leaves.index(closed.last.leaf) + 1
        closed = Closed.of(closed.last.leaf, hashes, until, size)
    step = Logged.of(leaves[index], hashes, index, size)
    return replace(fraud, step=step, previous=previous, closed=closed)


@dataclass(frozen=True, slots=True)
class _Brought:
    """Names of files that need not be brought again."""

    files: list[str]


class EvidenceWatch:
    """Brings whatever evidence a folder has."""

    def __init__(
        self,
        chain: Chain,
        params: LedgerParams,
        folder: Path,
        copies: Sequence[LogCopy],
        under_way: UnderWay,
    ) -> None:
        """Look into ``folder`` again and again; ``under_way`` remembers what was brought."""
        self._chain, self._params, self._folder = chain, params, folder
        self._copies, self._under_way = copies, under_way

    async def turn(self) -> None:
        """Bring what is new; what the chain cannot judge yet is tried again, bad files are not."""
        known = self._under_way.load(_WHAT, _Brought) or _Brought([])
        files = sorted(self._folder.glob("*.evidence"))
        for file in (each for each in files if each.name not in known.files):
            try:
                done = await bring(self._chain, file.read_bytes(), self._params, self._copies)
                _log.error("convicted", file=file.name, fault=done.fault, gas=done.gas)
            except DsnError as error:
                _log.warning("not convicted", file=file.name, code=error.detail_code)
                if not isinstance(error, PeerError) and error.detail_code not in _DECIDED:
                    continue
            known = _Brought([*known.files, file.name])
            self._under_way.save(_WHAT, known)
