from __future__ import annotations

import hashlib
import tomllib
from dataclasses import replace
from typing import Any

import pytest

from dsn.core.keys import SigningKey, node_id_of, verify_signature
from dsn.dht.network import (
    PLACEMENT_GROUPS,
    Contact,
    Genesis,
    Network,
    format_network,
    parse_network,
    sign_network,
)
from dsn.errors import ConfigError
from dsn.ids import format_base32

OPERATOR, OTHER = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
GENESIS = Genesis("devnet-1", 1_700_000_000, OPERATOR.public, "machine", False, False)
DNS = ("seed.example.org", "_dsn.example.net")
NODES = [SigningKey(bytes([9 + n]) * 32).public for n in range(3)]
CONTACTS = (
    Contact(NODES[0], "127.0.0.1:4001"),
    Contact(NODES[1], "[2001:db8::1]:65535"),
    Contact(NODES[2], "node.example.org:1"),
)


@pytest.fixture(scope="module")
def network() -> Network:
    return sign_network(GENESIS, CONTACTS, OPERATOR.sign, DNS)


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as failure:
        parse_network(text)
    assert "\n" not in failure.value.message
    return failure.value


def test_a_network_file_reads_back(network: Network) -> None:
    assert parse_network(format_network(network)) == network
    assert (network.genesis, network.contacts, network.dns) == (GENESIS, CONTACTS, DNS)
    alone = sign_network(GENESIS, [], OPERATOR.sign)
    assert parse_network(format_network(alone)) == alone
    assert (alone.contacts, alone.dns) == ((), ())


def test_the_id_is_the_hash_of_the_genesis_section_alone(network: Network) -> None:
    tag = b"dsn/network/v1".ljust(16, b"\0")
    name = len(GENESIS.name).to_bytes(4, "big") + GENESIS.name.encode()
    created = GENESIS.created_s.to_bytes(8, "big")
    body = name + created + OPERATOR.public + b"\1" + b"\0" + b"\0"
    assert GENESIS.encode() == body
    assert network.network_id == hashlib.sha256(tag + body).digest()
    assert sign_network(GENESIS, [], OPERATOR.sign).network_id == network.network_id


def test_every_value_of_the_genesis_section_is_in_the_id() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"name": "devnet-2"},
        {"created_s": 1},
        {"operator_public": OTHER.public},
        *({"placement_group": group} for group in PLACEMENT_GROUPS if group != "machine"),
        {"address_limits": True},
        {"shard_records": True},
    ]
    assert len({replace(GENESIS, **change).network_id for change in changes}) == len(changes)


def test_what_the_operator_signs(network: Network) -> None:
    genesis = GENESIS.encode()
    body = b"dsn/network/v1".ljust(16, b"\0") + len(genesis).to_bytes(4, "big") + genesis
    body += len(CONTACTS).to_bytes(2, "big")
    for contact in CONTACTS:
        address = contact.address.encode()
        body += contact.public_key + len(address).to_bytes(4, "big") + address
    body += bytes([len(DNS)])
    for name in DNS:
        body += len(name).to_bytes(4, "big") + name.encode()
    verify_signature(OPERATOR.public, body, network.signature)


def test_a_contact_proves_the_id_of_its_key() -> None:
    assert [contact.node_id for contact in CONTACTS] == [node_id_of(key) for key in NODES]


def test_comments_and_order_do_not_matter(network: Network) -> None:
    head, genesis, *contacts = format_network(network).split("\n\n")
    shuffled = "\n\n".join([head + " # ours", *contacts, "# people may say things\n" + genesis])
    assert parse_network(shuffled) == network


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("devnet-1", "devnet-2"),
        ("1700000000", "1700000001"),
        ('"machine"', '"node"'),
        ("address_limits = false", "address_limits = true"),
        ("shard_records = false", "shard_records = true"),
        ("seed.example.org", "sead.example.org"),
        ('dns = ["seed.example.org", "_dsn.example.net"]\n', ""),
        ("127.0.0.1:4001", "127.0.0.1:4002"),
        (format_base32(NODES[0]), format_base32(OTHER.public)),
        (format_base32(OPERATOR.public), format_base32(OTHER.public)),
    ],
)
def test_any_changed_value_breaks_the_signature(network: Network, old: str, new: str) -> None:
    text = format_network(network)
    assert old in text
    assert refused(text.replace(old, new, 1)).detail_code == "bad_network_signature"


def test_contacts_cannot_be_dropped_or_swapped(network: Network) -> None:
    for contacts in (CONTACTS[1:], CONTACTS[::-1], ()):
        text = format_network(replace(network, contacts=contacts))
        assert refused(text).detail_code == "bad_network_signature"


def test_a_file_that_says_nothing_of_shard_records_means_none(network: Network) -> None:
    text = format_network(network)
    assert parse_network(text.replace("shard_records = false\n", "")) == network


