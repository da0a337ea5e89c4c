"""The network file: which network this is, who stands for it, and how to get in.

A TOML file for people; what is hashed and signed is the fixed encoding of what it says, so
comments and order do not matter and a single changed value does.

Spec: docs/spec/network.md#network-file.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    StrictBool,
    TypeAdapter,
)
from pydantic import ValidationError as _Refused
from pydantic_core import ErrorDetails

from dsn.core import tags
from dsn.core.codec import U16_MAX, U64_MAX, Writer
from dsn.core.hashing import tagged
from dsn.core.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, verify_signature
from dsn.dht.contact import Contact, PublicKey, bytes_of
from dsn.errors import ConfigError, InvalidSignature
from dsn.ids import NO_NETWORK, NetworkId, format_base32
from dsn.ledger.params import LedgerParams
from dsn.ledger.params_text import param_lines, read_params

PlacementGroup = Literal["node", "machine", "subnet"]
"""What may hold at most one shard of a segment: a node, an address, a /24 (v6 /48)."""
PLACEMENT_GROUPS: Final[tuple[PlacementGroup, ...]] = get_args(PlacementGroup)

MAX_DNS_NAMES: Final = 8
MAX_WITNESSES: Final = 50
"""As many as a checkpoint has room for."""
_MAX_DNS_CHARS: Final = 253
_DNS_LABEL: Final = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_DNS_NAME: Final = re.compile(rf"{_DNS_LABEL}(\.{_DNS_LABEL})*")

_NOTHING_ELSE: Final = ConfigDict(extra="forbid")


def _dns_name(text: str) -> str:
    if len(text) > _MAX_DNS_CHARS or not _DNS_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a DNS name")
    return text


def _ledger(table: object) -> object:
    """A ledger's table as parameters that name no network yet: its id covers them."""
    if not isinstance(table, dict):
        return table
    try:
        return read_params(table, NO_NETWORK)
    except ConfigError as error:
        raise ValueError(error.message) from error


_Ledger = Annotated[InstanceOf[LedgerParams], BeforeValidator(_ledger)]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_Seconds = Annotated[int, Field(strict=True, ge=0, le=U64_MAX)]
_Signature = Annotated[bytes, bytes_of(SIGNATURE_BYTES)]
_DnsName = Annotated[str, AfterValidator(_dns_name)]


@dataclass(frozen=True, slots=True)
class Genesis:
    """What never changes of a network; its hash is the network id.

    ``created_s`` is in Unix seconds; ``operator_public`` is the Ed25519 key that signs the
    file; ``address_limits`` bounds connections an address and a subnet (off on loopback);
    with ``shard_records`` nodes announce which shards they hold; ``ledger`` says how disk and
    bandwidth are paid, and is absent where nobody pays: its domain names no network, use
    ``Network.ledger_params``.
    """

    __pydantic_config__ = _NOTHING_ELSE

    name: _Name
    created_s: _Seconds
    operator_public: PublicKey
    placement_group: PlacementGroup
    address_limits: StrictBool
    shard_records: StrictBool = False
    ledger: _Ledger | None = None

    def encode(self) -> bytes:
        """The fixed encoding that is hashed and signed; a ledger's parameters end it."""
        writer = Writer().text(self.name).u64(self.created_s)
        writer.raw(self.operator_public, PUBLIC_KEY_BYTES)
        writer.u8(PLACEMENT_GROUPS.index(self.placement_group))
        writer.u8(self.address_limits).u8(self.shard_records)
        if self.ledger is not None:
            writer.var(self.ledger.encode())
        return writer.done()

    @property
    def network_id(self) -> NetworkId:
        """What every call and every signature carries."""
        return NetworkId(tagged(tags.NETWORK, self.encode()))


@dataclass(frozen=True, slots=True)
class Network:
    """A network file whose signature holds: its genesis, and ways in, which may change."""

    __pydantic_config__ = _NOTHING_ELSE

    signature: _Signature
    genesis: Genesis
    contacts: Annotated[tuple[Contact, ...], Field(max_length=U16_MAX)] = ()
    dns: Annotated[tuple[_DnsName, ...], Field(max_length=MAX_DNS_NAMES)] = ()
    """Names whose TXT records hold node records."""
    ledger: Contact | None = None
    """Where the ledger is served, under ``log_key``."""
    witnesses: Annotated[tuple[Contact, ...], Field(max_length=MAX_WITNESSES)] = ()
    """Where the ledger's witnesses are."""

    @property
    def ledger_params(self) -> LedgerParams | None:
        """How disk and bandwidth are paid here, if they are."""
        params = self.genesis.ledger
        if params is None:
            return None
        return replace(params, domain=replace(params.domain, network=self.network_id))

    @property
    def network_id(self) -> NetworkId:
        """Hash of the genesis section."""
        return self.genesis.network_id

    def preimage(self) -> bytes:
        """What the operator signs."""
        writer = Writer().raw(tags.NETWORK, tags.TAG_BYTES)
        writer.var(self.genesis.encode()).u16(len(self.contacts))
        for contact in self.contacts:
            writer.raw(contact.public_key, PUBLIC_KEY_BYTES).text(contact.address)
        writer.u8(len(self.dns))
        for name in self.dns:
            writer.text(name)
        if self.genesis.ledger is not None:
            places = (*(() if self.ledger is None else (self.ledger,)), *self.witnesses)
            writer.u8(self.ledger is not None).u8(len(self.witnesses))
            for contact in places:
                writer.raw(contact.public_key, PUBLIC_KEY_BYTES).text(contact.address)
        return writer.done()


