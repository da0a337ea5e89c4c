"""The port on a real EVM node with a network's contracts: reads, events, and a foreign vault."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from dsn.apps.chain.deploy import Deployment, choose_domain, deploy
from dsn.apps.chain.vault import Deposited, Disputes, Times, Vault
from dsn.chain import Call
from dsn.errors import ChainRefused, ConfigError, DsnError, MalformedMessage, Unreachable
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import NO_ADDRESS, Address, SettlementKey
from dsn.rpc.evm import EvmChain
from dsn.rpc.evm_endpoint import Endpoint, Pace
from dsn.rpc.evm_making import Maker
from tests.support.bad_endpoint import Gateway, answering
from tests.support.evm import CHAIN_ID, Evm, running_evm
from tests.support.fraud_world import SIGNED_PARAMS
from tests.support.ledger_world import KEYS

OPERATOR = KEYS["operator"]
PACE = Pace(call_s=5.0, away_s=5.0, poll_s=0.02, stuck_s=5.0, mined_s=60.0)
FINALITY = 3
SECRET = "k3y-0f-the-endpoint"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A network's contracts on a node that mines what it gets at once; tests share them."""
    with running_evm() as evm:
        evm.rpc("anvil_setLoggingEnabled", False)
        yield asyncio.run(World.on(evm))


_NUMBERS = itertools.count(0x41)


class World:
    """A network that settles on a node."""

    def __init__(self, evm: Evm, params: LedgerParams, gas: dict[str, int]) -> None:
        self.evm, self.params, self.gas = evm, params, gas

    @classmethod
    async def on(cls, evm: Evm) -> World:
        evm.fund(OPERATOR.address)
        gas = dict[str, int]()
        async with Maker(evm.url, OPERATOR, finality=0, pace=PACE) as maker:
            await maker.make("TestCredit", {}, await maker.next_nonce())
            credit = maker.place(await maker.count() - 1)
            domain = await choose_domain(maker)
            there = replace(domain, network=SIGNED_PARAMS.domain.network)
            params = replace(SIGNED_PARAMS, domain=there)
            await deploy(maker, params, Deployment(credit), gas.__setitem__)
        return cls(evm, params, gas)

    def client(self) -> SettlementKey:
        """A key that no other test has, which can pay for gas."""
        key = SettlementKey(bytes([next(_NUMBERS)]) * 32)
        self.evm.fund(key.address)
        return key

    def chain(
        self,
        key: SettlementKey = OPERATOR,
        *,
        url: str = "",
        params: LedgerParams | None = None,
    ) -> EvmChain:
        place = url or self.evm.url
        return EvmChain(place, key, params or self.params, finality=FINALITY, pace=PACE)

    async def deposit(self, key: SettlementKey, amount: int) -> None:
        async with self.chain(key) as chain:
            await self.provide(chain, amount)
            await chain.send(Call("Vault", "deposit", (key.address, amount)))

    async def provide(self, chain: EvmChain, amount: int) -> None:
        """Give the chain's account what it may deposit."""
        await chain.send(Call("TestCredit", "mint", (chain.account, amount)))
        await chain.send(Call("TestCredit", "approve", (self.params.domain.vault, amount)))


async def test_all_contracts_are_made_and_know_one_another(world: World) -> None:
    assert {"Vault", "Dispute", "FraudLog"} < world.gas.keys()
    async with world.chain() as chain:
        places = await chain.places()
        assert await chain.read(Call("Vault", "genesis_root")) != bytes(32)
        assert NO_ADDRESS not in places.values()
        assert len(set(places.values())) == len(places)
        vault = Vault(chain)
        day = 86_400
        assert await vault.times() == Times(7 * day, 14 * day, 7 * day, 14 * day)
        assert (await vault.newest(), await vault.frozen_at()) == (None, 0)
        assert (await vault.paid(OPERATOR.address), await vault.owed(OPERATOR.address)) == (0, 0)


