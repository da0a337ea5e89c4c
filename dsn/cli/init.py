"""``dsn init``, ``dsn join`` and ``dsn recover``: a home, its network, and back from the phrase."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from dsn.cli.secrets import passphrase, read_secret
from dsn.cli.session import Session, pass_session
from dsn.core.keys import IdentityKeys, SigningKey, node_id_of
from dsn.core.phrase import format_phrase, parse_phrase
from dsn.dht.network import Network, parse_network
from dsn.errors import (
    ConfigError,
    EntryRefused,
    LimitReached,
    TransportError,
    Unreachable,
    UsageError,
)
from dsn.ids import format_base32, format_node_id
from dsn.runtime.entropy import system_entropy
from dsn.store.home import Home
from dsn.ui.figures import count
from dsn.ui.table import fields
from dsn.units import format_size

WORDS_A_LINE = 6

network_option = click.option(
    "--network", metavar="FILE", type=click.Path(path_type=Path), help="Join this network at once."
)
passphrase_option = click.option(
    "--passphrase-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Seal the keys with the passphrase in FILE.",
)


@click.command()
@network_option
@passphrase_option
@pass_session
def init(session: Session, network: Path | None, passphrase_file: Path | None) -> None:
    """Create a home: its keys, and the phrase that brings everything back.

    The phrase is shown this once. Whoever has it is you, and without it a lost home is lost.
    """
    text = None if network is None else _read_network(network)
    root = system_entropy(32)
    home = _create(session, root, passphrase_file)
    joined = None if text is None else home.save_network(text)
    phrase = format_phrase(root)
    described = _described(home, root, joined)
    session.emit(described | {"phrase": phrase})
    session.say(fields(list(_pairs(described))))
    session.say(["", "recovery phrase (write it down; it is shown this once):", ""])
    session.say(_lines_of(phrase))
    if joined is None:
        session.notice("next: dsn join NETWORK_FILE")
    elif joined.ledger_params is not None:
        session.notice("next: dsn wallet bind, for an account on the ledger")


@click.command()
@click.argument("network_file", type=click.Path(path_type=Path))
@click.option("--no-wallet", is_flag=True, help="Do not open an account on the ledger now.")
@pass_session
def join(session: Session, network_file: Path, no_wallet: bool) -> None:
    """Join the network that NETWORK_FILE describes, once its signature is checked.

    Where disk and bandwidth are paid, this also opens an account: the first credits from the
    network's faucet, if it has one, and the identity bound to them.
    """
    home = Home.open(session.home_path())
    joined = _join(home, _read_network(network_file))
    contacts = len(joined.contacts)
    session.say(f"joined {joined.genesis.name}: {count(contacts, 'contact')} to start from")
    if session.run(_tell(home)):
        session.notice("the process that runs on this home goes by it from now on")
    account = {} if no_wallet or joined.ledger_params is None else _enrol(session, home)
    described = {"home": str(home.path), "network": _named(joined), "contacts": contacts}
    session.emit(described | account)


async def _tell(home: Home) -> bool:
    """Have the process that runs on ``home``, if one does, read the network file again."""
    from dsn.apps.moving import COMMAND
    from dsn.runtime.control import ask_control

    try:
        return "moved" in await ask_control(home.control_socket, COMMAND)
    except Unreachable:
        return False


def _enrol(session: Session, home: Home) -> dict[str, object]:
    """Open an account for ``home``; that it must wait is no failure.

    Returns:
        What the command prints of it.
    """
    from dsn.apps.wallet import PATIENCE_S, enrol
    from dsn.ledger.settlement import format_address

    secret = passphrase(session, home)
    try:
        done = session.run(enrol(home, secret, patience_s=PATIENCE_S))
    except (TransportError, LimitReached, EntryRefused) as error:
        session.warn(f"no account yet: {error.message}; 'dsn wallet bind' does it later")
        return {"drawn": "0", "bound": False}
    address = format_address(done.address)
    drawn = f", {done.drawn:,} credits from the faucet" if done.drawn else ""
    session.say(f"paid at {address}{drawn}")
    return {"address": address, "drawn": str(done.drawn), "bound": True}


@click.command()
@network_option
@passphrase_option
@click.option(
    "--phrase-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Read the phrase from FILE; else it is asked for, or read from standard input.",
)
@pass_session
def recover(
    session: Session,
    network: Path | None,
    passphrase_file: Path | None,
    phrase_file: Path | None,
) -> None:
    """Bring a lost home back from its phrase: keys, names, links and deals.

    Interrupted, or before the network is joined, the same command goes on where it was.
    """
    text = None if network is None else _read_network(network)
    root = parse_phrase(_ask_phrase(phrase_file))
    home = _existing(session, root) or _create(session, root, passphrase_file)
    joined = None if text is None else _join(home, text)
    described = _described(home, root, joined)
    if joined is None and not home.network_file.exists():
        session.emit(described | {"files": None, "bytes": None, "deals": None})
        session.say("the keys are back")
        session.notice("next: dsn join NETWORK_FILE, then dsn recover again, for the names")
        return
    found = session.with_client(lambda client: client.recover())
    session.emit(described | asdict(found))
    deals = f", {count(found.deals, 'deal')}" if found.deals else ""
    session.say(f"back: {count(found.files, 'file')}, {format_size(found.bytes)}{deals}")
    if found.missing_deals:
        session.warn(
            f"{count(found.missing_deals, 'deal')} of this account more, which no node shows: "
            "'dsn recover' again once all nodes are back"
        )


def _create(session: Session, root: bytes, passphrase_file: Path | None) -> Home:
    file = str(passphrase_file or "") or session.settings().keys.passphrase_file
    secret = read_secret(Path(file).expanduser()) if file else None
    if secret == b"":
        raise UsageError(f"{file} holds no passphrase", hint="write one into it")
    return Home.create(session.home_path(), root, secret)


def _existing(session: Session, root: bytes) -> Home | None:
    """The home that is there already, if it is the one of the phrase; ``None`` if there is none."""
    home = Home(session.home_path())
    if not home.key_file.exists():
        return None
    if home.load_root(passphrase(session, home)) != root:
        raise ConfigError(
            f"{home.path} has the keys of another phrase",
            hint="choose another directory with --home; keys are never overwritten",
            code="home_exists",
        )
    return home


def _read_network(path: Path) -> str:
    """A network file's text, its signature checked before anything is made."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text", code="bad_network_file") from None
    parse_network(text)
    return text


