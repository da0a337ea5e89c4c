"""What the state moves by: ``validate`` refuses, ``apply`` then cannot fail; ``step`` does both.

Spec: docs/spec/economy.md#ledger-state-and-rules.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from dsn.ledger import bodies, disputes
from dsn.ledger.entry import Body, Entry, SignedEntry
from dsn.ledger.refusal import refuse
from dsn.ledger.rules import accounts, claims, deals, demands
from dsn.ledger.rules.signatures import check_network, check_signatures
from dsn.ledger.rules.turn import Turn
from dsn.ledger.settlement import Address
from dsn.ledger.state import Changes, JudgeBeacon, State


def validate(state: State, signed: SignedEntry, judge: JudgeBeacon) -> None:
    """Check that ``signed`` may be the next entry.

    Args:
        state: After the last entry.
        signed: Untrusted.
        judge: Judges a beacon's evidence, and that the log was as an epoch's open says.

    Raises:
        DsnError: With a code of its own for every check there is; see the spec's table.
    """
    step(state, signed, judge)


def check_rules(state: State, entry: Entry) -> None:
    """As ``validate``, of an entry whose signatures and beacon evidence are known to be right."""
    _run(state, entry)


def apply(state: State, entry: Entry) -> tuple[State, Changes]:
    """The state after ``entry``, which was validated against this very state, and what changed."""
    changes = _run(state, entry)
    return state.having(changes), changes


def step(
    state: State,
    signed: SignedEntry,
    judge: JudgeBeacon,
    found: Address | None = None,
    *,
    identities: bool = True,
) -> tuple[State, Changes]:
    """``validate`` and ``apply`` in one, for whoever does both: the rules run once.

    ``found`` is whose the entry's own signature is, if that was recovered already; ``identities``
    says whether those by Ed25519 keys are looked at.
    """
    check_signatures(state, signed, found, identities=identities)
    changes = _run(state, signed.entry)
    if isinstance(signed.entry.body, bodies.OpenEpoch):
        judge(state.network, signed.entry.body)
    return state.having(changes), changes


def _run(state: State, entry: Entry) -> Changes:
    check_network(state, entry)
    turn = Turn(state, entry.signer)
    account = turn.account(entry.signer)
    if entry.nonce <= account.nonce:
        raise refuse("nonce_used", f"nonce {entry.nonce}, {account.nonce + 1} is next")
    if entry.nonce > account.nonce + 1:
        raise refuse("nonce_gap", f"nonce {entry.nonce}, {account.nonce + 1} is next")
    _dispatch(turn, entry.body)
    _count(turn, entry)
    return turn.changes()


def _count(turn: Turn, entry: Entry) -> None:
    """Count the entry and burn its fee, after all else: what it brings in can pay for it.

    Proving and owning up are free. A party without a credit can still close, and an operator
    without one keeps time and enters what the chain says: they pay what they have.
    """
    account, fee = turn.account(turn.signer), turn.params.entry_fee
    match entry.body:
        case bodies.SubmitLink() | bodies.Loss():
            fee = 0
        case disputes.Serve(service=disputes.ShardLost() | disputes.AllLost()):
            fee = 0
        case bodies.CloseDeal() | bodies.OpenEpoch() | bodies.ShutEpoch():
            fee = min(fee, account.available)
        case bodies.Deposit() | disputes.SlashJudged():
            fee = min(fee, account.available)
    if fee > account.available:
        raise refuse(
            "fee_not_covered", f"{account.available} base units are left, the fee is {fee}"
        )
    available, burned = account.available - fee, account.burned + fee
    turn.put(replace(account, nonce=entry.nonce, available=available, burned=burned))


def _dispatch(turn: Turn, body: Body) -> None:
    match body:
        case bodies.OpenEpoch():
            accounts.open_epoch(turn, body)
        case bodies.ShutEpoch():
            accounts.shut_epoch(turn, body)
        case bodies.Bind():
            accounts.bind(turn, body)
        case bodies.Deposit():
            accounts.deposit(turn, body)
        case bodies.Withdraw():
            accounts.withdraw(turn, body)
        case bodies.Transfer():
            accounts.transfer(turn, body)
        case bodies.Open():
            deals.open_deal(turn, body)
        case bodies.TopUp():
            deals.top_up(turn, body)
        case bodies.Quit():
            deals.quit_deal(turn, body)
        case bodies.CloseDeal():
            deals.close(turn, body)
        case bodies.SubmitLink():
            claims.link(turn, body)
        case bodies.Claim():
            claims.claim(turn, body)
        case bodies.Loss():
            claims.loss(turn, body)
        case disputes.Demand():
            demands.demand(turn, body)
        case disputes.Serve():
            demands.serve(turn, body)
        case disputes.SlashWrong():
            demands.slash_wrong(turn, body)
        case disputes.SlashMissed():
            demands.slash_missed(turn, body)
        case disputes.SlashUnserved():
            demands.slash_unserved(turn, body)
        case disputes.SlashJudged():
            demands.slash_judged(turn, body)
        case _:
            assert_never(body)
