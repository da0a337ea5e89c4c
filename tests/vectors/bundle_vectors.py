"""Makes the golden verdicts and bundles: ``python -m tests.vectors.bundle_vectors`` writes them.

A bundle's text is given whole, and the network file that it is judged by.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

from dsn.dht.network import format_network
from dsn.ledger.bundle import EpochBundle, LiveBundle, evidence_hash
from dsn.proofs.verdict import NO_NONCE, Outcome, Verdict, account_subject, sign_verdict
from tests.support.bundle_world import (
    AT_S,
    NETWORK,
    VERIFIER,
    draft,
    file,
    live,
    live_part,
    network,
    past,
    signed,
    silent_part,
)
from tests.support.vectors import save
from tests.vectors.core_vectors import data

HELD = Verdict(
    network=NETWORK.network_id,
    verifier=VERIFIER.public,
    node=file().holders[0].node,
    subject=file().head.core.file_id,
    epoch=0,
    nonce=data("v.nonce", 32),
    outcome=Outcome.HELD,
    reason="",
    leaves=20,
    size_bytes=1 << 40,
    response_ms=38,
    at_s=AT_S,
    evidence=data("v.evidence", 32),
)
LINKED = replace(
    HELD, subject=account_subject(data("v.account", 20)), epoch=721, nonce=NO_NONCE, response_ms=0
)
GOOD = {
    "a file that is held": HELD,
    "a link that holds": LINKED,
    "an opening that fails": replace(
        LINKED, outcome=Outcome.WRONG, reason="shard", leaves=0, size_bytes=0
    ),
    "silence, looked at again": replace(
        HELD, outcome=Outcome.SILENT, reason="timed_out", leaves=0, size_bytes=0, appeal=HELD.hash
    ),
}


def verdict_vectors() -> dict[str, Any]:
    return {"holds": list(_good_verdicts()), "fails": list(_bad_verdicts())}


def _good_verdicts() -> Iterator[dict[str, Any]]:
    for note, verdict in GOOD.items():
        yield {
            "note": note,
            **asdict(verdict),
            "outcome": verdict.outcome.name.lower(),
            "bytes": verdict.encode(),
            "hash": verdict.hash,
            "signature": sign_verdict(verdict, VERIFIER.sign).signature,
        }


def _bad_verdicts() -> Iterator[dict[str, Any]]:
    good, signature = HELD.encode(), sign_verdict(HELD, VERIFIER.sign).signature

    def case(note: str, raw: bytes, signed_as: bytes = signature) -> dict[str, Any]:
        return {"note": note, "bytes": raw, "signature": signed_as, "code": "malformed_message"}

    yield case("cut short", good[:-1])
    yield case("a byte too many", good + b"\0")
    yield case("an outcome of 0", good[:168] + b"\0" + good[169:])
    yield case("an outcome of 4", good[:168] + b"\4" + good[169:])
    yield case("wrong for no reason", good[:168] + b"\2" + good[169:])
    yield case("an epoch and a nonce", good[:128] + (9).to_bytes(8, "big") + good[136:])
    yield case("a reason of 65 bytes", good[:169] + (65).to_bytes(4, "big") + good[173:])
    moved = replace(HELD, at_s=AT_S + 1).encode()
    yield case("another time", moved) | {"code": "invalid_signature"}
    yield case("no signature", good, bytes(64)) | {"code": "invalid_signature"}


def _small_live(**changes: Any) -> LiveBundle:
    first, _, third = file().holders
    return replace(live(live_part(third, leaves=2), silent_part(first)), **changes)


def _small_epoch() -> EpochBundle:
    world, deals = past()
    parts = [world.part("paul", 3, (0, 1)), world.part("petra", 3, (1,), **LIE)]
    return world.bundle(parts, deals)


LIE = {"outcome": Outcome.WRONG, "reason": "shard", "leaves": 0, "size_bytes": 0}


def _bracketed() -> EpochBundle:
    world, deals = past()
    part = world.part("petra", 3, (2,), **LIE | {"reason": "inventory"})
    bracket, _ = world.bracket("petra", 3, 2)
    return world.bundle([replace(part, bracket=bracket)], {"petra": deals["petra"]})


def bundle_vectors() -> dict[str, Any]:
    return {
        "network": format_network(NETWORK),
        "holds": list(_good_bundles()),
        "fails": list(_bad_bundles()),
    }


def _good_bundles() -> Iterator[dict[str, Any]]:
    wrong = live(live_part(file().holders[2], leaves=2, wrong=[1]))
    for note, bundle, outcomes in (
        ("a file: one holds, one is silent", _small_live(), ["held", "silent"]),
        ("a file: one is wrong", wrong, ["wrong"]),
        ("an epoch: one holds, one is wrong", _small_epoch(), ["held", "wrong"]),
        ("an epoch: no opening shows a deal", _bracketed(), ["wrong"]),
    ):
        raw = signed(bundle)
        yield {
            "note": note,
            "text": raw.decode("ascii"),
            "evidence": evidence_hash(raw),
            "outcomes": outcomes,
        }


def _bad_bundles() -> Iterator[dict[str, Any]]:
    one = live(live_part(file().holders[2], leaves=1))
    part = one.parts[0]
    raw = signed(one)

    def case(note: str, text: bytes, code: str) -> dict[str, Any]:
        assert text != raw
        return {"note": note, "text": text.decode("ascii"), "code": code}

    def changed(change: Callable[[Any], object]) -> bytes:
        tree = json.loads(raw)
        change(tree)
        return json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()

    def path(tree: Any) -> None:
        tree["parts"][0]["answer"]["openings"][0]["shard_path"]["proof"].pop()

    malformed = "malformed_message"
    yield case("a blank", raw.replace(b",", b", ", 1), malformed)
    yield case("a key too many", changed(lambda tree: tree.update(more="")), malformed)
    yield case("no verdict", changed(lambda tree: tree["parts"][0].pop("verdict")), malformed)
    yield case("a number as one", changed(lambda tree: tree.update(at_s=AT_S)), malformed)
    yield case("a leading zero", changed(lambda t: t.update(at_s=f"0{AT_S}")), malformed)
    yield case("another shard path", changed(path), malformed)
    yield case(
        "signed by nobody", changed(lambda t: t.update(signature="00" * 64)), "invalid_signature"
    )
    elsewhere = replace(one, network=network("elsewhere").network_id)
    answers_there = replace(part, answer=None)
    yield case(
        "another network", signed(replace(elsewhere, parts=(answers_there,))), "unknown_network"
    )
    more = replace(part, verdict=draft(**_said(part.verdict.verdict) | {"leaves": 2}))
    yield case("more leaves than were shown", signed(replace(one, parts=(more,))), "wrong_verdict")
    yield case("one holder twice", signed(replace(one, parts=(part, part))), "twice")
    head = replace(file().head, sequence=0).encode()
    yield case("a head that nobody signed", signed(replace(one, head=head)), "invalid_signature")
    epoch = _small_epoch()
    note = past().world.checkpoint(VERIFIER)
    yield case("a log that no witness saw", signed(replace(epoch, checkpoint=note)), "no_quorum")
    bare = tuple(replace(each, deals=()) for each in epoch.providers)
    yield case("whose link is not shown", signed(replace(epoch, providers=bare)), "other_deal")
    shown = _bracketed()
    alone = replace(shown.parts[0], bracket=b"")
    yield case("no way to a deal", signed(replace(shown, parts=(alone,))), "other_deal")
    tree = json.loads(signed(shown))
    tree["parts"][0]["bracket"] = base64.b64encode(shown.parts[0].bracket + b"\0").decode()
    longer = json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()
    yield case("more than the way to a deal", longer, malformed)


def _said(verdict: Verdict) -> dict[str, Any]:
    return {name: getattr(verdict, name) for name in Verdict.__slots__}


MAKERS = {"verdict": verdict_vectors, "bundle": bundle_vectors}

if __name__ == "__main__":
    for name, make in MAKERS.items():
        save(name, make())
