"""Openings on demand, under a bond, and what happens to those who do not show them."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, assert_never

from dsn.errors import InvalidProof
from dsn.ledger.bodies import SubmitLink
from dsn.ledger.cells import DealCell, DealState, Pending
from dsn.ledger.disputes import (
    AllLost,
    Demand,
    DrawnOpening,
    Serve,
    ServedOpening,
    ShardLost,
    SlashJudged,
    SlashMissed,
    SlashUnserved,
    SlashWrong,
)
from dsn.ledger.entry import Entry
from dsn.ledger.log import leaf_hash, verify_inclusion_proof
from dsn.ledger.refusal import refuse
from dsn.ledger.rules.claims import delete, renumber
from dsn.ledger.rules.settling import (
    charge_loss,
    clear_demand,
    install,
    parties_of,
    put_parties,
    settle,
    split,
)
from dsn.ledger.rules.turn import (
    Turn,
    check_no_demand,
    check_open,
    check_operator,
    check_provider,
)
from dsn.proofs.inventory import EMPTY_ROOT
from dsn.proofs.opening import proven_deal, verify_opening
from dsn.proofs.post import (
    Link,
    beacon_hash,
    drawn_indices,
    leaves_asked,
    verify_answer_path,
)


class Drawn(NamedTuple):
    """A link that is believed, and the leaf number at the place in question."""

    link: Link
    leaf: int


def demand(turn: Turn, body: Demand) -> None:
    """The client or its delegate asks for one opening and puts a bond at stake."""
    deal = turn.deal(body.deal)
    if turn.signer not in (deal.terms.client, deal.terms.delegate):
        raise refuse("not_the_client", "only the deal's client and its delegate can demand")
    check_no_demand(deal)
    if body.bond < max(1, turn.params.min_bond):
        raise refuse("bond_too_low", f"{body.bond} base units, {turn.params.min_bond} needed")
    deadline = turn.epoch + turn.params.demand_epochs
    if isinstance(body.target, int):
        check_open(deal)
        if body.target >= deal.leaves:
            raise refuse("no_such_leaf", f"leaf {body.target} of {deal.leaves}")
        pending = Pending(turn.signer, deadline, body.target)
    else:
        _check_not_over(deal)
        drawn = _judge_drawn(turn, deal, body.target)
        _check_disputable(turn, deal, drawn.link.epoch)
        pending = Pending(turn.signer, deadline, drawn.leaf, drawn.link, body.target.place)
    turn.debit(turn.signer, body.bond)
    turn.put(replace(deal, bond=body.bond, demand=pending))


def _check_not_over(deal: DealCell) -> None:
    """Open or ended: a slashed deal has nothing left to lose, a closed one is over."""
    if deal.state not in (DealState.OPEN, DealState.ENDED):
        raise refuse("deal_not_open", f"the deal is {deal.state.name.lower()}")


def _check_disputable(turn: Turn, deal: DealCell, epoch: int) -> None:
    if epoch + deal.terms.dispute <= turn.epoch:
        raise refuse("too_old", f"answers of epoch {epoch} need not be kept any more")
    if deal.state is DealState.ENDED and epoch > deal.ended:
        raise refuse("after_end", f"a link of epoch {epoch}, the deal ended in {deal.ended}")


def _judge_drawn(turn: Turn, deal: DealCell, drawn: DrawnOpening) -> Drawn:
    """Whether a link of the deal's provider is in the log, and the place falls in the deal.

    The provider's identity cannot have changed since: it has this deal.

    Raises:
        EntryRefused: ``not_a_link``, ``wrong_count``, ``wrong_beacon`` or ``other_deal``.
        InvalidProof: The inclusion proof or the bracket fails, or there is no such ``place``.
    """
    verify_inclusion_proof(
        turn.network.closed, drawn.index, leaf_hash(drawn.leaf.encode()), drawn.path
    )
    logged = Entry.decode(drawn.leaf.entry)
    if logged.signer != deal.terms.provider or not isinstance(logged.body, SubmitLink):
        raise refuse("not_a_link", "the entry is no link of the deal's provider")
    link = logged.body.link
    asked = leaves_asked(link.total)
    if link.count != asked:
        raise refuse("wrong_count", f"a link of {link.count} leaves, {asked} are asked")
    if beacon_hash(drawn.beacon) != link.beacon:
        raise refuse("wrong_beacon", "the beacon value is not the link's")
    if drawn.place >= link.count:
        raise InvalidProof(f"answer: opening {drawn.place} of {link.count}", code="place")
    node = turn.account(deal.terms.provider).node
    network = turn.params.domain.network
    index = drawn_indices(link, drawn.beacon, network=network, node=node)[drawn.place]
    entry = proven_deal(drawn.bracket, root=link.root, total=link.total, index=index)
    if entry.deal != deal.deal:
        raise refuse("other_deal", "the opening falls in another deal")
    return Drawn(link, index)


def serve(turn: Turn, body: Serve) -> None:
    """The provider shows what was demanded, or declares it lost; both end the demand."""
    deal = turn.deal(body.deal)
    check_provider(turn, deal)
    if deal.demand is None:
        raise refuse("no_demand", "no demand is pending on the deal")
    if turn.epoch > deal.demand.deadline:
        raise refuse("too_late", f"it was to be served by epoch {deal.demand.deadline}")
    match body.service:
        case ServedOpening() as served:
            _check_served(deal, deal.demand, served)
            turn.put(parties_of(turn, deal).provider)
            turn.credit(turn.signer, deal.bond)
            turn.put(replace(deal, demand=None, bond=0))
        case ShardLost() as lost:
            _lose_shard(turn, deal, deal.demand, lost)
        case AllLost() as lost:
            _lose_all(turn, deal, deal.demand, lost)
        case _:
            assert_never(body.service)


def _check_served(deal: DealCell, pending: Pending, served: ServedOpening) -> None:
    """An opening of a link counts only as the one that was answered with."""
    if pending.link is None:
        if served.path:
            raise InvalidProof("opening: a leaf of the holdings needs no path", code="answer_path")
        root, total = deal.root, deal.leaves
    else:
        verify_answer_path(pending.link, pending.place, served.opening, served.path)
        root, total = pending.link.root, pending.link.total
    verify_opening(
        served.opening,
        root=root,
        total=total,
        index=pending.index,
        inventory=pending.link is not None,
    )


def _lose_shard(turn: Turn, old: DealCell, pending: Pending, lost: ShardLost) -> None:
    """Only the shard that the demanded leaf is in."""
    if pending.link is not None:
        raise refuse("whole_deal_needed", "an answer is given up with everything under its deal")
    parties = settle(parties_of(turn, old), turn.epoch, turn.params.burn_ppm)
    deal, gone = delete(parties.deal, lost.deletion)
    if not gone.first_leaf <= pending.index < gone.first_leaf + gone.leaf_count:
        raise refuse("other_shard", f"leaf {pending.index} is not in the shard that is lost")
    deal = renumber(charge_loss(deal, gone.leaf_count), lost.number)
    put_parties(turn, install(turn, old, parties._replace(deal=deal)))
    turn.put(clear_demand(turn, deal))


def _lose_all(turn: Turn, old: DealCell, pending: Pending, lost: AllLost) -> None:
    """Everything the deal holds; if it holds nothing any more, all collateral."""
    if pending.link is None:
        raise refuse("shard_needed", "a leaf of the holdings is given up with its shard")
    parties = parties_of(turn, old)
    if old.state is DealState.OPEN and old.leaves:
        parties = settle(parties, turn.epoch, turn.params.burn_ppm)
        deal = charge_loss(parties.deal, old.leaves)
        deal = replace(deal, shards=0, leaves=0, root=EMPTY_ROOT)
    else:
        deal = replace(old, collateral=0, refund=old.refund + old.collateral)
    deal = renumber(deal, lost.number)
    put_parties(turn, install(turn, old, parties._replace(deal=deal)))
    turn.put(clear_demand(turn, deal))


def slash_wrong(turn: Turn, body: SlashWrong) -> None:
    """An opening that a link commits to fails."""
    deal = turn.deal(body.deal)
    _check_reporter(turn, deal)
    _check_not_over(deal)
    link, leaf = _judge_drawn(turn, deal, body.drawn)
    opening, path = body.answer.opening, body.answer.path
    verify_answer_path(link, body.drawn.place, opening, path)
    try:
        verify_opening(opening, root=link.root, total=link.total, index=leaf, inventory=True)
    except InvalidProof:
        split(turn, parties_of(turn, deal), turn.signer)
        return
    raise refuse("opening_holds", "the opening is right")


def slash_missed(turn: Turn, body: SlashMissed) -> None:
    """More epochs were missed than the deal allows; what was proven is still paid."""
    deal = turn.deal(body.deal)
    _check_reporter(turn, deal)
    check_open(deal)
    parties = settle(parties_of(turn, deal), turn.epoch, turn.params.burn_ppm)
    missed, limit = parties.deal.missed, deal.terms.miss_limit
    if missed <= limit:
        raise refuse("within_miss_limit", f"{missed} epochs missed, {limit} are allowed")
    split(turn, parties, turn.signer)


def slash_unserved(turn: Turn, body: SlashUnserved) -> None:
    """A demand was not served in time."""
    deal = turn.deal(body.deal)
    _check_reporter(turn, deal)
    _check_not_over(deal)
    if deal.demand is None:
        raise refuse("no_demand", "no demand is pending on the deal")
    if turn.epoch <= deal.demand.deadline:
        raise refuse("still_time", f"it can be served up to epoch {deal.demand.deadline}")
    split(turn, parties_of(turn, deal), turn.signer)


def slash_judged(turn: Turn, body: SlashJudged) -> None:
    """The operator enters what was judged on chain; witnesses compare it with the chain.

    Whoever demanded there is the reporter. A revision that was installed since the demand need not
    have the leaf.
    """
    check_operator(turn)
    if not turn.params.settles:
        raise refuse("no_vault", "the network has no chain that could judge")
    deal = turn.deal(body.deal)
    _check_not_over(deal)
    if deal.number > body.number:
        raise refuse(
            "revision_moved", f"judged under revision {body.number}, {deal.number} is installed"
        )
    split(turn, parties_of(turn, deal), body.asker)


def _check_reporter(turn: Turn, deal: DealCell) -> None:
    if turn.signer == deal.terms.provider:
        raise refuse("own_deal", "a provider cannot slash itself")
