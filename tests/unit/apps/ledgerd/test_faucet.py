"""What the faucet pays where nothing was allocated: a share of what it was deposited."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsn.apps.ledgerd.faucet import MOST_CREDITS, SHARE_OF_FAUCET, Faucet
from dsn.core.keys import SigningKey, node_id_of
from dsn.errors import DsnError, Unreachable
from dsn.ledger.binding import KeyBinding, sign_binding
from dsn.ledger.bodies import Deposit
from dsn.ledger.settlement import SettlementKey
from dsn.rpc.tls import Caller
from tests.support.ledger_net import OPERATOR
from tests.support.ledger_rig import Rig, rigged
from tests.support.memory_chain import VAULT, MemoryChain, silence


async def draw(rig: Rig, faucet: Faucet, seed: int) -> int:
    """What a new identity gets."""
    identity, key = SigningKey(bytes([seed]) * 32), SettlementKey(bytes([seed]) * 32)
    domain = rig.operator.params.domain
    binding = KeyBinding(identity.public, key.address, domain.network, 0, 1)
    signed = sign_binding(binding, domain, identity.sign, key)
    caller = Caller(node_id_of(identity.public), identity.public)
    return await faucet.draw(caller, signed.encode())


async def deposit(rig: Rig, chain: MemoryChain, amount: int) -> None:
    made = chain.deposit(OPERATOR.address, amount)
    await rig.operator.enter(Deposit(made.account, made.amount, made.serial))


async def refused(rig: Rig, faucet: Faucet, seed: int) -> str:
    with pytest.raises(DsnError) as caught:
        await draw(rig, faucet, seed)
    return caught.value.detail_code


async def test_the_share_follows_from_all_deposits(tmp_path: Path) -> None:
    chain = MemoryChain()
    async with rigged(tmp_path, vault=VAULT, faucet=OPERATOR.address) as rig:
        faucet = Faucet(rig.desk, rig.operator, rig.watch, chain)
        assert await refused(rig, faucet, 1) == "faucet_empty"
        await deposit(rig, chain, 30 * SHARE_OF_FAUCET)
        assert await draw(rig, faucet, 1) == 30
        assert await draw(rig, faucet, 1) == 0
        assert await draw(rig, faucet, 2) == 30, "what was paid changes nothing"
        await deposit(rig, chain, 12 * SHARE_OF_FAUCET + 1)
        assert await draw(rig, faucet, 3) == 42
        again = Faucet(rig.desk, rig.operator, rig.watch, chain)
        assert await draw(rig, again, 4) == 42
        await deposit(rig, chain, 2 * MOST_CREDITS * SHARE_OF_FAUCET)
        assert await draw(rig, again, 5) == MOST_CREDITS


async def test_a_silent_chain_pays_nothing(tmp_path: Path) -> None:
    chain = MemoryChain()
    async with rigged(tmp_path, vault=VAULT, faucet=OPERATOR.address) as rig:
        faucet = Faucet(rig.desk, rig.operator, rig.watch, chain)
        await deposit(rig, chain, 30 * SHARE_OF_FAUCET)
        chain.refusal = silence
        with pytest.raises(Unreachable):
            await draw(rig, faucet, 1)
        chain.refusal = lambda: None
        assert await draw(rig, faucet, 1) == 30


async def test_a_network_may_have_none(tmp_path: Path) -> None:
    async with rigged(tmp_path, vault=VAULT) as rig:
        faucet = Faucet(rig.desk, rig.operator, rig.watch, MemoryChain())
        assert await refused(rig, faucet, 1) == "no_faucet"
