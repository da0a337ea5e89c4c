"""Having a verifier look at what a put stored: somebody else's word beside one's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from dsn.apps.results import PutResult
from dsn.apps.scores import check_verdict
from dsn.apps.stored import StoredFile
from dsn.core.capability import format_capability, make_capability
from dsn.core.keys import Kind
from dsn.errors import DsnError
from dsn.ids import FileId, NetworkId, NodeId, short
from dsn.proofs.verdict import NO_NONCE, Outcome
from dsn.rpc.verifier import VerifierPeer

SIDE_BY_SIDE: Final = 4


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is to be confirmed: the link that allows no more, and who took its shards."""

    link: str
    file_id: FileId
    holders: frozenset[NodeId]


def stored_parts(file: StoredFile) -> Iterator[Stored]:
    """A stored file, or a directory's listing and all the files that it names."""
    for part in (file, *file.children):
        link = format_capability(make_capability(part.keys, Kind.VERIFY, part.file_id))
        yield Stored(link, part.file_id, frozenset(part.shards()))


async def unconfirmed(
    verifier: VerifierPeer, parts: Sequence[Stored], network: NetworkId, *, leaves: int = 0
) -> list[str]:
    """Have ``verifier`` audit ``parts``; gives what it does not confirm, a line each, sorted.

    Only verdicts that the verifier signed for this network and file count, and every holder
    needs one that says held.

    Args:
        verifier: Whom to ask; its connection is pinned to its key.
        parts: What was stored.
        network: The network's id.
        leaves: Asked of each holder; 0: the verifier's choice.
    """
    limit = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(part: Stored) -> set[str]:
        async with limit:
            try:
                said = await _verdicts(verifier, part, network, leaves)
            except DsnError as error:
                return {f"verifier {verifier.contact.address}: {error.message}"}
        missing = {node: said.get(node, "no verdict") for node in part.holders}
        return {f"node {short(node)}: {why}" for node, why in missing.items() if why}

    found = await asyncio.gather(*map(one, parts))
    return sorted(set().union(*found))


async def _verdicts(
    verifier: VerifierPeer, part: Stored, network: NetworkId, leaves: int
) -> dict[NodeId, str]:
    """Why each holder is not confirmed; empty for those that are."""
    reply = await verifier.audit(part.link, leaves)
    said: dict[NodeId, str] = {}
    for message in reply.verdicts:
        verdict = check_verdict(message, verifier.contact.public_key, network)
        fresh = verdict.nonce != NO_NONCE and verdict.evidence == reply.evidence
        if verdict.subject == part.file_id and fresh:
            held = verdict.outcome is Outcome.HELD and verdict.leaves > 0
            said[verdict.node] = "" if held else f"{verdict.outcome.name.lower()} {verdict.reason}"
    return said


async def confirmed(
    results: Sequence[PutResult],
    stored: Sequence[tuple[str, StoredFile]],
    verifier: VerifierPeer,
    network: NetworkId,
) -> list[PutResult]:
    """``results`` of the files ``stored``, each with what ``verifier`` says of its holders."""
    told = []
    for result, (name, file) in zip(results, stored, strict=True):
        missing = await unconfirmed(verifier, list(stored_parts(file)), network)
        warnings = (f"{name}: not confirmed, {why}" for why in missing)
        told.append(replace(result, confirmed=not missing, warnings=(*result.warnings, *warnings)))
    return told
