"""Calls on a real EVM node: sent, dropped, stuck, refused, and an endpoint that goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from dsn.errors import ChainRefused, LimitReached, Unreachable
from dsn.ledger.settlement import SettlementKey
from dsn.rpc.evm_abi import artefact
from dsn.rpc.evm_endpoint import Endpoint, Pace
from dsn.rpc.evm_making import Maker
from dsn.rpc.evm_sending import Landed, Order, Sender
from tests.support.bad_endpoint import Gateway
from tests.support.evm import ARTEFACTS, CHAIN_ID, DEPLOYER, Contract, Evm, running_evm

KEY = SettlementKey(b"\x31" * 32)
OTHER = SettlementKey(b"\x32" * 32).address
PACE = Pace(call_s=5.0, away_s=20.0, poll_s=0.02, stuck_s=0.3, mined_s=60.0)
FINALITY = 3


@pytest.fixture(scope="module")
def node() -> Iterator[Evm]:
    """A node that mines what it gets at once."""
    with running_evm() as evm:
        evm.rpc("anvil_setLoggingEnabled", False)
        yield evm


@pytest.fixture
def evm(node: Evm) -> Iterator[Evm]:
    """The node as it began, and with wei for the key."""
    with node.undone():
        node.fund(KEY.address)
        yield node


@pytest.fixture
def idle() -> Iterator[Evm]:
    """A node of its own, that mines only when it is told to."""
    with running_evm("--no-mining") as evm:
        evm.rpc("anvil_setLoggingEnabled", False)
        evm.fund(KEY.address)
        yield evm


@pytest.fixture
def credit(evm: Evm) -> Contract:
    """A contract to call."""
    return make_credit(evm)


def make_credit(evm: Evm) -> Contract:
    place = evm.next_address()
    request = {
        "from": "0x" + DEPLOYER.hex(),
        "data": "0x" + artefact("TestCredit").creation({}).hex(),
    }
    evm.rpc("eth_sendTransaction", request | {"gas": hex(5_000_000)})
    evm.mine()
    abi = json.loads((ARTEFACTS / "TestCredit.json").read_text("utf-8"))["abi"]
    return Contract(evm, "TestCredit", place, abi)


def mint(credit: Contract, amount: int = 7) -> Order:
    return Order(credit.address, artefact("TestCredit").call("mint", (OTHER, amount)))


async def sent(
    url: str, order: Order, *, final: bool = False, key: SettlementKey = KEY, pace: Pace = PACE
) -> Landed:
    endpoint = Endpoint(url, pace)
    try:
        return await Sender(endpoint, key, CHAIN_ID, FINALITY).send(order, final=final)
    finally:
        await endpoint.close()


async def until(holds: Callable[[], bool]) -> None:
    """Give others their turn until ``holds()``."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_call_is_done_once_and_says_what_it_cost(evm: Evm, credit: Contract) -> None:
    landed = await sent(evm.url, mint(credit))
    assert credit.call("balanceOf", OTHER) == 7
    receipt = evm.rpc("eth_getTransactionReceipt", "0x" + landed.hash.hex())
    assert int(receipt["gasUsed"], 16) == landed.mined.gas
    assert receipt["from"] == "0x" + KEY.address.hex()
    assert evm.nonce(KEY.address) == 1


async def test_calls_at_once_have_nonces_of_their_own(evm: Evm, credit: Contract) -> None:
    endpoint = Endpoint(evm.url, PACE)
    sender = Sender(endpoint, KEY, CHAIN_ID, FINALITY)
    async with asyncio.TaskGroup() as group:
        for amount in range(1, 9):
            group.create_task(sender.send(mint(credit, amount), final=False))
    await endpoint.close()
    assert credit.call("balanceOf", OTHER) == sum(range(1, 9))
    assert evm.nonce(KEY.address) == 8


