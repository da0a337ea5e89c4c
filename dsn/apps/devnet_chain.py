"""The chain of a local network: where its contracts are, and who has what on it at first."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dsn.apps import evmnode
from dsn.apps.chain.deploy import DAY_S, Deployment, deploy
from dsn.apps.devnet import Devnet, Process, free_port
from dsn.chain import Call, Chain
from dsn.config import FILE_NAME
from dsn.ids import NO_NETWORK
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import Address, SettlementKey
from dsn.ledger.typed import Domain
from dsn.store.files import write_atomic
from dsn.store.home import Home

SUPPLY: Final = 10**16
"""Credits that the operator has at first, on a chain or not; it pays each new key from them."""
BOND: Final = 10**14
"""Credits that the operator has at stake."""
POCKET: Final = 10**13
"""Credits that the client has outside the ledger, to try a deposit with."""
CREDIT_NONCE: Final = 0
VAULT_NONCE: Final = 1
"""The operator's first calls on the new chain make the ERC-20 and the network's contracts."""
CHALLENGE_S: Final = 20
ANSWER_S: Final = 60
VOUCHER_S: Final = 3_600
ESCAPE_S: Final = 30 * DAY_S
"""A local network may be down for long, and its chain's time goes on."""
ANCHOR_EPOCHS: Final = 1
_POLL_S: Final = 0.1


def domain_of(operator: SettlementKey) -> Domain:
    """Where signatures of the network hold that ``operator`` will make contracts for."""
    from dsn.rpc.evm_making import place_of

    vault = place_of(operator.address, VAULT_NONCE)
    return Domain(NO_NETWORK, evmnode.CHAIN_ID, vault)


def add_chain(directory: Path, host: str, homes: Iterable[Path]) -> Process:
    """The chain's process at ``host`` as it will be; every one of ``homes`` is told of it."""
    path = directory / evmnode.ROLE
    path.mkdir(mode=0o700)
    process = Process(
        name=evmnode.ROLE,
        role=evmnode.ROLE,
        node_id="",
        address=f"{host}:{free_port(host)}",
        home=str(path),
        volume=str(path),
        pid=None,
    )
    table = {
        "rpc": json.dumps(evmnode.url_of(process.address)),
        "finality": evmnode.FINALITY,
        "anchor_epochs": ANCHOR_EPOCHS,
    }
    lines = ["", "[chain]", *(f"{name} = {value}" for name, value in table.items()), ""]
    for home in homes:
        file = home / FILE_NAME
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        write_atomic(file, (text + "\n".join(lines)).encode())
    return process


async def settle(devnet: Devnet) -> None:
    """Make the contracts that do not stand yet, and give everybody what they have at first.

    Raises:
        Unreachable: ``chain_unreachable``.
        ChainRefused: Something else was done with the operator's key.
    """
    from dsn.rpc.evm import EvmChain
    from dsn.rpc.evm_endpoint import Pace
    from dsn.rpc.evm_making import Maker

    (process,) = devnet.of_role(evmnode.ROLE)
    url, params = evmnode.url_of(process.address), devnet.network().ledger_params
    assert params is not None
    key, pace = _key(devnet.operator), Pace(poll_s=_POLL_S)
    await evmnode.give_gas(process.address, (_key(home).address for home in devnet.homes()))
    async with Maker(url, key, finality=evmnode.FINALITY, pace=pace) as maker:
        credit = maker.place(CREDIT_NONCE)
        if not await maker.exists(credit):
            await maker.make("TestCredit", {}, CREDIT_NONCE)
        await deploy(maker, params, _plan(credit))
    client = _key(Home(devnet.client_home)).address
    async with EvmChain(url, key, params, finality=evmnode.FINALITY, pace=pace) as chain:
        await _pay_in(chain, params, client)


async def _pay_in(chain: Chain, params: LedgerParams, client: Address) -> None:
    """Once: the operator's bond and deposit, and what the client may pay in itself."""
    operator, vault = params.operator, params.domain.vault
    if await chain.read(Call("Vault", "deposits", (operator,))):
        return
    await chain.send(Call("TestCredit", "mint", (client, POCKET)))
    await chain.send(Call("TestCredit", "mint", (operator, SUPPLY + BOND)))
    await chain.send(Call("TestCredit", "approve", (vault, SUPPLY + BOND)))
    await chain.send(Call("Vault", "post_bond", (BOND,)))
    await chain.send(Call("Vault", "deposit", (operator, SUPPLY)), final=True)


def _plan(credit: Address) -> Deployment:
    return Deployment(
        credit,
        challenge_s=CHALLENGE_S,
        escape_s=ESCAPE_S,
        voucher_s=VOUCHER_S,
        inclusion_s=ESCAPE_S,
        answer_s=ANSWER_S,
    )


def _key(home: Home) -> SettlementKey:
    return SettlementKey.derive(home.load_root())
