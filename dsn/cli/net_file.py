"""``dsn net create`` and ``update``: the file that says which network it is, and where to start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from dsn.cli.net_chain import OnChain, chain_options, part_of
from dsn.cli.secrets import passphrase
from dsn.cli.session import Session, pass_session
from dsn.dht.network import PLACEMENT_GROUPS, Network, PlacementGroup
from dsn.errors import UsageError
from dsn.ids import format_base32
from dsn.ui.figures import count

if TYPE_CHECKING:
    from dsn.apps.networks import NewWitness, PaidNetwork
    from dsn.core.keys import SigningKey
    from dsn.ledger.settlement import SettlementKey
    from dsn.store.home import Home

EPOCH_S = 3_600
SUPPLY = 10**15

contact_option = click.option(
    "--contact",
    "contacts",
    metavar="KEY@HOST:PORT",
    multiple=True,
    help="A node to start from, as 'dsn provider init' prints it; may be repeated.",
)
dns_option = click.option(
    "--dns",
    metavar="NAME",
    multiple=True,
    help="A DNS name whose TXT records hold node records ('dsn net txt'); may be repeated.",
)


witness_option = click.option(
    "--witness",
    "witnesses",
    metavar="KEY@HOST:PORT",
    multiple=True,
    help="A witness of the ledger, by the public key of its home; may be repeated.",
)
ledger_option = click.option(
    "--ledger",
    metavar="HOST:PORT",
    help="Where others reach the ledger that this home keeps.",
)


@click.command()
@click.argument("name")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="Where the network file goes.",
)
@contact_option
@dns_option
@click.option(
    "--group",
    type=click.Choice(PLACEMENT_GROUPS),
    default="subnet",
    show_default=True,
    help="What holds at most one shard of a segment.",
)
@click.option("--loopback", is_flag=True, help="For one machine: no limits on addresses.")
@click.option("--shard-records", is_flag=True, help="Nodes announce each shard (for repair).")
@ledger_option
@witness_option
@click.option(
    "--witnesses",
    "new_witnesses",
    metavar="N",
    type=click.IntRange(1, 16),
    help="Make N homes for witnesses beside FILE, to run here or elsewhere.",
)
@click.option("--quorum", type=int, metavar="N", help="Witnesses that a reader demands.")
@click.option(
    "--epoch-s",
    metavar="S",
    type=click.IntRange(1),
    help=f"How long an epoch lasts, in seconds; {EPOCH_S} at first.",
)
@click.option(
    "--supply",
    metavar="N",
    type=click.IntRange(0),
    help=f"Credits at genesis, all of them this home's; {SUPPLY} at first.",
)
@click.option("--faucet", is_flag=True, help="Give each new key credits from these, once.")
@click.option(
    "--params",
    metavar="FILE",
    type=click.File("r", encoding="utf-8", errors="replace"),
    help="Other parameters of the ledger (TOML).",
)
@chain_options
@click.option("--force", is_flag=True, help="Replace FILE.")
@pass_session
def create(
    session: Session,
    /,
    name: str,
    output: Path,
    contacts: Sequence[str],
    dns: Sequence[str],
    group: PlacementGroup,
    loopback: bool,
    shard_records: bool,
    force: bool,
    erc20: str | None,
    rpc: str | None,
    cosigners: Sequence[str],
    changes: TextIO | None,
    **ledger: Any,
) -> None:
    """Found the network NAME: write its file, signed by this home's identity key.

    Whoever has the file can join; the same home signs it anew when contacts change. With
    --ledger, --witness or --witnesses disk and bandwidth are paid there, on a ledger that this
    home keeps; without them nobody pays. With --erc20, too, the ledger settles on a chain: this
    home makes the contracts there and pays for it. What broke off goes on when it is repeated.
    """
    from dsn.apps.networks import found, parse_contact, read_network
    from dsn.runtime.clock import SystemClock

    if output.exists() and not force:
        raise UsageError(
            f"{output} exists",
            code="output_exists",
            hint="a new file is a new network; 'dsn net update' changes one, --force replaces it",
        )
    chain, part = OnChain.parse(session, erc20, rpc, cosigners, changes), part_of(output)
    if chain and part.exists():
        session.notice(f"going on with {part}")
        network = read_network(part)
        chain.make(session, _settlement(session), network)
        _finish(session, output, network, ())
        return
    paid, added = _plan_ledger(session, output, chain, ledger)
    network = found(
        name,
        _operator(session),
        created_s=int(SystemClock().now_s()),
        group=group,
        address_limits=not loopback,
        shard_records=shard_records,
        contacts=[parse_contact(text) for text in contacts],
        dns=dns,
        paid=paid,
    )
    for witness in added:
        witness.make_home(network)
    if chain:
        _save(part, network)
        chain.make(session, _settlement(session), network)
    _finish(session, output, network, added)


def _finish(session: Session, output: Path, network: Network, added: Sequence[NewWitness]) -> None:
    """Write the file of a network that is all there, and say what comes next."""
    _write(session, output, network)
    part_of(output).unlink(missing_ok=True)
    if network.genesis.ledger:
        session.notice(f"next: dsn join {output} && dsn ledger run")
    for witness in added:
        session.notice(f"a witness: dsn --home {witness.path} witness run")


@click.command()
@click.argument("network_file", type=click.Path(path_type=Path))
@contact_option
@dns_option
@ledger_option
@witness_option
@click.option(
    "--drop",
    metavar="HOST:PORT|NAME",
    multiple=True,
    help="A contact's address or a DNS name to leave out from now on; may be repeated.",
)
@pass_session
def update(
    session: Session,
    network_file: Path,
    contacts: Sequence[str],
    dns: Sequence[str],
    drop: Sequence[str],
    ledger: str | None,
    witnesses: Sequence[str],
) -> None:
    """Change where newcomers to a network start; only its founder's home can.

    The network stays the same: nobody has to join again.
    """
    from dsn.apps.networks import change, parse_contact, read_network

    network = change(
        read_network(network_file),
        _operator(session),
        contacts=[parse_contact(text) for text in contacts],
        dns=dns,
        drop=drop,
        ledger=ledger,
        witnesses=[parse_contact(text) for text in witnesses],
    )
    _write(session, network_file, network)


def _home(session: Session) -> Home:
    from dsn.store.home import Home

    return Home.open(session.home_path())


def _operator(session: Session) -> SigningKey:
    from dsn.apps.provider import identity

    home = _home(session)
    return identity(home, passphrase(session, home))


def _settlement(session: Session) -> SettlementKey:
    from dsn.ledger.settlement import SettlementKey

    home = _home(session)
    return SettlementKey.derive(home.load_root(passphrase(session, home)))


def _wants_ledger(options: Mapping[str, Any], chain: OnChain | None) -> bool:
    if any(options[name] for name in ("ledger", "witnesses", "new_witnesses", "params")):
        return True
    if chain or any(options[name] for name in ("quorum", "epoch_s", "supply", "faucet")):
        raise UsageError(
            "--quorum, --epoch-s, --supply, --faucet and --erc20 are a ledger's",
            hint="say where it is: --ledger HOST:PORT",
        )
    return False


def _plan_ledger(
    session: Session, output: Path, chain: OnChain | None, options: Mapping[str, Any]
) -> tuple[PaidNetwork | None, list[NewWitness]]:
    """What the options say of the ledger, and witnesses with homes beside ``output``."""
    from dsn.apps.networks import (
        NO_CHAIN,
        new_witnesses,
        parse_contact,
        place_of_ledger,
        plan_ledger,
    )
    from dsn.apps.node.run import reachable_address
    from dsn.config import LedgerSettings, WitnessSettings
    from dsn.dht.contact import host_of
    from dsn.rpc.server import split_address
    from dsn.runtime.entropy import system_entropy

    if not _wants_ledger(options, chain):
        return None, []
    key, supply = _settlement(session), options["supply"]
    if chain and supply:
        raise UsageError("--supply: where a ledger settles on a chain all credits are deposited")
    address = options["ledger"] or reachable_address(LedgerSettings().listen, ())
    _, port = split_address(WitnessSettings().listen)
    paths = _witness_paths(output, options["new_witnesses"] or 0)
    added = new_witnesses(paths, host_of(address), port, system_entropy)
    paid = plan_ledger(
        key,
        place_of_ledger(_operator(session).public, address),
        [*map(parse_contact, options["witnesses"]), *(each.contact for each in added)],
        quorum=options["quorum"],
        epoch_s=options["epoch_s"] or EPOCH_S,
        supply=0 if chain else SUPPLY if supply is None else supply,
        faucet=options["faucet"],
        changes=options["params"].read() if options["params"] else "",
        domain=chain.choose(session, key) if chain else NO_CHAIN,
        cosigners=[*chain.cosigners, *(each.cosigner for each in added)] if chain else (),
    )
    return paid, added


def _witness_paths(output: Path, number: int) -> list[Path]:
    stem = output.absolute().with_suffix("")
    return [stem.with_name(f"{stem.name}-witness{each}") for each in range(1, 1 + number)]


def _save(path: Path, network: Network) -> None:
    from dsn.dht.network import format_network
    from dsn.store.files import write_atomic

    write_atomic(path, format_network(network).encode())


def _write(session: Session, path: Path, network: Network) -> None:
    _save(path, network)
    fields = {
        "file": str(path),
        "name": network.genesis.name,
        "network": format_base32(network.network_id),
        "contacts": [each.address for each in network.contacts],
        "dns": list(network.dns),
        "ledger": network.ledger.address if network.ledger else None,
        "witnesses": [each.address for each in network.witnesses],
    }
    session.emit(fields)
    session.say(f"{path}: {network.genesis.name}, {count(len(network.contacts), 'contact')}")
    if not network.contacts and not network.dns:
        session.notice("nobody can find it yet: dsn net update FILE --contact KEY@HOST:PORT")
