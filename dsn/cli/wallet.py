"""``dsn wallet``: the account of this home on its network's ledger."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from dsn.cli.onchain import run_on_chain, units
from dsn.cli.secrets import passphrase, read_secret
from dsn.cli.session import Session, pass_session
from dsn.errors import ConfigError, TransportError, UsageError
from dsn.ids import format_base32, format_node_id
from dsn.ledger.settlement import SettlementKey, format_address, parse_address
from dsn.store.home import Home
from dsn.ui.figures import format_date, format_seconds
from dsn.ui.table import fields, print_table

if TYPE_CHECKING:
    from dsn.apps.chain.home import HomeOnChain
    from dsn.apps.chain.paying_in import Deposited
    from dsn.apps.chain.paying_out import Withdrawn
    from dsn.apps.ledger.history import Line
    from dsn.apps.wallet import Wallet

Result = TypeVar("Result")
_SHOWN_CHARS = 10
"""Of an address or a deal in a table."""


@click.group()
def wallet() -> None:
    """Credits: what this home has, where they came from, and paying others.

    Amounts are whole credits. What the ledger says is proven, or this says that it is not.
    """


@wallet.command()
@pass_session
def address(session: Session) -> None:
    """Show where this home is paid.

    And whether the ledger knows whose address that is.
    """

    async def described(wallet: Wallet) -> tuple[str, str, bool | None]:
        bound = None
        try:
            bound = await wallet.bound()
        except TransportError as error:
            session.warn(error.message)
        return format_address(wallet.address), format_node_id(wallet.node), bound

    own, node, bound = _with_wallet(session, described)
    session.emit({"address": own, "node_id": node, "bound": bound})
    said = {True: "yes", False: "no: dsn wallet bind", None: "not known now"}[bound]
    session.say(fields([("address", own), ("node id", node), ("bound", said)]))


@wallet.command()
@pass_session
def balance(session: Session) -> None:
    """Show what is available and what is locked in deals.

    Escrow is what this home has locked as a client, collateral what it has locked as a provider.
    Where the network settles on a chain, it shows what this home has there, too: units, wei for
    gas, and what is on its way between the two.
    """
    found = _with_wallet(session, lambda wallet: wallet.balance())
    amounts = asdict(found) | _chain_amounts(session)
    session.emit({name: str(amount) for name, amount in amounts.items()})
    session.say(_balance_lines(amounts))


@wallet.command()
@click.option("--limit", metavar="N", type=click.IntRange(1), help="Only the newest N.")
@pass_session
def history(session: Session, limit: int | None) -> None:
    """List every entry that touched this account, the newest last.

    Each line's balance follows from the one before, and the last one is what the ledger proves.
    """
    found = _with_wallet(session, lambda wallet: wallet.history())
    lines = found.lines[-limit:] if limit else found.lines
    session.emit([_line_fields(line) for line in lines])
    if session.json:
        return
    if not lines:
        session.notice("nothing yet; 'dsn wallet request AMOUNT' asks somebody for credits")
        return
    headings = ("ENTRY", "EPOCH", "KIND", "WITH", "DEAL", "CHANGE", "FEE", "LOCKED", "BALANCE")
    print_table(headings, map(_line_row, lines))


@wallet.command()
@click.argument("to", metavar="ADDRESS|REQUEST")
@click.argument("amount", metavar="[AMOUNT]", required=False)
@click.option("--yes", is_flag=True, help="Do not ask whether that is what you mean.")
@pass_session
def send(session: Session, to: str, amount: str | None, yes: bool) -> None:
    """Pay AMOUNT to an address, or pay a request.

    A payment cannot be taken back.
    """
    from dsn.apps.payment import SCHEME, check_network, parse_amount, parse_request

    network = Home.open(session.home_path()).network().network_id
    if to.startswith(SCHEME):
        request = parse_request(to)
        check_network(request, network)
        if amount is not None and parse_amount(amount) != request.amount:
            raise UsageError(
                f"{amount} credits, the request is for {request.amount}",
                code="bad_amount",
                hint="leave the amount out: the request has it",
            )
        if request.note:
            session.notice(f"note: {request.note}")
        receiver, credits = request.to, request.amount
    elif amount is None:
        raise UsageError("missing argument 'AMOUNT'", hint="dsn wallet send ADDRESS AMOUNT")
    else:
        receiver, credits = parse_address(to), parse_amount(amount)

    async def paid(wallet: Wallet) -> dict[str, object]:
        there = await wallet.check_payment(receiver, credits)
        if not there.nonce and not there.available:
            session.notice("nobody has used that address yet: is it the right one?")
        _confirm(yes, f"pay {credits:,} credits to {format_address(receiver)}, fee {wallet.fee:,}")
        sent = await wallet.send(receiver, credits)
        amounts = {"amount": sent.amount, "fee": sent.fee, "available": sent.available}
        told = {name: str(value) for name, value in amounts.items()}
        return {"index": sent.index, "to": format_address(receiver)} | told

    done = _with_wallet(session, paid)
    session.emit(done)
    session.say(
        f"paid {credits:,} credits to {done['to']}: entry {done['index']}, "
        f"{int(str(done['available'])):,} left"
    )


@wallet.command()
@click.argument("amount")
@click.option("--note", default="", metavar="TEXT", help="What it is for; whoever pays sees it.")
@pass_session
def request(session: Session, amount: str, note: str) -> None:
    """Print a line that asks for AMOUNT credits.

    'dsn wallet send' pays it. Standard output gets the line alone.
    """
    from dsn.apps.payment import PaymentRequest, check_note, format_request, parse_amount

    credits = parse_amount(amount)
    check_note(note)

    async def made(wallet: Wallet) -> PaymentRequest:
        network = wallet.light.params.domain.network
        return PaymentRequest(wallet.address, credits, network, note)

    line = format_request(_with_wallet(session, made))
    session.notice("whoever has this line can pay it: dsn wallet send 'LINE'")
    session.say(line)
    session.emit({"request": line})


@wallet.command()
@pass_session
def bind(session: Session) -> None:
    """Bind this home's identity to its account; deals need that of both sides.

    Where the network has a faucet, a new account gets its first credits too.
    """
    done = _with_wallet(session, lambda wallet: wallet.enrol())
    shown = format_address(done.address)
    session.emit({"address": shown, "drawn": str(done.drawn), "bound": True})
    session.say(enrolled_lines(done.drawn))
    session.say(f"{'bound' if done.bound else 'was bound before'}: {shown}")


@wallet.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--passphrase-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Seal the key with the passphrase in FILE, as any Ethereum wallet opens it.",
)
@click.option("--show", is_flag=True, help="Print the key itself on standard output.")
@pass_session
def export(session: Session, file: Path | None, passphrase_file: Path | None, show: bool) -> None:
    """Write the settlement key to FILE.

    Without FILE it says what a backup needs.

    The recovery phrase brings everything back: a key file is for other wallets.
    """
    from dsn.apps.wallet import settlement_seed

    if passphrase_file is not None and file is None:
        raise UsageError("--passphrase-file without a FILE to write", hint="name the FILE first")
    home = Home.open(session.home_path())
    root, network = home.load_root(passphrase(session, home)), home.network()
    seed = settlement_seed(root)
    shown = format_address(SettlementKey(seed).address)
    told = {"address": shown, "network": format_base32(network.network_id)}
    if file is not None:
        _write_key(file, seed, shown, passphrase_file)
    written = {"file": None if file is None else str(file)}
    session.emit(told | written | ({"key": seed.hex()} if show else {}))
    session.say(fields([*told.items(), *([("key", seed.hex())] if show else [])]))
    if file is not None:
        session.say(f"written: {file}; whoever reads it can spend what is at this address")
    session.notice("the recovery phrase brings this home back, this address included")


@wallet.command()
@click.argument("amount")
@click.option("--to", metavar="ADDRESS", help="Whose credits they become; this home's at first.")
@pass_session
def deposit(session: Session, amount: str, to: str | None) -> None:
    """Turn AMOUNT units on the chain into credits.

    A unit is the smallest part of what the network settles in, an ERC-20 on its chain. The vault
    takes the units; once that is final there, the ledger credits them, and this returns. It needs
    the units, and some of the chain's own coin for gas, at the address that 'dsn wallet address'
    shows.

    The same command goes on with what was interrupted: nothing is deposited twice.
    """
    from dsn.apps.payment import parse_amount

    credits = parse_amount(amount)
    receiver = None if to is None else parse_address(to)

    async def deposited(home: HomeOnChain) -> Deposited:
        return await home.paying_in.deposit(credits, receiver or home.chain.account)

    done = run_on_chain(session, deposited)
    account = format_address(done.account)
    amounts = {name: str(getattr(done, name)) for name in ("amount", "units", "available")}
    counted = {"serial": done.serial, "block": done.number, "gas": done.gas}
    session.emit({"account": account, **amounts, **counted})
    session.say(
        f"{done.amount:,} credits for {account}: its deposit {done.serial}, in block "
        f"{done.number:,}; {done.available:,} are available on the ledger, {units(done.units)} "
        "left on the chain"
    )


@wallet.command()
@click.argument("amount", required=False)
@click.option("--no-wait", is_flag=True, help="Return once the ledger has the withdrawal.")
@pass_session
def withdraw(session: Session, amount: str | None, no_wait: bool) -> None:
    """Turn AMOUNT credits into units on the chain.

    Without AMOUNT it fetches what was withdrawn before and is due by now.

    The ledger takes the credits at once. The vault pays when the state that says so was anchored
    on the chain and nobody could show it wrong for the vault's challenge period, which may be days:
    you need not wait, 'dsn wallet withdraw' without an amount fetches it later. It costs gas.

    The same command goes on with what was interrupted: nothing is withdrawn twice.
    """
    from dsn.apps.payment import parse_amount

    credits = None if amount is None else parse_amount(amount)

    async def withdrawn(home: HomeOnChain) -> Withdrawn:
        if credits is None:
            return await home.paying_out.collect()
        return await home.paying_out.withdraw(credits, wait=not no_wait)

    done = run_on_chain(session, withdrawn)
    amounts = {
        name: str(getattr(done, name)) for name in ("collected", "withdrawn", "paid", "units")
    }
    times = {"due_s": done.due_s, "challenge_s": done.challenge_s, "gas": done.gas}
    session.emit(amounts | times)
    session.say(_withdrawn_lines(done))


def enrolled_lines(drawn: int) -> list[str]:
    """What a home is told of the faucet."""
    return [f"{drawn:,} credits from the faucet"] if drawn else []


def _with_wallet(session: Session, work: Callable[[Wallet], Awaitable[Result]]) -> Result:
    """Open this home's wallet, run ``work`` and close it again."""
    from dsn.apps.wallet import opened

    home = Home.open(session.home_path())
    secret = passphrase(session, home)

    async def run() -> Result:
        async with opened(home, secret) as wallet:
            return await work(wallet)

    return session.run(run())


