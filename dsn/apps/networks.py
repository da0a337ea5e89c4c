"""Founding a network, changing where newcomers start, and naming what is searched for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dsn.config import FILE_NAME
from dsn.core.capability import is_capability, parse_capability
from dsn.core.keys import KEY_BYTES, IdentityKeys, SigningKey
from dsn.dht.contact import Contact, check_contact, host_of, is_address
from dsn.dht.network import (
    Genesis,
    Network,
    PlacementGroup,
    format_network,
    parse_network,
    sign_network,
)
from dsn.errors import ConfigError, MalformedMessage, NotFound, UsageError
from dsn.ids import ID_BYTES, NO_NETWORK, format_base32, parse_base32, parse_node_id
from dsn.ledger.params import OPEN_S, VDF_ITERATIONS, LedgerParams
from dsn.ledger.params_text import change_params
from dsn.ledger.settlement import NO_ADDRESS, Address, SettlementKey
from dsn.ledger.typed import Domain
from dsn.ports import Entropy
from dsn.rpc.server import split_address
from dsn.store.files import write_atomic
from dsn.store.home import Home

SQUARINGS_S: Final = 1_400
"""For each second of an epoch: so a short one is not over before its beacon is there."""
ENTRY_FEE: Final = 1_000
"""Credits: nothing to whoever stores, and a bound on spam."""
NO_CHAIN: Final = Domain(NO_NETWORK, 0, NO_ADDRESS)


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
    paid: PaidNetwork | None = None,
) -> Network:
    """A new network, signed by its operator; ``paid`` says who keeps its ledger, if it has one.

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
        ledger=paid.params if paid else None,
    )
    places = (paid.ledger, paid.witnesses) if paid else (None, ())
    return sign_network(
        genesis, contacts, operator.sign, tuple(dns), ledger=places[0], witnesses=places[1]
    )


@dataclass(frozen=True, slots=True)
class PaidNetwork:
    """A ledger as a network file names it: its parameters, and where it and its witnesses are."""

    params: LedgerParams
    ledger: Contact
    witnesses: tuple[Contact, ...]


def place_of_ledger(log_key: bytes, address: str) -> Contact:
    """Where a ledger is served, as a person typed it.

    Raises:
        UsageError: ``bad_address``.
    """
    if not is_address(address) or is_wildcard(address):
        raise UsageError(
            f"'{address[:120]}' is nowhere to reach a ledger",
            code="bad_address",
            hint="write it as HOST:PORT",
        )
    return check_contact(log_key, address)


def plan_ledger(
    operator: SettlementKey,
    ledger: Contact,
    witnesses: Sequence[Contact],
    *,
    quorum: int | None,
    epoch_s: int,
    supply: int,
    faucet: bool,
    changes: str,
    domain: Domain = NO_CHAIN,
    cosigners: Sequence[Address] = (),
) -> PaidNetwork:
    """A ledger that ``operator`` keeps.

    Args:
        operator: Who opens epochs, and owns all credits at genesis.
        ledger: Where it serves, under the identity key that signs its log.
        witnesses: Who follows it.
        quorum: How many of them a reader demands; by default more than half.
        epoch_s: How long an epoch lasts.
        supply: Credits at genesis.
        faucet: Whether the operator pays each new key once.
        changes: TOML with any other parameter.
        domain: The chain that it settles on, and where its vault will be there.
        cosigners: The witnesses' settlement addresses, if there is one.

    Raises:
        ConfigError: ``bad_ledger_params``.
    """
    needed = len(witnesses) // 2 + 1 if quorum is None else quorum
    fixed = LedgerParams(
        domain,
        operator.address,
        log_key=ledger.public_key,
        witnesses=frozenset(each.public_key for each in witnesses),
        cosigners=frozenset(cosigners),
        quorum=min(needed, len(witnesses)) if quorum is None else needed,
        entry_fee=ENTRY_FEE,
        min_bond=ENTRY_FEE,
        epoch_s=epoch_s,
        open_s=min(OPEN_S, epoch_s // 2),
        vdf_iterations=min(VDF_ITERATIONS, epoch_s * SQUARINGS_S),
        faucet=operator.address if faucet else NO_ADDRESS,
        allocation=((operator.address, supply),) if supply else (),
    )
    return PaidNetwork(change_params(fixed, changes), ledger, tuple(witnesses))


@dataclass(frozen=True, slots=True)
class NewWitness:
    """A witness whose home is made once the network is founded."""

    path: Path
    root: bytes
    contact: Contact

    @property
    def cosigner(self) -> Address:
        """What a chain knows it by."""
        return SettlementKey.derive(self.root).address

    def make_home(self, network: Network) -> None:
        """Make its home, with the settings and the network file it needs."""
        home = Home.create(self.path, self.root)
        _, port = split_address(self.contact.address)
        settings = f'[witness]\nlisten = "0.0.0.0:{port}"\n'
        write_atomic(self.path / FILE_NAME, settings.encode())
        home.save_network(format_network(network))


def new_witnesses(
    paths: Sequence[Path], host: str, first_port: int, entropy: Entropy
) -> list[NewWitness]:
    """Keys for witnesses on this machine; each listens on a port of its own.

    Raises:
        UsageError: ``home_exists``.
    """
    made = []
    for port, path in enumerate(paths, first_port):
        if path.exists():
            raise UsageError(f"{path} exists", code="home_exists", hint="move it out of the way")
        root = entropy(KEY_BYTES)
        public = SigningKey(IdentityKeys.derive(root).identity_seed).public
        made.append(NewWitness(path, root, Contact(public, f"{host}:{port}")))
    return made


def change(
    network: Network,
    operator: SigningKey,
    *,
    contacts: Sequence[Contact],
    dns: Sequence[str],
    drop: Sequence[str],
    ledger: str | None = None,
    witnesses: Sequence[Contact] = (),
) -> Network:
    """The same network with other places to start from.

    Args:
        network: As it stands.
        operator: Must be the key that founded it.
        contacts: Added; one with a key that is listed takes that one's place.
        dns: Names added.
        drop: Addresses and DNS names left out.
        ledger: Where its ledger is served now.
        witnesses: Those whose address changed.

    Raises:
        ConfigError: ``not_operator``, ``no_ledger_here``.
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
    places = {each.public_key: each for each in (*network.witnesses, *witnesses)}
    served, params = network.ledger, network.genesis.ledger
    if params is None and (ledger is not None or witnesses):
        raise ConfigError(f"{network.genesis.name} has no ledger", code="no_ledger_here")
    if ledger is not None and params is not None:
        served = place_of_ledger(params.log_key, ledger)
    return sign_network(
        network.genesis,
        [each for each in listed.values() if each.address not in drop],
        operator.sign,
        tuple(each for each in names if each not in drop),
        ledger=served,
        witnesses=tuple(places.values()),
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
