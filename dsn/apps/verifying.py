"""A bundle verified offline, by a network file alone, and told so that people see what it is worth.

Spec: docs/spec/proofs.md#bundle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dsn.dht.network import Network
from dsn.errors import ConfigError, InvalidProof, PeerError
from dsn.ids import NodeId, format_base32, format_node_id
from dsn.ledger.bundle import Judged, Verified, parse_bundle, shard_paths, verify_bundle
from dsn.ledger.bundle_parts import Bundle
from dsn.proofs.verdict import Outcome
from dsn.units import LEAF_BYTES

LOSS: Final = 0.01
"""The loss that a bundle's confidence is about."""
_WORST_FIRST: Final = (Outcome.WRONG, Outcome.SILENT, Outcome.HELD)


@dataclass(frozen=True, slots=True)
class ProviderHeld:
    """What a bundle proves of one provider.

    Attributes:
        node: Whose.
        outcome: The worst of its parts'.
        reason: Of that part; empty if all held.
        bytes: Held; over several epochs, in each of them at least.
        leaves: Looked at, and good.
        epochs: In how many epochs it answered rightly; 0 in a live bundle.
    """

    node: NodeId
    outcome: Outcome
    reason: str
    bytes: int
    leaves: int
    epochs: int

    def fields(self) -> dict[str, object]:
        """For programs."""
        return {
            "provider": format_node_id(self.node),
            "bytes": self.bytes,
            "outcome": self.outcome.name.lower(),
            "reason": self.reason,
            "leaves": self.leaves,
            "epochs": self.epochs,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """A bundle's verification, or why it failed.

    ``second_opinion`` counts the shard paths that merkletools accepted too; ``None`` if it was
    not asked.
    """

    network: Network
    outcome: Verified | PeerError
    providers: tuple[ProviderHeld, ...] = ()
    second_opinion: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the bundle is valid, about somebody, and says that everybody held."""
        return isinstance(self.outcome, Verified) and self.outcome.held and bool(self.providers)

    @property
    def confidence(self) -> str:
        """How surely a loss of 1 % would have been seen, for people."""
        held = [each for each in self.providers if each.outcome is Outcome.HELD]
        size, drawn = sum(each.bytes for each in held), sum(each.leaves for each in held)
        if not held:
            return "none: nobody showed anything"
        if not drawn or not size:
            return "none: what they showed is nothing that the file's head names"
        if isinstance(self.outcome, Verified) and self.outcome.kind == "live":
            if drawn * LEAF_BYTES >= size:
                return "every leaf was asked for"
            drawn = min(each.leaves * size // each.bytes for each in held if each.bytes)
        else:
            drawn = min(each.leaves for each in held)
        seen = min(99.9, 100 * (1 - (1 - LOSS) ** drawn))
        return f"a loss of 1 % would have been seen with {seen:.1f} %"

    def fields(self) -> dict[str, object]:
        """For programs; ``code`` and ``message`` only if the bundle is not valid."""
        network = format_base32(self.network.network_id)
        if isinstance(self.outcome, PeerError):
            failed = {"code": self.outcome.detail_code, "message": self.outcome.message}
            return {"ok": False, "valid": False, "network": network, **failed}
        first, last = self.outcome.epochs
        file = self.outcome.file
        return {
            "ok": self.ok,
            "valid": True,
            "kind": self.outcome.kind,
            "network": network,
            "file_id": None if file is None else format_base32(file),
            "verifier": format_base32(self.outcome.verifier),
            "providers": [each.fields() for each in self.providers],
            "from_epoch": first or None,
            "to_epoch": last or None,
            "at": self.outcome.at_s,
            "unasked": self.outcome.unasked,
            "confidence": self.confidence,
            "second_opinion": self.second_opinion,
        }


def verify_file(raw: bytes, network: Network, *, second_opinion: bool = False) -> Report:
    """Verify a bundle's text, by the keys of ``network`` alone.

    Args:
        raw: Untrusted.
        network: The reader's own.
        second_opinion: Have merkletools check every shard path too; both must accept.

    Raises:
        ConfigError: ``unknown_network``: it is of another network; ``no_ledger_here``;
            ``missing_extra``: merkletools is not installed.
    """
    opinions = None
    try:
        bundle = parse_bundle(raw)
        verified = verify_bundle(bundle, network)
        if second_opinion:
            opinions = _ask_merkletools(bundle)
    except PeerError as error:
        return Report(network, error)
    return Report(network, verified, tuple(_providers(verified.parts)), opinions)


def _ask_merkletools(bundle: Bundle) -> int:
    """Have every shard path of ``bundle`` judged by merkletools; how many there are.

    Raises:
        ConfigError: ``missing_extra``.
        InvalidProof: ``second_opinion``: it refuses one.
    """
    try:
        from merkletools import MerkleTools
    except ImportError as error:
        raise ConfigError(
            "a second opinion needs merkletools 1.0.3, which is not installed",
            code="missing_extra",
            hint="pip install ./deploy/pysha3-shim 'dsn[second-opinion]'",
        ) from error
    tools, count = MerkleTools(hash_type="sha256"), 0
    for place, path in shard_paths(bundle):
        if not tools.validate_proof(path["proof"], path["leaf"], path["root"]):
            raise InvalidProof(f"{place}: merkletools refuses it", code="second_opinion")
        count += 1
    return count


def _providers(parts: Sequence[Judged]) -> Iterator[ProviderHeld]:
    by_node = defaultdict[NodeId, list[Judged]](list)
    for part in parts:
        by_node[part.node].append(part)
    for node, own in by_node.items():
        worst = min(own, key=lambda part: _WORST_FIRST.index(part.outcome))
        good = {part.epoch for part in own if part.epoch and part.outcome is Outcome.HELD}
        yield ProviderHeld(
            node,
            worst.outcome,
            worst.reason,
            _held_bytes(own),
            sum(part.proven_leaves for part in own),
            len(good),
        )


def _held_bytes(parts: Sequence[Judged]) -> int:
    """What one provider held: in an epoch its parts may overlap, so the largest one counts."""
    if not parts[0].epoch:
        return sum(part.proven_bytes for part in parts)
    largest = defaultdict[int, int](int)
    for part in parts:
        largest[part.epoch] = max(largest[part.epoch], part.proven_bytes)
    return min(largest.values())