async def test_processes_with_one_key_do_each_call_once(evm: Evm, credit: Contract) -> None:
    async with asyncio.TaskGroup() as group:
        for amount in range(1, 7):
            group.create_task(sent(evm.url, mint(credit, amount)))
    assert credit.call("balanceOf", OTHER) == sum(range(1, 7))


async def test_final_is_not_before_enough_is_on_top(evm: Evm, credit: Contract) -> None:
    async with Gateway(evm.url).running() as gate:
        waiting = asyncio.create_task(sent(gate.url, mint(credit), final=True))
        await until(lambda: credit.call("balanceOf", OTHER) == 7)
        for _ in range(FINALITY):
            seen = gate.asked.count("eth_getTransactionReceipt")
            await until(lambda seen=seen: gate.asked.count("eth_getTransactionReceipt") > seen + 1)
            assert not waiting.done()
            evm.mine()
        landed = await waiting
    assert evm.height - landed.mined.number == FINALITY


async def test_what_a_reorganisation_drops_is_sent_again(evm: Evm, credit: Contract) -> None:
    evm.mine(10)
    waiting = asyncio.create_task(
        sent(evm.url, mint(credit), final=True, pace=replace(PACE, stuck_s=60.0))
    )
    await until(lambda: credit.call("balanceOf", OTHER) == 7)
    evm.mine(FINALITY - 1)
    evm.reorganise(5)
    assert evm.nonce(KEY.address) == 0
    await until(lambda: credit.call("balanceOf", OTHER) == 7)
    evm.mine(FINALITY)
    await waiting
    assert credit.call("balanceOf", OTHER) == 7
    assert evm.nonce(KEY.address) == 1


async def test_a_node_that_goes_away_while_a_call_waits(evm: Evm, credit: Contract) -> None:
    async with Gateway(evm.url).running() as gate:
        waiting = asyncio.create_task(sent(gate.url, mint(credit), final=True))
        await until(lambda: credit.call("balanceOf", OTHER) == 7)
        gate.open = False
        before = len(gate.asked)
        evm.mine(FINALITY)
        evm.reorganise(FINALITY + 1)
        await asyncio.sleep(0)
        gate.open = True
        await until(lambda: len(gate.asked) > before and credit.call("balanceOf", OTHER) == 7)
        evm.mine(FINALITY)
        await waiting
    assert evm.nonce(KEY.address) == 1


async def test_a_node_that_stays_away_is_given_up(evm: Evm, credit: Contract) -> None:
    async with Gateway(evm.url).running() as gate:
        pace = Pace(call_s=1.0, away_s=0.4, poll_s=0.02, stuck_s=9.0)
        waiting = asyncio.create_task(sent(gate.url, mint(credit), final=True, pace=pace))
        await until(lambda: "eth_sendRawTransaction" in gate.asked)
        gate.open = False
        with pytest.raises(Unreachable) as caught:
            await waiting
    assert caught.value.detail_code == "chain_unreachable"


async def test_a_stuck_call_is_paid_for_better(idle: Evm) -> None:
    credit = make_credit(idle)
    waiting = asyncio.create_task(sent(idle.url, mint(credit)))
    tips = set[int]()

    def bumped() -> bool:
        waiting_calls = idle.rpc("txpool_content")["pending"].values()
        found = (call for calls in waiting_calls for call in calls.values())
        tips.update(int(call["maxPriorityFeePerGas"], 16) for call in found)
        return len(tips) >= 3

    await until(bumped)
    idle.mine()
    landed = await waiting
    assert landed.mined.succeeded
    assert credit.call("balanceOf", OTHER) == 7
    one, two, three = sorted(tips)
    assert two * 10 >= one * 11
    assert three * 10 >= two * 11


