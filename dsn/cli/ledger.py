"""``dsn ledger``: the ledger's directory, for its operator and for whoever checks it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from dsn.cli.anchor import anchor
from dsn.cli.bond import bond
from dsn.cli.session import Session, pass_session
from dsn.errors import UsageError
from dsn.ui.figures import count
from dsn.ui.table import fields, print_table
from dsn.ui.told import nested_fields

if TYPE_CHECKING:
    from dsn.apps.ledger.batch import Refused
    from dsn.apps.ledger.check import Report
    from dsn.apps.ledgerd.run import Place, Ready
    from dsn.config import ChainSettings
    from dsn.ledger.checkpoint import Checkpoint
    from dsn.ledger.log import TreeHead
    from dsn.ledger.params import LedgerParams
    from dsn.ports import LedgerStore
    from dsn.store.home import Home

ledger_option = click.option(
    "--ledger",
    "place",
    metavar="DIR|URL",
    help="The ledger's directory, or postgresql://...; 'ledger' in the home by default.",
)
network_option = click.option(
    "--network", metavar="FILE", type=click.Path(path_type=Path), help="The network's file."
)
params_option = click.option(
    "--params",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The ledger's parameters (TOML).",
)

record_option = click.option(
    "--record",
    metavar="FILE",
    type=click.File("a", encoding="utf-8"),
    help="Append every entry to FILE as a JSON line, refused ones with their code.",
)


@click.group()
def ledger() -> None:
    """Run a network's ledger, back it up, read it, check it."""


ledger.add_command(anchor)
ledger.add_command(bond)


@ledger.command()
@ledger_option
@network_option
@params_option
@pass_session
def init(session: Session, place: str | None, network: Path | None, params: Path | None) -> None:
    """Make an empty ledger for a network."""
    from dsn.apps.ledger.engine import genesis_of
    from dsn.ledger.state import genesis
    from dsn.store.ledger import create_ledger, shown

    fixed = _params(network, params)
    where = _place(session, place)
    create_ledger(where, *genesis_of(fixed))
    root = genesis(fixed).root.hex()
    session.emit({"ledger": shown(where), "state_root": root})
    session.say(f"{shown(where)}: {count(len(fixed.allocation), 'account')}, state root {root}")


@ledger.command()
@click.argument("file", type=click.File("r", encoding="utf-8", errors="replace"))
@ledger_option
@record_option
@pass_session
def apply(session: Session, file: TextIO, place: str | None, record: TextIO | None) -> int:
    """Put signed entries into the ledger: one a line of FILE, or of standard input ('-').

    A line is JSON with 'entry' and 'signature' in hexadecimal, as 'export' writes it, or both as
    one hexadecimal number. Exits with 1 if one is refused; the others are in the log all the same.
    """
    from dsn.apps.ledger.batch import Refused
    from dsn.apps.ledger.engine import open_sequencer
    from dsn.apps.ledger.lines import format_outcome, parse_submissions

    accepted, refused = 0, list[Refused]()
    with open_sequencer(_place(session, place)) as sequencer:
        for outcome in sequencer.submit(parse_submissions(file)):
            if isinstance(outcome, Refused):
                refused.append(outcome)
            else:
                accepted += 1
            if record:
                record.write(format_outcome(outcome) + "\n")
        head = sequencer.head
    _print_outcomes(session, accepted, refused, head)
    return 1 if refused else 0


@ledger.command()
@click.argument("file", type=click.File("w", encoding="utf-8", lazy=True))
@ledger_option
@pass_session
def export(session: Session, file: TextIO, place: str | None) -> None:
    """Write one JSON line an entry to FILE ('-': standard output).

    Each has what the entry says, its exact bytes and signature, the integer fields of every cell
    it touched as they were after it, and the state root.
    """
    from dsn.apps.ledger.check import export_lines

    with closing(_open(session, place)) as store:
        file.writelines(export_lines(store))
        session.notice(count_entries(store.head().size))


