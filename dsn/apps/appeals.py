"""An appeal: a provider has a verifier look again at what it said of its node.

Both verdicts stand: the new one names the old one, and whoever reads one finds the other.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dsn.apps.scores import check_verdict, verdicts_on
from dsn.core.keys import IdentityKeys, SigningKey, node_id_of
from dsn.dht.contact import Contact
from dsn.errors import NotFound, PeerError, UsageError
from dsn.ids import NetworkId, NodeId, short
from dsn.proofs.verdict import Verdict
from dsn.rpc.channel import Connections
from dsn.rpc.verifier import VerifierPeer
from dsn.store.home import Home

LEAST_HEX: Final = 8
"""Digits that name a verdict among a node's."""


class Appealed(NamedTuple):
    """What the verifier said first, and what it says now."""

    before: Verdict
    after: Verdict


async def appeal(home: Home, root: bytes, verifier: Contact, name: str) -> Appealed:
    """Have a verdict on the node of ``home`` looked at again.

    Args:
        home: The provider's.
        root: Its 32 secret bytes.
        verifier: Who gave the verdict.
        name: The verdict's hash in hex, or how it begins.

    Raises:
        UsageError: ``bad_verdict``: no hash, or one that several verdicts begin with.
        NotFound: ``unknown_verdict``: the verifier gave no such verdict on this node.
        PeerError: ``wrong_verdict``: it answers with a verdict on something else.
    """
    prefix = _prefix(name)
    identity = SigningKey(IdentityKeys.derive(root).identity_seed)
    network, me = home.network().network_id, node_id_of(identity.public)
    async with Connections(identity, network) as connections:
        peer = VerifierPeer(connections.line(verifier))
        before = await _find(peer, network, me, prefix)
        message = await peer.appeal(before.hash)
        after = check_verdict(message, verifier.public_key, network)
    if (after.appeal, after.node, after.subject) != (before.hash, me, before.subject):
        raise PeerError(
            f"{peer.name} answers with a verdict on something else", code="wrong_verdict"
        )
    return Appealed(before, after)


async def _find(peer: VerifierPeer, network: NetworkId, me: NodeId, prefix: str) -> Verdict:
    given = [each async for each in verdicts_on(peer, network, me)]
    found = {each.hash: each for each in given if each.hash.hex().startswith(prefix)}
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} verdicts begin with {prefix}",
            code="bad_verdict",
            hint="name more digits",
        )
    if not found:
        raise NotFound(
            f"{peer.name} gave no verdict {prefix[:16]} on {short(me)}",
            code="unknown_verdict",
            hint="'dsn verifier report' lists verdicts with their hashes",
        )
    return next(iter(found.values()))


def _prefix(name: str) -> str:
    digits = name.lower()
    if len(digits) < LEAST_HEX or not set(digits) <= set("0123456789abcdef"):
        raise UsageError(
            f"'{name[:80]}' names no verdict",
            code="bad_verdict",
            hint=f"give its hash in hex, or {LEAST_HEX} digits of it at least",
        )
    return digits