def test_another_key_cannot_sign() -> None:
    with pytest.raises(ConfigError) as failure:
        sign_network(GENESIS, CONTACTS, OTHER.sign)
    assert failure.value.detail_code == "bad_network_signature"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("name =", "nmae =", "unknown key genesis.nmae, did you mean name?"),
        ("signature =", "signatur =", "unknown key signatur, did you mean signature?"),
        ("[genesis]", "[genisis]", "unknown key genisis, did you mean genesis?"),
        ("[[contacts]]", "[[contact]]", "unknown key contact, did you mean contacts?"),
        ("address =", "adress =", "unknown key contacts.0.adress, did you mean address?"),
        ("created_s = 1700000000\n", "", "genesis.created_s is missing"),
        ("created_s = 1700000000", "created_s = true", "genesis.created_s"),
        ("created_s = 1700000000", "created_s = 1.5", "genesis.created_s"),
        ("created_s = 1700000000", "created_s = -1", "genesis.created_s"),
        ("created_s = 1700000000", f"created_s = {1 << 64}", "genesis.created_s"),
        ("created_s = 1700000000", f"created_s = 1{'0' * 5000}", "not TOML"),
        ("= false", '= "false"', "genesis.address_limits"),
        ("= false", "= 0", "genesis.address_limits"),
        ('"machine"', '"rack"', "'node', 'machine' or 'subnet'"),
        ('"devnet-1"', '""', "genesis.name"),
        ('"devnet-1"', '"dev net"', "genesis.name"),
        ('"devnet-1"', f'"{"d" * 65}"', "genesis.name"),
        ('"devnet-1"', "7", "genesis.name"),
        ('operator_public = "', 'operator_public = "aa', "genesis.operator_public: "),
        ('operator_public = "', 'operator_public = "A', "genesis.operator_public: not lower-case"),
        ('signature = "', 'signature = 3 # "', "signature: 0 bytes, 64 needed"),
        ("127.0.0.1:4001", "127.0.0.1", "contacts.0.address: '127.0.0.1' is not host:port"),
        ("127.0.0.1:4001", "127.0.0.1:0", "is not host:port"),
        ("127.0.0.1:4001", "127.0.0.1:65536", "is not host:port"),
        ("127.0.0.1:4001", "127.0.0.1:04001", "is not host:port"),
        ("127.0.0.1:4001", ":4001", "is not host:port"),
        ("127.0.0.1:4001", "::1:4001", "is not host:port"),
        ("127.0.0.1:4001", "127.0.0.1:4001\\n", "is not host:port"),
        ("127.0.0.1:4001", "a b:4001", "is not host:port"),
        (format_base32(NODES[1]), format_base32(NODES[0]), "contacts name one public_key twice"),
        ("[genesis]", "[genesis", "not TOML"),
        ("shard_records = false", "shard_records = 0", "genesis.shard_records: "),
        ("shard_records =", "shard_record =", "genesis.shard_record, did you mean shard_records?"),
        ("dns =", "dsn =", "unknown key dsn, did you mean dns?"),
        ("seed.example.org", "seed..org", "dns.0: 'seed..org' is not a DNS name"),
        ("seed.example.org", "-seed.org", "'-seed.org' is not a DNS name"),
        ("seed.example.org", "seed-.org", "'seed-.org' is not a DNS name"),
        ("seed.example.org", "seed.org.", "is not a DNS name"),
        ("seed.example.org", "seed.org:53", "is not a DNS name"),
        ("seed.example.org", "", "'' is not a DNS name"),
        ("seed.example.org", "seed.org\\n", "is not a DNS name"),
        ("seed.example.org", f"{'s' * 64}.org", "is not a DNS name"),
        ("seed.example.org", ".".join(["s"] * 128), "is not a DNS name"),
        ('"seed.example.org"', "7", "dns.0: "),
        ('"seed.example.org"', ", ".join(['"s"'] * 8), "dns: "),
    ],
)
def test_what_is_wrong_is_named(network: Network, old: str, new: str, says: str) -> None:
    text = format_network(network)
    assert old in text
    error = refused(text.replace(old, new, 1))
    assert error.detail_code == "bad_network_file"
    assert says in error.message


@pytest.mark.parametrize(
    "text",
    ["", "genesis = 3", "contacts = [3]", "a = " + "[" * 5000, "\0", "signature = 1979-05-27"],
)
def test_what_is_no_network_file_is_said_in_one_line(text: str) -> None:
    assert refused(text).detail_code == "bad_network_file"


def test_values_that_would_not_read_back_are_not_signed() -> None:
    for genesis, contacts, dns in (
        (replace(GENESIS, name='a"b'), CONTACTS, ()),
        (replace(GENESIS, name="two\nlines"), CONTACTS, ()),
        (GENESIS, [Contact(NODES[0], "nowhere")], ()),
        (GENESIS, CONTACTS[:1] * 2, ()),
        (GENESIS, CONTACTS, ['a", "b']),
        (GENESIS, CONTACTS, ["seed"] * 9),
    ):
        with pytest.raises(ConfigError):
            sign_network(genesis, contacts, OPERATOR.sign, dns)


def test_eight_long_names_fit() -> None:
    names = tuple(".".join(["s" * 63] * 3 + [f"{n}" * 61]) for n in range(8))
    assert {len(name) for name in names} == {253}
    assert sign_network(GENESIS, CONTACTS, OPERATOR.sign, names).dns == names


def test_the_text_is_toml_for_people(network: Network) -> None:
    table = tomllib.loads(format_network(network))
    assert list(table) == ["signature", "dns", "genesis", "contacts"]
    assert table["dns"] == list(DNS)
    assert table["genesis"]["name"] == "devnet-1"
    assert [each["address"] for each in table["contacts"]] == [each.address for each in CONTACTS]
