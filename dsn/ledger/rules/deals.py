"""How a deal begins, grows older, and ends."""

from __future__ import annotations

from dataclasses import replace

from dsn.ledger.bodies import Agreed, CloseDeal, Open, Quit, TopUp
from dsn.ledger.cells import NO_NODE, DealCell, DealState
from dsn.ledger.deal import Close, Deal, Extension, check_deal
from dsn.ledger.refusal import refuse
from dsn.ledger.rules.settling import (
    check_cover,
    install,
    parties_of,
    put_parties,
    roll,
    settle,
)
from dsn.ledger.rules.turn import Turn, check_no_demand, check_open, check_party
from dsn.ledger.settlement import Address


def open_deal(turn: Turn, body: Open) -> None:
    """The client opens a deal that both signed, and locks both escrows."""
    terms = body.agreed.statement
    if turn.signer != terms.client:
        raise refuse("not_the_client", "a deal is opened by its client")
    check_deal(terms)
    deal_id = terms.deal_id(turn.params.domain)
    if turn.has_deal(deal_id):
        raise refuse("deal_exists", f"deal {deal_id.hex()} was opened before")
    _check_dates(turn, terms)
    _check_minima(turn, terms)
    if terms.delegate in (terms.client, terms.provider):
        raise refuse("bad_delegate", "client and provider cannot be the deal's delegate")
    for address in (terms.client, terms.provider):
        if turn.account(address).node == NO_NODE:
            raise refuse("not_bound", "client and provider both need an identity, see bind")
    turn.debit(terms.client, terms.disk_escrow + terms.bandwidth_escrow)
    _count(turn, terms.client, 1)
    _count(turn, terms.provider, 1)
    turn.put(roll(turn.account(terms.provider), turn.epoch))
    turn.put(
        DealCell(
            deal_id,
            terms,
            DealState.OPEN,
            end=terms.end,
            grace=terms.grace,
            settled=turn.epoch,
            disk_escrow=terms.disk_escrow,
            bandwidth_escrow=terms.bandwidth_escrow,
        )
    )


def _check_dates(turn: Turn, terms: Deal) -> None:
    if terms.open_by < turn.epoch:
        raise refuse("offer_expired", f"to be opened by epoch {terms.open_by}, now {turn.epoch}")
    if terms.end <= turn.epoch:
        raise refuse("end_passed", f"it ends in epoch {terms.end}, now {turn.epoch}")
    most = turn.params.max_term
    if terms.end > turn.epoch + most or max(terms.grace, terms.notice, terms.dispute) > most:
        raise refuse("term_too_long", f"a term, grace, notice or dispute over {most} epochs")


def _check_minima(turn: Turn, terms: Deal) -> None:
    params = turn.params
    least = (
        ("disk_price_below_minimum", terms.disk_price, params.min_disk_price),
        ("repair_price_below_minimum", terms.repair_price, params.min_repair_price),
        ("collateral_below_minimum", terms.collateral_ppm, params.min_collateral_ppm),
        ("dispute_below_minimum", terms.dispute, params.min_dispute),
    )
    for code, value, minimum in least:
        if value < minimum:
            raise refuse(code, f"{value}, at least {minimum} needed on this network")
    if terms.free_leaves > params.max_free_leaves:
        raise refuse(
            "free_leaves_above_maximum",
            f"{terms.free_leaves} leaves without collateral, at most {params.max_free_leaves}",
        )


def _count(turn: Turn, address: Address, change: int) -> None:
    account = turn.account(address)
    turn.put(replace(account, deals=account.deals + change))


def top_up(turn: Turn, body: TopUp) -> None:
    """The client adds to the escrows; with the provider's word the deal lasts longer."""
    deal = turn.deal(body.deal)
    if turn.signer != deal.terms.client:
        raise refuse("not_the_client", "a deal is topped up by its client")
    check_open(deal)
    if turn.epoch > deal.last:
        raise refuse("deal_over", f"its grace ended in epoch {deal.last}, now {turn.epoch}")
    if body.extension is not None:
        deal = _extend(turn, deal, body.extension)
    turn.debit(turn.signer, body.disk + body.bandwidth)
    deal = replace(
        deal,
        disk_escrow=deal.disk_escrow + body.disk,
        bandwidth_escrow=deal.bandwidth_escrow + body.bandwidth,
    )
    check_cover(deal)
    turn.put(deal)


