from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsn.core.keys import SigningKey, node_id_of
from dsn.dht.contact import (
    MAX_ADDRESS_CHARS,
    Contact,
    check_contact,
    host_of,
    is_address,
    subnet_of,
)
from dsn.dht.network import Genesis, format_network, parse_network, sign_network
from dsn.errors import ConfigError, MalformedMessage

KEY, OTHER_KEY = b"\x01" * 32, b"\x02" * 32
LONGEST_HOST = ".".join(["a" * 63] * 3 + ["b" * 61])

keys = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize(
    ("host", "subnet"),
    [
        ("10.1.2.3", "10.1.2.0/24"),
        ("10.1.2.255", "10.1.2.0/24"),
        ("10.1.3.0", "10.1.3.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("2001:DB8:0001:ffff::", "2001:db8:1::/48"),
        ("2001:db8:2::", "2001:db8:2::/48"),
        ("::1", "::/48"),
        ("::ffff:10.1.2.3", "10.1.2.0/24"),
        ("::ffff:0a01:0203", "10.1.2.0/24"),
        ("fd.sock", "fd.sock"),
        ("node-7.example.org", "node-7.example.org"),
        ("010.1.2.3", "010.1.2.3"),
        ("10.1.2", "10.1.2"),
        ("10.1.2.3/8", "10.1.2.3/8"),
        ("", ""),
    ],
)
def test_the_subnet_of_a_host(host: str, subnet: str) -> None:
    assert subnet_of(host) == subnet


def test_subnets_of_many_hosts_do_not_fill_memory() -> None:
    assert subnet_of.cache_info().maxsize is not None


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_one_is_where_it_is(address: object) -> None:
    assert subnet_of(f"::ffff:{address}") == subnet_of(str(address))


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("10.1.2.3:1", "10.1.2.3"),
        ("127.0.0.1:65535", "127.0.0.1"),
        ("[::1]:80", "::1"),
        ("[2001:db8::1]:4001", "2001:db8::1"),
        ("[::ffff:10.1.2.3]:4001", "::ffff:10.1.2.3"),
        ("localhost:4001", "localhost"),
        ("node-7_b.example.org:4001", "node-7_b.example.org"),
        ("7.example:4001", "7.example"),
        ("0x7f.de:4001", "0x7f.de"),
        (f"{LONGEST_HOST}:65535", LONGEST_HOST),
    ],
)
def test_addresses(address: str, host: str) -> None:
    assert is_address(address)
    assert host_of(address) == check_contact(KEY, address).host == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":4001",
        "host",
        "host:",
        "host:0",
        "host:65536",
        "host:99999",
        "host:100000",
        "host:04001",
        "host:+1",
        "host:-1",
        "host:1e3",
        "host: 1",
        " host:1",
        "host:1 ",
        "host:1\n",
        "ho\0st:1",
        "host:1\0",
        "host:\u0664\u0662",
        "\u0661.2.3.4:1",
        "h\u00f6st:1",
        "host:1:2",
        "user@host:1",
        "host/path:1",
        "http://host:1",
        "a%b:1",
        "::1:4001",
        "[::1]",
        "[::1]:0",
        "[]:1",
        "[:]:1",
        "[::::]:1",
        "[....]:1",
        "[1.2.3.4]:1",
        "[::1%eth0]:1",
        "[[::1]]:1",
        "[::1:1",
        "::1]:1",
        "[fe80::1]x:1",
        "[0:0:0:0:0:0:0:0:0]:1",
        "[host]:1",
        f"{LONGEST_HOST}c:1",
        "a" * 254 + ":1",
        "a" * 1_000_000 + ":1",
        "1" * 1_000_000,
        "host:" + "9" * 1_000_000,
    ],
)
def test_what_is_no_address(text: str) -> None:
    assert not is_address(text)
    with pytest.raises(MalformedMessage) as failure:
        check_contact(KEY, text)
    assert failure.value.detail_code == "bad_contact"
    assert len(failure.value.message) < 500
    assert failure.value.message.isprintable()


