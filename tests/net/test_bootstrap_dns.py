"""Node records in TXT records, asked for over real UDP and TCP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import dns.rdata
import pytest

from dsn.apps.bootstrap.dns import MOST_NAMES, MOST_RECORDS, find_by_dns, format_txt
from dsn.apps.bootstrap.found import Found
from dsn.core.keys import SigningKey
from dsn.dht.record import sign_slot
from dsn.ids import NetworkId
from tests.support.names import NOW_S, answering, node_record, noise, serving

NETWORK, OTHER = NetworkId(b"\x01" * 32), NetworkId(b"\x02" * 32)
NAME = "seeds.example.org"
KEY = SigningKey(bytes(32))


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    """Nothing here may hang."""
    async with asyncio.timeout(60):
        yield


def strings(raw: bytes) -> tuple[bytes, ...]:
    """``raw`` as an operator has it in a zone."""
    record: tuple[bytes, ...] = dns.rdata.from_text("IN", "TXT", format_txt(raw)).strings
    return record


async def ask(server: str, *names: str, timeout_s: float = 5.0) -> Found:
    return await find_by_dns(names or [NAME], NETWORK, NOW_S, server=server, timeout_s=timeout_s)


async def find(*records: bytes) -> Found:
    with serving({NAME: [strings(raw) for raw in records]}) as server:
        return await ask(server)


async def test_nodes_are_found() -> None:
    record = node_record(1, NETWORK, addresses=["127.0.0.1:7077", "[::1]:7077"])
    assert await find(record.encode()) == Found(record.contacts)


async def test_many_long_records_come_over_tcp() -> None:
    texts = [node_record(number, NETWORK, operator="o" * 64) for number in range(1, 21)]
    assert sum(len(format_txt(each.encode())) for each in texts) > 4_096
    found = await find(*(each.encode() for each in texts))
    assert found.problems == ()
    assert set(found.contacts) == {contact for each in texts for contact in each.contacts}


async def test_records_that_are_wrong_are_left_out_and_counted() -> None:
    good = node_record(1, NETWORK)
    slot = sign_slot(
        KEY.sign,
        network=NETWORK,
        slot_public=KEY.public,
        sequence=NOW_S * 1_000_000,
        expires_s=NOW_S + 60,
        body=b"",
    )
    found = await find(
        node_record(2, OTHER).encode(),
        node_record(3, OTHER).encode(),
        replace(node_record(4, NETWORK), region="us").encode(),
        replace(node_record(5, NETWORK), network=NETWORK, signature=bytes(64)).encode(),
        node_record(6, NETWORK, now_s=NOW_S - 3_600).encode(),
        node_record(7, NETWORK, now_s=NOW_S + 86_400).encode(),
        node_record(8, NETWORK).encode()[:-1],
        b"",
        slot.encode(),
        good.encode(),
    )
    assert found.contacts == good.contacts
    assert found.problems == (
        f"{NAME}: 1 record left out: expired",
        f"{NAME}: 1 record left out: from_future",
        f"{NAME}: 2 records left out: invalid_signature",
        f"{NAME}: 3 records left out: malformed_message",
        f"{NAME}: 2 records left out: other_network",
    )


async def test_other_texts_of_the_name_are_nobodys_fault() -> None:
    record = node_record(1, NETWORK)
    texts = [[b"v=spf1 -all"], strings(record.encode()), [b"dsn1 !"]]
    with serving({NAME: texts}) as server:
        found = await ask(server)
    assert found == Found(record.contacts, (f"{NAME}: 1 record left out: malformed_message",))


async def test_names_are_asked_for_side_by_side() -> None:
    one, two = node_record(1, NETWORK), node_record(2, NETWORK)
    zone = {
        "a.example": [strings(one.encode())],
        "b.example": [strings(two.encode()), strings(one.encode())],
        "empty.example": [],
    }
    with serving(zone) as server:
        found = await ask(server, "a.example", "none.example", "empty.example", "b.example")
    assert sorted(each.address for each in found.contacts) == ["127.0.0.1:7077", "127.0.0.2:7077"]
    assert found.problems == (
        "none.example: no such name",
        "empty.example: it has no TXT record",
    )


async def test_there_is_an_end_to_names_and_records() -> None:
    many = [node_record(number, NETWORK) for number in range(1, MOST_RECORDS + 9)]
    zone = {f"{at}.example": [strings(many[0].encode())] for at in range(MOST_NAMES + 9)}
    with serving({**zone, NAME: [strings(each.encode()) for each in many]}) as server:
        assert len((await ask(server)).contacts) == MOST_RECORDS
        found = await ask(server, *(f"none{at}.example" for at in range(MOST_NAMES + 9)))
    assert len(found.problems) == MOST_NAMES


async def test_a_silent_server_is_given_up() -> None:
    with answering(lambda question: b"") as server:
        found = await ask(server, "a.example", "b.example", timeout_s=0.2)
    assert found.problems == (
        "a.example: no answer within 0.2 s",
        "b.example: no answer within 0.2 s",
    )


@pytest.mark.parametrize("code", [1, 2, 4, 5])
async def test_a_server_that_refuses(code: int) -> None:
    def refuse(question: bytes) -> bytes:
        return question[:2] + bytes([0x80, code]) + question[4:]

    with answering(refuse) as server:
        found = await ask(server, timeout_s=0.5)
    assert found.contacts == ()
    assert found.problems[0].startswith(f"{NAME}: no ")


@pytest.mark.parametrize("seed", range(12))
async def test_noise_is_no_answer(seed: int) -> None:
    with answering(noise(seed)) as server:
        found = await ask(server, timeout_s=0.3)
    assert found.contacts == (), seed
    assert len(found.problems) == 1, seed
    assert "\n" not in found.problems[0], seed


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64 + ".example", "\\999", "\udcff.example"])
async def test_a_name_that_is_none(name: str) -> None:
    with serving({}) as server:
        found = await ask(server, name)
    assert found.contacts == ()
    assert len(found.problems) == 1


@pytest.mark.parametrize("server", ["1.1.1.1", "localhost:53", ":53", "1.1.1.1:0", "https://x"])
async def test_a_server_that_is_no_address(server: str) -> None:
    found = await ask(server)
    assert found.contacts == ()
    assert found.problems[0].startswith(f"dns server '{server}' is not an address and a port")


async def test_the_system_resolver_is_used_without_a_server() -> None:
    found = await find_by_dns(["dsn.invalid"], NETWORK, NOW_S, timeout_s=0.5)
    assert found.contacts == ()
    assert found.problems[0].startswith("dsn.invalid: no ")
