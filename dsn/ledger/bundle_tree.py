"""Bundles as trees of text, and back.

What follows from the rest stands in the text too, for people and for other tools: whose part it is,
what its verdict says, the shard path of every opening that holds.

Spec: docs/spec/proofs.md#bundle.
"""

from __future__ import annotations

from typing import Any, Final, assert_never

from dsn.core.codec import U32_MAX, U64_MAX
from dsn.core.hashing import HASH_BYTES
from dsn.core.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from dsn.ids import Commit, NetworkId, format_node_id
from dsn.ledger.bundle_epoch import MAX_PLACES, Scene, judge_places, read_scene
from dsn.ledger.bundle_live import judge_openings
from dsn.ledger.bundle_opening import path_tree
from dsn.ledger.bundle_parts import (
    Bundle,
    EpochBundle,
    EpochPart,
    LiveBundle,
    LivePart,
    Logged,
    OpenedEpoch,
    ProvenCell,
    ProvenProvider,
)
from dsn.ledger.bundle_text import Cursor, Tree, at, base64_text, hexes
from dsn.ledger.cells import AccountCell, CellKind, DealCell, decode_cell
from dsn.ledger.disputes import ServedOpening
from dsn.ledger.log import LogLeaf
from dsn.ledger.radix import StateStep
from dsn.proofs.por import MAX_COMMITS, Answer, Challenge
from dsn.proofs.verdict import SignedVerdict, Verdict

FORMAT: Final = "dsnproof/1"
MAX_AT_S: Final = 253_402_300_799
"""The end of the year 9999: no calendar goes further."""
MAX_PARTS: Final = 4_096
MAX_OPENED: Final = 128
"""Epochs in one bundle: each costs its reader 20 ms."""
MAX_STEPS: Final = 256
"""Hashes of any one path: no tree is deeper."""
_VERDICT: Final = "verdict"
_SIGNATURE: Final = "signature"


def bundle_tree(bundle: Bundle) -> dict[str, Any]:
    """The text of ``bundle`` as a tree.

    Raises:
        PeerError: What should follow from its parts does not; it names the place.
    """
    tree: dict[str, Any] = {
        "at_s": str(bundle.at_s),
        "format": FORMAT,
        "kind": bundle.kind,
        "network": bundle.network.hex(),
        _SIGNATURE: bundle.signature.hex(),
        "verifier": bundle.verifier.hex(),
    }
    match bundle:
        case LiveBundle():
            tree["head"] = base64_text(bundle.head)
            tree["pages"] = [base64_text(page) for page in bundle.pages]
            tree["parts"] = [
                _live_tree(part, bundle.network, f"parts[{n}]")
                for n, part in enumerate(bundle.parts)
            ]
        case EpochBundle():
            scene = read_scene(bundle)
            tree["checkpoint"] = base64_text(bundle.checkpoint)
            tree["epochs"] = [_opened_tree(each) for each in bundle.opened]
            tree["providers"] = [_provider_tree(each) for each in bundle.providers]
            tree["parts"] = [
                _epoch_tree(part, scene, f"parts[{n}]") for n, part in enumerate(bundle.parts)
            ]
        case _:
            assert_never(bundle)
    return tree


def without_signature(tree: Tree) -> Tree:
    """What the verifier signs."""
    return {name: value for name, value in tree.items() if name != _SIGNATURE}


def without_verdicts(tree: Tree) -> Tree:
    """What verdicts name as their evidence: all but the verdicts and the signature."""
    parts = [{k: v for k, v in part.items() if k != _VERDICT} for part in tree["parts"]]
    return {**without_signature(tree), "parts": parts}


