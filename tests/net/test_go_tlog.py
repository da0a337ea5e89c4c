"""What Go's checksum database makes of our log: an implementation that nobody here wrote.

``golang.org/x/mod/sumdb``'s note and tlog check every module that any Go build downloads. They
read our notes, proofs and tiles here, and refuse what was changed.
"""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from dsn.errors import PeerError
from dsn.ids import NetworkId
from dsn.ledger.checkpoint import (
    format_checkpoint,
    format_note_key,
    parse_checkpoint,
    sign_root,
    verify_checkpoint,
)
from dsn.ledger.log import TreeHead, build_consistency_proof, build_inclusion_proof
from dsn.ledger.settlement import NO_ADDRESS, SettlementKey
from dsn.ledger.tiles import build_tile, format_path, grown_tiles
from dsn.ledger.typed import Domain
from tests.support.ledger_log import (
    NOW_S,
    OPERATOR,
    STRANGER,
    WITNESSES,
    at,
    cosigned,
    counted,
    private_key,
    signed,
)

PROGRAM = Path(__file__).parents[1] / "support/go"
DEBIANS_SOURCES = Path("/usr/share/gocode")
BUILD_S, ASK_S = 300, 60
LOG = counted(70_000)
CHECKPOINT = at(counted(1000), 613)
DOMAIN = Domain(NetworkId(b"\x01" * 32), 31337, NO_ADDRESS)

Question = dict[str, Any]
Answer = dict[str, Any]
Ask = Callable[[Iterable[Question]], list[Answer]]


