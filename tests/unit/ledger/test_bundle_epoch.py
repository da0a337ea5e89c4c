"""Epoch bundles: what they prove of the ledger's links, and every lie about them."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any

import pytest

from dsn.core.keys import SigningKey
from dsn.dht.network import sign_network
from dsn.errors import ConfigError, DsnError
from dsn.ids import DealId
from dsn.ledger.bodies import SubmitLink
from dsn.ledger.bundle import (
    EpochBundle,
    EpochPart,
    Verified,
    parse_bundle,
    verify_bundle,
)
from dsn.ledger.cells import NO_NODE, DealState
from dsn.ledger.disputes import ServedOpening
from dsn.ledger.state import Changes
from dsn.proofs.opening import proven_deal
from dsn.proofs.post import drawn_indices
from dsn.proofs.verdict import Outcome, SignedVerdict, account_subject
from tests.support.bundle_world import (
    AT_S,
    FOUNDER,
    NETWORK,
    BundleWorld,
    epoch,
    network,
    past,
    signed,
)
from tests.support.drand_time import DrandTime
from tests.support.ledger_world import WITNESSES, address, terms

WORLD, DEALS = past()
PAUL, PETRA = DEALS["paul"], DEALS["petra"]
LIE = {"outcome": Outcome.WRONG, "reason": "shard", "leaves": 0, "size_bytes": 0}


def judged(bundle: EpochBundle) -> Verified:
    """What anybody finds who is given the file, signed by its verifier whatever it says."""
    return verify_bundle(parse_bundle(signed(bundle)), NETWORK)


def told(part: EpochPart, **changes: Any) -> EpochPart:
    return replace(part, verdict=SignedVerdict(replace(part.verdict.verdict, **changes), b""))


def paul(number: int = 2, places: tuple[int, ...] = (0, 1, 2), **said: Any) -> EpochPart:
    return WORLD.part("paul", number, places, **said)


def of_paul(*parts: EpochPart, deals: tuple[DealId, ...] = PAUL) -> EpochBundle:
    return WORLD.bundle(parts, {"paul": deals})


def test_epochs_that_were_proven() -> None:
    found = judged(epoch())
    assert found.held
    assert found.epochs == (2, 3)
    assert (found.witnessed.cosigned, found.witnessed.witnesses, found.witnessed.needed) == (
        2,
        3,
        2,
    )
    node, total = WORLD.account("paul").node, WORLD.account("paul").frozen_leaves
    assert {part.node for part in found.parts} == {node}
    assert {(part.leaves, part.proven_bytes) for part in found.parts} == {(3, total * 1_024)}


def test_two_providers_one_of_whom_lied() -> None:
    lied = WORLD.part("petra", 3, (0, 1), **LIE)
    bundle = WORLD.bundle([paul(3), lied], {"paul": PAUL, "petra": PETRA})
    found = judged(bundle)
    assert [part.outcome for part in found.parts] == [Outcome.HELD, Outcome.WRONG]
    assert (found.held, found.parts[1].reason, found.parts[1].proven_bytes) == (False, "shard", 0)


def test_a_link_whose_answers_nobody_gave_out() -> None:
    found = judged(of_paul(paul(2, ()), deals=()))
    assert (found.parts[0].outcome, found.parts[0].reason) == (Outcome.SILENT, "no_answer")


def in_deal(deal: DealId, number: int = 2) -> tuple[int, ...]:
    """The places of Paul's link that fall in ``deal``."""
    _, link, _, opened = WORLD.answers["paul", number]
    every, drawn = range(len(opened)), DRAWN[number]
    return tuple(
        n
        for n in every
        if proven_deal(opened[n], root=link.root, total=link.total, index=drawn[n]).deal == deal
    )


def drawn_of(number: int) -> list[int]:
    _, link, _, _ = WORLD.answers["paul", number]
    node, network_id = WORLD.account("paul").node, NETWORK.network_id
    return drawn_indices(link, WORLD.values[number], network=network_id, node=node)


DRAWN = {number: drawn_of(number) for number in (2, 3)}


def test_a_verdict_on_one_deal() -> None:
    deal, places = PAUL[1], in_deal(PAUL[1])
    leaves = WORLD.deal(deal).leaves
    part = paul(2, places, subject=deal, size_bytes=leaves * 1_024)
    found = judged(of_paul(part, deals=(deal,)))
    assert (found.parts[0].subject, found.parts[0].proven_bytes) == (deal, leaves * 1_024)
    with pytest.raises(DsnError, match=r"^parts\[0\]: not all openings") as refused:
        judged(of_paul(replace(paul(2, (*places, *in_deal(PAUL[0])[:1])), verdict=part.verdict)))
    assert refused.value.detail_code == "other_deal"


