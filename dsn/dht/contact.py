"""A contact: whom to call and where. Its node id follows from its key, so it cannot lie about it.

Spec: docs/spec/network.md#contacts.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict

from dsn.core.keys import PUBLIC_KEY_BYTES, node_id_of
from dsn.errors import MalformedMessage, UsageError
from dsn.ids import NodeId, parse_base32

MAX_ADDRESS_CHARS: Final = 259
"""The longest host name, a colon and a port."""
_ADDRESS: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]{1,253})):(?P<port>[1-9][0-9]{0,4})"
)
_NUMERIC: Final = re.compile(r"(.*\.)?([0-9]+|0[xX][0-9A-Fa-f]*)\.?")
"""What resolvers take for an IPv4 address, in any of its spellings."""
_MAX_PORT: Final = (1 << 16) - 1


def bytes_of(size: int) -> BeforeValidator:
    """In a file: exactly ``size`` bytes as base32."""

    def read(text: object) -> bytes:
        try:
            raw = parse_base32(text) if isinstance(text, str) else b""
        except UsageError as error:
            raise ValueError(error.message) from error
        if len(raw) != size:
            raise ValueError(f"{len(raw)} bytes, {size} needed")
        return raw

    return BeforeValidator(read)


def _address(text: str) -> str:
    if not is_address(text):
        raise ValueError(f"{text!r} is not host:port")
    return text


PublicKey = Annotated[bytes, bytes_of(PUBLIC_KEY_BYTES)]
Address = Annotated[str, AfterValidator(_address)]


@dataclass(frozen=True, slots=True)
class Contact:
    """A node to call: its Ed25519 identity key and ``host:port`` (v6 in brackets)."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    public_key: PublicKey
    address: Address
    node_id: NodeId = field(init=False, compare=False, repr=False)
    """The id that the node must prove when called."""

    def __post_init__(self) -> None:
        """Hash the key once; a routing table reads the id very often."""
        object.__setattr__(self, "node_id", node_id_of(self.public_key))

    @property
    def host(self) -> str:
        """The address without its port and brackets."""
        return host_of(self.address)


def check_contact(public_key: bytes, address: str) -> Contact:
    """A contact of untrusted parts.

    Raises:
        MalformedMessage: ``bad_contact``: the key has another size, or the address is not
            ``host:port``.
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        text = f"a contact's key of {len(public_key)} bytes, {PUBLIC_KEY_BYTES} needed"
        raise MalformedMessage(text, code="bad_contact")
    if not is_address(address):
        text = f"a contact's address {address[:80]!r} is not host:port"
        raise MalformedMessage(text, code="bad_contact")
    return Contact(public_key, address)


def is_address(text: str) -> bool:
    """Whether ``text`` (untrusted) is ``host:port`` with a port that can be called.

    An address has one spelling: 127.1 or 0x7f.1 would pass for a subnet of its own.
    """
    match = _ADDRESS.fullmatch(text) if len(text) <= MAX_ADDRESS_CHARS else None
    if match is None or int(match["port"]) > _MAX_PORT:
        return False
    try:
        if match["v6"]:
            ipaddress.IPv6Address(match["v6"])
        elif _NUMERIC.fullmatch(match["host"]):
            ipaddress.IPv4Address(match["host"])
    except ValueError:
        return False
    return True


def host_of(address: str) -> str:
    """The host of ``host:port``, without brackets."""
    return address.rpartition(":")[0].strip("[]")


@lru_cache(8_192)
def subnet_of(host: str) -> str:
    """The /24 (IPv6: /48) that ``host`` is in; ``host`` itself if it is no address.

    An IPv4 address inside an IPv6 one is where it is. Parsing takes up to 60 us, and a routing
    table asks for the same hosts again and again.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    prefix = 24 if address.version == 4 else 48
    return str(ipaddress.ip_network((address, prefix), strict=False))