@ledger.command()
@click.argument("place", metavar="[DIR|URL]", required=False)
@click.option(
    "--from",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Check an exported ledger.",
)
@network_option
@params_option
@click.option(
    "--checkpoint",
    metavar="FILE",
    type=click.File("rb"),
    help="A checkpoint that the operator signed; the ledger must be what it says.",
)
@click.option(
    "--evidence",
    metavar="FILE",
    type=click.File("rb"),
    help="Judge a file of evidence instead, by the keys of this home's network or of --network.",
)
@pass_session
def check(
    session: Session,
    place: str | None,
    file: Path | None,
    network: Path | None,
    params: Path | None,
    checkpoint: Any,
    evidence: Any,
) -> int:
    """Replay a ledger from its beginning: every signature, rule, state root and hash.

    Exits with 1 if something is wrong, and says after which entry. An exported ledger says
    nothing of its network: give --network with --from, and --params if that file has none. With
    --evidence it says whom the file convicts of what, and exits with 1 if it convicts nobody.
    """
    from dsn.apps.ledger.check import check_lines, check_store
    from dsn.ledger.params_text import parse_params

    if evidence is not None:
        if place or file or params or checkpoint:
            raise UsageError("--evidence goes with --network only", code="usage")
        return _judge(session, evidence, network)
    if file is not None:
        if place is not None:
            raise UsageError("a ledger or a file, not both", code="usage")
        fixed = _params(network, params)
        with file.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            report = check_lines(fixed, lines, _checkpoint(checkpoint, fixed))
    else:
        with closing(_open(session, place)) as store:
            report = check_store(store, _checkpoint(checkpoint, parse_params(store.genesis)))
    _print_report(session, report)
    return 1 if report.fault else 0


@ledger.command()
@click.argument("subject", required=False)
@ledger_option
@pass_session
def show(session: Session, subject: str | None, place: str | None) -> None:
    """Show the ledger as a whole, or SUBJECT: an account's address, a node, a deal, an entry.

    An entry is named by its number, a deal by its 64 hexadecimal digits.
    """
    from dsn.apps.ledger.show import find, overview

    with closing(_open(session, place)) as store:
        found = overview(store) if subject is None else find(store, subject)
    session.emit(found)
    session.say(fields(list(nested_fields(found))))


@ledger.command()
@ledger_option
@click.option("--listen", metavar="HOST:PORT", help="Where to serve; 0.0.0.0:7078 at first.")
@click.option("--http", metavar="HOST:PORT", help="Serve checkpoint and tiles over HTTP here.")
@record_option
@pass_session
def run(
    session: Session,
    place: str | None,
    listen: str | None,
    http: str | None,
    record: TextIO | None,
) -> None:
    """Run the network's ledger, on its operator's home, until it is told to stop.

    What it acknowledged survives any end. The first start makes the ledger.
    """
    from dsn.apps.ledgerd.run import Place
    from dsn.cli.secrets import passphrase
    from dsn.runtime.logs import configure_logs
    from dsn.runtime.process import silence_grpc, tune_allocator
    from dsn.store.home import Home

    given = {"ledger__place": place, "ledger__listen": listen, "ledger__http": http}
    settings = session.settings(**given)
    silence_grpc()
    home, offered = Home.open(session.home_path()), settings.ledger
    kept = offered.place or str(home.path / "ledger")
    where = Place(kept, home.state, offered.listen, offered.http, record, offered.drand)
    configure_logs(settings.log.level, as_json=not sys.stderr.isatty())
    tune_allocator()
    session.run(_serve(session, home, where, passphrase(session, home), settings.chain))


@ledger.command()
@click.argument("target", metavar="DIR", type=click.Path(path_type=Path))
@ledger_option
@pass_session
def backup(session: Session, target: Path, place: str | None) -> None:
    """Copy the ledger into DIR, also while it runs, with the newest checkpoint.

    A ledger on PostgreSQL is copied with pg_dump.
    """
    from dsn.apps.ledgerd.backup import back_up
    from dsn.store.home import Home

    state = Home(session.home_path()).state
    entries = back_up(_place(session, place), state, target)
    session.emit({"backup": str(target), "entries": entries})
    session.say(f"{target}: {count_entries(entries)}")


