"""The books of a network on a chain, on both sides, to the unit, when all have left it."""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from dsn.apps.chain.replay import LedgerAt, StoredLog, replay, root_of
from dsn.apps.chain.vault import Vault
from dsn.chain import Call
from dsn.ledger.cells import AccountCell, DealCell, DealState
from dsn.ledger.params import LedgerParams
from dsn.ledger.rules.settling import Parties, roll, settle
from dsn.ledger.settlement import SettlementKey
from dsn.rpc.evm import EvmChain
from dsn.store.home import Home
from tests.net.local import dsn
from tests.net.test_chain_story import HOUR_S, MONTH_S, endpoint, folder, pass_time

__all__ = ["folder"]
NODES = 3
PATIENCE_S = 90.0


class Books(NamedTuple):
    """What the chain has."""

    units: dict[str, int]
    vault: int
    supply: int
    bond: int
    at: LedgerAt


def test_every_credit_is_somebodys_on_both_sides(folder: Path, tmp_path: Path) -> None:
    words = ("--nodes", str(NODES), "--capacity", "1GB", "--epoch-s", "4", "--chain", "--json")
    network = dsn("devnet", "up", "--dir", folder, *words).check().fields
    client, node = Path(network["client_home"]), folder / "node1"
    stores_for_some_epochs(folder, client, tmp_path)
    takes_out_what_it_earned(node)
    homes = {Path(each["home"]).name: Path(each["home"]) for each in network["processes"]}
    homes = {"client": client} | {name: home for name, home in homes.items() if name != "chain"}
    before = asyncio.run(books(folder, homes))
    dsn("devnet", "stop", "ledger", "--dir", folder).check()
    all_leave(folder, homes)
    after = asyncio.run(books(folder, homes))
    check_accounts(homes, before, after)
    burned = check_deals(after)
    assert after.vault == burned + after.bond, "what burned is all that stays"
    assert sum(after.units.values()) + after.vault == after.supply


def stores_for_some_epochs(folder: Path, client: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(3_000_000))
    dsn("put", tmp_path / "file", "--as", "f", "--scheme", "2/3", home=client).check()
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        dsn("devnet", "wait", "--epochs", "2", "--dir", folder).check()
        earned = [
            dsn("provider", "earnings", "--json", home=folder / f"node{number}").check().fields
            for number in range(1, NODES + 1)
        ]
        if all(int(each["disk"]) > 0 for each in earned):
            return
        assert time.monotonic() < deadline_s, earned


def takes_out_what_it_earned(node: Path) -> None:
    """What the ledger says it withdrew is what came, to the unit."""
    had = dsn("wallet", "balance", "--json", home=node).check().fields
    earned = int(dsn("provider", "earnings", "--json", home=node).check().fields["total"])
    assert earned > 0
    done = dsn("wallet", "withdraw", str(earned), "--json", home=node).check().fields
    assert done["withdrawn"] == done["paid"] == str(earned)
    has = dsn("wallet", "balance", "--json", home=node).check().fields
    assert int(has["on_chain"]) == int(had["on_chain"]) + earned


def all_leave(folder: Path, homes: dict[str, Path]) -> None:
    """Side by side, as they would: first what the last anchor gives, then what no voucher took."""
    rpc = endpoint(folder)
    pass_time(rpc, MONTH_S)
    dsn("escape", "--json", home=homes["client"]).check()
    for span_s in (HOUR_S, MONTH_S):
        pass_time(rpc, span_s)
        with ThreadPoolExecutor() as pool:
            lefts = pool.map(
                lambda home: dsn("escape", "--json", home=home).check().fields, homes.values()
            )
        last = dict(zip(homes, lefts, strict=True))
    assert {name: left["waiting"] for name, left in last.items() if left["waiting"]} == {}
    assert {left["owed"] for left in last.values()} == {"0"}


def key_of(home: Path) -> SettlementKey:
    return SettlementKey.derive(Home(home).load_root())


async def books(folder: Path, homes: dict[str, Path]) -> Books:
    params = Home(homes["client"]).network().ledger_params
    assert params is not None
    url = endpoint(folder)
    url = url if url.startswith("http") else f"http://{url}"
    async with EvmChain(url, key_of(homes["client"]), params, finality=0) as chain:
        vault = Vault(chain)
        newest = await vault.newest()
        assert newest is not None
        log = StoredLog(str(folder / "witness1" / "ledger"))
        at = await replay(params, root_of(newest), [log])

        async def balance(address: bytes) -> int:
            return int(await chain.read(Call("TestCredit", "balanceOf", (address,))))

        return Books(
            {name: await balance(key_of(home).address) for name, home in homes.items()},
            await balance(params.domain.vault),
            int(await chain.read(Call("TestCredit", "totalSupply"))),
            int(await chain.read(Call("Vault", "bond"))),
            at,
        )


def settled(params: LedgerParams, at: LedgerAt, deal: DealCell) -> Parties:
    """The deal as its last anchor leaves it, by the ledger's own rules."""
    account = at.account(deal.terms.provider)
    assert isinstance(account, AccountCell)
    epoch = at.root.epoch
    parties = Parties(deal, roll(account, epoch))
    return settle(parties, epoch, params.burn_ppm) if deal.state is DealState.OPEN else parties


def check_accounts(homes: dict[str, Path], before: Books, after: Books) -> None:
    """Each has what the last anchor says of its account, and of its deals all but vouchers."""
    params = after.at.state.params
    for name, home in homes.items():
        address = key_of(home).address
        cell = after.at.account(address) or AccountCell(address)
        least, most = cell.available, cell.available
        for deal in after.at.deals_of(address):
            done = settled(params, after.at, deal)
            old, now = deal, done.deal
            if address == deal.terms.client:
                sure = now.refund + now.disk_escrow
                least, most = least + sure, most + sure + now.bandwidth_escrow
            if address == deal.terms.provider:
                account = after.at.account(address)
                assert account is not None
                sure = done.provider.available - account.available + now.collateral
                least, most = least + sure, most + sure + old.bandwidth_escrow
        came = after.units[name] - before.units[name]
        assert least <= came <= most, (name, least, came, most)


def check_deals(after: Books) -> int:
    """What burned, by fees and by disk pay, up to the last anchor."""
    accounts = [cell for cell in after.at.cells if isinstance(cell, AccountCell)]
    deals = [cell for cell in after.at.cells if isinstance(cell, DealCell)]
    assert deals
    params = after.at.state.params
    of_deals: list[Any] = [settled(params, after.at, deal).deal.burned for deal in deals]
    return sum(cell.burned for cell in accounts) + sum(of_deals)