def _extend(turn: Turn, deal: DealCell, agreed: Agreed[Extension]) -> DealCell:
    extension = agreed.statement
    if extension.deal != deal.deal:
        raise refuse("other_deal", "the extension is of another deal")
    if extension.serial != deal.serial + 1:
        raise refuse("wrong_extension", f"extension {extension.serial}, {deal.serial + 1} is next")
    if extension.end <= deal.end:
        raise refuse("end_not_later", f"an end in epoch {extension.end}, it is {deal.end}")
    if extension.end > turn.epoch + turn.params.max_term:
        raise refuse("term_too_long", f"a term over {turn.params.max_term} epochs")
    return replace(deal, end=extension.end, serial=extension.serial)


def quit_deal(turn: Turn, body: Quit) -> None:
    """A party gives notice on a deal that holds nothing; vouchers stay good until it is over."""
    deal = turn.deal(body.deal)
    check_party(turn, deal)
    check_open(deal)
    if deal.leaves:
        raise refuse(
            "deal_not_empty", f"{deal.leaves} leaves are installed", hint="drop them first"
        )
    if turn.epoch + deal.terms.notice >= deal.last:
        raise refuse("notice_too_late", f"it is over in epoch {deal.last} anyway")
    deal, provider = settle(parties_of(turn, deal), turn.epoch, turn.params.burn_ppm)
    turn.put(replace(deal, end=turn.epoch, grace=deal.terms.notice), provider)


def close(turn: Turn, body: CloseDeal) -> None:
    """A party ends an open deal, or releases one that ended or was slashed."""
    deal = turn.deal(body.deal)
    check_party(turn, deal)
    if deal.state is DealState.OPEN:
        _end(turn, deal, body.agreed)
    else:
        _release(turn, deal, body.agreed)


def _end(turn: Turn, old: DealCell, agreed: Agreed[Close] | None) -> None:
    """The client gets back what is left; the collateral stays for the dispute epochs."""
    if agreed is not None:
        if agreed.statement.deal != old.deal:
            raise refuse("other_deal", "what was agreed on is to close another deal")
        if agreed.statement.epoch != turn.epoch:
            raise refuse("wrong_epoch", f"agreed for epoch {agreed.statement.epoch}")
    elif turn.epoch <= old.last:
        raise refuse("deal_running", f"it runs to epoch {old.last}, now {turn.epoch}")
    check_no_demand(old)
    parties = settle(parties_of(turn, old), turn.epoch, turn.params.burn_ppm)
    deal = parties.deal
    back = deal.disk_escrow + deal.bandwidth_escrow + deal.refund
    deal = replace(
        deal,
        state=DealState.ENDED,
        ended=turn.epoch,
        disk_escrow=0,
        bandwidth_escrow=0,
        refund=0,
    )
    put_parties(turn, install(turn, old, parties._replace(deal=deal)))
    turn.credit(deal.terms.client, back)


def _release(turn: Turn, deal: DealCell, agreed: Agreed[Close] | None) -> None:
    """Both get what is left, and the deal is over for good."""
    if agreed is not None:
        raise refuse("deal_not_open", f"the deal is {deal.state.name.lower()}, nothing to agree on")
    if deal.state is DealState.CLOSED:
        raise refuse("deal_closed", "the deal is closed")
    if deal.state is DealState.ENDED:
        check_no_demand(deal)
        if turn.epoch < deal.ended + deal.terms.dispute:
            raise refuse(
                "dispute_running",
                f"openings can be demanded up to epoch {deal.ended + deal.terms.dispute}",
            )
    turn.put(roll(turn.account(deal.terms.provider), turn.epoch))
    turn.credit(deal.terms.provider, deal.collateral)
    turn.credit(deal.terms.client, deal.refund)
    _count(turn, deal.terms.provider, -1)
    _count(turn, deal.terms.client, -1)
    turn.put(replace(deal, state=DealState.CLOSED, collateral=0, refund=0))