async def test_a_deployment_that_broke_off_goes_on_where_it_was(world: World) -> None:
    gas = dict[str, int]()
    before = world.evm.nonce(OPERATOR.address)
    async with Maker(world.evm.url, OPERATOR, finality=0, pace=PACE) as maker:
        await deploy(maker, world.params, Deployment(NO_ADDRESS), gas.__setitem__)
    assert gas == {}
    assert world.evm.nonce(OPERATOR.address) == before


class Early(Maker):
    """Looks for each contract a moment before the block that has it."""

    async def exists(self, place: Address) -> bool:
        seen, self.seen = place in self.seen, self.seen | {place}
        return seen and await super().exists(place)

    seen = frozenset[Address]()


async def test_calls_of_a_broken_off_deployment_that_are_mined_meanwhile_count(
    world: World,
) -> None:
    gas = dict[str, int]()
    before = world.evm.nonce(OPERATOR.address)
    world.evm.mine(FINALITY)
    async with Early(world.evm.url, OPERATOR, finality=FINALITY, pace=PACE) as maker:
        await deploy(maker, world.params, Deployment(NO_ADDRESS), gas.__setitem__)
    assert gas == {}
    assert world.evm.nonce(OPERATOR.address) == before


async def test_a_deployment_whose_last_contract_is_never_final_ends(world: World) -> None:
    pace = replace(PACE, mined_s=0.5)
    async with Maker(world.evm.url, OPERATOR, finality=1_000_000, pace=pace) as maker:
        with pytest.raises(ExceptionGroup) as caught:
            await deploy(maker, world.params, Deployment(NO_ADDRESS))
    assert caught.value.subgroup(Unreachable).exceptions == caught.value.exceptions


async def test_a_vault_that_another_account_would_make_is_not_begun(world: World) -> None:
    async with Maker(world.evm.url, world.client(), finality=0, pace=PACE) as maker:
        with pytest.raises(ConfigError) as caught:
            await deploy(maker, world.params, Deployment(NO_ADDRESS))
    assert caught.value.detail_code == "bad_vault_place"


async def test_deposits_are_seen_once_they_are_final(world: World) -> None:
    key = world.client()
    who = key.address
    world.evm.mine(FINALITY)
    async with world.chain(key) as chain:
        vault, start = Vault(chain), world.evm.height
        await world.deposit(key, 500)
        await world.deposit(key, 70)
        assert await vault.deposit_of(who, 2) is None
        world.evm.mine(FINALITY)
        assert [await vault.deposit_of(who, serial) for serial in range(4)] == [None, 500, 70, None]
        found, after = await vault.deposits_since(start)
        assert [(each.account, each.amount, each.serial) for each in found] == [
            (who, 500, 1),
            (who, 70, 2),
        ]
        assert after == world.evm.height - FINALITY + 1
        assert await vault.deposits_since(after) == ([], after)


async def test_a_deposit_that_a_reorganisation_drops_is_made_again(world: World) -> None:
    key, amount = world.client(), 900
    async with world.chain(key) as chain:
        await world.provide(chain, amount)
        world.evm.mine(10)
        start, nonce = world.evm.height, world.evm.nonce(key.address)
        pay = Call("Vault", "deposit", (key.address, amount))
        waiting = asyncio.create_task(chain.send(pay, final=True))
        await until_nonce(world.evm, key.address, nonce + 1)
        world.evm.mine(FINALITY - 1)
        world.evm.reorganise(5)
        assert world.evm.nonce(key.address) == nonce
        await until_nonce(world.evm, key.address, nonce + 1)
        world.evm.mine(FINALITY)
        done = await waiting
        found, _ = await Vault(chain).deposits_since(start)
        assert found == [Deposited(key.address, amount, 1, done.number)]


