"""``dsn wallet`` and ``dsn join`` as people type them, against a real ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dsn.core.keys import IdentityKeys, SigningKey, node_id_of
from dsn.dht.network import format_network
from dsn.ids import format_node_id
from dsn.ledger.settlement import SettlementKey, format_address
from dsn.store.home import Home
from tests.net.local import Done
from tests.net.local import dsn as run_dsn
from tests.support.ledger_net import OPERATOR, Served, ledger_served

FIRST = 12_000
FEE = 5


class User:
    """A home, and the commands its owner types."""

    def __init__(self, folder: Path, name: str, network_file: Path) -> None:
        self.home, self.network_file = folder / name, network_file
        self.root = name.encode().ljust(32, b"_")
        self.address = format_address(SettlementKey.derive(self.root).address)
        Home.create(self.home, self.root)

    async def dsn(self, *args: str | Path, code: int = 0, stdin: bytes = b"") -> Done:
        done = await asyncio.to_thread(run_dsn, *args, home=self.home, stdin=stdin)
        return done.check(code)

    async def failure(self, *args: str | Path, code: int) -> str:
        """The code of a command that must fail: one line and a hint, whatever the mistake."""
        done = await self.dsn("--json", *args, code=code)
        said = done.fields["error"]
        assert done.err[-2:] == [f"dsn: {said['message']}", f"hint: {said['hint']}"]
        return str(said["code"])

    async def join(self) -> Done:
        return await self.dsn("--json", "join", self.network_file)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with ledger_served(
        tmp_path / "operator",
        allocation={OPERATOR.address: FIRST * 10_000},
        faucet=OPERATOR.address,
        witnesses=2,
        quorum=2,
        entry_fee=FEE,
        min_bond=FEE,
    ) as served:
        yield served


@pytest.fixture
def users(served: Served, tmp_path: Path) -> tuple[User, User]:
    file = tmp_path / "network.toml"
    file.write_text(format_network(served.network))
    return User(tmp_path, "alice", file), User(tmp_path, "bob", file)


async def test_from_joining_to_paying(users: tuple[User, User]) -> None:
    alice, bob = users
    joined = (await alice.join()).fields
    assert (joined["address"], joined["drawn"], joined["bound"]) == (
        alice.address,
        str(FIRST),
        True,
    )
    again = (await alice.join()).fields
    assert (again["drawn"], again["bound"]) == ("0", True)
    node = SigningKey(IdentityKeys.derive(alice.root).identity_seed)
    shown = (await alice.dsn("--json", "wallet", "address")).fields
    assert shown == {
        "address": alice.address,
        "node_id": format_node_id(node_id_of(node.public)),
        "bound": True,
    }

    skipped = await bob.dsn("join", bob.network_file, "--no-wallet")
    assert "paid at" not in skipped.text
    assert (await bob.dsn("--json", "wallet", "address")).fields["bound"] is False
    asked = await bob.dsn("wallet", "request", "700", "--note", "for the disk")
    line = asked.text.strip()
    assert line.startswith("dsn:pay?to=0x")
    assert await alice.failure("wallet", "send", line, code=2) == "not_confirmed"
    paid = await alice.dsn("--json", "wallet", "send", line, "--yes")
    left = FIRST - FEE - 700 - FEE
    assert paid.err[:1] == ["note: for the disk"]
    assert {name: paid.fields[name] for name in ("to", "amount", "fee", "available")} == {
        "to": bob.address,
        "amount": "700",
        "fee": str(FEE),
        "available": str(left),
    }

    have = (await alice.dsn("--json", "wallet", "balance")).fields
    assert have == {
        "available": str(left), "escrow": "0", "collateral": "0", "total": str(left),
    }  # fmt: skip
    assert (await bob.dsn("wallet", "balance")).text.split() == [
        "available", "700", "escrow", "0", "collateral", "0", "total", "700",
    ]  # fmt: skip
    lines = (await alice.dsn("--json", "wallet", "history")).fields
    assert [(each["kind"], int(each["change"])) for each in lines] == [
        ("transfer", FIRST),
        ("bind", -FEE),
        ("transfer", -700 - FEE),
    ]
    assert int(lines[-1]["balance"]) == sum(int(each["change"]) for each in lines) == left
    last = (await alice.dsn("--json", "wallet", "history", "--limit", "1")).fields
    assert last == lines[-1:]
    table = (await alice.dsn("wallet", "history")).text.splitlines()
    assert table[0].split()[0] == "ENTRY"
    assert table[-1].split()[-1] == f"{left:,}"

    bound = (await bob.dsn("--json", "wallet", "bind")).fields
    assert bound == {"address": bob.address, "drawn": "0", "bound": True}
    assert (await bob.dsn("--json", "wallet", "bind")).fields == bound


async def test_mistakes_that_the_ledger_shows(users: tuple[User, User]) -> None:
    alice, bob = users
    await alice.join()
    over = await alice.failure("wallet", "send", bob.address, str(FIRST), "--yes", code=6)
    assert over == "not_enough_credit"
    own = await alice.failure("wallet", "send", alice.address, "5", "--yes", code=2)
    assert own == "same_account"


async def test_a_ledger_that_is_away_keeps_nobody_from_joining(tmp_path: Path) -> None:
    file = tmp_path / "network.toml"
    async with ledger_served(tmp_path / "operator", entry_fee=FEE, min_bond=FEE) as served:
        file.write_text(format_network(served.network))
        poor = User(tmp_path, "poor", file)
        joined = await poor.join()
        assert joined.fields["bound"] is False
        assert any("'dsn wallet bind' does it later" in line for line in joined.err)
    alone = User(tmp_path, "alone", file)
    joined = await alone.join()
    assert joined.fields["bound"] is False
    assert any(line.startswith("warning: no account yet") for line in joined.err)
    assert Home.open(alone.home).network().network_id == served.network.network_id
    shown = await alone.dsn("--json", "wallet", "address")
    assert (shown.fields["address"], shown.fields["bound"]) == (alone.address, None)
    assert await alone.failure("wallet", "balance", code=7) == "ledger_unreachable"
