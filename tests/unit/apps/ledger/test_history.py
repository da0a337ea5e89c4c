"""An account's history follows from the log alone, adds up, and is not fooled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsn.apps.ledger.history import History, locked, read_history
from dsn.errors import InvalidProof, MalformedMessage
from dsn.ledger.bodies import Claim, CloseDeal, Deposit, TopUp, Transfer, Withdraw
from dsn.ledger.disputes import SlashMissed
from dsn.ledger.log import LogLeaf, leaf_hash
from dsn.ledger.tiles import encode_bundle
from dsn.v1 import ledger_pb2 as v1
from tests.support.ledger_stage import Reader, Stage, serving
from tests.support.ledger_world import NAMES, World, address, terms

PARTIES = ("alice", "bob", "paul", "petra")


class Recorded(World):
    """A world that notes what everybody has after every entry."""

    noted: list[dict[str, tuple[int, int]]]

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        changes = super().submit(*args, **kwargs)
        self.noted.append({name: self.has(name) for name in NAMES})
        return changes

    def has(self, name: str) -> tuple[int, int]:
        """What is available, and what is locked."""
        deals = (locked(deal, address(name)) for deal in self.deals())
        return self.account(name).available, sum(deals)


@pytest.fixture
def stage() -> Stage:
    """Deals, links, claims, a loss, a slash and money that moves, over a dozen epochs."""
    stage = Stage()
    assert stage.params.allocation
    world = stage.world = Recorded(stage.params, signed=True)
    world.noted = []
    world.do("operator", Deposit(address("bob"), 90_000, 1))
    world.do("alice", Transfer(address("petra"), 50_000))
    world.bind(*PARTIES)
    world.open_epoch()
    usual = {"disk_price": 3 << 20, "bandwidth_escrow": 2_000}
    deal = world.open(terms(**usual))
    other = world.open(
        terms(
            **usual,
            client=address("bob"),
            provider=address("petra"),
            miss_limit=1,
            salt=b"\1" * 32,
        )
    )
    world.hold(deal, 1, 2, 3)
    world.hold(other, 4, 5)
    world.pass_epochs(3, "paul")
    world.do("paul", Claim(deal, None, world.voucher(deal, 100)))
    world.do("paul", Claim(deal, None, world.voucher(deal, 60, by_delegate=True)))
    world.do("alice", TopUp(deal, 50, 20, None))
    world.do("paul", world.loss(deal, 2))
    world.pass_epochs(2, "paul")
    world.do("paul", Claim(deal, None, world.voucher(deal, 250)))
    world.do("bob", Withdraw(300))
    world.do("alice", SlashMissed(other))
    world.do("bob", CloseDeal(other, None))
    stage.publish()
    return stage


@pytest.fixture
async def reader(stage: Stage, tmp_path: Path) -> AsyncIterator[Reader]:
    async with serving(stage, tmp_path) as reader:
        yield reader


async def history_of(reader: Reader, name: str) -> History:
    return await read_history(reader.light(), address(name), reader.file.with_name(f"of.{name}"))


@pytest.mark.parametrize("name", [*PARTIES, "dora", "sam"])
async def test_every_line_is_what_the_ledger_did(stage: Stage, reader: Reader, name: str) -> None:
    history = await history_of(reader, name)
    lines = {line.index: line for line in history.lines}
    assert len(lines) == len(history.lines)
    had = dict(stage.params.allocation).get(address(name), 0), 0
    for index, noted in enumerate(stage.world.noted):
        has, line = noted[name], lines.get(index)
        if line is None:
            assert has == had
        else:
            assert (line.balance, line.balance - line.change) == (has[0], had[0])
            assert line.locked == has[1] - had[1]
        had = has
    assert history.account == stage.world.account(name)


@pytest.mark.parametrize("name", PARTIES)
async def test_the_books_balance(stage: Stage, reader: Reader, name: str) -> None:
    history = await history_of(reader, name)
    books = history.accounting()
    assert (books.available, books.escrow + books.collateral) == stage.world.has(name)
    assert books.total == sum(stage.world.has(name))
    came = books.allocated + books.deposited + books.received + books.earned_bandwidth
    went = books.sent + books.spent_bandwidth + books.spent_disk + books.fees + books.withdrawn
    assert books.total == came + books.earned_disk + books.disputes - went


async def test_what_one_spent_the_other_earned_but_for_what_burned(
    stage: Stage, reader: Reader
) -> None:
    alice, paul, bob = [
        (await history_of(reader, name)).accounting() for name in ("alice", "paul", "bob")
    ]
    assert alice.spent_bandwidth == paul.earned_bandwidth == 310
    [deal] = [deal for deal in stage.world.deals() if deal.terms.provider == address("paul")]
    assert alice.spent_disk == deal.disk_paid > 0
    assert paul.earned_disk == deal.disk_paid - deal.disk_paid * 10_000 // 10**6
    assert (alice.sent, alice.received, alice.allocated) == (50_000, 0, 1_000_000)
    assert (bob.deposited, bob.withdrawn, bob.allocated) == (90_000, 300, 0)
    assert paul.disputes < 0 < alice.disputes, "a loss was paid for"


async def test_what_the_operator_enters_for_others_costs_it_a_fee(reader: Reader) -> None:
    books = (await history_of(reader, "operator")).accounting()
    assert (books.deposited, books.disputes, books.fees > 0) == (0, 0, True)


async def test_a_later_look_goes_on_where_the_first_ended(stage: Stage, reader: Reader) -> None:
    first = await history_of(reader, "alice")
    stage.calls.clear()
    assert await history_of(reader, "alice") == first
    assert "GetTile" not in stage.calls
    stage.pay(300)
    later = await history_of(reader, "alice")
    assert stage.calls.count("GetTile") == 2
    assert later.lines[: len(first.lines)] == first.lines
    assert len(later.lines) == len(first.lines) + 300
    assert (later.account.available, later.account.nonce) == (
        first.account.available - 1_200,
        first.account.nonce + 300,
    )


async def test_it_goes_on_from_any_size(stage: Stage, reader: Reader) -> None:
    for more in (1, 0, 7, 200, 19, 64):
        stage.pay(more)
        assert (await history_of(reader, "alice")).account == stage.world.account("alice")


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "gone"])
async def test_what_was_remembered_wrong_is_read_anew(
    stage: Stage, reader: Reader, damage: str
) -> None:
    right = await history_of(reader, "alice")
    file = reader.file.with_name("of.alice")
    raw = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(raw[:-9])
    elif damage == "flipped":
        raw[len(raw) // 3] ^= 1
        file.write_bytes(raw)
    elif damage == "foreign":
        await history_of(reader, "bob")
        file.write_bytes(reader.file.with_name("of.bob").read_bytes())
    else:
        file.unlink()
    stage.calls.clear()
    assert await history_of(reader, "alice") == right
    assert stage.calls.count("GetTile") == 1


async def refused(reader: Reader, name: str) -> str:
    with pytest.raises(InvalidProof) as caught:
        await history_of(reader, name)
    assert not reader.file.with_name(f"of.{name}").exists()
    return caught.value.detail_code


async def test_a_debit_that_its_owner_did_not_sign_is_seen_by_the_owner(
    stage: Stage, reader: Reader
) -> None:
    stage.world.signed = False
    stage.do("alice", Transfer(address("sam"), 9))
    assert await refused(reader, "alice") == "bad_entry"
    assert (await history_of(reader, "petra")).lines, "whom it does not concern sees the rest"


async def test_an_entry_against_the_rules_is_seen_though_witnesses_cosigned_it(
    stage: Stage, reader: Reader
) -> None:
    last = stage.world.leaves[-1]
    stage.world.leaves.append(LogLeaf(last.entry, last.signature, last.state_root))
    stage.world.frontier, nodes = stage.world.frontier.extend([leaf_hash(last.encode())])
    stage.world.nodes |= nodes
    stage.publish()
    assert await refused(reader, "petra") == "bad_entry"


async def test_a_state_that_the_entries_do_not_lead_to_is_seen(
    stage: Stage, reader: Reader
) -> None:
    minted = replace(stage.checkpoint(), state_root=bytes(32))
    stage.published = (stage.snapshot(), stage.sign(minted))
    assert await refused(reader, "alice") == "state_root"


async def test_leaves_that_are_not_the_logs_are_seen(stage: Stage, reader: Reader) -> None:
    leaves = [leaf.encode() for leaf in stage.world.leaves]
    leaves[0] = replace(stage.world.leaves[0], state_root=bytes(32)).encode()
    stage.lies["GetTile"] = lambda request, reply: v1.GetTileReply(data=encode_bundle(leaves))
    assert await refused(reader, "alice") == "other_log"


async def test_a_bundle_too_large_for_a_message_is_read_leaf_by_leaf(
    stage: Stage, reader: Reader
) -> None:
    def refuse(request: Any, reply: Any) -> Any:
        raise MalformedMessage("1048577 bytes, 1048576 at most", code="too_large")

    stage.lies["GetTile"] = refuse
    assert (await history_of(reader, "paul")).account == stage.world.account("paul")
    assert stage.calls.count("GetProof") == len(stage.world.leaves)