def sign_network(
    genesis: Genesis,
    contacts: Sequence[Contact],
    sign: Callable[[bytes], bytes],
    dns: Sequence[str] = (),
    *,
    ledger: Contact | None = None,
    witnesses: Sequence[Contact] = (),
) -> Network:
    """Make a network file; ``sign`` uses the founder's key.

    Raises:
        ConfigError: A value that ``parse_network`` would refuse.
    """
    ways_in = tuple(contacts), tuple(dns)
    blank = Network(bytes(SIGNATURE_BYTES), genesis, *ways_in, ledger, tuple(witnesses))
    signed = replace(blank, signature=sign(blank.preimage()))
    return parse_network(format_network(signed))


def format_network(network: Network) -> str:
    """The file's text; ``parse_network`` reads it."""
    genesis = network.genesis
    lines = [
        "# Which network this is. Signed by its operator: any change makes the file invalid.",
        f'signature = "{format_base32(network.signature)}"',
    ]
    if network.dns:
        names = ", ".join(f'"{name}"' for name in network.dns)
        lines.append(f"dns = [{names}]")
    lines += [
        "",
        "[genesis]",
        f'name = "{genesis.name}"',
        f"created_s = {genesis.created_s}",
        f'operator_public = "{format_base32(genesis.operator_public)}"',
        f'placement_group = "{genesis.placement_group}"',
        f"address_limits = {str(genesis.address_limits).lower()}",
        f"shard_records = {str(genesis.shard_records).lower()}",
    ]
    if genesis.ledger is not None:
        lines += ["", "[genesis.ledger]", *param_lines(genesis.ledger, "genesis.ledger")]
    if network.ledger is not None:
        lines += ["", "[ledger]", *_contact_lines(network.ledger)]
    for title, contacts in (("contacts", network.contacts), ("witnesses", network.witnesses)):
        for contact in contacts:
            lines += ["", f"[[{title}]]", *_contact_lines(contact)]
    return "\n".join(lines) + "\n"


def _contact_lines(contact: Contact) -> list[str]:
    key = format_base32(contact.public_key)
    return [f'public_key = "{key}"', f'address = "{contact.address}"']


def parse_network(text: str) -> Network:
    """Read a network file and check its signature.

    Args:
        text: Untrusted.

    Raises:
        ConfigError: ``bad_network_file`` names the key that is wrong, missing or unknown;
            ``bad_network_signature``: the operator did not sign what it says.
    """
    try:
        network = _FILE.validate_python(tomllib.loads(text))
    except _Refused as error:
        raise _bad(_explain(error.errors(include_url=False))) from error
    except (ValueError, RecursionError) as error:
        raise _bad(f"not TOML: {error}") from error
    if len({contact.public_key for contact in network.contacts}) < len(network.contacts):
        raise _bad("contacts name one public_key twice")
    _check_places(network)
    try:
        verify_signature(network.genesis.operator_public, network.preimage(), network.signature)
    except InvalidSignature as error:
        raise ConfigError(
            "network file: not signed by its operator_public as it stands",
            code="bad_network_signature",
            hint="fetch the file again; a change by hand makes it invalid",
        ) from error
    return network


def _check_places(network: Network) -> None:
    """Refuse a ledger or witnesses that are not those of the genesis section."""
    params, keys = network.genesis.ledger, [each.public_key for each in network.witnesses]
    if params is None:
        if network.ledger is not None or keys:
            raise _bad("ledger or witnesses without a genesis.ledger")
        return
    if network.ledger is not None and network.ledger.public_key != params.log_key:
        raise _bad("ledger.public_key is not genesis.ledger.log_key")
    if len(set(keys)) < len(keys) or not params.witnesses.issuperset(keys):
        raise _bad("witnesses name a public_key that genesis.ledger does not, or one twice")


_FILE: Final = TypeAdapter(Network)
_KEYS: Final[dict[Any, tuple[str, ...]]] = {
    "genesis": Genesis.__slots__,
    "contacts": ("public_key", "address"),
    "ledger": ("public_key", "address"),
    "witnesses": ("public_key", "address"),
}
_UNKNOWN: Final = "unexpected_keyword_argument"


def _bad(reason: str) -> ConfigError:
    return ConfigError(f"network file: {reason}", code="bad_network_file")


def _explain(refused: list[ErrorDetails]) -> str:
    """One line that names the key; an unknown one comes first, for it tells why another misses."""
    first = next((each for each in refused if each["type"] == _UNKNOWN), refused[0])
    where = first["loc"]
    name = ".".join(str(part) for part in where)
    if first["type"] == _UNKNOWN:
        known = _KEYS[where[0]] if len(where) > 1 else Network.__slots__
        nearest = difflib.get_close_matches(str(where[-1]), known, n=1) or known
        return f"unknown key {name}, did you mean {' or '.join(nearest)}?"
    if first["type"] == "missing":
        return f"{name} is missing"
    message = first["msg"].removeprefix("Value error, ")
    return f"{name}: {message[:1].lower()}{message[1:]}"
