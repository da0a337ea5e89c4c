"""A home and its account, against a real ledger in this process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from eth_account import Account

from dsn.apps.keystore import seal_key
from dsn.apps.payment import PaymentRequest, format_request, parse_amount, parse_request
from dsn.apps.wallet import Balance, Enrolled, enrol, opened, settlement_seed
from dsn.dht.network import format_network
from dsn.errors import DsnError, EntryRefused, UsageError
from dsn.ids import NetworkId
from dsn.ledger.settlement import SettlementKey, format_address
from dsn.runtime.entropy import system_entropy
from dsn.store.home import Home
from tests.support.ledger_net import OPERATOR, Served, ledger_served

ROOTS = {name: name.encode().ljust(32, b"_") for name in ("alice", "bob")}
FIRST = 12_000
"""What the faucet gives."""


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with ledger_served(
        tmp_path / "operator",
        allocation={OPERATOR.address: FIRST * 10_000},
        faucet=OPERATOR.address,
        witnesses=3,
        quorum=2,
        entry_fee=5,
        min_bond=5,
    ) as served:
        yield served


def home(served: Served, tmp_path: Path, name: str = "alice") -> Home:
    """A home that has joined."""
    made = Home.create(tmp_path / name, ROOTS[name])
    made.save_network(format_network(served.network))
    return made


async def test_a_home_gets_its_first_credits_and_is_bound_once(
    served: Served, tmp_path: Path
) -> None:
    mine = home(served, tmp_path)
    address = SettlementKey.derive(ROOTS["alice"]).address
    assert await enrol(mine) == Enrolled(address, FIRST, bound=True)
    assert await enrol(mine) == Enrolled(address, 0, bound=False)
    async with opened(mine) as wallet:
        assert await wallet.bound()
        assert await wallet.balance() == Balance(FIRST - 5, 0, 0, FIRST - 5)


async def test_paying_reconciles_on_both_sides(served: Served, tmp_path: Path) -> None:
    alice, bob = (home(served, tmp_path, name) for name in ROOTS)
    await enrol(alice)
    await enrol(bob)
    async with opened(alice) as payer, opened(bob) as payee:
        sent = await payer.send(payee.address, 1_234)
        assert (sent.amount, sent.fee, sent.available) == (1_234, 5, FIRST - 5 - 1_239)
        mine, theirs = (await payer.history()), (await payee.history())
        assert [line.kind for line in mine.lines] == ["transfer", "bind", "transfer"]
        last = mine.lines[-1]
        assert (last.index, last.change, last.fee) == (sent.index, -1_239, 5)
        assert last.other == format_address(payee.address)
        assert theirs.lines[-1].change == 1_234
        assert theirs.lines[-1].other == format_address(payer.address)
        spent, got = mine.accounting(), theirs.accounting()
        assert (spent.sent, spent.received, spent.fees) == (1_234, FIRST, 10)
        assert (got.sent, got.received, got.fees) == (0, FIRST + 1_234, 5)
        assert spent.disputes == got.disputes == 0
        assert spent.total == mine.account.available == sent.available


async def test_two_processes_of_one_home_pay_in_turn(served: Served, tmp_path: Path) -> None:
    mine = home(served, tmp_path)
    await enrol(mine)
    async with opened(mine) as one, opened(mine) as other:
        indices = [(await each.send(OPERATOR.address, 10)).index for each in (one, other, one)]
        assert indices == sorted(indices)
        assert (await one.balance()).total == FIRST - 5 - 3 * 15


async def refusal(payment: object) -> DsnError:
    with pytest.raises(DsnError) as caught:
        await payment  # type: ignore[misc]
    return caught.value


async def test_what_is_not_there_is_not_sent(served: Served, tmp_path: Path) -> None:
    mine = home(served, tmp_path)
    await enrol(mine)
    size = served.ledger.desk.size
    async with opened(mine) as wallet:
        error = await refusal(wallet.send(OPERATOR.address, FIRST - 9))
        assert (error.detail_code, error.exit_code) == ("not_enough_credit", 6)
        assert "11,995 credits are available, 11,996 needed" in error.message
        assert (await refusal(wallet.send(wallet.address, 1))).detail_code == "same_account"
        await wallet.send(OPERATOR.address, FIRST - 10)
        assert (await wallet.balance()).total == 0
    assert served.ledger.desk.size == size + 1


async def test_without_a_credit_there_is_no_binding_and_it_is_said_why(tmp_path: Path) -> None:
    async with ledger_served(tmp_path / "operator", entry_fee=5, min_bond=5) as served:
        mine = home(served, tmp_path)
        with pytest.raises(EntryRefused) as refused:
            await enrol(mine)
        assert refused.value.detail_code == "fee_not_covered"
        assert refused.value.message.startswith("bind: ")


async def test_a_key_file_opens_in_other_wallets() -> None:
    seed = settlement_seed(ROOTS["alice"])
    key = SettlementKey(seed)
    assert key.address == SettlementKey.derive(ROOTS["alice"]).address
    text = seal_key(key.address, seed, b"correct horse", system_entropy)
    assert Account.decrypt(json.loads(text), b"correct horse") == seed
    assert seed.hex() not in text
    with pytest.raises(ValueError, match="MAC mismatch"):
        Account.decrypt(json.loads(text), b"wrong horse")


REQUEST = PaymentRequest(
    SettlementKey.derive(ROOTS["bob"]).address, 25_000, NetworkId(b"\x07" * 32), "rent & tea, 10%"
)


def test_a_request_reads_back() -> None:
    line = format_request(REQUEST)
    assert line.startswith("dsn:pay?to=0x")
    assert "\n" not in line
    assert parse_request(line) == REQUEST


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("dsn:pay?", "dsn:pay?x=1&", "bad_request"),
        ("&amount=25000", "", "bad_request"),
        ("amount=25000", "amount=025000", "bad_request"),
        ("amount=25000", "amount=2.5", "bad_amount"),
        ("amount=25000", "amount=0", "bad_amount"),
        ("amount=25000", "amount=25000&amount=1", "bad_request"),
        ("to=0x", "to=0X", "bad_settlement_address"),
        ("network=", "network=a", "bad_id"),
        ("note=rent", "note=%0arent", "bad_note"),
        ("note=rent", "note=" + "r" * 201, "bad_note"),
        ("note=rent", "note=" + "r" * 9_000, "bad_note"),
    ],
)
def test_a_line_that_was_changed_asks_for_nothing(old: str, new: str, code: str) -> None:
    line = format_request(REQUEST)
    assert old in line
    with pytest.raises(UsageError) as refused:
        parse_request(line.replace(old, new, 1))
    assert refused.value.detail_code == code
    assert "\n" not in refused.value.message
    assert refused.value.hint or code in ("bad_id", "bad_base32")


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "+1", "1.5", "1_000", "1,000", "1e3", "٣", " 1", str(1 << 64)]
)
def test_amounts_are_whole_credits(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_amount(text)
    assert refused.value.detail_code == "bad_amount"
    assert parse_amount(str((1 << 64) - 1)) == (1 << 64) - 1
