"""A paid node over real connections, with a real ledger: who pays what, and who loses what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsn.apps.node.terms import TERMS_S
from dsn.config import load
from dsn.errors import DsnError, PeerError
from dsn.ids import NO_DEAL
from dsn.ledger.bandwidth import window
from dsn.ledger.bodies import TopUp
from dsn.ledger.deal import Extension
from dsn.ledger.revision import first_revision
from dsn.ledger.settlement import Address, SettlementKey
from dsn.ledger.typed import sign_typed
from dsn.rpc.line import ByteStream
from dsn.runtime.clock import SystemClock
from dsn.runtime.control import control_socket
from dsn.units import KIB, MIB
from dsn.v1 import node_pb2
from dsn.wire.convert import revision_from_wire
from tests.net.test_provider import call
from tests.support.node_world import frames_of, get_request, shards, together
from tests.support.paid_node import (
    NODE_ROOT,
    PaidClient,
    PaidWorld,
    node_home,
    node_of,
    paid_ledger,
    paid_node,
)

STORE, READ = 1_024, 2_048
"""Credits a MiB."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[PaidWorld]:
    async with paid_node(tmp_path) as world:
        yield world


@pytest.fixture
async def client(world: PaidWorld) -> PaidClient:
    client = await world.client()
    await client.open()
    return client


async def code(call: Any) -> str:
    """The code that ``call`` is refused with."""
    with pytest.raises(DsnError) as error:
        await call
    return error.value.detail_code


async def until_refused(stream: ByteStream) -> tuple[bytes, DsnError]:
    """What a stream brings, and what ends it."""
    got = bytearray()
    try:
        async for frame in frames_of(stream):
            got += frame
    except DsnError as error:
        return bytes(got), error
    raise AssertionError("it ended well")


async def stored_and_read(client: PaidClient, size: int) -> None:
    (shard,) = shards(size)
    await client.hold(shard)
    assert await client.get(shard) == shard.data


# terms and deals


async def test_terms_are_signed_and_follow_from_the_settings(world: PaidWorld) -> None:
    client = await world.client()
    terms, _ = await client.offer()
    assert terms.settlement == SettlementKey.derive(NODE_ROOT).address
    assert (terms.ingress_price, terms.egress_price) == (MIB, 2 * MIB)
    assert terms == world.money.me.terms


async def test_a_deal_is_signed_the_same_way_twice(world: PaidWorld) -> None:
    client = await world.client()
    deal = await client.draft()
    assert await client.agree(deal) == await client.agree(deal)


async def test_a_deal_gives_what_the_terms_ask(world: PaidWorld) -> None:
    client = await world.client()
    worse: dict[str, Any] = {
        "disk_price": 0,
        "ingress_price": MIB - 1,
        "egress_price": 1,
        "repair_price": 10_000_001,
        "grace": 10_001,
        "notice": 1,
        "miss_limit": 699,
        "dispute": 10_001,
        "collateral_ppm": 1_000_001,
        "free_leaves": 0,
        "open_by": 1_000,
        "end": 20_000,
        "provider": Address(b"\x01" * 20),
        "delegate": client.key.address,
        "bandwidth_escrow": (1 << 64) - 1,
    }
    for field, value in worse.items():
        assert (field, await code(client.open(**{field: value}))) == (field, "terms_mismatch")
    assert await code(client.open(end=1)) == "terms_mismatch"


async def test_new_prices_are_asked_at_once_and_the_former_stood_by(world: PaidWorld) -> None:
    client, node = await world.client(), world.node
    assert node is not None
    by_former, _ = deals = await client.draft(), await client.draft()
    before, _ = await client.offer()
    record = node.presence.own.encoded()
    answer = await node.answer("price egress=7 ingress=9")
    assert abs(answer["former_until_s"] - TERMS_S - SystemClock().now_s()) < 60
    assert (await node.answer("price repair=3")).keys() == {"former_until_s"}
    now, _ = await client.offer()
    assert (now.egress_price, now.ingress_price, now.repair_price) == (7, 9, 3)
    assert now == replace(before, egress_price=7, ingress_price=9, repair_price=3)
    assert node.presence.own.encoded() != record, "it names the terms"
    for deal in deals:
        await client.agree(deal)
    await client.open()
    assert client.terms.egress_price == 7
    await client.open(egress_price=by_former.egress_price, ingress_price=by_former.ingress_price)
    assert await code(client.open(egress_price=6)) == "terms_mismatch"
    for wrong in ("price egress=x", "price nothing=1", "price egress=-1"):
        assert await node.answer(wrong) == {"error": "no such price"}
    assert (await client.offer())[0] == now


