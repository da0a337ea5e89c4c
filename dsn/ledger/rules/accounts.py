"""Epochs, and entries that move credits of one account."""

from __future__ import annotations

from dataclasses import replace

from dsn.core.keys import node_id_of
from dsn.ledger.bodies import Bind, Deposit, OpenEpoch, ShutEpoch, Transfer, Withdraw
from dsn.ledger.cells import NodeCell, Phase
from dsn.ledger.refusal import refuse
from dsn.ledger.rules.turn import Turn, check_operator
from dsn.ledger.state import FIRST_EPOCH
from dsn.proofs.drand import fixed_round
from dsn.proofs.post import beacon_hash


def open_epoch(turn: Turn, body: OpenEpoch) -> None:
    """The operator opens the epoch that the last shut made the next one."""
    check_operator(turn)
    _check_time(turn, body.epoch, Phase.SHUT)
    last, closed = turn.network.closed, body.closed
    if body.epoch == FIRST_EPOCH and closed != last:
        raise refuse("bad_closed_log", "before the first epoch the closed log is the network id")
    if body.epoch > FIRST_EPOCH and closed.size <= last.size:
        raise refuse("bad_closed_log", f"a closed log of {closed.size} entries, had {last.size}")
    beacon = beacon_hash(body.value)
    turn.network = replace(turn.network, phase=Phase.OPEN, beacon=beacon, closed=closed)
    turn.put(turn.network)


def shut_epoch(turn: Turn, body: ShutEpoch) -> None:
    """The operator shuts the epoch; the next one's number holds from here on.

    What is installed from now on counts as installed in the next epoch, so it is asked for in the
    one after. Otherwise the draw could be ground through the inventory once the beacon's input
    is fixed.
    """
    check_operator(turn)
    _check_time(turn, body.epoch, Phase.OPEN)
    given = {salt.witness for salt in body.salts}
    if len(given) < len(body.salts) or not given <= turn.params.witnesses:
        raise refuse("bad_salts", "salts that are not by different witnesses of the network")
    if len(given) < turn.params.quorum:
        raise refuse("no_quorum", f"{len(given)} salts, {turn.params.quorum} needed")
    due = _fixed_round(turn, body)
    turn.network = replace(turn.network, phase=Phase.SHUT, epoch=body.epoch + 1, round=due)
    turn.put(turn.network)


def _fixed_round(turn: Turn, body: ShutEpoch) -> int:
    """The round of drand that gives the next epoch's beacon; 0 where the log itself gives it."""
    if turn.params.drand is None:
        return 0
    due, last = fixed_round([salt.salt for salt in body.salts]), turn.network.round
    if due <= last:
        raise refuse("bad_salts", f"they fix round {due}, and {last} was used before")
    return due


def bind(turn: Turn, body: Bind) -> None:
    """An account takes an identity; while it has deals it keeps the one it has.

    So links and slashes of a deal are always judged with the identity that made them.
    """
    binding = body.signed.binding
    if binding.settlement != turn.signer or binding.network != turn.params.domain.network:
        raise refuse("foreign_binding", "the binding is of another account or network")
    account, node = turn.account(turn.signer), node_id_of(binding.identity)
    old = turn.node(node)
    if old is not None and old.account != turn.signer:
        raise refuse("node_taken", "the identity is bound to another account")
    serial = old.serial if old else 0
    if binding.serial <= serial:
        raise refuse("stale_binding", f"binding number {binding.serial}, {serial} was taken")
    if account.deals:
        raise refuse("deals_open", f"{account.deals} deals are not closed", hint="close them first")
    turn.put(NodeCell(node, turn.signer, binding.serial), replace(account, node=node))


def deposit(turn: Turn, body: Deposit) -> None:
    """The operator enters what the vault took; witnesses compare it with the vault."""
    check_operator(turn)
    _check_amount(body.amount)
    account = turn.account(body.account)
    if body.serial != account.deposits + 1:
        raise refuse("wrong_deposit", f"deposit {body.serial}, {account.deposits + 1} is next")
    turn.put(
        replace(account, available=account.available + body.amount, deposits=account.deposits + 1)
    )


def withdraw(turn: Turn, body: Withdraw) -> None:
    """An account takes credits out; the chain pays the rise of ``withdrawn``."""
    _check_amount(body.amount)
    turn.debit(turn.signer, body.amount)
    account = turn.account(turn.signer)
    turn.put(replace(account, withdrawn=account.withdrawn + body.amount))


def transfer(turn: Turn, body: Transfer) -> None:
    """An account gives credits to another one."""
    _check_amount(body.amount)
    if body.to == turn.signer:
        raise refuse("same_account", "a transfer to oneself")
    turn.debit(turn.signer, body.amount)
    turn.credit(body.to, body.amount)


def _check_amount(amount: int) -> None:
    if not amount:
        raise refuse("zero_amount", "an amount of 0 base units")


def _check_time(turn: Turn, epoch: int, phase: Phase) -> None:
    now = turn.network
    if now.phase is not phase:
        raise refuse("wrong_phase", f"the epoch is {now.phase.name.lower()}")
    if now.epoch != epoch:
        raise refuse("wrong_epoch", f"epoch {epoch}, {now.epoch} is the network's")
