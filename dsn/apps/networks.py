"""Founding a network, changing where newcomers start, and naming what is searched for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dsn.core.capability import is_capability, parse_capability
from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact, check_contact, host_of
from dsn.dht.network import Genesis, Network, PlacementGroup, parse_network, sign_network
from dsn.errors import ConfigError, MalformedMessage, NotFound, UsageError
from dsn.ids import ID_BYTES, format_base32, parse_base32, parse_node_id


def found(
    name: str,
    operator: SigningKey,
    *,
    created_s: int,
    group: PlacementGroup,
    address_limits: bool,
    shard_records: bool,
    contacts: Sequence[Contact],
    dns: Sequence[str],
) -> Network:
    """A new network, signed by its operator.

    Raises:
        ConfigError: ``bad_network_file`` names what is wrong.
    """
    genesis = Genesis(
        name,
        created_s,
        operator.public,
        group,
        address_limits=address_limits,
        shard_records=shard_records,
    )
    return sign_network(genesis, contacts, operator.sign, tuple(dns))


def change(
    network: Network,
    operator: SigningKey,
    *,
    contacts: Sequence[Contact],
    dns: Sequence[str],
    drop: Sequence[str],
) -> Network:
    """The same network with other places to start from.

    Args:
        network: As it stands.
        operator: Must be the key that founded it.
        contacts: Added; one with a key that is listed takes that one's place.
        dns: Names added.
        drop: Addresses and DNS names left out.

    Raises:
        ConfigError: ``not_operator``.
        NotFound: ``drop`` names what is not there.
    """
    if operator.public != network.genesis.operator_public:
        raise ConfigError(
            f"{network.genesis.name} was founded by another home",
            code="not_operator",
            hint="use the home that ran 'dsn net create'",
        )
    present = {each.address for each in network.contacts} | set(network.dns)
    if absent := [each for each in drop if each not in present]:
        raise NotFound(f"the network file does not name {absent[0]}", hint="it lists them")
    listed = {each.public_key: each for each in (*network.contacts, *contacts)}
    names = dict.fromkeys((*network.dns, *dns))
    return sign_network(
        network.genesis,
        [each for each in listed.values() if each.address not in drop],
        operator.sign,
        tuple(each for each in names if each not in drop),
    )


def read_network(path: Path) -> Network:
    """The network file at ``path`` (untrusted).

    Raises:
        ConfigError: ``bad_network_file``, ``bad_network_signature``.
        FileNotFoundError: There is none.
    """
    try:
        return parse_network(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text", code="bad_network_file") from None


def format_contact(contact: Contact) -> str:
    """``KEY@HOST:PORT``; ``parse_contact`` reads it."""
    return f"{format_base32(contact.public_key)}@{contact.address}"


def parse_contact(text: str) -> Contact:
    """A contact that a person typed.

    Raises:
        UsageError: ``bad_contact``.
    """
    key, _, address = text.partition("@")
    if is_wildcard(address):
        raise UsageError(
            f"'{text[:120]}' is no contact: {host_of(address)} is every address and none",
            code="bad_contact",
            hint="say where others reach the node: dsn provider init --address HOST:PORT",
        )
    try:
        return check_contact(parse_base32(key), address)
    except (MalformedMessage, UsageError) as error:
        raise UsageError(
            f"'{text[:120]}' is no contact: {error.message}",
            code="bad_contact",
            hint="write KEY@HOST:PORT as 'dsn provider init' prints it",
        ) from error


def is_wildcard(address: str) -> bool:
    """Whether ``host:port`` is where to listen, but nowhere to call."""
    return host_of(address) in WILDCARDS


def parse_key(text: str) -> bytes:
    """The key that a node id, a link or 52 letters of base32 name.

    Raises:
        UsageError: ``bad_capability``, ``bad_key``.
    """
    if is_capability(text):
        return parse_capability(text).file_id
    try:
        key = parse_node_id(text) if len(text) == KEY_CHARS + 1 else parse_base32(text)
    except UsageError:
        key = b""
    if len(key) != ID_BYTES:
        raise UsageError(
            f"'{text[:60]}' is neither a node id, a link nor a key",
            code="bad_key",
            hint="a key is 52 letters of base32, a node id has an n before them",
        )
    return key


WILDCARDS = ("0.0.0.0", "::")
KEY_CHARS = len(format_base32(bytes(ID_BYTES)))