def _join(home: Home, text: str) -> Network:
    """Join, unless the home belongs to another network: its names would be out of sight there.

    Raises:
        ConfigError: ``other_network``.
    """
    new = parse_network(text)
    if home.network_file.exists():
        old = home.network()
        if old.network_id != new.network_id:
            raise ConfigError(
                f"{home.path} has joined {old.genesis.name} ({_named(old)[:10]}), "
                f"this is {new.genesis.name} ({_named(new)[:10]})",
                hint="one home has one network; make another with --home",
                code="other_network",
            )
    return home.save_network(text)


def _named(network: Network) -> str:
    return format_base32(network.network_id)


def _described(home: Home, root: bytes, joined: Network | None) -> dict[str, object]:
    identity = SigningKey(IdentityKeys.derive(root).identity_seed)
    return {
        "home": str(home.path),
        "node_id": format_node_id(node_id_of(identity.public)),
        "public_key": format_base32(identity.public),
        "network": None if joined is None else _named(joined),
    }


def _pairs(described: dict[str, object]) -> Iterator[tuple[str, str]]:
    for key, value in described.items():
        if value is not None:
            yield key.replace("_", " "), str(value)


def _lines_of(phrase: str) -> Iterator[str]:
    words = phrase.split()
    for at in range(0, len(words), WORDS_A_LINE):
        yield "  " + " ".join(words[at : at + WORDS_A_LINE])


def _ask_phrase(file: Path | None) -> str:
    if file is not None:
        return file.read_text(encoding="utf-8", errors="replace")
    if sys.stdin.isatty():
        typed: str = click.prompt("recovery phrase (24 words)", err=True)
        return typed
    return sys.stdin.read()
