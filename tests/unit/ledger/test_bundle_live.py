"""Live bundles: what they prove, and every lie a verifier could sign its name to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dsn.core.keys import SigningKey, node_id_of
from dsn.core.manifest import Core, SegmentSeal, sign_head
from dsn.core.placement import PageRef, encode_page, missing, page_hash
from dsn.errors import DsnError
from dsn.ids import Commit
from dsn.ledger.bundle import LiveBundle, LivePart, Verified, parse_bundle, verify_bundle
from dsn.ledger.bundle_live import read_placed
from dsn.proofs.por import build_challenge
from dsn.proofs.verdict import NO_NONCE, Outcome, SignedVerdict
from dsn.units import PAGE_SEGMENTS
from tests.support.bundle_world import (
    AT_S,
    NETWORK,
    SCHEME,
    VERIFIER,
    answered,
    asked,
    file,
    live,
    live_part,
    signed,
    silent_part,
    spoiled,
)

FIRST, SECOND, THIRD = file().holders
LENGTH = THIRD.held.tree.total * 1_024


def judged(bundle: LiveBundle) -> Verified:
    """What anybody finds who is given the file, signed by its verifier whatever it says."""
    return verify_bundle(parse_bundle(signed(bundle)), NETWORK)


def told(part: LivePart, **changes: Any) -> LivePart:
    """With a verdict that says something else."""
    return replace(part, verdict=SignedVerdict(replace(part.verdict.verdict, **changes), b""))


def test_a_file_that_is_held() -> None:
    found = judged(live())
    assert found.held
    assert (found.kind, found.verifier, found.at_s) == ("live", VERIFIER.public, AT_S)
    assert (found.file, found.unasked, found.epochs) == (file().head.core.file_id, 0, (0, 0))
    assert [part.node for part in found.parts] == [holder.node for holder in file().holders]
    assert all(part.leaves == 4 for part in found.parts)


def test_bytes_count_only_if_the_head_names_them() -> None:
    page = len(file().pages[0]) + 28
    extra = 1_024
    first, second, third = judged(live()).parts
    assert third.proven_bytes == third.size_bytes == LENGTH
    assert second.proven_bytes == LENGTH + page
    assert second.size_bytes == LENGTH + 1_024
    assert first.size_bytes == second.size_bytes + extra
    assert first.proven_bytes == second.proven_bytes
    assert first.proven_leaves <= first.leaves


def test_what_nobody_was_asked_for_is_counted() -> None:
    found = judged(live(live_part(SECOND)))
    assert found.held
    assert found.unasked == 2 + 1
    without = judged(replace(live(), pages=()))
    assert (without.unasked, {part.proven_bytes for part in without.parts}) == (0, {0})


def test_a_wrong_answer_is_proven_whoever_else_holds() -> None:
    found = judged(live(live_part(FIRST), live_part(SECOND, wrong=[2]), live_part(THIRD)))
    assert not found.held
    assert [part.outcome for part in found.parts] == [Outcome.HELD, Outcome.WRONG, Outcome.HELD]
    assert (found.parts[1].reason, found.parts[1].proven_bytes) == ("shard", 0)


@pytest.mark.parametrize("known", [True, False])
def test_silence_is_the_verifiers_word(known: bool) -> None:
    found = judged(live(silent_part(FIRST, "declared_lost", known=known)))
    assert (found.parts[0].outcome, found.parts[0].reason) == (Outcome.SILENT, "declared_lost")
    assert found.parts[0].node == FIRST.node


STRANGER = SigningKey(b"\x64" * 32)


def _other_nonce() -> LivePart:
    """The answer to another challenge, offered for this one."""
    part, other = live_part(THIRD), asked(THIRD, name="other")
    return replace(part, answer=answered(THIRD, other))


def _unsigned() -> LivePart:
    """One opening put in place of what the node signed."""
    part = live_part(THIRD)
    assert part.answer is not None
    openings = (spoiled(part.answer.openings[0]), *part.answer.openings[1:])
    return told(
        replace(part, answer=replace(part.answer, openings=openings)),
        outcome=Outcome.WRONG,
        reason="shard",
        leaves=0,
        size_bytes=0,
    )


def _by_somebody_else() -> LivePart:
    part = told(live_part(THIRD), node=node_id_of(STRANGER.public))
    return replace(part, public_key=STRANGER.public)


def _shorter() -> LivePart:
    """A shard counted as shorter than it is: the node need not keep the rest."""
    part = live_part(SECOND)
    shards = dict.fromkeys(part.shards, 1)
    challenge = build_challenge(
        shards.items(), nonce=part.challenge.nonce, leaves=2, deadline_ms=AT_S * 1000
    )
    return replace(part, shards=shards, challenge=challenge, answer=None)


def _no_answer_held() -> LivePart:
    return replace(live_part(THIRD), answer=None)


def _other_root() -> LivePart:
    part = live_part(THIRD)
    return replace(part, challenge=replace(part.challenge, root=bytes(32)), answer=None)


def _no_leaves() -> LivePart:
    part = live_part(THIRD)
    return replace(part, challenge=replace(part.challenge, leaves=0), answer=None)


def _nobodys_answer() -> LivePart:
    return replace(live_part(THIRD), public_key=b"")


HELD, WRONG = live_part(THIRD), live_part(THIRD, wrong=[1])
FAIL = {"outcome": Outcome.WRONG, "reason": "shard", "leaves": 0, "size_bytes": 0}
SILENT = {"outcome": Outcome.SILENT, "reason": "timed_out", "leaves": 0, "size_bytes": 0}
GOOD = {"outcome": Outcome.HELD, "reason": "", "leaves": 4, "size_bytes": LENGTH}
LIES: dict[str, tuple[Callable[[], LivePart], str, str]] = {
    "held, but it failed": (lambda: told(WRONG, **GOOD), "wrong_verdict", "verdict: another outc"),
    "wrong, but it held": (lambda: told(HELD, **FAIL), "wrong_verdict", "verdict: another outcome"),
    "silent, but it held": (lambda: told(HELD, **SILENT), "wrong_verdict", "verdict: another outc"),
    "held, but nothing came": (_no_answer_held, "wrong_verdict", "verdict: another outcome"),
    "another reason": (lambda: told(WRONG, reason="sum"), "wrong_verdict", "verdict: another reas"),
    "more leaves": (lambda: told(HELD, leaves=5), "wrong_verdict", "verdict: another leaves"),
    "more bytes": (lambda: told(HELD, size_bytes=1 << 40), "wrong_verdict", "another size_bytes"),
    "another file": (lambda: told(HELD, subject=bytes(32)), "wrong_verdict", "another subject"),
    "another node": (lambda: told(HELD, node=FIRST.node), "wrong_verdict", "verdict: another node"),
    "another nonce": (lambda: told(HELD, nonce=b"\1" * 32), "wrong_verdict", "another nonce"),
    "an epoch": (lambda: told(HELD, nonce=NO_NONCE, epoch=3), "wrong_verdict", "another epoch"),
    "another network": (lambda: told(HELD, network=bytes(32)), "wrong_verdict", "another network"),
    "another verifier": (lambda: told(HELD, verifier=bytes(32)), "wrong_verdict", "another verif"),
    "a replay": (_other_nonce, "", r"^parts\[0\].answer.openings\[\d\]: "),
    "an opening nobody signed": (_unsigned, "shard", r"^parts\[0\].answer.openings\[0\]: "),
    "no holder": (_by_somebody_else, "", r"^parts\[0\]"),
    "an answer by nobody": (_nobodys_answer, "", r"^parts\[0\]"),
    "shorter shards": (_shorter, "wrong_shard", r"^parts\[0\].shards\[\d\]: 1 leaves"),
    "a root of other shards": (_other_root, "other_root", r"^parts\[0\].challenge.root: "),
    "no leaves asked": (_no_leaves, "malformed_message", r"^parts\[0\].challenge: "),
}


@pytest.mark.parametrize(("lie", "code", "named"), LIES.values(), ids=LIES)
def test_a_lie_is_refused_though_the_verifier_signs_it(
    lie: Callable[[], LivePart], code: str, named: str
) -> None:
    with pytest.raises(DsnError, match=named) as refused:
        judged(live(lie()))
    assert code in ("", refused.value.detail_code)


def test_of_a_node_that_no_page_names_only_silence_can_be_told() -> None:
    """Its shards may be copies of the head, which no head names: they count as nothing."""
    part = silent_part(THIRD)
    verdict = replace(part.verdict.verdict, node=node_id_of(STRANGER.public))
    stranger = replace(part, public_key=STRANGER.public, verdict=SignedVerdict(verdict, b""))
    (found,) = judged(live(stranger)).parts
    assert (found.outcome, found.proven_bytes, found.size_bytes) == (Outcome.SILENT, 0, 0)


def test_a_shard_is_asked_for_once() -> None:
    with pytest.raises(DsnError, match=r"^parts\[1\]: ") as refused:
        judged(live(live_part(THIRD), silent_part(THIRD)))
    assert refused.value.detail_code == "twice"


def test_a_verdict_from_another_bundle_is_refused() -> None:
    bundle = parse_bundle(signed(live()))
    assert isinstance(bundle, LiveBundle)
    moved = replace(bundle, at_s=AT_S + 1)
    with pytest.raises(DsnError, match="another evidence") as refused:
        verify_bundle(moved, NETWORK)
    assert refused.value.detail_code == "wrong_verdict"


def test_a_head_that_the_placement_key_did_not_sign_is_refused() -> None:
    head = file().head
    forged = replace(head, sequence=head.sequence + 1).encode()
    with pytest.raises(DsnError, match=r"^head: ") as refused:
        judged(replace(live(), head=forged))
    assert refused.value.detail_code == "invalid_signature"


@pytest.mark.parametrize(
    "pages", [(encode_page([(missing(0),) * SCHEME.total]),), file().pages * 2, (b"",)]
)
def test_pages_are_the_heads(pages: tuple[bytes, ...]) -> None:
    with pytest.raises(DsnError, match=r"^pages\[\d\]: ") as refused:
        judged(replace(live(), pages=pages))
    assert refused.value.detail_code == "wrong_page"


def test_a_bundle_may_have_some_of_the_pages_in_their_order() -> None:
    placer, seal = SigningKey(b"\x65" * 32), SegmentSeal(bytes(16), bytes(32))
    size = 33_500_000 * (PAGE_SEGMENTS + 40)
    core = Core(SCHEME, size, placer.public, (), b"\1" * 40)
    segments = core.layout.segments
    core = replace(core, segments=(seal,) * segments)
    rows = [(missing(0), missing(0), missing(n)) for n in range(segments)]
    place = rows[-1][0]._replace(node=0, commit=Commit(b"\2" * 32))
    rows[-1] = (place, *rows[-1][1:])
    pages = [encode_page(rows[:PAGE_SEGMENTS]), encode_page(rows[PAGE_SEGMENTS:])]
    refs = [PageRef(page_hash(page), ()) for page in pages]
    head = sign_head(core, 1, [THIRD.node], refs, placer.sign)
    bundle = replace(live(), head=head.encode(), pages=(pages[1],))
    last = core.layout.segment(segments - 1).shard_bytes
    assert read_placed(bundle).held == {THIRD.node: {place.commit: last}}
    assert read_placed(replace(bundle, pages=(pages[0],))).held == {}
    with pytest.raises(DsnError, match=r"^pages\[1\]: "):
        read_placed(replace(bundle, pages=(pages[1], pages[0])))
