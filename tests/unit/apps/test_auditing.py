"""Auditing: what honest holders show, what each kind of liar gets, and what a bundle keeps."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from dsn.apps.auditing import (
    LEAST_EACH,
    Finding,
    _asked_for,
    confidence,
    draw_scope,
    share_out,
)
from dsn.apps.manifests import Manifest
from dsn.apps.readback import MOST_COMMITS, MOST_LEAVES, Shown
from dsn.core.keys import FileKeys
from dsn.core.layout import FileLayout, Scheme
from dsn.core.manifest import Core, Head, SegmentSeal
from dsn.core.placement import Placement, ShardPlace
from dsn.errors import TimedOut
from dsn.ids import Commit, NodeId
from dsn.ledger.bundle import format_bundle, parse_bundle, verify_bundle
from dsn.proofs.por import Challenge
from dsn.proofs.verdict import Outcome, verify_verdict
from tests.support import attackers
from tests.support.attackers import Lie
from tests.support.audit_world import VERIFIER, audited
from tests.support.records import node

SHORT_S = 0.5
"""What a holder gets that will not answer at all."""


# which leaves


def test_leaves_are_shared_out_by_what_is_held() -> None:
    sizes = {node(1): 1_000, node(2): 3_000, node(3): 1, node(4): 3}
    assert share_out(sizes, 80) == {node(1): 20, node(2): 60, node(3): 1, node(4): 3}
    assert share_out(sizes, 1) == {node(1): LEAST_EACH, node(2): LEAST_EACH, node(3): 1, node(4): 3}
    assert share_out({node(1): 10**9}, 10**6) == {node(1): MOST_LEAVES}


@pytest.mark.parametrize("seed", range(20))
def test_nobody_is_asked_for_less_than_its_share(seed: int) -> None:
    rng = random.Random(seed)
    sizes = {node(n): rng.randint(1, 5_000) for n in range(rng.randint(1, 40))}
    leaves, total = rng.randint(1, 500), sum(sizes.values())
    for who, count in share_out(sizes, leaves).items():
        assert count <= sizes[who], f"seed {seed}"
        least = min(sizes[who], MOST_LEAVES, leaves * sizes[who] / total)
        assert count >= least, f"seed {seed}"


def large(segments: int, scheme: Scheme) -> Manifest:
    """A file whose segment ``g`` has shard ``i`` on node ``i``."""
    rng, keys = random.Random(segments), FileKeys.owner(b"K" * 16)
    size = segments * FileLayout(1, scheme.required).segment_bytes
    core = Core(scheme, size, bytes(32), (SegmentSeal(bytes(16), bytes(32)),) * segments, b"")
    rows = tuple(
        tuple(ShardPlace(n, 0, Commit(rng.randbytes(32))) for n in range(scheme.total))
        for _ in range(segments)
    )
    nodes = tuple(node(n) for n in range(scheme.total))
    head = Head(core, 1, nodes, (), bytes(64))
    return Manifest(core.file_id, keys, 1, core, Placement(nodes, rows), (), head)


def test_all_of_a_small_file_is_looked_at() -> None:
    manifest = large(200, Scheme(10, 30))
    scope = draw_scope(manifest, os.urandom)
    assert list(scope.pages) == [0] and scope.leaves == manifest.leaves()


def test_of_a_large_file_some_pages_are_drawn_and_each_comes_up() -> None:
    manifest, seen = large(600, Scheme(10, 30)), Counter[int]()
    everything = manifest.leaves()
    for _ in range(60):
        scope = draw_scope(manifest, os.urandom)
        (page,) = scope.pages
        seen[page] += 1
        for who, leaves in scope.leaves.items():
            assert leaves.items() <= everything[who].items()
            assert len(leaves) == min(256, 600 - 256 * page)
    assert set(seen) == {0, 1, 2}, "each is missed once in 10^10 runs"


def test_a_holder_of_very_many_shards_is_asked_for_some_of_them() -> None:
    leaves = {Commit(n.to_bytes(32, "big")): 7 for n in range(MOST_COMMITS + 1_000)}
    first, second = _asked_for(leaves, os.urandom), _asked_for(leaves, os.urandom)
    assert len(first) == len(second) == MOST_COMMITS and first != second
    assert first.items() <= leaves.items()


# what is found


async def test_honest_holders_hold(tmp_path: Path) -> None:
    async with audited(tmp_path) as file:
        findings = await file.examine(leaves=80)
        assert [each.outcome for each in findings.values()] == [Outcome.HELD] * 5
        assert [each.reason for each in findings.values()] == [""] * 5
        assert {each.proven for each in findings.values()} == {16}
        nonces = {each.challenge.nonce for each in findings.values()}
        assert len(nonces) == 5, "each has a nonce of its own"
        again = await file.examine(leaves=80)
        assert nonces.isdisjoint(each.challenge.nonce for each in again.values())


LIES: dict[str, tuple[Lie, Outcome | None, str]] = {
    "wrong bytes": (attackers.wrong_bytes, Outcome.WRONG, "shard"),
    "one is lost": (attackers.lost_one, Outcome.SILENT, "declared_lost"),
    "never heard of them": (attackers.knows_none, Outcome.SILENT, "unknown_shard"),
    "other leaves": (attackers.counts_otherwise, None, "other_root"),
    "a loss of others": (attackers.lost_others, Outcome.SILENT, "no_answer"),
    "another network": (attackers.other_network, Outcome.SILENT, "invalid_signature"),
    "too few": (attackers.too_few, Outcome.SILENT, "answer_count"),
    "never answers": (attackers.frozen, Outcome.SILENT, "timed_out"),
}


async def test_each_liar_gets_what_it_earns_and_nobody_else_does(tmp_path: Path) -> None:
    lies = {number: lie for number, (lie, _, _) in enumerate(LIES.values(), 1)}
    async with audited(tmp_path, lies=lies, scheme=Scheme(3, 10)) as file:
        findings = await file.examine(deadline_s=SHORT_S * 4)
        for number, (name, (_, outcome, reason)) in enumerate(LIES.items(), 1):
            found = findings[number]
            assert (found.outcome, found.reason) == (outcome, reason), name
            assert found.proven == 0, name
        assert [findings[honest].outcome for honest in (0, 9)] == [Outcome.HELD] * 2


async def test_an_earlier_answer_is_none_to_a_new_question(tmp_path: Path) -> None:
    async with audited(tmp_path, lies={1: attackers.replayed}) as file:
        assert (await file.examine())[1].outcome is Outcome.HELD
        again = (await file.examine())[1]
        assert (again.outcome, again.reason) == (Outcome.SILENT, "invalid_signature")


async def test_a_disk_that_rots_makes_an_honest_node_silent_and_never_wrong(tmp_path: Path) -> None:
    async with audited(tmp_path) as file:
        for path in (file.volumes[2] / "shards").rglob("*"):
            if path.is_file():
                path.write_bytes(bytes(path.stat().st_size))
        found = (await file.examine())[2]
        assert (found.outcome, found.reason) == (Outcome.SILENT, "declared_lost")
        assert found.shown is not None and set(found.shown.bad.values()) == {"lost"}


async def test_a_holder_that_is_nowhere_or_gone(tmp_path: Path) -> None:
    async with audited(tmp_path) as file:
        moved = await file.world.client_nodes(who=VERIFIER)
        for contact in file.holders[1:]:
            moved.dht.hear(contact)
        file.nodes = moved
        found = (await file.examine())[0]
        assert (found.outcome, found.reason, found.public_key) == (
            Outcome.SILENT,
            "unreachable",
            b"",
        )
        bundle = await file.audit()
        (part,) = [each for each in bundle.parts if not each.public_key]
        assert part.verdict.verdict.node == file.holders[0].node_id


# what is kept


async def test_a_bundle_verifies_offline_and_convicts_the_liar(tmp_path: Path) -> None:
    lies = {1: attackers.wrong_bytes, 3: attackers.lost_one, 4: attackers.counts_otherwise}
    async with audited(tmp_path, lies=lies) as file:
        raw = format_bundle(await file.audit(), VERIFIER.sign)
        network, ids = file.world.network(), [each.node_id for each in file.holders]
    bundle = parse_bundle(raw)
    verified = verify_bundle(bundle, network)
    outcomes = {part.node: part.outcome for part in verified.parts}
    assert outcomes == {
        ids[0]: Outcome.HELD,
        ids[1]: Outcome.WRONG,
        ids[2]: Outcome.HELD,
        ids[3]: Outcome.SILENT,
    }
    for part in bundle.parts:
        verify_verdict(part.verdict)
        assert part.verdict.verdict.subject == file.manifest.file_id
        assert (part.answer is None) is (part.verdict.verdict.node == ids[3])
    assert verified.file == file.manifest.file_id
    assert not verified.held


async def test_a_bundle_holds_no_key_of_the_file(tmp_path: Path) -> None:
    async with audited(tmp_path) as file:
        raw = format_bundle(await file.audit(), VERIFIER.sign)
    keys = file.manifest.keys
    for secret in (keys.content_key, keys.mask_key, keys.place_seed, keys.head_key, b"K" * 16):
        assert secret is not None and secret.hex().encode() not in raw


# how much


def finding(size: int, asked: int, *, shown: bool = True) -> Finding:
    challenge = Challenge(bytes(32), (), bytes(32), asked, 0)
    answer = Shown(None, {}, "", 0, 1) if shown else None
    failure = None if shown else TimedOut("no answer")
    return Finding(NodeId(bytes(32)), b"", {Commit(bytes(32)): size}, challenge, answer, failure, 1)


@pytest.mark.parametrize(
    ("findings", "whole", "text"),
    [
        ([finding(1_000, 40), finding(1_000, 40)], True, "a loss of 5.6 % would"),
        ([finding(1_000, 40), finding(10, 4)], True, "a loss of 10.9 % would"),
        ([finding(1_000, 459)], True, "a loss of 1.0 % would"),
        ([finding(9, 9), finding(4, 4)], True, "every leaf was asked for"),
        (
            [finding(1_000, 40), finding(1_000, 40, shown=False)],
            True,
            "a loss of 10.9 % of what the nodes that answered hold would",
        ),
        ([finding(1_000, 40)], False, "in the part of the file that was drawn"),
        ([finding(1_000, 40, shown=False)], True, "none: no node answered"),
    ],
)
def test_the_confidence_is_what_was_asked(findings: list[Finding], whole: bool, text: str) -> None:
    assert text in confidence(findings, whole=whole)


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_that_it_names_is_seen_with_99_percent(seed: int) -> None:
    rng, sizes = random.Random(seed), [700, 700, 300]
    asked = share_out({node(n): size for n, size in enumerate(sizes)}, 80)
    findings = [finding(size, asked[node(n)]) for n, size in enumerate(sizes)]
    percent = float(confidence(findings, whole=True).split()[3])
    trials, missed = 4_000, 0
    for _ in range(trials):
        missed += all(
            rng.sample(range(size), asked[node(n)])[i] >= size * percent / 100
            for n, size in enumerate(sizes)
            for i in range(asked[node(n)])
        )
    assert missed / trials <= 0.01 + 3 * (0.01 / trials) ** 0.5, f"seed {seed}: {missed}"