def go_environment() -> dict[str, str]:
    """Debian's own copy of golang.org/x/mod where there is one; else the version in go.sum."""
    ours = os.environ | {"GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local"}
    if (DEBIANS_SOURCES / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        return ours | {"GO111MODULE": "off", "GOPATH": str(DEBIANS_SOURCES)}
    return ours | {"GO111MODULE": "on"}


def run_go(*words: str) -> subprocess.CompletedProcess[str]:
    """A go command in the program's folder."""
    command, environment = ["go", *words], go_environment()
    return subprocess.run(
        command,
        cwd=PROGRAM,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Puts questions to the Go program, all in one go."""
    if shutil.which("go") is None:
        pytest.skip("needs Go: apt-get install golang-go golang-golang-x-mod-dev")
    if go_environment()["GO111MODULE"] == "on" and run_go("mod", "download").returncode:
        pytest.skip("needs golang.org/x/mod: apt-get install golang-golang-x-mod-dev, or a proxy")
    program = tmp_path_factory.mktemp("go") / "second-opinion"
    built = run_go("build", "-o", str(program), ".")
    assert built.returncode == 0, built.stderr

    def put(questions: Iterable[Question]) -> list[Answer]:
        done = subprocess.run(
            [str(program)],
            input=json.dumps(list(questions)),
            capture_output=True,
            text=True,
            timeout=ASK_S,
            check=True,
        )
        answers: list[Answer] = json.loads(done.stdout)
        return answers

    return put


def text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def head(of: TreeHead) -> dict[str, Any]:
    return {"size": of.size, "root": text(of.root)}


def opening(note: bytes, *keys: Any) -> Question:
    return {"ask": "open", "note": text(note), "keys": [format_note_key(key) for key in keys]}


def record(index: int, size: int, /, **changes: Any) -> Question:
    path = build_inclusion_proof(LOG.hashes, index, size)
    question = {"ask": "check record", "index": index, "leaf": text(LOG.leaves[index])}
    question |= {"head": head(LOG.head(size)), "path": [text(step) for step in path]}
    return question | changes


def tree(old: int, new: int, /, **changes: Any) -> Question:
    path = build_consistency_proof(LOG.hashes, old, new)
    question = {"ask": "check tree", "old": head(LOG.head(old)), "head": head(LOG.head(new))}
    return question | {"path": [text(step) for step in path]} | changes


def flipped(raw: bytes, rng: random.Random) -> bytes:
    """``raw`` with one bit changed."""
    changed, at = bytearray(raw), rng.randrange(len(raw))
    changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def errors(answers: list[Answer]) -> list[str]:
    return [answer["error"] for answer in answers]


def test_go_opens_our_checkpoints(ask: Ask) -> None:
    rooted = cosigned(CHECKPOINT).signed(sign_root(CHECKPOINT, DOMAIN, SettlementKey(b"\x05" * 32)))
    notes = [format_checkpoint(note) for note in (signed(CHECKPOINT), rooted)]
    answers = ask([*(opening(n, OPERATOR) for n in notes), opening(notes[1], OPERATOR, *WITNESSES)])
    assert errors(answers) == [""] * 3
    assert {answer["text"] for answer in answers} == {CHECKPOINT.body}
    everyone = [key.name for key in (OPERATOR, *WITNESSES)]
    assert [answer["names"] for answer in answers] == [everyone[:1], everyone[:1], everyone]


def test_go_signs_a_checkpoint_to_the_same_bytes(ask: Ask) -> None:
    question = {"ask": "sign", "private": private_key(OPERATOR), "text": CHECKPOINT.body}
    (answer,) = ask([question])
    raw = base64.b64decode(answer["note"])
    assert raw == format_checkpoint(signed(CHECKPOINT))
    verify_checkpoint(parse_checkpoint(raw), OPERATOR)


def test_go_and_we_refuse_every_changed_note(ask: Ask) -> None:
    seed = 11
    rng = random.Random(seed)
    raw = format_checkpoint(signed(CHECKPOINT))
    notes = [flipped(raw, rng) for _ in range(500)]
    answers = ask(opening(note, OPERATOR) for note in notes)
    assert "" not in errors(answers), f"seed {seed}"
    for note in notes:
        with pytest.raises(PeerError):
            verify_checkpoint(parse_checkpoint(note), OPERATOR)


def test_go_refuses_a_cosignature_at_another_time_or_by_another(ask: Ask) -> None:
    note = signed(CHECKPOINT, (WITNESSES[0], NOW_S))
    line = note.signatures[1]
    later = (NOW_S + 1).to_bytes(8, "big") + line.signature[8:]
    moved = note.signed(type(line)(line.name, line.key_id, later))
    questions = [opening(format_checkpoint(each), WITNESSES[0]) for each in (note, moved)]
    stranger = opening(format_checkpoint(note), STRANGER)
    fine, wrong, unknown = errors(ask([*questions, stranger]))
    assert fine == ""
    assert "invalid signature" in wrong
    assert "no verifiable signatures" in unknown


SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 65, 255, 256, 257, 613, 1000, 65_536, 65_537, 70_000]


def test_go_accepts_our_inclusion_proofs(ask: Ask) -> None:
    seed = 12
    rng = random.Random(seed)
    questions = [record(index, size) for size in range(1, 40) for index in range(size)]
    questions += [record(rng.randrange(size), size) for size in SIZES for _ in range(9)]
    assert set(errors(ask(questions))) == {""}, f"seed {seed}"


def test_go_accepts_our_consistency_proofs(ask: Ask) -> None:
    questions = [tree(old, new) for new in range(1, 40) for old in range(1, new + 1)]
    questions += [tree(old, new) for new in SIZES for old in SIZES if old <= new]
    assert set(errors(ask(questions))) == {""}


def test_go_refuses_tampered_inclusion_proofs(ask: Ask) -> None:
    seed = 13
    rng = random.Random(seed)
    questions = []
    for size in SIZES[1:]:
        index = rng.randrange(size)
        path = build_inclusion_proof(LOG.hashes, index, size)
        at, root = rng.randrange(len(path)), LOG.head(size).root
        changed = [*path[:at], flipped(path[at], rng), *path[at + 1 :]]
        questions += [
            record(index, size, path=[text(step) for step in changed]),
            record(index, size, path=[text(step) for step in path[1:]]),
            record(index, size, path=[text(step) for step in (*path, path[0])]),
            record(index, size, leaf=text(flipped(LOG.leaves[index], rng))),
            record(index, size, index=index ^ 1),
            record(index, size, head=head(TreeHead(size, flipped(root, rng)))),
        ]
    assert "" not in errors(ask(questions)), f"seed {seed}"


def test_go_refuses_tampered_consistency_proofs(ask: Ask) -> None:
    seed = 14
    rng = random.Random(seed)
    questions = []
    for new in SIZES[2:]:
        old = rng.randrange(1, new)
        path = build_consistency_proof(LOG.hashes, old, new)
        at, first, last = rng.randrange(len(path)), LOG.head(old), LOG.head(new)
        changed = [*path[:at], flipped(path[at], rng), *path[at + 1 :]]
        questions += [
            tree(old, new, path=[text(step) for step in changed]),
            tree(old, new, path=[text(step) for step in path[1:]]),
            tree(old, new, path=[text(step) for step in (*path, path[0])]),
            tree(old, new, old=head(TreeHead(old, flipped(first.root, rng)))),
            tree(old, new, head=head(TreeHead(new, flipped(last.root, rng)))),
        ]
    assert "" not in errors(ask(questions)), f"seed {seed}"


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tiles of the log as files."""
    folder = tmp_path_factory.mktemp("log")
    for tile in grown_tiles(0, len(LOG.leaves)):
        path = folder / format_path(tile)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(build_tile(LOG.hashes, tile))
    return folder


INDICES = [0, 255, 256, 65_535, 65_536, 69_887, 69_888, 69_999]


def proving(index: int, folder: Path) -> Question:
    size = len(LOG.leaves)
    question = {"ask": "prove record", "index": index, "leaf": text(LOG.leaves[index])}
    return question | {"head": head(LOG.head(size)), "folder": str(folder)}


def test_go_makes_the_same_proofs_out_of_our_tiles(ask: Ask, tiles: Path) -> None:
    size = len(LOG.leaves)
    common = {"ask": "prove tree", "head": head(LOG.head(size)), "folder": str(tiles)}
    questions = [proving(index, tiles) for index in INDICES]
    questions += [common | {"old": head(LOG.head(old))} for old in SIZES]
    answers = ask(questions)
    assert set(errors(answers)) == {""}
    ours = [build_inclusion_proof(LOG.hashes, index, size) for index in INDICES]
    ours += [build_consistency_proof(LOG.hashes, old, size) for old in SIZES]
    assert [answer["path"] or [] for answer in answers] == [[text(h) for h in p] for p in ours]


@pytest.mark.parametrize("name", ["0/000", "0/273.p/112", "1/000", "1/001.p/17", "2/000.p/1"])
def test_go_refuses_a_tampered_tile(ask: Ask, tiles: Path, tmp_path: Path, name: str) -> None:
    seed = 15
    copy = tmp_path / "log"
    shutil.copytree(tiles, copy)
    tile = copy / "tile" / name
    tile.write_bytes(flipped(tile.read_bytes(), random.Random(seed)))
    wrong, fine = errors(ask([proving(0, copy), proving(0, tiles)]))
    assert "inconsistent tile" in wrong or "invalid transparency proof" in wrong, f"seed {seed}"
    assert fine == ""