def swapped(part: EpochPart) -> EpochPart:
    """Openings of two places, each at the other's."""
    first, second, *_ = part.places
    places = {**part.places, first: part.places[second], second: part.places[first]}
    return replace(part, places=places)


def made_up(part: EpochPart) -> EpochPart:
    """An opening with a lie in it, and the path of the true one."""
    first = next(iter(part.places))
    served = part.places[first]
    opening = served.opening[:-1] + bytes([served.opening[-1] ^ 1])
    places = {**part.places, first: ServedOpening(opening, served.path)}
    return told(replace(part, places=places), **LIE)


def moved(part: EpochPart) -> EpochPart:
    return replace(part, link=replace(part.link, index=part.link.index + 1))


def other_entry(part: EpochPart) -> EpochPart:
    return replace(part, link=WORLD.logged(0))


def beyond(part: EpochPart) -> EpochPart:
    served = next(iter(part.places.values()))
    return replace(part, places={**part.places, 60_000: served})


LIES: dict[str, tuple[Callable[[], EpochPart], str, str]] = {
    "wrong, but it held": (lambda: paul(**LIE), "wrong_verdict", "another outcome"),
    "more leaves": (lambda: paul(leaves=4), "wrong_verdict", "another leaves"),
    "more bytes": (lambda: paul(size_bytes=1 << 40), "wrong_verdict", "another size_bytes"),
    "another epoch": (lambda: told(paul(3), epoch=2), "wrong_epoch", r"^parts\[0\]"),
    "another node": (lambda: paul(node=bytes(32)), "wrong_verdict", "another node"),
    "silent, but it answered": (
        lambda: paul(outcome=Outcome.SILENT, reason="no_answer", leaves=0, size_bytes=0),
        "wrong_verdict",
        "another outcome",
    ),
    "another provider's account": (
        lambda: paul(subject=account_subject(address("petra"))),
        "other_deal",
        r"^parts\[0\]: not all openings",
    ),
    "openings swapped": (lambda: swapped(paul()), "answer_root", r"^parts\[0\].places\[0\]: "),
    "an opening nobody answered": (
        lambda: made_up(paul()),
        "answer_root",
        r"^parts\[0\].places\[0\]: ",
    ),
    "a place that was not drawn": (lambda: beyond(paul()), "place", r"^parts\[0\]"),
    "a link elsewhere in the log": (lambda: moved(paul()), "not_in_log", r"^parts\[0\].link: "),
    "no link": (lambda: other_entry(paul()), "wrong_entry", r"^parts\[0\]"),
    "another provider's link": (
        lambda: WORLD.part("petra", 3, (0,)),
        "other_holder",
        r"^parts\[0\]",
    ),
}


@pytest.mark.parametrize(("lie", "code", "named"), LIES.values(), ids=LIES)
def test_a_lie_is_refused_though_the_verifier_signs_it(
    lie: Callable[[], EpochPart], code: str, named: str
) -> None:
    with pytest.raises(DsnError, match=named) as refused:
        judged(of_paul(lie()))
    assert refused.value.detail_code == code


def test_who_linked_is_proven_by_a_deal_that_binds_the_account() -> None:
    for deals in ((), PAUL[1:]):
        places = in_deal(PAUL[0])[:2]
        with pytest.raises(DsnError, match=r"^parts\[0\]: nothing falls") as refused:
            judged(of_paul(paul(2, places), deals=deals))
        assert refused.value.detail_code == "other_deal"
    foreign = replace(WORLD.provider("paul", *PAUL), deals=WORLD.provider("petra", *PETRA).deals)
    with pytest.raises(DsnError, match=r"^providers\[0\]: deals\[0\]: "):
        judged(replace(epoch(), providers=(foreign,)))


def test_cells_are_those_of_the_checkpoint() -> None:
    bundle = epoch()
    provider = bundle.providers[0]
    account = replace(provider.account.cell, node=WORLD.account("petra").node)
    forged = replace(provider, account=replace(provider.account, cell=account))
    part = told(bundle.parts[0], node=account.node)
    with pytest.raises(DsnError) as refused:
        judged(replace(bundle, providers=(forged,), parts=(part,)))
    assert refused.value.detail_code == "state_root"
    closed = replace(provider.deals[0].cell, state=DealState.CLOSED)
    forged = replace(provider, deals=(replace(provider.deals[0], cell=closed),))
    with pytest.raises(DsnError, match=r"^providers\[0\]: deals\[0\]: ") as refused:
        judged(replace(bundle, providers=(forged,)))
    assert refused.value.detail_code == "state_root"


