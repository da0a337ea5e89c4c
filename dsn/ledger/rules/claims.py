"""Links, and what a provider claims for them: disk pay, vouchers, revisions, and losses."""

from __future__ import annotations

from dataclasses import replace

from dsn.ledger.bodies import Claim, Loss, SignedPledge, SignedVoucher, SubmitLink
from dsn.ledger.cells import DealCell, Phase
from dsn.ledger.pledge import check_pledge
from dsn.ledger.refusal import refuse
from dsn.ledger.rules.settling import (
    Parties,
    charge_loss,
    check_cover,
    install,
    missing_collateral,
    parties_of,
    put_parties,
    roll,
    settle,
)
from dsn.ledger.rules.turn import (
    Turn,
    check_no_demand,
    check_number,
    check_open,
    check_provider,
)
from dsn.ledger.settlement import NO_ADDRESS
from dsn.ledger.voucher import check_voucher
from dsn.proofs.deletion import Deletion, verify_deletion_proof
from dsn.proofs.post import leaves_asked


def link(turn: Turn, body: SubmitLink) -> None:
    """The provider answered this epoch; what it answered about is the ledger's own record."""
    network, given = turn.network, body.link
    if network.phase is not Phase.OPEN:
        raise refuse("wrong_phase", "links are taken while an epoch is open")
    if given.epoch != network.epoch:
        raise refuse("wrong_epoch", f"a link of epoch {given.epoch}, {network.epoch} is open")
    if given.beacon != network.beacon:
        raise refuse("wrong_beacon", "the link is over another beacon value")
    provider = roll(turn.account(turn.signer), turn.epoch)
    if not provider.frozen_leaves:
        raise refuse("nothing_asked", "this epoch asks the provider for nothing")
    if (given.root, given.total) != (provider.frozen, provider.frozen_leaves):
        raise refuse("wrong_inventory", "the link is over another inventory than was frozen")
    if given.count != leaves_asked(given.total):
        raise refuse("wrong_count", f"{given.count} leaves, {leaves_asked(given.total)} are asked")
    if provider.proven(turn.epoch):
        raise refuse("linked_already", f"epoch {turn.epoch} has a link by this provider")
    turn.put(replace(provider, bits=provider.bits | 1))


def claim(turn: Turn, body: Claim) -> None:
    """Settle a deal; redeem a voucher and install a revision if they are there."""
    old = turn.deal(body.deal)
    _check_claimant(turn, old, body)
    check_open(old)
    parties = settle(parties_of(turn, old), turn.epoch, turn.params.burn_ppm)
    if body.voucher is not None:
        parties = _redeem(parties, body.voucher)
    if body.revision is None:
        put_parties(turn, parties)
        return
    parties = _take_revision(turn, parties, body.revision)
    put_parties(turn, install(turn, old, _lock_collateral(turn, parties)))


def _check_claimant(turn: Turn, deal: DealCell, body: Claim) -> None:
    terms = deal.terms
    if turn.signer == terms.provider:
        return
    if turn.signer not in (terms.client, terms.delegate):
        raise refuse("not_a_party", "only the deal's parties and its delegate can claim")
    if body.revision is None:
        raise refuse("revision_needed", "without a revision only the provider can claim")


def _redeem(parties: Parties, signed: SignedVoucher) -> Parties:
    """Pay the rise of the client's or the delegate's voucher out of the bandwidth escrow."""
    deal, provider = parties
    voucher, by_delegate = signed.voucher, signed.by_delegate
    paid = deal.delegate_paid if by_delegate else deal.voucher_paid
    check_voucher(voucher, deal.deal, paid=paid, escrow=deal.bandwidth_escrow)
    rise = voucher.credits - paid
    deal = replace(deal, bandwidth_escrow=deal.bandwidth_escrow - rise)
    if by_delegate:
        _check_delegate(deal)
        if voucher.credits > deal.terms.delegate_credits:
            raise refuse(
                "over_delegate_credits",
                f"a voucher of {voucher.credits}, the delegate may give "
                f"{deal.terms.delegate_credits}",
            )
        deal = replace(deal, delegate_paid=voucher.credits)
    else:
        deal = replace(deal, voucher_paid=voucher.credits)
    return Parties(deal, replace(provider, available=provider.available + rise))


