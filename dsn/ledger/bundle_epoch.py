"""An epoch bundle judged: what providers proved to the ledger, by its log alone.

Keys come from the network file, never from the bundle. What the log holds under a checkpoint that
a quorum of witnesses cosigned was replayed by them, so an entry there is one that the rules allow.

Spec: docs/spec/proofs.md#bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, TypeVar

from dsn.core.hashing import HASH_BYTES
from dsn.dht.network import Network
from dsn.errors import ConfigError, InvalidProof, MalformedMessage, PeerError
from dsn.ids import NetworkId
from dsn.ledger.beacons import verify_beacon
from dsn.ledger.bodies import OpenEpoch, ShutEpoch, SubmitLink
from dsn.ledger.bundle_judged import Judged, Witnessed
from dsn.ledger.bundle_opening import judge_opening
from dsn.ledger.bundle_parts import EpochBundle, EpochPart, Logged, OpenedEpoch, ProvenProvider
from dsn.ledger.bundle_text import at
from dsn.ledger.cells import NO_NODE, DealState, NetworkCell, Phase
from dsn.ledger.checkpoint import Checkpoint, parse_checkpoint
from dsn.ledger.cosignature import AHEAD_S, cosigned_at
from dsn.ledger.entry import Entry
from dsn.ledger.log import TreeHead, verify_consistency_proof
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import Address
from dsn.ledger.state import FIRST_EPOCH
from dsn.ledger.trust import Trust
from dsn.proofs.drand import fixed_round
from dsn.proofs.inventory import InventoryEntry
from dsn.proofs.opening import Opened, proven_deal
from dsn.proofs.post import Link, beacon_hash, drawn_indices, leaves_asked, verify_answer_path
from dsn.proofs.verdict import NO_NONCE, Outcome, account_subject
from dsn.units import LEAF_BYTES

_NO_BEACON: Final = bytes(HASH_BYTES)
"""No beacon is judged by the one before it."""
_Key = TypeVar("_Key", int, Address)

MAX_PLACES: Final = 1 << 16
"""Openings of one link: what 13 PiB are asked for."""


class Submitted(NamedTuple):
    """A link, and whose account it is by."""

    link: Link
    signer: Address


@dataclass(frozen=True, slots=True)
class Scene:
    """What the parts of an epoch bundle are judged by."""

    network: NetworkId
    beacons: Mapping[int, bytes]
    providers: Mapping[Address, ProvenProvider]


def read_scene(bundle: EpochBundle) -> Scene:
    """The beacon values and providers of ``bundle`` (untrusted); nothing is proven by that.

    Raises:
        PeerError: ``epochs[n]`` or ``providers[n]`` is no such thing, stands twice, or not in
            order.
    """
    beacons, providers = dict[int, bytes](), dict[Address, ProvenProvider]()
    for n, opened in enumerate(bundle.opened):
        with at(f"epochs[{n}]"):
            body = _read_opening_entry(opened.logged)
            _check_rises(beacons, body.epoch)
            beacons[body.epoch] = body.value
    for n, provider in enumerate(bundle.providers):
        with at(f"providers[{n}]"):
            address = provider.account.cell.address
            _check_rises(providers, address)
            providers[address] = provider
    return Scene(bundle.network, beacons, providers)


def _check_rises(known: dict[_Key, Any], key: _Key) -> None:
    if known and key <= next(reversed(known)):
        raise InvalidProof("not in order, or twice", code="wrong_order")


def _read_opening_entry(logged: Logged) -> OpenEpoch:
    body = Entry.decode(logged.leaf.entry).body
    if not isinstance(body, OpenEpoch):
        raise InvalidProof("the entry opens no epoch", code="wrong_entry")
    return body


def read_link(part: EpochPart) -> Submitted:
    """The link of a part (untrusted).

    Raises:
        MalformedMessage: As ``Entry.decode``.
        InvalidProof: ``wrong_entry``: the entry is no link.
    """
    entry = Entry.decode(part.link.leaf.entry)
    if not isinstance(entry.body, SubmitLink):
        raise InvalidProof("the entry is no link", code="wrong_entry")
    return Submitted(entry.body.link, entry.signer)


def verify_scene(bundle: EpochBundle, network: Network) -> tuple[Scene, Checkpoint, Witnessed]:
    """Prove what all parts stand on: checkpoint, epochs, providers.

    Args:
        bundle: Untrusted.
        network: Whose keys count; the bundle brings none.

    Raises:
        ConfigError: ``no_ledger_here``.
        PeerError: It names what is wrong, and where.

    Cost: about 20 ms an epoch, for its beacon.
    """
    params = network.ledger_params
    if params is None:
        raise ConfigError(
            f"{network.genesis.name} has no ledger, an epoch bundle is of one",
            code="no_ledger_here",
        )
    scene, trust = read_scene(bundle), Trust.of(params)
    with at("checkpoint"):
        signed = parse_checkpoint(bundle.checkpoint)
        trust.verify(signed, bundle.at_s)
    times = [cosigned_at(signed, key) for key in trust.quorum.witnesses]
    cosigned = sum(1 for time_s in times if time_s is not None and time_s <= bundle.at_s + AHEAD_S)
    for n, opened in enumerate(bundle.opened):
        with at(f"epochs[{n}]"):
            _verify_opened(opened, signed.checkpoint.head, params)
    for n, provider in enumerate(bundle.providers):
        with at(f"providers[{n}]"):
            _verify_provider(provider, signed.checkpoint.state_root)
    witnessed = Witnessed(cosigned, len(trust.quorum.witnesses), trust.quorum.needed)
    return scene, signed.checkpoint, witnessed


def _verify_opened(opened: OpenedEpoch, head: TreeHead, params: LedgerParams) -> None:
    opened.logged.verify(head)
    body, network = _read_opening_entry(opened.logged), params.domain.network
    if body.epoch == FIRST_EPOCH:
        if body.closed != TreeHead(0, network) or opened.growth:
            raise InvalidProof("no log was closed before the first epoch", code="bad_closed_log")
    else:
        verify_consistency_proof(body.closed, head, opened.growth)
    number = _fixed_round(opened.shut, body, head) if _by_drand(params, body) else 0
    if not number and opened.shut is not None:
        raise InvalidProof("a shut that fixes no round", code="wrong_entry")
    before = NetworkCell(network, body.epoch, Phase.SHUT, _NO_BEACON, body.closed, number)
    verify_beacon(params, before, body)


def _by_drand(params: LedgerParams, body: OpenEpoch) -> bool:
    return params.drand is not None and body.epoch > FIRST_EPOCH


def _fixed_round(shut: Logged | None, opened: OpenEpoch, head: TreeHead) -> int:
    """The round that the last entry of the closed log fixes."""
    if shut is None or shut.index != opened.closed.size - 1:
        raise InvalidProof("the shut before it needed", code="wrong_entry")
    shut.verify(head)
    body = Entry.decode(shut.leaf.entry).body
    if not isinstance(body, ShutEpoch) or body.epoch != opened.epoch - 1 or not body.salts:
        raise InvalidProof("the entry before it shuts no epoch", code="wrong_entry")
    return fixed_round([salt.salt for salt in body.salts])


def _verify_provider(provider: ProvenProvider, state_root: bytes) -> None:
    account = provider.account.cell
    provider.account.verify(state_root)
    if account.node == NO_NODE:
        raise InvalidProof("an account without an identity", code="not_bound")
    for n, deal in enumerate(provider.deals):
        with at(f"deals[{n}]"):
            deal.verify(state_root)
            terms, state = deal.cell.terms, deal.cell.state
            if terms.provider != account.address or state is DealState.CLOSED:
                raise InvalidProof("no deal of this provider that binds it", code="other_deal")


def judge_epoch(part: EpochPart, scene: Scene, head: TreeHead, place: str) -> Judged:
    """What a part of an epoch bundle comes to.

    Args:
        part: Untrusted.
        scene: Proven.
        head: Of the log, believed.
        place: Of the part in the bundle.

    Raises:
        PeerError: It names what is wrong, and where: ``other_holder`` (no such provider in the
            bundle), ``wrong_epoch`` (no such epoch in it), ``wrong_beacon``, ``wrong_count``,
            ``other_deal`` (nothing ties the account's identity to the link, or not all places
            fall in the deal that the verdict is on), or as ``verify_answer_path``.
    """
    with at(f"{place}.link"):
        part.link.verify(head)
        link, signer = read_link(part)
        _check_link(link, signer, scene)
    for n, (drawn, served) in enumerate(sorted(part.places.items())):
        with at(f"{place}.places[{n}]"):
            verify_answer_path(link, drawn, served.opening, served.path)
    provider, subject = scene.providers[signer], part.verdict.verdict.subject
    judged = Judged(provider.account.cell.node, subject, link.epoch, NO_NONCE, Outcome.SILENT)
    if not part.places:
        if subject != account_subject(signer):
            raise InvalidProof(f"{place}: nothing shows the deal", code="other_deal")
        return judged
    found = judge_places(part, scene)
    entries = {each.entry for each in found.values() if each.entry is not None}
    if not {entry.deal for entry in entries} & {deal.cell.deal for deal in provider.deals}:
        raise InvalidProof(
            f"{place}: nothing falls in a deal that proves whose the link is", code="other_deal"
        )
    size_leaves = link.total
    if subject != account_subject(signer):
        size_leaves = _leaves_of_deal(found, subject, place)
    failures = [each.result for each in found.values() if isinstance(each.result, InvalidProof)]
    if failures:
        return replace(judged, outcome=Outcome.WRONG, reason=failures[0].detail_code)
    leaves, size = len(found), size_leaves * LEAF_BYTES
    return replace(
        judged,
        outcome=Outcome.HELD,
        leaves=leaves,
        size_bytes=size,
        proven_leaves=leaves,
        proven_bytes=size,
    )


def _check_link(link: Link, signer: Address, scene: Scene) -> None:
    if signer not in scene.providers:
        raise InvalidProof("by a provider that is not in the bundle", code="other_holder")
    value = scene.beacons.get(link.epoch)
    if value is None:
        raise InvalidProof(f"epoch {link.epoch} is not in the bundle", code="wrong_epoch")
    if beacon_hash(value) != link.beacon:
        raise InvalidProof("over another beacon value", code="wrong_beacon")
    asked = leaves_asked(link.total)
    if link.count != asked:
        raise InvalidProof(f"{link.count} leaves, {asked} are asked", code="wrong_count")


class Found(NamedTuple):
    """What an opening of a link comes to, and the deal that a bracket proves, if one does."""

    result: Opened | InvalidProof
    entry: InventoryEntry | None


def judge_places(part: EpochPart, scene: Scene) -> dict[int, Found]:
    """What each opening of a part (untrusted) proves, by place.

    Raises:
        PeerError: The scene does not have what the link speaks of, or the link no such place; or
            the part's bracket fails, or is not needed.

    Cost: about 60 us an opening; no leaf is drawn beyond the last place.
    """
    link, signer = read_link(part)
    _check_link(link, signer, scene)
    places = sorted(part.places)
    if not places:
        _check_needed(part, {})
        return {}
    if places[-1] >= min(link.count, MAX_PLACES):
        raise InvalidProof(f"opening {places[-1]} of {link.count}", code="place")
    node = scene.providers[signer].account.cell.node
    first = replace(link, count=places[-1] + 1)
    drawn = drawn_indices(first, scene.beacons[link.epoch], network=scene.network, node=node)
    found = {
        place: _judge_place(part.places[place].opening, link, drawn[place]) for place in places
    }
    if part.bracket:
        _check_needed(part, found)
        entry = _read_bracket(part.bracket, link, drawn[places[0]])
        found[places[0]] = found[places[0]]._replace(entry=entry)
    return found


def _check_needed(part: EpochPart, found: Mapping[int, Found]) -> None:
    """Check that a bracket stands only beside openings of which none shows a deal."""
    if part.bracket and (not found or any(each.entry for each in found.values())):
        raise MalformedMessage("bracket: only for openings that show no deal")


def _read_bracket(bracket: bytes, link: Link, index: int) -> InventoryEntry:
    entry = proven_deal(bracket, root=link.root, total=link.total, index=index)
    with suppress(InvalidProof):
        proven_deal(bracket[:-1], root=link.root, total=link.total, index=index)
        raise MalformedMessage("bracket: more than the way to the deal")
    return entry


def _judge_place(opening: bytes, link: Link, index: int) -> Found:
    result = judge_opening(opening, root=link.root, total=link.total, index=index, inventory=True)
    if isinstance(result, Opened):
        return Found(result, result.deal)
    try:
        entry = proven_deal(opening, root=link.root, total=link.total, index=index)
    except PeerError:
        return Found(result, None)
    return Found(result, entry)


def _leaves_of_deal(found: Mapping[int, Found], subject: bytes, place: str) -> int:
    """Leaves under the deal ``subject``, which all openings fall in."""
    entries = {each.entry for each in found.values()}
    entry = entries.pop()
    if entries or entry is None or entry.deal != subject:
        raise InvalidProof(f"{place}: not all openings fall in the deal", code="other_deal")
    return entry.leaves