@pytest.mark.parametrize(
    "host",
    "127.1 127.0.1 2130706433 0x7f000001 0x7f.1 0x7f.0.0.1 0X7F.0.0.1 0177.0.0.1 127.0.0.01 "
    "127.0.0.1. 1.2.3.4.5 256.1.1.1 1.2.3.999 7 a.7 example.0x7f 0x".split(),
)
def test_another_spelling_of_an_ipv4_address_is_refused(host: str) -> None:
    """Resolvers take them, so each would pass for a subnet of its own."""
    assert not is_address(f"{host}:4001")


@given(st.text(max_size=60) | st.from_regex(r"[\[\]0-9a-f:.x]{0,40}:[0-9]{1,6}", fullmatch=True))
def test_any_text_is_judged_and_what_passes_has_a_host_and_a_port(text: str) -> None:
    if is_address(text):
        host, _, port = text.rpartition(":")
        assert text.isascii() and 0 < int(port) < 1 << 16
        assert host_of(text) in (host, host[1:-1])
        assert len(text) <= MAX_ADDRESS_CHARS


@pytest.mark.parametrize("size", [0, 31, 33, 10_000])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(MalformedMessage, match=f"{size} bytes, 32 needed") as failure:
        check_contact(bytes(size), "host:1")
    assert failure.value.detail_code == "bad_contact"


@given(keys, keys)
def test_the_node_id_is_always_that_of_the_key(key: bytes, other: bytes) -> None:
    contact = check_contact(key, "host:1")
    moved, rekeyed = replace(contact, address="host:2"), replace(contact, public_key=other)
    copies = copy.deepcopy(contact), pickle.loads(pickle.dumps(contact))
    for each in (contact, moved, rekeyed, *copies):
        assert each.node_id == node_id_of(each.public_key)
    assert copies == (contact, contact)


def test_a_contact_never_changes() -> None:
    contact = Contact(KEY, "host:1")
    for name, value in (("public_key", OTHER_KEY), ("address", "host:2"), ("node_id", KEY)):
        with pytest.raises(FrozenInstanceError):
            setattr(contact, name, value)
    with pytest.raises(TypeError):
        Contact(KEY, "host:1", node_id=node_id_of(OTHER_KEY))  # type: ignore[call-arg]


def test_contacts_are_equal_if_key_and_address_are() -> None:
    contacts = [Contact(key, address) for key in (KEY, OTHER_KEY) for address in ("a:1", "a:2")]
    assert len({*contacts, *map(copy.copy, contacts)}) == 4


class TestInANetworkFile:
    OPERATOR = SigningKey(b"\x07" * 32)
    GENESIS = Genesis("net", 1_700_000_000, OPERATOR.public, "node", False)

    @pytest.fixture
    def text(self) -> str:
        contacts = [Contact(KEY, "host:1")]
        return format_network(sign_network(self.GENESIS, contacts, self.OPERATOR.sign))

    def test_the_node_id_follows_from_the_key(self, text: str) -> None:
        (contact,) = parse_network(text).contacts
        assert contact == Contact(KEY, "host:1")
        assert contact.node_id == node_id_of(KEY)
        assert "node_id" not in text

    @pytest.mark.parametrize("key", ["node_id", "host", "adress", "__class__", "extra"])
    def test_keys_that_a_contact_does_not_have_are_refused(self, text: str, key: str) -> None:
        with pytest.raises(ConfigError, match=f"unknown key contacts.0.{key}"):
            parse_network(f'{text}{key} = "{"a" * 52}"\n')

    @pytest.mark.parametrize("address", ["127.1:1", "[::::]:1", "host:0", "host"])
    def test_addresses_are_held_to_the_same_rule(self, text: str, address: str) -> None:
        with pytest.raises(ConfigError, match="is not host:port"):
            parse_network(text.replace("host:1", address))
