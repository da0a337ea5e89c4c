"""What a verifier found, for people: a row a provider, and each score down to its verdicts."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dsn.ids import NodeId, format_base32, format_node_id
from dsn.machines.scoring import Score, score
from dsn.proofs.verdict import NO_EVIDENCE, NO_VERDICT, Outcome, SignedVerdict, Verdict
from dsn.store.verdicts import Draw

LOSS: Final = 0.01
"""The loss that the arithmetic is printed for."""


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One verdict, and what an appeal against it came to."""

    verdict: Verdict
    appeal: Verdict | None = None

    def fields(self) -> dict[str, Any]:
        """Stable names, as ``--json`` and ``--format csv`` give them."""
        said, appeal = self.verdict, self.appeal
        return {
            "provider": format_node_id(said.node),
            "epoch": said.epoch,
            "subject": said.subject.hex(),
            "outcome": said.outcome.name.lower(),
            "reason": said.reason,
            "leaves": said.leaves,
            "response_ms": said.response_ms,
            "at": said.at_s,
            "verdict": said.hash.hex(),
            "evidence": "" if said.evidence == NO_EVIDENCE else said.evidence.hex(),
            "appeal": appeal.outcome.name.lower() if appeal else "",
            "appeal_reason": appeal.reason if appeal else "",
        }


@dataclass(frozen=True, slots=True)
class ProviderReport:
    """What was found of one provider.

    Attributes:
        node: Which.
        rows: Its verdicts by epoch, each with what an appeal against it came to.
        epochs: Epochs that were looked at.
        leaves: That were shown and held.
        response_ms: The median of its answers; ``None`` without any.
        score: By all its verdicts here, appeals too.
    """

    node: NodeId
    rows: Sequence[ReportRow]
    epochs: int
    leaves: int
    response_ms: int | None
    score: Score

    def fields(self) -> dict[str, Any]:
        """As ``--json`` gives it."""
        return {
            "provider": format_node_id(self.node),
            "epochs": self.epochs,
            "held": self.score.held,
            "wrong": self.score.wrong,
            "silent": self.score.silent,
            "leaves": self.leaves,
            "response_ms": self.response_ms,
            "score": round(self.score.value, 4),
            "why": self.score.why,
            "found": round(found_with(LOSS, self.leaves), 6),
            "verdicts": [row.fields() for row in self.rows],
        }

    def cells(self) -> tuple[str, ...]:
        """As a table has it."""
        found = f"{100 * found_with(LOSS, self.leaves):.1f} %"
        took = "-" if self.response_ms is None else f"{self.response_ms} ms"
        tally = self.score.held, self.score.wrong, self.score.silent
        return (
            format_node_id(self.node),
            str(self.epochs),
            *map(str, tally),
            f"{self.leaves:,}",
            took,
            f"{self.score.value:.3f}",
            found,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """A verifier's findings over some epochs."""

    verifier: bytes
    providers: Sequence[ProviderReport]
    draws: Sequence[Draw] = field(default_factory=tuple)

    def fields(self) -> dict[str, Any]:
        """As ``--json`` gives it."""
        epochs = [draw.epoch for draw in self.draws]
        return {
            "verifier": format_base32(self.verifier),
            "from_epoch": min(epochs, default=0),
            "to_epoch": max(epochs, default=0),
            "draws": [_draw_fields(draw) for draw in self.draws],
            "providers": [each.fields() for each in self.providers],
        }


def build_report(
    verdicts: Iterable[SignedVerdict],
    draws: Sequence[Draw],
    *,
    verifier: bytes,
    now_s: float,
    first: int = 0,
    last: int | None = None,
    node: NodeId | None = None,
) -> Report:
    """Put findings together.

    Args:
        verdicts: All that the verifier gave, in order.
        draws: All that it drew.
        verifier: Its Ed25519 public key.
        now_s: Unix seconds; old verdicts count for less.
        first: The first epoch that is of interest; 0: live audits are too.
        last: The last one, or ``None``.
        node: The only provider of interest, or ``None``.
    """
    said = defaultdict[NodeId, list[Verdict]](list)
    for signed in verdicts:
        each = signed.verdict
        if _within(each.epoch, first, last) and node in (None, each.node):
            said[each.node].append(each)
    return Report(
        verifier,
        [_of_provider(each, said[each], now_s) for each in sorted(said)],
        [draw for draw in draws if _within(draw.epoch, first, last)],
    )


def found_with(loss: float, leaves: int) -> float:
    """How likely ``leaves`` draws meet a loss of the part ``loss``: ``1 - (1 - loss)^leaves``."""
    return float(1 - (1 - loss) ** leaves)


def arithmetic(provider: ProviderReport) -> str:
    """That, as a sentence."""
    found = 100 * found_with(LOSS, provider.leaves)
    return (
        f"{provider.leaves:,} leaves looked at: a provider that had lost {100 * LOSS:g} % would "
        f"have been found with {found:.1f} % (1 - (1 - {LOSS})^{provider.leaves})"
    )


def explain(provider: ProviderReport) -> list[str]:
    """A provider's score down to each verdict that was not held, or was appealed against."""
    lines = [f"{format_node_id(provider.node)}  score {provider.score.value:.3f}"]
    lines.append(f"  {provider.score.why}")
    lines.append(f"  {arithmetic(provider)}")
    for row in provider.rows:
        if row.verdict.outcome is Outcome.HELD and row.appeal is None:
            continue
        lines.append("  " + _line(row))
    return lines


def _line(row: ReportRow) -> str:
    said = row.verdict
    what = f"epoch {said.epoch}" if said.epoch else f"file {said.subject.hex()[:16]}"
    text = f"{what}: {said.outcome.name.lower()} {said.reason}".rstrip()
    if row.appeal is not None:
        text += f"; on appeal {row.appeal.outcome.name.lower()} {row.appeal.reason}".rstrip()
    if said.evidence != NO_EVIDENCE:
        text += f"; bundle {said.evidence.hex()[:16]}"
    return text


def _within(epoch: int, first: int, last: int | None) -> bool:
    return first <= epoch and (last is None or 0 < epoch <= last)


def _of_provider(node: NodeId, said: Sequence[Verdict], now_s: float) -> ProviderReport:
    appeals: Mapping[bytes, Verdict] = {each.appeal: each for each in said}
    firsts = [each for each in said if each.appeal == NO_VERDICT]
    firsts.sort(key=lambda each: (each.epoch, each.at_s))
    took = [each.response_ms for each in said if each.response_ms]
    return ProviderReport(
        node,
        [ReportRow(each, appeals.get(each.hash)) for each in firsts],
        len({each.epoch for each in firsts if each.epoch}),
        sum(each.leaves for each in said),
        round(statistics.median(took)) if took else None,
        score(said, now_s),
    )


def _draw_fields(draw: Draw) -> dict[str, Any]:
    return {
        "epoch": draw.epoch,
        "seed": draw.seed.hex(),
        "links": draw.links,
        "most": draw.most,
        "sample": draw.sample,
        "skipped": draw.skipped,
        "done": draw.done,
    }
