"""A whole network on a real EVM node, by its commands, and the books on both sides at its end.

In, deals, proofs, pay, a dispute, out; then the operator is gone and all leave. Each part needs the
one before, and starting processes is what takes the time.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dsn.apps.chain.replay import LedgerAt, StoredLog, replay, root_of
from dsn.apps.chain.vault import Vault
from dsn.chain import Call
from dsn.ledger.cells import AccountCell, DealCell, DealState
from dsn.ledger.params import LedgerParams
from dsn.ledger.rules.settling import Parties, roll, settle
from dsn.ledger.settlement import SettlementKey
from dsn.rpc.evm import EvmChain
from dsn.store.home import Home
from tests.net.local import described, down, dsn
from tests.support.evm import anvil_program, missing

NODES = 3
PATIENCE_S = 60.0
MONTH_S = 31 * 86_400
HOUR_S = 3_600


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the network goes; whatever runs there ends with the test."""
    program = anvil_program()
    if program is None or missing():
        pytest.skip(missing())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "anvil").symlink_to(Path(program).resolve())
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    yield tmp_path / "net"
    down(tmp_path / "net")


class Books(NamedTuple):
    """What the chain has."""

    units: dict[str, int]
    vault: int
    supply: int
    bond: int
    at: LedgerAt


def test_the_story_of_a_network_on_a_chain(folder: Path, tmp_path: Path) -> None:
    words = ("--nodes", str(NODES), "--capacity", "2GB", "--epoch-s", "4", "--chain", "--json")
    network = dsn("devnet", "up", "--dir", folder, *words).check().fields
    client, node = Path(network["client_home"]), folder / "node1"
    deposits(client)
    stores_for_some_epochs(folder, client, tmp_path)
    asks_for_a_leaf(client)
    audits(client)
    takes_out_what_it_earned(node)
    homes = {Path(each["home"]).name: Path(each["home"]) for each in network["processes"]}
    homes = {"client": client} | {name: home for name, home in homes.items() if name != "chain"}
    before = asyncio.run(books(folder, homes))
    dsn("devnet", "stop", "ledger", "--dir", folder).check()
    all_leave(folder, homes)
    the_operator_was_not_convicted(folder, homes)
    after = asyncio.run(books(folder, homes))
    check_accounts(homes, before, after)
    burned = check_deals(after)
    assert (after.bond, after.vault) == (0, burned), "what burned is all that stays"
    assert sum(after.units.values()) + after.vault == after.supply


def wallet(home: Path) -> dict[str, int]:
    fields = dsn("wallet", "balance", "--json", home=home).check().fields
    return {name: int(amount) for name, amount in fields.items()}


def deposits(client: Path) -> None:
    """To the unit on both sides."""
    before = wallet(client)
    paid = dsn("wallet", "deposit", "5000", "--json", home=client).check().fields
    assert int(paid["units"]) == before["on_chain"] - 5_000
    assert int(paid["available"]) == before["available"] + 5_000
    after = wallet(client)
    assert (after["depositing"], after["withdrawing"], after["owed"]) == (0, 0, 0)


def stores_for_some_epochs(folder: Path, client: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(48_000_000))
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


def asks_for_a_leaf(client: Path) -> None:
    """The node answers by itself, and nobody tells it to."""
    deadline_s = time.monotonic() + PATIENCE_S
    opened = dsn("dispute", "open", "f", "--json", home=client).check().fields
    assert 0 <= opened["leaf"] < opened["leaves"]
    while dsn("dispute", "ls", "--json", home=client).check().fields["pending"]:
        assert time.monotonic() < deadline_s
    late = dsn("dispute", "slash", opened["deal"], "--json", home=client)
    assert late.fields["error"]["code"] == "no_demand"


def audits(client: Path) -> None:
    """What is anchored is what the log says, and the chain."""
    found = dsn("dispute", "audit", "--json", home=client).check().fields
    assert (found["findings"], found["convicted"]) == ([], None)
    assert found["size"] > 0 and found["deposits"] > 0


def all_leave(folder: Path, homes: dict[str, Path]) -> None:
    """Side by side, as they would: first what the last anchor gives, then what no voucher took."""
    rpc = endpoint(folder)
    early = dsn("escape", "--json", home=homes["client"]).check().fields
    assert early["frozen_s"] is None and early["waiting"]
    pass_time(rpc, MONTH_S)
    frozen = dsn("escape", "--json", home=homes["client"]).check().fields
    assert frozen["frozen_s"] is not None and frozen["credited"] == {}
    for span_s in (HOUR_S, MONTH_S):
        pass_time(rpc, span_s)
        with ThreadPoolExecutor() as pool:
            lefts = pool.map(
                lambda home: dsn("escape", "--json", home=home).check().fields, homes.values()
            )
        last = dict(zip(homes, lefts, strict=True))
    assert {name: left["waiting"] for name, left in last.items() if left["waiting"]} == {}
    assert {left["owed"] for left in last.values()} == {"0"}


def the_operator_was_not_convicted(folder: Path, homes: dict[str, Path]) -> None:
    """It has its bond back, which nobody else could take."""
    bond = int(dsn("ledger", "bond", "--json", home=homes["client"]).check().fields["bond"])
    assert bond > 0
    other = dsn("ledger", "bond", "--reclaim", "--json", home=homes["client"]).check(2)
    assert other.fields["error"]["code"] == "not_operator"
    had = wallet_units(homes["operator"])
    done = dsn("ledger", "bond", "--reclaim", "--json", home=homes["operator"]).check().fields
    assert int(done["units"]) == had + bond


def wallet_units(home: Path) -> int:
    return int(dsn("escape", "--json", home=home).check().fields["units"])


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
        bond = before.bond if address == params.operator else 0
        least = most = cell.available + bond
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


def endpoint(folder: Path) -> str:
    """Where the local chain answers."""
    processes = described(folder)["processes"]
    return str(next(each["address"] for each in processes if each["role"] == "chain"))


def pass_time(address: str, seconds: int) -> None:
    """Have the chain's clock move, and some blocks come."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    for method, params in (("evm_increaseTime", [hex(seconds)]), ("anvil_mine", ["0x5"])):
        connection = HTTPConnection(host, int(port), timeout=20)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        assert "error" not in json.loads(connection.getresponse().read())
        connection.close()
