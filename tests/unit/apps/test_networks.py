"""Founding a network and changing its ways in; naming contacts and keys as people type them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsn.apps.networks import (
    change,
    format_contact,
    found,
    parse_contact,
    parse_key,
    read_network,
)
from dsn.core.capability import format_capability, make_capability
from dsn.core.keys import FileKeys, Kind
from dsn.dht.contact import Contact
from dsn.dht.network import MAX_DNS_NAMES, Network, format_network
from dsn.errors import ConfigError, DsnError, NotFound, UsageError
from dsn.ids import FileId, format_base32, format_node_id
from tests.support.records import NOW_S, key, node

OPERATOR, STRANGER = key(1), key(2)
FIRST, SECOND = (Contact(key(number).public, f"127.0.0.{number}:7077") for number in (11, 12))


def founded(*contacts: Contact, dns: tuple[str, ...] = (), name: str = "test") -> Network:
    return found(
        name,
        OPERATOR,
        created_s=NOW_S,
        group="machine",
        address_limits=True,
        shard_records=False,
        contacts=contacts,
        dns=dns,
    )


def test_a_network_is_what_its_founder_says() -> None:
    network = founded(FIRST, SECOND, dns=("seed.example",))
    genesis = network.genesis
    assert (genesis.name, genesis.created_s, genesis.placement_group) == ("test", NOW_S, "machine")
    assert (genesis.address_limits, genesis.shard_records) == (True, False)
    assert genesis.operator_public == OPERATOR.public
    assert (network.contacts, network.dns) == ((FIRST, SECOND), ("seed.example",))


@pytest.mark.parametrize("name", ["", "two words", "-x", "ä", "x" * 65, 'a"b', "a\nb"])
def test_a_name_that_no_file_could_hold_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        founded(name=name)
    assert caught.value.detail_code == "bad_network_file"
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("dns", [("no name",), ("-.example",), ("a" * 254,), ("x.y",) * 9])
def test_bad_dns_names_are_refused(dns: tuple[str, ...]) -> None:
    assert len(dns) == 1 or len(dns) > MAX_DNS_NAMES
    with pytest.raises(ConfigError) as caught:
        founded(dns=dns)
    assert caught.value.detail_code == "bad_network_file"


def test_one_key_at_two_addresses_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        founded(FIRST, Contact(FIRST.public_key, SECOND.address))
    assert caught.value.detail_code == "bad_network_file"


# change


def test_ways_in_change_and_the_network_stays_the_same() -> None:
    network = founded(FIRST, dns=("a.example",))
    more = change(network, OPERATOR, contacts=[SECOND], dns=["b.example", "a.example"], drop=[])
    assert (more.contacts, more.dns) == ((FIRST, SECOND), ("a.example", "b.example"))
    less = change(more, OPERATOR, contacts=[], dns=[], drop=[FIRST.address, "a.example"])
    assert (less.contacts, less.dns) == ((SECOND,), ("b.example",))
    assert network.network_id == more.network_id == less.network_id


def test_a_contact_that_moved_keeps_its_place() -> None:
    moved = Contact(FIRST.public_key, "127.0.0.9:1")
    network = change(founded(FIRST, SECOND), OPERATOR, contacts=[moved], dns=[], drop=[])
    assert network.contacts == (moved, SECOND)
    replaced = change(founded(FIRST), OPERATOR, contacts=[moved], dns=[], drop=[FIRST.address])
    assert replaced.contacts == (moved,)


def test_only_its_founder_changes_a_network() -> None:
    with pytest.raises(ConfigError) as caught:
        change(founded(FIRST), STRANGER, contacts=[SECOND], dns=[], drop=[])
    assert caught.value.detail_code == "not_operator"


def test_what_is_not_listed_cannot_be_dropped() -> None:
    for drop in (SECOND.address, "a.example"):
        with pytest.raises(NotFound) as caught:
            change(founded(FIRST), OPERATOR, contacts=[SECOND], dns=[], drop=[FIRST.address, drop])
        assert drop in caught.value.message


# files


def test_a_network_file_is_read_back(tmp_path: Path) -> None:
    network = founded(FIRST, dns=("a.example",))
    (tmp_path / "n.toml").write_text(format_network(network))
    assert read_network(tmp_path / "n.toml") == network


def test_a_network_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "n.toml"
    with pytest.raises(FileNotFoundError):
        read_network(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError) as caught:
        read_network(path)
    assert caught.value.detail_code == "bad_network_file"
    path.write_text(format_network(founded(FIRST)).replace(FIRST.address, SECOND.address))
    with pytest.raises(ConfigError) as caught:
        read_network(path)
    assert caught.value.detail_code == "bad_network_signature"


# what people type


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[2001:db8::1]:65535", "seed.example:7077"])
def test_a_contact_is_written_and_read(address: str) -> None:
    contact = Contact(key(1).public, address)
    assert parse_contact(format_contact(contact)) == contact


KEY = format_base32(FIRST.public_key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        KEY,
        f"{KEY}@",
        f"{KEY}@nowhere",
        f"{KEY}@127.0.0.1:0",
        f"{KEY}@{FIRST.address}@x",
        f"{KEY.upper()}@{FIRST.address}",
        f"{KEY[:-2]}@{FIRST.address}",
        f"ä{KEY}@{FIRST.address}",
        f"{'a' * 10_000}@{FIRST.address}",
    ],
)
def test_what_is_no_contact_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_contact(text)
    assert caught.value.detail_code == "bad_contact"
    assert len(caught.value.message) < 300
    assert "KEY@HOST:PORT" in caught.value.hint


def test_a_key_may_be_named_in_three_ways() -> None:
    assert parse_key(format_node_id(node(1))) == node(1)
    assert parse_key(format_base32(node(1))) == node(1)
    file_id, keys = FileId(bytes(range(32))), FileKeys.owner(b"k" * 16)
    for kind in (Kind.READ, Kind.REPAIR, Kind.VERIFY):
        assert parse_key(format_capability(make_capability(keys, kind, file_id))) == file_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n",
        "report.pdf",
        format_base32(bytes(31)),
        format_base32(bytes(33)),
        "m" + format_base32(bytes(32)),
        "n" + format_base32(bytes(31)) + "ab",
        format_base32(bytes(32)).upper(),
        "ä" * 52,
        "n" * 5_000,
        "dsn:read:aaaa:bbbb",
    ],
)
def test_what_is_no_key_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(DsnError) as caught:
        parse_key(text)
    assert caught.value.detail_code in ("bad_key", "bad_capability")
    assert caught.value.exit_code == 2
    assert len(caught.value.message) < 300