async def until_nonce(evm: Evm, account: Address, nonce: int) -> None:
    """Give others their turn until ``account`` had so many calls mined."""
    async with asyncio.timeout(20):
        while evm.nonce(account) < nonce:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_reason_is_the_code(world: World) -> None:
    key = world.client()
    async with world.chain(key) as chain:
        with pytest.raises(ChainRefused) as caught:
            await chain.send(Call("Vault", "freeze"))
        assert caught.value.detail_code == "still_time"
        with pytest.raises(ChainRefused) as caught:
            await chain.send(Call("Vault", "deposit", (key.address, 0)))
        assert caught.value.detail_code == "zero_amount"
    assert world.evm.nonce(key.address) == 0


async def test_nothing_was_demanded(world: World) -> None:
    async with world.chain() as chain:
        disputes = Disputes(chain)
        assert await disputes.slash_of(b"\1" * 32) is None
        assert (await disputes.slashes_since(0))[0] == []
        assert (await disputes.demands_since(0))[0] == []


async def test_an_endpoint_of_another_chain_is_refused(world: World) -> None:
    domain = replace(world.params.domain, chain_id=1)
    async with world.chain(params=replace(world.params, domain=domain)) as chain:
        with pytest.raises(ConfigError) as caught:
            await chain.balance()
    assert caught.value.detail_code == "wrong_chain"
    assert f"{CHAIN_ID}" in caught.value.message


def foreign(params: LedgerParams, what: str) -> LedgerParams:
    """``params`` that differ in one thing from those the vault was made for."""
    match what:
        case "nothing there":
            return replace(params, domain=replace(params.domain, vault=Address(b"\7" * 20)))
        case "network":
            network = type(params.domain.network)(b"\7" * 32)
            return replace(params, domain=replace(params.domain, network=network))
        case "operator":
            return replace(params, operator=Address(b"\7" * 20))
        case "quorum":
            return replace(params, quorum=params.quorum - 1)
    return replace(params, burn_ppm=params.burn_ppm + 1)


@pytest.mark.parametrize("what", ["nothing there", "network", "operator", "quorum", "burn"])
async def test_a_vault_of_another_network_is_refused(world: World, what: str) -> None:
    async with world.chain(params=foreign(world.params, what)) as chain:
        with pytest.raises(ConfigError) as caught:
            await chain.send(Call("Vault", "freeze"))
    assert caught.value.detail_code == "not_the_vault"


async def test_another_contract_is_no_vault(world: World) -> None:
    async with world.chain() as chain:
        place = (await chain.places())["Dispute"]
    there = replace(world.params.domain, vault=place)
    async with world.chain(params=replace(world.params, domain=there)) as chain:
        with pytest.raises(ConfigError) as caught:
            await chain.newest()
    assert caught.value.detail_code == "not_the_vault"


LIES: dict[str, tuple[str, Any]] = {
    "no number": ("eth_chainId", "seven"),
    "a negative number": ("eth_chainId", "-0x1"),
    "a huge number": ("eth_chainId", "0x" + "f" * 65),
    "null": ("eth_getCode", None),
    "half a byte": ("eth_getCode", "0xabc"),
    "a short word": ("eth_call", "0x" + "00" * 31),
    "a list for a block": ("eth_getBlockByNumber", []),
    "a block without a number": ("eth_getBlockByNumber", {"baseFeePerGas": "0x1"}),
    "no list of events": ("eth_getLogs", {}),
    "an event of nothing": ("eth_getLogs", [{}]),
}


@pytest.mark.parametrize("name", LIES)
async def test_an_endpoint_is_not_believed(world: World, name: str) -> None:
    method, lie = LIES[name]
    async with Gateway(world.evm.url).running() as gate, world.chain(url=gate.url) as chain:
        if method in ("eth_getLogs", "eth_getBlockByNumber"):
            await chain.balance()
        gate.changed[method] = lambda _: lie
        with pytest.raises((MalformedMessage, ConfigError)) as caught:
            await Vault(chain).deposits_since(0)
    assert caught.value.detail_code in ("malformed_message", "not_the_vault")