def read_bundle(top: Cursor) -> Bundle:
    """The bundle in a text; what only follows from the rest is not looked at.

    Args:
        top: Untrusted.

    Raises:
        MalformedMessage: It names the place.
    """
    if top.field("format").text() != FORMAT:
        raise top.field("format").refuse(f"{FORMAT} needed")
    kind = top.field("kind").text()
    if kind == LiveBundle.kind:
        return LiveBundle(
            *_read_start(top),
            top.field("head").base64(),
            tuple(page.base64() for page in top.field("pages").items(MAX_PARTS)),
            tuple(map(_read_live, top.field("parts").items(MAX_PARTS))),
            _read_signature(top),
        )
    if kind == EpochBundle.kind:
        return EpochBundle(
            *_read_start(top),
            top.field("checkpoint").base64(),
            tuple(map(_read_opened, top.field("epochs").items(MAX_OPENED))),
            tuple(map(_read_provider, top.field("providers").items(MAX_PARTS))),
            tuple(map(_read_epoch, top.field("parts").items(MAX_PARTS))),
            _read_signature(top),
        )
    raise top.field("kind").refuse("live or epoch needed")


def _read_start(top: Cursor) -> tuple[NetworkId, bytes, int]:
    network = NetworkId(top.field("network").hex(HASH_BYTES))
    verifier = top.field("verifier").hex(PUBLIC_KEY_BYTES)
    return network, verifier, top.field("at_s").uint(MAX_AT_S)


def _read_signature(cursor: Cursor) -> bytes:
    return cursor.field(_SIGNATURE).hex(SIGNATURE_BYTES)


def _verdict_tree(signed: SignedVerdict) -> Tree:
    verdict = signed.verdict
    return {
        "bytes": verdict.encode().hex(),
        "node": format_node_id(verdict.node),
        "outcome": verdict.outcome.name.lower(),
        "reason": verdict.reason,
        _SIGNATURE: signed.signature.hex(),
    }


def _read_verdict(part: Cursor) -> SignedVerdict:
    cursor = part.field(_VERDICT)
    with at(f"bundle: {cursor.place}"):
        verdict = Verdict.decode(cursor.field("bytes").hex())
    return SignedVerdict(verdict, _read_signature(cursor))


def _live_tree(part: LivePart, network: NetworkId, place: str) -> Tree:
    asked, answer = part.challenge, None
    if part.answer is not None:
        answer = _answer_tree(part, part.answer, network, f"{place}.answer")
    return {
        "answer": answer,
        "challenge": {
            "deadline_ms": str(asked.deadline_ms),
            "leaves": str(asked.leaves),
            "nonce": asked.nonce.hex(),
            "root": asked.root.hex(),
        },
        "public_key": part.public_key.hex(),
        "shards": [[commit.hex(), str(leaves)] for commit, leaves in sorted(part.shards.items())],
        _VERDICT: _verdict_tree(part.verdict),
    }


def _answer_tree(part: LivePart, answer: Answer, network: NetworkId, place: str) -> Tree:
    with at(place):
        found = judge_openings(part, answer, network)
    openings = [
        {"opening": base64_text(opening), "shard_path": path_tree(opening, each)}
        for opening, each in zip(answer.openings, found, strict=True)
    ]
    return {
        "openings": openings,
        "root": answer.answer_root.hex(),
        _SIGNATURE: answer.signature.hex(),
    }


def _read_live(part: Cursor) -> LivePart:
    shards = dict(_read_shard(each) for each in part.field("shards").items(MAX_COMMITS))
    asked, answer = part.field("challenge"), part.field("answer")
    challenge = Challenge(
        asked.field("nonce").hex(HASH_BYTES),
        tuple(sorted(shards)),
        asked.field("root").hex(HASH_BYTES),
        asked.field("leaves").uint(U32_MAX),
        asked.field("deadline_ms").uint(U64_MAX),
    )
    public_key = part.field("public_key").hex(0, PUBLIC_KEY_BYTES)
    given = None if answer.absent else _read_answer(answer)
    return LivePart(public_key, challenge, shards, given, _read_verdict(part))


def _read_shard(cursor: Cursor) -> tuple[Commit, int]:
    pair = list(cursor.items(2))
    if len(pair) < 2:
        raise cursor.refuse("a commit and its leaf count needed")
    return Commit(pair[0].hex(HASH_BYTES)), pair[1].uint(U64_MAX)


def _read_answer(answer: Cursor) -> Answer:
    openings = (
        each.field("opening").base64() for each in answer.field("openings").items(MAX_PLACES)
    )
    root = answer.field("root").hex(HASH_BYTES)
    return Answer(tuple(openings), root, _read_signature(answer))