async def test_the_command_tells_a_running_node(world: PaidWorld) -> None:
    client, node = await world.client(), world.node
    assert node is not None

    async def command(*words: str) -> str:
        run = await asyncio.to_thread(call, world.home, "provider", "price", *words)
        return run.stderr

    assert "no node runs here" in await command("--egress", "11")
    async with control_socket(world.home.control_socket, node.answer):
        assert "the running node asks this now" in await command("--egress", "12", "--disk", "0")
        assert await command() == ""
    terms, _ = await client.offer()
    assert (terms.egress_price, terms.disk_price) == (12, 0)
    assert load(world.home.path, {}).settings.provider.egress_price == 12


async def test_whose_deal_it_is(world: PaidWorld) -> None:
    stranger, client, other = await world.stranger(5), await world.client(), await world.client(2)
    assert await code(stranger.open()) == "not_bound"
    deal = await client.draft(client=other.key.address)
    assert await code(client.agree(deal)) == "invalid_signature"
    foreign = await other.draft()
    client.key = other.key
    assert await code(client.agree(foreign)) == "not_a_party"


async def test_deals_that_nobody_opens_are_few(world: PaidWorld) -> None:
    client = await world.client()
    for _ in range(8):
        await client.agree(await client.draft())
    assert await code(client.open()) == "too_many"


async def test_a_deal_serves_its_parties_once_it_is_open(world: PaidWorld) -> None:
    client, other = await world.client(), await world.client(2)
    (shard,) = shards(100)
    deal = await client.draft()
    client.use(deal)
    assert await code(client.put(shard)) == "unknown_deal"
    await client.agree(deal)
    assert await code(client.put(shard)) == "deal_not_open"
    await client.open()
    await client.put(shard)
    other.use(client.terms)
    assert await code(other.put(shard)) == "not_a_party"
    assert await code(other.deals.pay(other.deal, None)) == "not_a_party"


async def test_storing_needs_a_deal(world: PaidWorld, client: PaidClient) -> None:
    (shard,) = shards(100)
    stream = client.peer.put_shards()
    await stream.write(together(shard))
    assert await code(stream.read()) == "deal_needed"
    client.deal = NO_DEAL
    assert await code(client.deals.pay(NO_DEAL, None)) == "unknown_deal"


async def test_an_extension(world: PaidWorld, client: PaidClient) -> None:
    def signed(serial: int, end: int) -> Any:
        extension = Extension(client.deal, serial, end)
        return client.deals.extend(extension, sign_typed(extension, client.domain, client.key))

    end = client.terms.end
    assert await signed(1, end + 5) == await signed(1, end + 5)
    assert await code(signed(2, end + 5)) == "wrong_extension"
    assert await code(signed(1, end)) == "end_not_later"
    assert await code(signed(1, 1 << 40)) == "terms_mismatch"


# paying


async def test_what_is_moved_is_paid_to_the_unit(world: PaidWorld, client: PaidClient) -> None:
    await stored_and_read(client, 3 * MIB)
    reply = await client.pay()
    assert (reply.ingress_bytes, reply.egress_bytes) == (3 * MIB, 3 * MIB)
    assert reply.voucher.credits == 3 * STORE + 3 * READ
    await world.money.claims.claim()
    assert (await world.cell(client)).voucher_paid == 3 * STORE + 3 * READ