def _confirm(yes: bool, what: str) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{what}: not confirmed", hint="--yes confirms it", code="not_confirmed")
    click.confirm(f"{what}?", abort=True, err=True)


def _write_key(file: Path, seed: bytes, shown: str, passphrase_file: Path | None) -> None:
    """Write the key, readable by its owner alone; a file that is there stays."""
    from dsn.apps.keystore import seal_key
    from dsn.runtime.entropy import system_entropy
    from dsn.store.files import write_atomic

    if passphrase_file is None:
        text = f"# The settlement key of {shown}. Whoever reads it can spend.\n{seed.hex()}\n"
    else:
        secret = read_secret(passphrase_file)
        if not secret:
            raise UsageError(f"{passphrase_file} holds no passphrase", hint="write one into it")
        text = seal_key(SettlementKey(seed).address, seed, secret, system_entropy)
    try:
        write_atomic(file, text.encode("utf-8"), replace=False)
    except FileExistsError:
        raise UsageError(
            f"{file} is there already", code="output_exists", hint="choose another name"
        ) from None


def _balance_lines(amounts: Mapping[str, int]) -> Iterator[str]:
    shown = {name.replace("_", " "): f"{amount:,}" for name, amount in amounts.items()}
    width = max(map(len, shown.values()))
    return fields([(name, amount.rjust(width)) for name, amount in shown.items()])


