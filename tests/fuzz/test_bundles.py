"""Bundles and verdicts meet hostile bytes: shaped by Hypothesis, and led by coverage (atheris)."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dsn.dht.network import format_network
from dsn.errors import DsnError, MalformedMessage
from dsn.ledger.bundle import parse_bundle, verify_bundle
from dsn.ledger.bundle_text import canonical
from dsn.proofs.verdict import SignedVerdict, Verdict
from tests.support.bundle_world import (
    NETWORK,
    epoch,
    file,
    live,
    live_part,
    past,
    signed,
)

RUNS, MEMORY_MIB, INPUT_BYTES = 2_000, 1_024, 32_768
hexes = st.binary(max_size=64).map(bytes.hex)
texts = st.one_of(hexes, st.integers(0, 1 << 66).map(str), st.text(max_size=20))
values = st.recursive(
    st.one_of(st.none(), texts), lambda inner: st.lists(inner, max_size=4), max_leaves=8
)
NAMES = sorted({name for bundle in (live(), epoch()) for name in json.loads(signed(bundle))})
trees = st.dictionaries(st.sampled_from(NAMES), values)


@given(st.one_of(st.binary(max_size=300), trees.map(canonical)))
@example(b'{"format":"dsnproof/1","kind":"live"}')
@example(b'"' * 100)
def test_bytes_that_nobody_signed_are_refused(raw: bytes) -> None:
    try:
        verify_bundle(parse_bundle(raw), NETWORK)
    except DsnError:
        return
    raise AssertionError("accepted")


@given(st.sampled_from(["live", "epoch"]), trees)
def test_a_bundle_with_other_fields_is_refused(kind: str, other: dict[str, Any]) -> None:
    tree = json.loads(signed(live() if kind == "live" else epoch()))
    raw = canonical({**tree, **other})
    if canonical(tree) == raw:
        return
    try:
        verify_bundle(parse_bundle(raw), NETWORK)
    except DsnError:
        return
    raise AssertionError("accepted")


@given(st.one_of(st.binary(max_size=500), st.binary(min_size=369, max_size=369)))
def test_a_verdict_is_read_as_it_would_be_written_or_not_at_all(raw: bytes) -> None:
    for kind in (Verdict, SignedVerdict):
        with contextlib.suppress(MalformedMessage):
            assert kind.decode(raw).encode() == raw


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris")
def test_a_short_run_led_by_coverage(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "network.toml").write_text(format_network(NETWORK))
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    part = live_part(file().holders[2], leaves=1)
    world, deals = past()
    linked = world.bundle([world.part("paul", 3, (0,))], {"paul": deals["paul"]})
    assert part.answer is not None
    for n, (reader, raw) in enumerate(
        [
            (0, signed(live(part))),
            (0, signed(linked)),
            (1, part.verdict.encode()),
            (2, part.challenge.root + bytes(16) + part.answer.openings[0]),
            (3, b"\x08\x01" + part.answer.answer_root),
        ]
    ):
        (corpus / str(n)).write_bytes(bytes([reader]) + raw)
    paths = [str(repository), *filter(None, [os.environ.get("PYTHONPATH")])]
    fuzzer = [sys.executable, repository / "tests/fuzz/bundle_fuzzer.py"]
    limits = [f"-runs={RUNS}", f"-rss_limit_mb={MEMORY_MIB}", f"-max_len={INPUT_BYTES}", "-seed=1"]
    done = subprocess.run(
        [*fuzzer, tmp_path / "network.toml", corpus, *limits],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    assert f"Done {RUNS} runs" in done.stderr