def fork() -> BundleWorld:
    """The same world, to be changed against its rules."""
    other = copy(WORLD)
    other.leaves, other.nodes, other.answers = list(WORLD.leaves), dict(WORLD.nodes), {}
    return other


@pytest.mark.parametrize("what", ["other_deal", "not_bound"])
def test_an_account_that_may_have_changed_its_identity_binds_nobody(what: str) -> None:
    other, deal, account = fork(), WORLD.deal(PAUL[0]), WORLD.account("paul")
    changed: Any = replace(deal, state=DealState.CLOSED)
    if what == "not_bound":
        changed = replace(account, node=NO_NODE)
    other.state = WORLD.state.having(Changes.of((changed,), {}))
    provider = other.provider("paul", PAUL[0])
    checkpoint = other.checkpoint(state_root=other.state.root)
    with pytest.raises(DsnError, match=r"^providers\[0\]: ") as refused:
        judged(replace(epoch(), checkpoint=checkpoint, providers=(provider,)))
    assert refused.value.detail_code == what


@pytest.mark.parametrize(
    ("changes", "code"), [({"beacon": bytes(32)}, "wrong_beacon"), ({"count": 2}, "wrong_count")]
)
def test_a_link_that_no_rule_allows_is_refused_wherever_it_stands(
    changes: dict[str, Any], code: str
) -> None:
    other = fork()
    _, link, held, opened = WORLD.answers["paul", 2]
    link = replace(link, **changes)
    entry = other.entry("paul", SubmitLink(link))
    other.add(replace(WORLD.leaves[-1], entry=entry.encode()))
    other.answers["paul", 2] = (len(other.leaves) - 1, link, held, opened)
    bundle = other.bundle([other.part("paul", 2, (0, 1))], {"paul": PAUL})
    with pytest.raises(DsnError, match=r"^parts\[0\]") as refused:
        judged(bundle)
    assert refused.value.detail_code == code


STRANGERS = [SigningKey(bytes([n]) * 32) for n in (41, 42, 43)]
CHECKPOINTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "one witness": (lambda: WORLD.checkpoint(WITNESSES[0]), "no_quorum"),
    "witnesses of its own": (lambda: WORLD.checkpoint(*STRANGERS), "no_quorum"),
    "another log": (lambda: WORLD.checkpoint(root=bytes(32)), "not_in_log"),
    "another state": (lambda: WORLD.checkpoint(state_root=bytes(32)), "state_root"),
    "another origin": (lambda: WORLD.checkpoint(origin="dsn.ledger/elsewhere"), "other_log"),
    "no note": (lambda: b"note", "malformed_message"),
}


