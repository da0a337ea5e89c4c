"""A witness vouches for nothing in the chain's name that the chain does not say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsn.errors import DsnError, NotFound
from dsn.ids import DealId
from dsn.ledger.bodies import Deposit
from dsn.ledger.disputes import SlashJudged
from dsn.wire.status import RetryLater
from tests.support.ledger_world import START, address, terms
from tests.support.memory_chain import silence
from tests.support.witness_world import SETTLED, Home, Operator

NAMES = ("alice", "bob", "paul", "petra", "dora", "sam")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A witness of a network with a vault, which has what ``Operator.fund`` enters."""
    made = Home(tmp_path, params=SETTLED)
    for name in NAMES:
        made.chain.deposit(address(name), START)
    yield made
    made.close()


@pytest.fixture
def operator() -> Operator:
    """Everybody's deposit is in, two parties are bound, epoch 1 is open."""
    made = Operator(SETTLED)
    made.fund()
    made.bind("alice", "paul")
    made.open_epoch()
    return made


def refusal(action: Callable[[], object]) -> DsnError:
    with pytest.raises(DsnError) as caught:
        action()
    return caught.value


def slashable(operator: Operator) -> DealId:
    deal = operator.open(terms(collateral_ppm=9_000_000))
    operator.hold(deal, 1, 2)
    return deal


def test_what_the_chain_says_is_cosigned(home: Home, operator: Operator) -> None:
    deal = slashable(operator)
    operator.do("operator", SlashJudged(deal, 1, address("alice")))
    home.chain.slash(deal, 1, address("alice"))
    assert home.show(operator).name
    assert home.chain.asked == ["deposit_of"] * len(NAMES) + ["slash_of"]


def test_each_claim_is_asked_about_once(home: Home, operator: Operator) -> None:
    home.show(operator)
    home.chain.asked.clear()
    operator.pay()
    home.show(operator)
    assert home.chain.asked == []
    home.chain.deposit(address("bob"), 5)
    operator.do("operator", Deposit(address("bob"), 5, 2))
    home.show(operator)
    home.restart()
    operator.pay()
    home.show(operator)
    assert home.chain.asked == ["deposit_of"]


@pytest.mark.parametrize("amount", [1, START + 1, (1 << 64) - 1])
def test_a_minted_or_swollen_deposit_is_refused(
    home: Home, operator: Operator, amount: int
) -> None:
    home.show(operator)
    if amount > 1:
        home.chain.deposit(address("bob"), START)
    operator.do("operator", Deposit(address("bob"), amount, 2))
    for _ in range(2):
        assert refusal(lambda: home.show(operator)).detail_code == "unknown_deposit"
        home.restart()
    operator.pay()
    assert refusal(lambda: home.show(operator)).detail_code == "unknown_deposit"
    assert home.judge.status()["cosigned"] == 9


def test_a_deposit_that_is_not_final_yet_is_cosigned_later(home: Home, operator: Operator) -> None:
    home.show(operator)
    home.chain.unsettled = 3
    home.chain.deposit(address("bob"), 5)
    operator.do("operator", Deposit(address("bob"), 5, 2))
    assert refusal(lambda: home.show(operator)).detail_code == "unknown_deposit"
    home.chain.height += 3
    home.show(operator)


@pytest.mark.parametrize("what", ["nothing", "number", "asker", "deal"])
def test_a_slash_that_the_chain_did_not_judge_is_refused(
    home: Home, operator: Operator, what: str
) -> None:
    deal = slashable(operator)
    said = {"deal": deal, "number": 1, "asker": address("alice")}
    other = {"deal": bytes(32), "number": 2, "asker": address("bob")}
    if what != "nothing":
        home.chain.slash(**{**said, what: other[what]})  # type: ignore[arg-type]
    operator.do("operator", SlashJudged(deal, 1, address("alice")))
    assert refusal(lambda: home.show(operator)).detail_code == "unknown_slash"


def test_while_the_chain_is_silent_nothing_is_cosigned(home: Home, operator: Operator) -> None:
    home.chain.refusal = silence
    for _ in range(2):
        error = refusal(lambda: home.show(operator))
        assert isinstance(error, RetryLater)
        assert error.detail_code == "chain_unreachable"
        home.restart()
    home.chain.refusal = lambda: None
    home.show(operator)
    home.chain.refusal = silence
    operator.pay()
    home.show(operator)  # nothing new to ask about


def test_a_long_log_is_gone_through_bundle_by_bundle(home: Home, operator: Operator) -> None:
    operator.pay(300)
    home.chain.deposit(address("bob"), 5)
    operator.do("operator", Deposit(address("bob"), 5, 2))
    operator.pay(300)
    home.show(operator)
    assert home.chain.asked == ["deposit_of"] * (len(NAMES) + 1)
    operator.do("operator", Deposit(address("bob"), 5, 3))
    assert refusal(lambda: home.show(operator)).detail_code == "unknown_deposit"


def test_it_gives_single_leaves_of_its_own_copy(home: Home, operator: Operator) -> None:
    home.show(operator)
    for index, leaf in enumerate(operator.leaves):
        assert home.judge.leaf(index) == leaf.encode()
    with pytest.raises(NotFound) as caught:
        home.judge.leaf(len(operator.leaves))
    assert caught.value.detail_code == "unknown_entry"
