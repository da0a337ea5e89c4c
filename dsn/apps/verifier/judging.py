"""What a node's answer to one question about an epoch comes to; a pure rule.

A node that shows an opening which its own link commits to, and which fails, is ``wrong``, and
anybody can prove it. One that shows something else than it linked proves nothing, not even against
itself: it is as good as silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dsn.errors import InvalidProof
from dsn.ids import NetworkId, NodeId
from dsn.ledger.disputes import ServedOpening
from dsn.proofs.opening import verify_opening
from dsn.proofs.post import Link, drawn_indices, verify_answer_path
from dsn.proofs.verdict import Outcome

ANSWER_COUNT = "answer_count"


class Asked(NamedTuple):
    """Openings under a link that is believed: whose, and at which ``places`` in draw order."""

    link: Link
    beacon: bytes
    node: NodeId
    places: Sequence[int]


@dataclass(frozen=True, slots=True)
class Judged:
    """An outcome, the code of what is wrong, and the openings that the link commits to.

    ``shown`` is empty if not all were shown and none is wrong; ``wrong`` is the first place whose
    opening fails.
    """

    outcome: Outcome
    reason: str = ""
    shown: Mapping[int, ServedOpening] = field(default_factory=dict)
    wrong: int | None = None


def judge_answer(asked: Asked, served: Iterable[ServedOpening], *, network: NetworkId) -> Judged:
    """Judge what a node served.

    Args:
        asked: What it was asked for.
        served: Untrusted, one for each place, in order.
        network: The network's id.
    """
    link, shown, doubt = asked.link, dict[int, ServedOpening](), ""
    openings = list(served)
    if len(openings) != len(asked.places):
        doubt = ANSWER_COUNT
    for place, each in zip(asked.places, openings, strict=False):
        try:
            verify_answer_path(link, place, each.opening, each.path)
        except InvalidProof as error:
            doubt = doubt or error.detail_code
        else:
            shown[place] = each
    drawn = drawn_indices(link, asked.beacon, network=network, node=asked.node)
    for place, each in sorted(shown.items()):
        try:
            verify_opening(
                each.opening, root=link.root, total=link.total, index=drawn[place], inventory=True
            )
        except InvalidProof as error:
            return Judged(Outcome.WRONG, error.detail_code, shown, place)
    if doubt:
        return Judged(Outcome.SILENT, doubt)
    return Judged(Outcome.HELD, "", shown)