def _logged_tree(logged: Logged) -> dict[str, Any]:
    return {
        "index": str(logged.index),
        "leaf": base64_text(logged.leaf.encode()),
        "path": hexes(logged.path),
    }


def _read_logged(cursor: Cursor) -> Logged:
    leaf = cursor.field("leaf")
    with at(f"bundle: {leaf.place}"):
        decoded = LogLeaf.decode(leaf.base64())
    return Logged(decoded, cursor.field("index").uint(U64_MAX), _read_path(cursor.field("path")))


def _read_path(cursor: Cursor) -> tuple[bytes, ...]:
    return tuple(each.hex(HASH_BYTES) for each in cursor.items(MAX_STEPS))


def _opened_tree(opened: OpenedEpoch) -> Tree:
    shut = None if opened.shut is None else _logged_tree(opened.shut)
    return {**_logged_tree(opened.logged), "growth": hexes(opened.growth), "shut": shut}


def _read_opened(cursor: Cursor) -> OpenedEpoch:
    shut = cursor.field("shut")
    closed = None if shut.absent else _read_logged(shut)
    return OpenedEpoch(_read_logged(cursor), _read_path(cursor.field("growth")), closed)


def _cell_tree(proven: ProvenCell[AccountCell] | ProvenCell[DealCell]) -> Tree:
    steps = [[str(bit), sibling.hex()] for bit, sibling in proven.steps]
    return {"cell": base64_text(proven.cell.encode()), "steps": steps}


def _read_steps(cursor: Cursor) -> tuple[StateStep, ...]:
    return tuple(map(_read_step, cursor.field("steps").items(MAX_STEPS)))


def _read_step(cursor: Cursor) -> StateStep:
    pair = list(cursor.items(2))
    if len(pair) < 2:
        raise cursor.refuse("a bit and a sibling needed")
    return StateStep(pair[0].uint(MAX_STEPS), pair[1].hex(HASH_BYTES))


def _provider_tree(provider: ProvenProvider) -> Tree:
    deals = [_cell_tree(deal) for deal in provider.deals]
    return {"account": _cell_tree(provider.account), "deals": deals}


def _read_provider(cursor: Cursor) -> ProvenProvider:
    account = _read_account(cursor.field("account"))
    return ProvenProvider(account, tuple(map(_read_deal, cursor.field("deals").items(MAX_PARTS))))


def _read_account(cursor: Cursor) -> ProvenCell[AccountCell]:
    with at(f"bundle: {cursor.place}.cell"):
        cell = decode_cell(CellKind.ACCOUNT, cursor.field("cell").base64())
    assert isinstance(cell, AccountCell)
    return ProvenCell(cell, _read_steps(cursor))


def _read_deal(cursor: Cursor) -> ProvenCell[DealCell]:
    with at(f"bundle: {cursor.place}.cell"):
        cell = decode_cell(CellKind.DEAL, cursor.field("cell").base64())
    assert isinstance(cell, DealCell)
    return ProvenCell(cell, _read_steps(cursor))


def _epoch_tree(part: EpochPart, scene: Scene, place: str) -> Tree:
    with at(place):
        found = judge_places(part, scene)
    places = [
        {
            "opening": base64_text(served.opening),
            "path": hexes(served.path),
            "place": str(drawn),
            "shard_path": path_tree(served.opening, found[drawn].result),
        }
        for drawn, served in sorted(part.places.items())
    ]
    return {
        "bracket": base64_text(part.bracket) if part.bracket else None,
        "link": _logged_tree(part.link),
        "places": places,
        _VERDICT: _verdict_tree(part.verdict),
    }


def _read_epoch(part: Cursor) -> EpochPart:
    places = dict(_read_place(each) for each in part.field("places").items(MAX_PLACES))
    bracket = part.field("bracket")
    given = b"" if bracket.absent else bracket.base64()
    return EpochPart(_read_logged(part.field("link")), places, _read_verdict(part), given)


def _read_place(cursor: Cursor) -> tuple[int, ServedOpening]:
    served = ServedOpening(cursor.field("opening").base64(), _read_path(cursor.field("path")))
    return cursor.field("place").uint(MAX_PLACES - 1), served
