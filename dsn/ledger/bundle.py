"""Portable bundles: a verifier's verdicts with all that anybody needs to judge them, offline.

A file ``*.dsnproof.json`` has one spelling, and its verifier's signature. Whoever reads it brings
the network file; the bundle brings no key that counts. It holds no capability and opens nothing.

Spec: docs/spec/proofs.md#bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar, assert_never

from dsn.core import tags
from dsn.core.hashing import tagged
from dsn.core.keys import verify_signature
from dsn.dht.network import Network
from dsn.errors import ConfigError, InvalidProof, LimitReached, MalformedMessage
from dsn.ids import format_base32
from dsn.ledger.bundle_epoch import judge_epoch, verify_scene
from dsn.ledger.bundle_judged import Judged, Verified, Witnessed, check_verdict
from dsn.ledger.bundle_live import holder_of, judge_live, read_placed
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
from dsn.ledger.bundle_text import (
    MAX_BUNDLE_BYTES,
    MAX_VALUES,
    Tree,
    at,
    canonical,
    first_difference,
    parse_tree,
)
from dsn.ledger.bundle_tree import bundle_tree, read_bundle, without_signature, without_verdicts
from dsn.proofs.verdict import SignedVerdict, sign_verdict

__all__ = [
    "MAX_BUNDLE_BYTES",
    "Bundle",
    "EpochBundle",
    "EpochPart",
    "Judged",
    "LiveBundle",
    "LivePart",
    "Logged",
    "OpenedEpoch",
    "ProvenCell",
    "ProvenProvider",
    "Verified",
    "Witnessed",
    "bundle_body_hash",
    "evidence_hash",
    "format_bundle",
    "parse_bundle",
    "shard_paths",
    "sign_bundle",
    "verify_bundle",
]

_B = TypeVar("_B", LiveBundle, EpochBundle)


def bundle_body_hash(bundle: Bundle) -> bytes:
    """What the verdicts in ``bundle`` name as their evidence: all of it but them."""
    return tagged(tags.EVIDENCE, canonical(without_verdicts(bundle_tree(bundle))))


def evidence_hash(raw: bytes) -> bytes:
    """As ``bundle_body_hash``, of a bundle's text.

    Args:
        raw: Untrusted.

    Raises:
        PeerError: As ``parse_bundle``.
    """
    return bundle_body_hash(parse_bundle(raw))


def sign_bundle(bundle: _B, sign: Callable[[bytes], bytes]) -> _B:
    """``bundle`` with its verdicts naming it as their evidence, and everything signed.

    Args:
        bundle: Its verdicts are drafts: what they say stands, but for evidence and signature.
        sign: Uses the verifier's key.
    """
    evidence = bundle_body_hash(bundle)

    def signed(draft: SignedVerdict) -> SignedVerdict:
        return sign_verdict(replace(draft.verdict, evidence=evidence), sign)

    parts = tuple(replace(part, verdict=signed(part.verdict)) for part in bundle.parts)
    bundle = replace(bundle, parts=parts)
    return replace(bundle, signature=sign(_signed_hash(bundle)))


def format_bundle(bundle: Bundle, sign: Callable[[bytes], bytes]) -> bytes:
    """The text of ``bundle``, signed as ``sign_bundle`` does.

    Raises:
        LimitReached: ``bundle_too_large``: more than 3 MiB, or too many values.
    """
    match bundle:
        case LiveBundle():
            raw = canonical(bundle_tree(sign_bundle(bundle, sign)))
        case EpochBundle():
            raw = canonical(bundle_tree(sign_bundle(bundle, sign)))
        case _:
            assert_never(bundle)
    if len(raw) > MAX_BUNDLE_BYTES or sum(map(raw.count, (b"[", b"{", b","))) > MAX_VALUES:
        raise LimitReached(
            f"a bundle of {len(raw)} bytes, at most {MAX_BUNDLE_BYTES} allowed",
            code="bundle_too_large",
            hint="ask for fewer leaves",
        )
    return raw


def parse_bundle(raw: bytes) -> Bundle:
    """Read what ``format_bundle`` wrote; ``verify_bundle`` judges it.

    Args:
        raw: Untrusted.

    Raises:
        MalformedMessage: ``too_large``, or ``malformed_message``: it would not be written so; it
            names the place.
        PeerError: Something in it does not follow from the rest.

    Cost: about 0.1 ms an opening.
    """
    top = parse_tree(raw)
    bundle = read_bundle(top)
    tree = bundle_tree(bundle)
    if canonical(tree) != raw:
        place = first_difference(tree, top.value)
        raise MalformedMessage(
            f"bundle: {place}: not what follows from the rest"
            if place
            else "bundle: another spelling of what it says"
        )
    return bundle


def shard_paths(bundle: Bundle) -> Iterator[tuple[str, Tree]]:
    """The place of every opening in ``bundle`` that holds, and its shard path for merkletools.

    Each has ``leaf``, ``root`` and ``proof``, a list of ``{"left": hex}`` or ``{"right": hex}``.
    """
    for n, part in enumerate(bundle_tree(bundle)["parts"]):
        answer = part.get("answer")
        found = {"places": part.get("places", ())}
        found |= {"answer.openings": answer["openings"] if answer else ()}
        for name, openings in found.items():
            for j, opening in enumerate(openings):
                if opening["shard_path"] is not None:
                    yield f"parts[{n}].{name}[{j}].shard_path", opening["shard_path"]


def verify_bundle(bundle: Bundle, network: Network) -> Verified:
    """Recompute everything that ``bundle`` says, by the keys of ``network`` alone.

    Args:
        bundle: Untrusted.
        network: The reader's own.

    Returns:
        What it proves. That it proves somebody's failure is no error.

    Raises:
        ConfigError: ``unknown_network``: it is of another one; ``no_ledger_here``.
        PeerError: Something in it is not so; the message names the place, ``detail_code`` the
            first reason.

    Cost: about 0.2 ms an opening, 20 ms an epoch.
    """
    if bundle.network != network.network_id:
        raise ConfigError(
            f"a bundle of the network {format_base32(bundle.network)[:10]}, not of "
            f"{network.genesis.name}",
            code="unknown_network",
            hint="name that network's file with --network",
        )
    match bundle:
        case LiveBundle():
            verified = _verify_live(bundle)
        case EpochBundle():
            verified = _verify_epoch(bundle, network)
        case _:
            assert_never(bundle)
    with at("signature"):
        verify_signature(bundle.verifier, _signed_hash(bundle), bundle.signature)
    return verified


def _signed_hash(bundle: Bundle) -> bytes:
    return tagged(tags.BUNDLE, canonical(without_signature(bundle_tree(bundle))))


def _verify_live(bundle: LiveBundle) -> Verified:
    placed, asked, judged = read_placed(bundle), set[tuple[bytes, bytes]](), list[Judged]()
    for n, part in enumerate(bundle.parts):
        judged.append(judge_live(part, placed, bundle.network, f"parts[{n}]"))
        named = {(holder_of(part), commit) for commit in part.shards}
        if asked & named:
            raise InvalidProof(f"parts[{n}]: a shard was asked for before", code="twice")
        asked |= named
    return Verified(
        bundle.kind,
        bundle.verifier,
        bundle.at_s,
        _checked(bundle, judged),
        file=placed.file,
        unasked=sum(
            (node, commit) not in asked for node, held in placed.held.items() for commit in held
        ),
    )


def _verify_epoch(bundle: EpochBundle, network: Network) -> Verified:
    scene, checkpoint, witnessed = verify_scene(bundle, network)
    judged = [
        judge_epoch(part, scene, checkpoint.head, f"parts[{n}]")
        for n, part in enumerate(bundle.parts)
    ]
    seen = {(each.node, each.epoch, each.subject) for each in judged}
    if len(seen) < len(judged):
        raise InvalidProof("parts: one stands twice", code="twice")
    return Verified(bundle.kind, bundle.verifier, bundle.at_s, _checked(bundle, judged), witnessed)


def _checked(bundle: Bundle, judged: list[Judged]) -> tuple[Judged, ...]:
    evidence, network, verifier = bundle_body_hash(bundle), bundle.network, bundle.verifier
    verdicts = [part.verdict for part in bundle.parts]
    return tuple(
        check_verdict(
            verdict,
            each,
            f"parts[{n}]",
            network=network,
            verifier=verifier,
            evidence=evidence,
        )
        for n, (verdict, each) in enumerate(zip(verdicts, judged, strict=True))
    )