async def test_an_event_that_was_not_asked_for_is_refused(world: World) -> None:
    await world.deposit(world.client(), 5)
    start = world.evm.height
    async with Gateway(world.evm.url).running() as gate, world.chain(url=gate.url) as chain:
        vault = Vault(chain)
        world.evm.mine(FINALITY)
        assert len((await vault.deposits_since(start))[0]) == 1
        for change in (
            {"address": "0x" + "11" * 20},
            {"blockNumber": hex(10**6)},
            {"topics": ["0x" + "11" * 32] * 2},
            {"data": "0x" + "ff" * 64},
            {"data": "0x"},
        ):
            gate.changed["eth_getLogs"] = lambda logs, change=change: [
                each | change for each in logs
            ]
            with pytest.raises(MalformedMessage):
                await vault.deposits_since(start)


async def test_events_come_in_smaller_parts_where_an_endpoint_wants_that(world: World) -> None:
    key, start = world.client(), world.evm.height
    await world.deposit(key, 5)
    world.evm.mine(40)
    await world.deposit(key, 6)
    world.evm.mine(FINALITY)
    async with Gateway(world.evm.url).running() as gate, world.chain(url=gate.url) as chain:
        asked = list[int]()

        def few(method: str, params: list[Any]) -> web.Response | None:
            if method != "eth_getLogs":
                return None
            asked.append(int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) + 1)
            if asked[-1] <= 10:
                return None
            error = {"code": -32005, "message": "query returned more than 10000 results"}
            return web.json_response({"jsonrpc": "2.0", "id": 1, "error": error})

        gate.instead = few
        found, _ = await Vault(chain).deposits_since(start)
    assert [each.amount for each in found] == [5, 6]
    assert max(asked) > 10 >= min(asked)


async def test_no_error_shows_more_of_an_endpoint_than_where_it_is(world: World) -> None:
    problems: list[Any] = [
        web.Response(status=401),
        web.Response(status=404, text=SECRET),
        web.Response(text="<html>"),
        web.Response(body=b"\xff" * 10),
        web.json_response([]),
        web.json_response({"jsonrpc": "2.0", "id": 0}),
        web.json_response({"error": {"code": 1, "message": f"no project {SECRET}\x1b[2J"}}),
        web.Response(text="[" * 200_000),
    ]
    for problem in problems:
        async with answering(lambda _m, _p, said=problem: said) as url:
            secret = f"{url.replace('//', f'//user:{SECRET}@')}/v3/{SECRET}?key={SECRET}"
            async with world.chain(url=secret) as chain:
                with pytest.raises(DsnError) as caught:
                    await chain.balance()
        shown = f"{caught.value!r} {caught.value.hint} {caught.value.__cause__!r}"
        assert SECRET not in shown, problem
        assert caught.value.detail_code in ("chain_unreachable", "malformed_message")


async def test_nobody_there(world: World) -> None:
    async with answering(lambda _m, _p: "0x1") as url:
        pass
    async with world.chain(url=f"{url}/{SECRET}") as chain:
        with pytest.raises(Unreachable) as caught:
            await chain.newest()
    assert caught.value.detail_code == "chain_unreachable"
    assert SECRET not in f"{caught.value} {caught.value.hint}"


async def test_an_answer_that_does_not_end_is_cut(world: World) -> None:
    flood = web.Response(body=b'{"x":"' + b"y" * (17 << 20))
    async with answering(lambda _m, _p: flood) as url:
        endpoint = Endpoint(url, PACE)
        with pytest.raises(MalformedMessage):
            await endpoint.chain_id()
        await endpoint.close()


@pytest.mark.parametrize("url", ["", "ws://127.0.0.1", "http://", "http://[::1", "http://x:y/"])
def test_an_endpoint_is_an_http_address(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoint(url, PACE)
    assert caught.value.detail_code == "bad_setting"