def _chain_amounts(session: Session) -> dict[str, int]:
    """What this home has on its network's chain; nothing if there is none, or it is away."""
    from dsn.apps.chain.balance import read_on_chain

    params = Home.open(session.home_path()).network().ledger_params
    if params is None or not params.settles:
        return {}

    async def read(home: HomeOnChain) -> dict[str, int]:
        cell = await home.light.account(home.chain.account)
        found = asdict(await read_on_chain(home.chain, cell))
        return {"on_chain": found.pop("units"), "gas_wei": found.pop("gas"), **found}

    try:
        return run_on_chain(session, read)
    except (ConfigError, TransportError) as error:
        session.warn(f"not known what is on the chain: {error.message}")
        return {}


def _withdrawn_lines(done: Withdrawn) -> Iterator[str]:
    if done.collected:
        yield f"{units(done.collected)} came, gas {done.gas:,}"
    yield (
        f"withdrawn on the ledger {done.withdrawn:,}, paid by the vault {done.paid:,}; "
        f"{units(done.units)} on the chain"
    )
    rest = done.withdrawn - done.paid
    if rest and done.due_s is not None:
        yield f"{units(rest)} can be fetched from {format_date(done.due_s)} UTC on"
    elif rest:
        span = format_seconds(done.challenge_s)
        yield f"{units(rest)} can be fetched {span} after the next anchor"


def _line_fields(line: Line) -> dict[str, object]:
    """The stable output of one entry; credits are decimal strings."""
    amounts = ("change", "fee", "locked", "balance")
    return asdict(line) | {name: str(getattr(line, name)) for name in amounts}


def _line_row(line: Line) -> tuple[str, ...]:
    return (
        str(line.index),
        str(line.epoch),
        line.kind.replace("_", " "),
        line.other[:_SHOWN_CHARS] or "-",
        line.deal[:_SHOWN_CHARS] or "-",
        f"{line.change:+,}",
        f"{line.fee:,}",
        f"{line.locked:+,}",
        f"{line.balance:,}",
    )