@ledger.command()
@click.argument("source", metavar="FROM", type=click.Path(path_type=Path))
@ledger_option
@pass_session
def restore(session: Session, source: Path, place: str | None) -> None:
    """Put the copy in FROM where 'ledger run' looks for it; nothing is overwritten.

    If more than the copy has was signed already, 'ledger run' refuses to go on with it.
    """
    from dsn.apps.ledger.light import no_ledger_here
    from dsn.apps.ledgerd.backup import restore
    from dsn.store.home import Home

    home = Home(session.home_path())
    network, where = home.network(), _place(session, place)
    if network.ledger_params is None:
        raise no_ledger_here(network)
    entries = restore(source, where, home.state, network.ledger_params)
    session.emit({"ledger": where, "entries": entries})
    session.say(f"{where}: {count_entries(entries)}")
    session.notice("next: dsn ledger check, then dsn ledger run")


def count_entries(entries: int) -> str:
    """``1 entry``, ``12 entries``."""
    return count(entries, "entry", "entries")


def _place(session: Session, place: str | None) -> str:
    return place or session.settings().ledger.place or str(session.home_path() / "ledger")


async def _serve(
    session: Session, home: Home, place: Place, secret: bytes | None, chain: ChainSettings
) -> None:
    from dsn.apps.ledgerd.run import run_ledger
    from dsn.runtime.clock import SystemClock
    from dsn.runtime.process import stop_signals

    def say(ready: Ready) -> None:
        session.emit({"node_id": ready.node_id, "address": ready.address, "http": ready.http})
        session.say(f"the ledger of {ready.network} serves on {ready.address}")
        sys.stdout.flush()

    with stop_signals() as stopped:
        await run_ledger(
            home, place, secret, chain=chain, clock=SystemClock(), stopped=stopped, on_ready=say
        )


def _open(session: Session, place: str | None) -> LedgerStore:
    from dsn.store.ledger import open_ledger

    return open_ledger(_place(session, place), signer=False)


def _judge(session: Session, evidence: Any, network: Path | None) -> int:
    """0 if the file ``evidence`` convicts somebody, else 1."""
    from dsn.apps.ledger.evidence_check import MAX_EVIDENCE_BYTES
    from dsn.apps.networks import read_network
    from dsn.cli.verify import judge_evidence
    from dsn.store.home import Home

    judged_by = read_network(network) if network else Home(session.home_path()).network()
    return judge_evidence(session, evidence.read(MAX_EVIDENCE_BYTES + 1), judged_by)


def _params(network: Path | None, params: Path | None) -> LedgerParams:
    from dsn.apps.networks import read_network
    from dsn.ledger.params_text import parse_params

    if network is None:
        raise UsageError("missing option '--network'", hint="name the file")
    founded = read_network(network)
    if params is not None:
        text = params.read_text(encoding="utf-8", errors="replace")
        return parse_params(text, founded.network_id)
    if founded.ledger_params is None:
        raise UsageError("missing option '--params'", hint="name the file: the network's has none")
    return founded.ledger_params


def _checkpoint(file: Any, params: LedgerParams) -> Checkpoint | None:
    """What the checkpoint in ``file`` says, once the operator's signature is known to hold."""
    from dsn.ledger.checkpoint import MAX_NOTE_BYTES, parse_checkpoint, verify_root

    if file is None:
        return None
    signed = parse_checkpoint(file.read(MAX_NOTE_BYTES + 1))
    verify_root(signed, params.domain, params.operator)
    return signed.checkpoint


def _print_outcomes(
    session: Session, accepted: int, refused: Sequence[Refused], head: TreeHead
) -> None:
    session.emit(
        {
            "accepted": accepted,
            "refused": [
                {"index": each.index, "code": each.error.detail_code, "message": each.error.message}
                for each in refused
            ],
            "size": head.size,
            "root": head.root.hex(),
        }
    )
    if refused and not session.json:
        rows = [(str(each.index), each.error.detail_code, each.error.message) for each in refused]
        print_table(("BEFORE", "REFUSED", "WHY"), rows)
    session.say(f"{accepted:,} accepted, {len(refused):,} refused; {count_entries(head.size)}")


def _print_report(session: Session, report: Report) -> None:
    found: dict[str, Any] = {
        "entries": report.entries,
        "size": report.head.size,
        "root": report.head.root.hex(),
        "ok": report.fault is None,
    }
    fault = report.fault
    if fault is not None:
        found["fault"] = {
            "index": fault.index,
            "code": fault.detail_code,
            "message": fault.message,
        }
    session.emit(found)
    if fault is None:
        session.say(f"ok: {count_entries(report.entries)}, root {found['root']}")
    else:
        session.say(f"fault: {fault.message} ({fault.detail_code})")
