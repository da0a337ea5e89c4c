"""Links that open one file, and deals for the repairs of whoever gets one.

Such deals are with whoever holds the file, and with nodes that may step in.

Spec: docs/spec/economy.md#deal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dsn.apps.client_parts import Parts
from dsn.apps.deal_file import ClientDeal
from dsn.apps.deal_plan import Want
from dsn.apps.delegation import format_reserves
from dsn.apps.listing import ALLOWS
from dsn.apps.manifests import Manifest
from dsn.apps.results import Reserved, ReservedDeal, ShareResult
from dsn.apps.targets import Target
from dsn.core.capability import format_capability, make_capability
from dsn.core.keys import Kind
from dsn.errors import Unreachable
from dsn.ids import NodeId, format_base32, format_node_id
from dsn.ledger.settlement import Address
from dsn.machines.placement import explain
from dsn.units import KIB, LEAF_BYTES, leaf_count

_COPIES_BYTES: Final = 64 * KIB
"""Room for manifest copies, which a repair makes anew."""


async def share(target: Target, kind: Kind, to: Address | None, parts: Parts) -> ShareResult:
    """The link of ``kind`` to a file, and deals for repairs by the holder of the account ``to``.

    Raises:
        UsageError: ``bad_capability``: the target's own link is weaker.
        As ``reserve_repair``, and whatever keeps the file's manifest from being read.
    """
    link, reserved = make_capability(target.keys, kind, target.file_id), None
    if to is not None:
        manifest = await parts.manifests.fetch(target.file_id, target.keys)
        reserved = await reserve_repair(manifest, to, parts)
    return ShareResult(kind.value, format_capability(link), ALLOWS[kind], reserved)


async def reserve_repair(manifest: Manifest, delegate: Address, parts: Parts) -> Reserved:
    """Open deals in which ``delegate`` may rebuild a file, as often as each node holds it once.

    With every holder, and with as many other nodes as holders can be lost before the file is.

    Raises:
        As ``Deals.open_reserves``.
        Unreachable: ``no_reserve``: no node agrees.
    """
    held = {node: sum(shards.values()) for node, shards in manifest.shards().items()}
    most, scheme = max(held.values()), manifest.core.scheme
    spares = await _spares(held, most, scheme.total - scheme.required, parts)
    wants = {node: _want(held.get(node, most)) for node in (*held, *spares)}
    opened, refused = await parts.deals.open_reserves(delegate, wants)
    moment = await parts.deals.moment()
    if not opened or moment is None:
        raise Unreachable(
            f"none of {len(wants)} nodes opens a deal",
            code="no_reserve",
            hint="; ".join(sorted({error.message for error in refused.values()}))[:200],
        )
    left = max(0, min(deal.end for deal in opened) - moment.epoch)
    return Reserved(
        format_reserves(parts.nodes.network.network_id, opened),
        tuple(_told(deal) for deal in opened),
        parts.deals.spent,
        moment.now_s + left * moment.params.epoch_s,
        tuple(sorted(map(format_node_id, refused))),
    )


def _want(size: int) -> Want:
    """Room for what a node holds of the file, once more, and for reading that."""
    return Want(leaf_count(size + _COPIES_BYTES), read_bytes=size)


async def _spares(held: Mapping[NodeId, int], most: int, wanted: int, parts: Parts) -> list[NodeId]:
    """Nodes that may step in, each in a group of its own, the likeliest first."""
    nodes = parts.nodes
    candidates = await nodes.survey()
    taken = {each.group for each in candidates if each.node in held}
    spares: dict[str, NodeId] = {}
    for reason in explain(candidates, held, (), most):
        group = reason.candidate.group
        if reason.verdict == "spare" and group not in taken:
            spares.setdefault(group, reason.candidate.node)
    return list(spares.values())[:wanted]


def _told(deal: ClientDeal) -> ReservedDeal:
    terms = deal.terms
    return ReservedDeal(
        format_node_id(deal.node),
        format_base32(deal.deal),
        terms.delegate_leaves * LEAF_BYTES,
        terms.delegate_credits,
        terms.disk_escrow + terms.bandwidth_escrow,
    )