async def test_a_call_that_another_process_left_stuck_gives_way(idle: Evm) -> None:
    credit = make_credit(idle)
    left = asyncio.create_task(sent(idle.url, mint(credit, 1000), pace=Pace(poll_s=0.02)))
    await until(lambda: bool(idle.rpc("txpool_content")["pending"]))
    left.cancel()
    waiting = asyncio.create_task(sent(idle.url, mint(credit)))
    await until(lambda: set(_waiting(idle)) == {b"", mint(credit).data})
    idle.mine()
    await waiting
    assert credit.call("balanceOf", OTHER) == 7
    assert idle.nonce(KEY.address) == 2


def _waiting(evm: Evm) -> list[bytes]:
    """The data of all calls in the pool."""
    pool = evm.rpc("txpool_content")["pending"].values()
    return [bytes.fromhex(call["input"][2:]) for calls in pool for call in calls.values()]


async def test_nothing_is_sent_that_would_be_refused(evm: Evm, credit: Contract) -> None:
    pull = artefact("TestCredit").call("transferFrom", (OTHER, KEY.address, 5))
    with pytest.raises(ChainRefused) as caught:
        await sent(evm.url, Order(credit.address, pull))
    assert caught.value.detail_code == "chain_refused"
    assert evm.nonce(KEY.address) == 0


async def test_who_cannot_pay_for_gas_is_told_what_is_missing(evm: Evm, credit: Contract) -> None:
    poor = SettlementKey(b"\x33" * 32)
    with pytest.raises(LimitReached) as caught:
        await sent(evm.url, mint(credit), key=poor)
    assert caught.value.detail_code == "not_enough_gas"
    with pytest.raises(LimitReached) as caught:
        await sent(evm.url, Order(OTHER, b"", wei=5), key=poor)
    assert "has 0 wei" in caught.value.message
    assert evm.nonce(poor.address) == 0


async def test_who_is_poor_by_the_time_a_call_is_mined_is_told(idle: Evm) -> None:
    credit = make_credit(idle)
    waiting = asyncio.create_task(sent(idle.url, mint(credit)))
    await until(lambda: bool(_waiting(idle)))
    idle.rpc("anvil_setBalance", "0x" + KEY.address.hex(), "0x5")
    idle.rpc("anvil_dropAllTransactions")
    with pytest.raises(LimitReached) as caught:
        await waiting
    assert caught.value.detail_code == "not_enough_gas"
    assert "has 5 wei" in caught.value.message


async def test_a_call_that_reverts_only_when_it_is_run_says_why(idle: Evm) -> None:
    credit = make_credit(idle)
    have = Order(credit.address, artefact("TestCredit").call("mint", (KEY.address, 5)))
    having = asyncio.create_task(sent(idle.url, have))
    await until(lambda: bool(_waiting(idle)))
    idle.mine()
    await having
    give = Order(credit.address, artefact("TestCredit").call("transfer", (OTHER, 5)))
    both = [asyncio.create_task(sent(idle.url, give)) for _ in range(2)]
    await until(lambda: len(_waiting(idle)) == 2)
    idle.mine()
    done = await asyncio.gather(*both, return_exceptions=True)
    refused = [each for each in done if isinstance(each, ChainRefused)]
    assert len(refused) == 1
    assert "refuses" in refused[0].message
    assert credit.call("balanceOf", OTHER) == 5


async def test_a_contract_is_made_where_it_was_said(evm: Evm) -> None:
    async with Maker(evm.url, KEY, finality=0, pace=PACE) as maker:
        assert await maker.chain_id() == CHAIN_ID
        nonce = await maker.next_nonce()
        place = maker.place(nonce)
        assert place == evm.next_address(KEY.address)
        assert not await maker.exists(place)
        done = await maker.make("TestCredit", {}, nonce)
        assert await maker.exists(place)
        assert done.gas > 100_000
        with pytest.raises(ChainRefused) as caught:
            await maker.make("TestCredit", {}, nonce)
    assert caught.value.detail_code == "nonce_taken"
    assert evm.nonce(KEY.address) == 1