def _take_revision(turn: Turn, parties: Parties, signed: SignedPledge) -> Parties:
    """The deal as the revision has it, if it may be installed now.

    Growth waits for this epoch's link, so that it is asked for, and paid, from the next one on.
    """
    (deal, provider), pledge = parties, signed.pledge
    check_pledge(pledge)
    if pledge.deal != deal.deal:
        raise refuse("other_deal", "the revision is of another deal")
    check_no_demand(deal)
    if turn.epoch >= deal.end:
        raise refuse("deal_over", f"revisions are taken before epoch {deal.end}")
    check_number(deal, pledge.number)
    if pledge.leaves > deal.leaves and not provider.proven(turn.epoch):
        raise refuse("not_linked", f"growth waits for the provider's link of epoch {turn.epoch}")
    if signed.by_delegate:
        _check_delegate(deal)
        _check_delegated(deal, pledge.leaves)
    deal = replace(
        deal,
        number=pledge.number,
        shards=pledge.shards,
        leaves=pledge.leaves,
        root=pledge.root,
    )
    check_cover(deal)
    return Parties(deal, provider)


def _check_delegate(deal: DealCell) -> None:
    if deal.terms.delegate == NO_ADDRESS:
        raise refuse("no_delegate", "the deal has no delegate")


def _check_delegated(deal: DealCell, leaves: int) -> None:
    if leaves < deal.leaves:
        raise refuse("delegate_lowers", f"{leaves} leaves by the delegate, {deal.leaves} are held")
    if leaves > deal.terms.delegate_leaves:
        raise refuse(
            "over_delegate_leaves",
            f"{leaves} leaves, the delegate may go up to {deal.terms.delegate_leaves}",
        )


def _lock_collateral(turn: Turn, parties: Parties) -> Parties:
    """Lock what the collateral lacks, as far as the provider's credits go.

    A provider that claims by itself keeps what it needs for the fee: otherwise whoever has less
    than the collateral could never install growth.
    """
    deal, provider = parties
    own_fee = turn.params.entry_fee if turn.signer == provider.address else 0
    locked = min(missing_collateral(deal), max(0, provider.available - own_fee))
    return Parties(
        replace(deal, collateral=deal.collateral + locked),
        replace(provider, available=provider.available - locked),
    )


def loss(turn: Turn, body: Loss) -> None:
    """The provider declares shards lost, pays for their repair, and keeps its node."""
    old = turn.deal(body.deal)
    check_provider(turn, old)
    check_open(old)
    check_no_demand(old)
    if not body.deletions:
        raise refuse("nothing_lost", "a loss of no shard")
    parties = settle(parties_of(turn, old), turn.epoch, turn.params.burn_ppm)
    deal = parties.deal
    for proof in body.deletions:
        deal, _ = delete(deal, proof)
    lost = charge_loss(deal, old.leaves - deal.leaves)
    put_parties(turn, install(turn, old, parties._replace(deal=renumber(lost, body.number))))


def delete(deal: DealCell, proof: bytes) -> tuple[DealCell, Deletion]:
    """The deal without the shard that ``proof`` (untrusted) shows, which must be installed."""
    gone = verify_deletion_proof(proof, root=deal.root, total=deal.leaves)
    after = replace(deal, shards=deal.shards - 1, leaves=gone.total, root=gone.root)
    return after, gone


def renumber(deal: DealCell, number: int) -> DealCell:
    """The deal with a higher revision number, which the provider picked above all it signed."""
    check_number(deal, number)
    return replace(deal, number=number)