@pytest.mark.parametrize(("checkpoint", "code"), CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_the_checkpoint_counts_by_the_networks_keys(
    checkpoint: Callable[[], bytes], code: str
) -> None:
    with pytest.raises(DsnError) as refused:
        judged(replace(epoch(), checkpoint=checkpoint()))
    assert refused.value.detail_code == code


def test_a_checkpoint_cosigned_after_the_bundle_is_refused() -> None:
    with pytest.raises(DsnError, match=r"^checkpoint: ") as refused:
        judged(replace(epoch(), at_s=AT_S - 301))
    assert refused.value.detail_code == "no_quorum"


def test_beacons_are_judged() -> None:
    bundle = epoch()
    first, second = bundle.opened
    for opened, code in [
        ((second, first), "wrong_order"),
        ((first, first), "wrong_order"),
        ((replace(first, growth=second.growth), second), ""),
        ((replace(first, growth=first.growth[:-1]), second), "short"),
        ((replace(first, logged=WORLD.logged(0)), second), "wrong_entry"),
        ((replace(first, shut=WORLD.logged(first.logged.index - 1)), second), "wrong_entry"),
        ((second,), "wrong_epoch"),
    ]:
        with pytest.raises(DsnError) as refused:
            judged(replace(bundle, opened=opened))
        assert code in ("", refused.value.detail_code), code


def test_a_beacon_that_the_vdf_did_not_give_is_refused() -> None:
    """Witnesses that let it pass do not make it one."""

    class Careless(BundleWorld):
        def beacon(self, number: int) -> tuple[bytes, bytes]:
            value, evidence = super().beacon(number)
            return (bytes(32), evidence) if number == 1 else (value, evidence)

    world = Careless()
    world.signed = False
    world.open_epoch()
    world.signed = True
    opened = world.opened_epoch(1)
    bundle = replace(
        epoch(), checkpoint=world.checkpoint(), opened=(opened,), providers=(), parts=()
    )
    with pytest.raises(DsnError, match=r"^epochs\[0\]: ") as refused:
        judged(bundle)
    assert refused.value.detail_code == "bad_beacon"


def test_the_first_epoch_follows_no_log() -> None:
    bundle = replace(epoch(), opened=(WORLD.opened_epoch(1),), providers=(), parts=())
    assert judged(bundle).parts == ()
    grown = replace(WORLD.opened_epoch(1), growth=(bytes(32),))
    with pytest.raises(DsnError) as refused:
        judged(replace(bundle, opened=(grown,)))
    assert refused.value.detail_code == "bad_closed_log"


def test_a_part_stands_once() -> None:
    with pytest.raises(DsnError, match=r"^parts: ") as refused:
        judged(of_paul(paul(2, (0, 1)), paul(2, (1, 2))))
    assert refused.value.detail_code == "twice"


def test_a_network_without_a_ledger_has_no_epochs() -> None:
    free = sign_network(replace(NETWORK.genesis, ledger=None), (), FOUNDER.sign)
    bundle = replace(parse_bundle(signed(epoch())), network=free.network_id)
    with pytest.raises(ConfigError) as refused:
        verify_bundle(bundle, free)
    assert refused.value.detail_code == "no_ledger_here"


def test_a_bracket_that_fails_convicts_beside_one_that_holds() -> None:
    both, alone = (WORLD.part("petra", 3, places, **LIE) for places in ((0, 2), (2,)))
    both = told(both, reason="inventory")
    assert judged(WORLD.bundle([both], {"petra": PETRA})).parts[0].reason == "inventory"
    with pytest.raises(DsnError, match="nothing falls in a deal"):
        judged(WORLD.bundle([alone], {"petra": PETRA}))


def test_openings_that_show_no_deal_convict_with_a_bracket() -> None:
    said = LIE | {"reason": "inventory"}
    bracket, _ = WORLD.bracket("petra", 3, 2)
    shown = replace(WORLD.part("petra", 3, (2,), **said), bracket=bracket)
    found = judged(WORLD.bundle([shown], {"petra": PETRA}))
    assert [(each.outcome, each.reason) for each in found.parts] == [(Outcome.WRONG, "inventory")]
    with pytest.raises(DsnError, match="nothing falls in a deal"):
        judged(WORLD.bundle([shown], {"petra": ()}))


BRACKET, _ = WORLD.bracket("petra", 3, 2)


@pytest.mark.parametrize(
    ("places", "bracket"),
    [
        ((), BRACKET),
        ((1,), BRACKET),
        ((1, 2), BRACKET),
        ((2,), BRACKET + b"\0"),
        ((2,), BRACKET[:-1]),
        ((2,), BRACKET[:-1] + b"\0"),
        ((2,), WORLD.bracket("paul", 3, 2)[0]),
    ],
    ids=["silence", "shown", "shown-by-one", "longer", "shorter", "changed", "another"],
)
def test_a_bracket_that_is_wrong_or_not_needed_is_refused(
    places: tuple[int, ...], bracket: bytes
) -> None:
    part = replace(WORLD.part("petra", 3, places, **LIE), bracket=bracket)
    with pytest.raises(DsnError) as refused:
        judged(WORLD.bundle([part], {"petra": PETRA}))
    assert refused.value.message.startswith(("parts[0]: ", "bundle: parts[0]: "))


class DrandWorld(DrandTime, BundleWorld):
    """Its beacons are rounds of a chain that is signed here."""


def test_a_round_of_drand_is_the_one_that_the_shut_fixed() -> None:
    pytest.importorskip("py_arkworks_bls12381", reason="needs the extra drand")
    from tests.support.drand_chain import own_chain

    net = network("drand", drand=own_chain(1_700_000_000, 3))
    world = DrandWorld(net)
    world.bind("alice", "paul")
    world.open_epoch()
    deal = world.open(terms())
    world.hold(deal, 1, 2)
    world.pass_epochs(1)
    world.link("paul")
    world.pass_epochs(1)
    bundle = world.bundle([world.part("paul", 2, (0, 1))], {"paul": (deal,)})
    (opened,) = bundle.opened
    shut, later = (world.logged(world.opened[number][1] - 1) for number in (2, 3))
    good = replace(bundle, opened=(replace(opened, shut=shut),))
    assert verify_bundle(parse_bundle(signed(good)), net).held
    for other in (None, later, world.logged(0), replace(shut, path=shut.path[1:])):
        bad = replace(bundle, opened=(replace(opened, shut=other),))
        with pytest.raises(DsnError, match=r"^epochs\[0\]: ") as refused:
            verify_bundle(parse_bundle(signed(bad)), net)
        assert refused.value.detail_code in ("wrong_entry", "short")