async def test_a_client_that_never_signs_gets_one_window(
    world: PaidWorld, client: PaidClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsn.apps.node.tabs.PAY_S", 0.3)
    group = shards(*[256 * KIB] * 12)
    await client.put(*group[:8], pays=False)
    assert await code(client.put(group[8], pays=False)) == "payment_due"
    reply = await client.deals.pay(client.deal, None)
    assert reply.ingress_bytes == 2 * MIB == 8 * 256 * KIB
    assert client.purse.owed >= window(client.terms, 0) == READ


async def test_a_large_shard_is_paid_while_it_comes(world: PaidWorld, client: PaidClient) -> None:
    """The node stands still inside a shard until a voucher comes beside the stream."""
    (shard,) = shards(12 * MIB)
    header, *frames, trailer = client.group(shard, None)
    await client.deals.pay(client.deal, None)  # from now on the deal is in use
    tab = world.money.deals[client.deal].client.tab
    stream = client.peer.put_shards()
    await stream.write(header)

    async def send() -> None:
        for frame in frames:
            await stream.write(frame)
        await stream.write(trailer)

    sending, most, paid = asyncio.create_task(send()), 0, 0
    while not sending.done():
        await asyncio.sleep(0)
        assert tab.owed <= window(client.terms, tab.credits)
        if tab.owed > window(client.terms, tab.credits) // 2:
            most, paid = max(most, tab.owed), tab.credits + tab.owed
            await client.deals.pay(client.deal, client.voucher(paid))
    await stream.done_writing()
    assert await stream.read()
    assert tab.traffic.ingress_bytes == 12 * MIB
    assert paid <= 12 * STORE, "nothing was paid before it was taken"
    print(f"{most} credits owed at most, {paid} paid as it came, of {12 * STORE}")


async def test_a_shard_that_the_escrow_cannot_pay_does_not_begin(world: PaidWorld) -> None:
    client = await world.client()
    await client.open(bandwidth_escrow=2 * STORE)
    (shard,) = shards(3 * MIB)
    stream = client.peer.put_shards()
    await stream.write(client.group(shard, None)[0])
    assert await code(stream.read()) == "escrow_spent"


async def test_a_reader_that_never_signs_gets_one_window(
    world: PaidWorld, client: PaidClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsn.apps.node.tabs.PAY_S", 0.3)
    (shard,) = shards(5 * MIB)
    await client.hold(shard)
    before = client.purse.credits
    most = window(client.terms, before) * MIB // READ
    stream = client.peer.get_shards()
    await stream.write(client.asked(shard, 0, 5 * MIB))
    got, error = await until_refused(stream)
    assert (error.detail_code, len(got)) == ("payment_due", most)
    assert most < 5 * MIB
    assert isinstance(error, PeerError)
    said = node_pb2.PayReply.FromString(error.evidence)
    assert (said.egress_bytes, said.voucher.credits) == (most, before)


async def test_a_reader_that_pays_late_goes_on(world: PaidWorld, client: PaidClient) -> None:
    (shard,) = shards(4 * MIB)
    await client.hold(shard)
    stream = client.peer.get_shards()
    await stream.write(client.asked(shard, 0, 4 * MIB))
    assert await client.receive(stream, 4 * MIB) == shard.data


async def test_arrears_are_paid_before_anything_else(world: PaidWorld, client: PaidClient) -> None:
    group = shards(*[MIB] * 3)
    await client.put(*group[:2], pays=False)
    request = client.revision(first_revision(client.deal), group[:2], group[:2])
    voucher = request.voucher.credits
    request.ClearField("voucher")
    assert await code(client.revise(request)) == "payment_due"
    request.voucher.CopyFrom(client.voucher(voucher))
    assert (await client.revise(request)).leaves == 2 * KIB


async def test_reading_without_a_deal_is_free_up_to_the_quota(
    world: PaidWorld, client: PaidClient
) -> None:
    (shard,) = shards(MIB)
    await client.hold(shard)
    other = await world.client(2)

    async def read(start: int, end: int) -> bytes | None:
        stream = other.peer.get_shards()
        await stream.write(get_request(shard.commit, start, end))
        await stream.done_writing()
        return await stream.read()

    assert await read(0, MIB - 1) == shard.data[:-1]
    assert await code(read(0, 2)) == "payment_needed"
    assert await read(0, 1) == shard.data[:1]


async def test_escrow_ends_and_is_topped_up(world: PaidWorld) -> None:
    client = await world.client()
    await client.open(bandwidth_escrow=2 * STORE)
    group = shards(*[MIB] * 3)
    await client.put(*group[:2])
    assert await code(client.put(group[2], pays=False)) == "escrow_spent"
    await world.served.enter(client.key, TopUp(client.deal, 0, 5 * STORE, None))
    client.purse.limit += 5 * STORE
    await client.put(group[2])
    assert client.purse.credits == 3 * STORE


async def test_disk_is_covered_to_the_end_of_the_grace(world: PaidWorld) -> None:
    client = await world.client()
    await client.open(disk_escrow=0)
    (shard,) = shards(4 * MIB)
    request = client.revision(first_revision(client.deal), [shard], [shard])
    await client.put(shard)
    request.voucher.CopyFrom(client.voucher(4 * STORE))
    assert await code(client.revise(request)) == "not_covered"
    await world.served.enter(client.key, TopUp(client.deal, 10**8, 0, None))
    assert (await client.revise(request)).shards == 1


async def test_in_its_grace_a_deal_takes_nothing_more(world: PaidWorld) -> None:
    client, epoch = await world.client(), world.served.time().epoch
    await client.open(end=epoch + 1)
    one, two = shards(MIB, MIB)
    held = await client.hold(one)
    await world.served.next_epoch()
    await world.money.turn()
    await client.put(two)
    request = client.revision(held, [one, two], [two])
    assert await code(client.revise(request)) == "deal_over", "no ledger would install it"
    request = client.revision(held, [], [])
    request.drop.append(one.commit)
    assert (await client.revise(request)).shards == 0, "letting go is always possible"


# vouchers


async def test_bad_vouchers_have_their_codes(world: PaidWorld, client: PaidClient) -> None:
    first = client.deal
    await client.open()
    pay, domain = client.deals.pay, client.domain
    good = client.voucher(500)
    await pay(client.deal, good)
    high = bytearray(client.voucher(600).signature)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high[32:64] = (order - int.from_bytes(high[32:64], "big")).to_bytes(32, "big")
    high[64] ^= 27 ^ 28
    bad = {
        "replayed": (good, "stale_voucher"),
        "lower": (client.voucher(499), "stale_voucher"),
        "other deal": (client.voucher(600, deal=first), "other_deal"),
        "other network": (
            client.voucher(600, domain=replace(domain, network=bytes(32))),
            "invalid_signature",
        ),
        "other chain": (
            client.voucher(600, domain=replace(domain, chain_id=1)),
            "invalid_signature",
        ),
        "malleated": (node_pb2.Voucher(credits=600, signature=bytes(high)), "malleated_signature"),
        "over escrow": (client.voucher(10**6 + 1), "over_escrow"),
        "somebody else's": (
            client.voucher(600, key=SettlementKey(b"x" * 32)),
            "invalid_signature",
        ),
    }
    for name, (voucher, expected) in bad.items():
        assert (name, await code(pay(client.deal, voucher))) == (name, expected)
    assert (await pay(client.deal, None)).voucher.credits == 500


async def test_lower_vouchers_on_streams_change_nothing(
    world: PaidWorld, client: PaidClient
) -> None:
    (shard,) = shards(MIB)
    await client.hold(shard)
    stream = client.peer.get_shards()
    await stream.write(client.asked(shard, 0, 1_000, client.voucher(1)))
    assert await client.receive(stream, 1_000) == shard.data[:1_000]
    assert (await client.deals.pay(client.deal, None)).voucher.credits == STORE


async def test_a_bad_voucher_ends_a_stream_that_waits(world: PaidWorld, client: PaidClient) -> None:
    (shard,) = shards(4 * MIB)
    await client.hold(shard)
    stream = client.peer.get_shards()
    await stream.write(client.asked(shard, 0, 4 * MIB))
    await stream.write(client.only(client.voucher(10**6, key=SettlementKey(b"x" * 32))))
    _, error = await until_refused(stream)
    assert error.detail_code == "invalid_signature"


async def test_a_delegate_pays_within_its_limit(world: PaidWorld) -> None:
    client, delegate = await world.client(), await world.client(2)
    limits = {"delegate_credits": 5_000, "delegate_leaves": 2 * KIB}
    await client.open(delegate=delegate.key.address, **limits)
    delegate.use(client.terms)
    delegate.by_delegate = True
    delegate.purse.limit = 5_000
    (shard,) = shards(MIB)
    await delegate.put(shard)
    request = delegate.revision(first_revision(client.deal), [shard], [shard])
    assert (await delegate.revise(request)).leaves == KIB
    assert await code(delegate.deals.pay(client.deal, delegate.voucher(5_001))) == "over_escrow"
    drop = delegate.revision((await _newest(delegate)), [], [])
    drop.drop.append(shard.commit)
    assert await code(delegate.revise(drop)) == "delegate_lowers"
    await world.money.claims.claim()
    cell = await world.cell(client)
    assert (cell.voucher_paid, cell.delegate_paid) == (0, STORE)


async def _newest(client: PaidClient) -> Any:
    reply = await client.peer.get_revision(client.deal)
    return revision_from_wire(reply.revision).revision


# claims


async def test_a_voucher_is_claimed_once(world: PaidWorld, client: PaidClient) -> None:
    await stored_and_read(client, MIB)
    await client.pay()
    claims = world.money.claims
    size = world.served.ledger.desk.size
    await claims.claim()
    await claims.claim()
    assert world.served.ledger.desk.size == size + 1
    fields = (await world.money.earnings()).fields()
    assert (fields["total"], fields["unclaimed"]) == (str(STORE + READ), "0")
    assert (fields["ingress"], fields["egress"]) == (str(STORE), str(READ))


async def test_claims_follow_the_epochs(world: PaidWorld, client: PaidClient) -> None:
    await world.money.turn()
    await client.deals.pay(client.deal, client.voucher(700))
    await world.money.turn()
    assert (await world.cell(client)).voucher_paid == 0
    await world.served.next_epoch()
    await world.money.turn()
    assert (await world.cell(client)).voucher_paid == 700


async def test_a_node_that_stops_claims_first_and_goes_on_later(tmp_path: Path) -> None:
    async with paid_node(tmp_path) as world:
        client = await world.client()
        await client.open()
        (shard,) = shards(2 * MIB)
        await client.hold(shard)
        await world.money.close()
        await world.served.published()
        assert (await world.cell(client)).voucher_paid == 2 * STORE


async def test_a_deal_that_ran_out_is_closed(tmp_path: Path) -> None:
    async with paid_node(tmp_path, max_term=4) as world:
        client = await world.client()
        epoch = world.served.time().epoch
        await client.open(end=epoch + 1, grace=1, dispute=1)
        (shard,) = shards(MIB)
        await client.hold(shard)
        for _ in range(2):
            await world.served.next_epoch()
            await world.money.turn()
        assert await code(client.put(shard)) == "deal_not_open"
        await world.served.next_epoch()
        await world.money.turn()
        cell = await world.cell(client)
        assert (cell.state.name, cell.voucher_paid) == ("ENDED", STORE)
        await world.served.next_epoch()
        await world.money.turn()
        assert (await world.cell(client)).state.name == "CLOSED"
        assert world.node.ready


async def test_a_node_goes_on_where_it_was(tmp_path: Path) -> None:
    (shard,) = shards(MIB)
    async with paid_ledger(tmp_path) as served:
        home = node_home(tmp_path, served)
        async with node_of(home, served) as world:
            client = await world.client()
            await client.open()
            await client.hold(shard)
            assert await client.get(shard, pays=False) == shard.data
        async with node_of(home, served) as world:
            again = await world.stranger(1)
            again.use(client.terms)
            reply = await again.deals.pay(client.deal, None)
            assert (reply.ingress_bytes, reply.egress_bytes) == (MIB, MIB)
            assert reply.voucher.credits == STORE
            again.purse = client.purse
            await again.pay()
            await world.money.claims.claim()
            assert (await world.cell(again)).voucher_paid == STORE + READ
