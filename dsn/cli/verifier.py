"""``dsn verifier``: look at what nodes prove, and say what was found."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsn.cli.secrets import passphrase
from dsn.cli.session import Session, pass_session
from dsn.errors import NotFound, UsageError
from dsn.store.home import Home
from dsn.ui.table import fields, print_table
from dsn.ui.told import told_fields

if TYPE_CHECKING:
    from dsn.apps.verifier.reports import Report
    from dsn.apps.verifier.run import Ready, VerifierConfig

_HEADINGS = ("PROVIDER", "EPOCHS", "HELD", "WRONG", "SILENT", "LEAVES", "ANSWER", "SCORE", "1 %")


@click.group()
def verifier() -> None:
    """Look at what nodes prove to the ledger, audit files, and sign what was found."""


@verifier.command()
@click.option("--listen", metavar="HOST:PORT", help="Where to listen; 0.0.0.0:7080 at first.")
@click.option(
    "--sample",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Openings looked at of each link that is drawn; 4 at first.",
)
@click.option(
    "--no-slash", is_flag=True, help="Keep what convicts a provider, and do not enter it."
)
@pass_session
def run(session: Session, listen: str | None, sample: int | None, no_slash: bool) -> None:
    """Run the verifier until it is told to stop.

    It replays the ledger into 'ledger' in the home, and looks at links that the next epoch's
    beacon draws. A wrong opening costs its provider the collateral; a tenth of it is yours.
    """
    from dsn.apps.verifier.run import VerifierConfig
    from dsn.runtime.logs import configure_logs
    from dsn.runtime.process import silence_grpc, tune_allocator

    settings = session.settings(verifier__listen=listen, verifier__sample=sample)
    silence_grpc()
    home = Home.open(session.home_path())
    secret = passphrase(session, home)
    configure_logs(settings.log.level, as_json=not sys.stderr.isatty())
    tune_allocator()
    config = VerifierConfig(
        home, settings.verifier, settings.dht, settings.client, not no_slash, secret
    )
    session.run(_serve(session, config))


@verifier.command()
@pass_session
def status(session: Session) -> None:
    """Ask the running verifier of this home how far it has looked."""
    from dsn.runtime.control import ask_control

    home = Home.open(session.home_path())
    answer = session.run(ask_control(home.control_socket, "status"))
    session.emit(answer)
    session.say(fields(told_fields(answer)))


@verifier.command()
@click.option("--from", "first", type=click.IntRange(1), metavar="EPOCH", help="The first epoch.")
@click.option("--to", "last", type=click.IntRange(1), metavar="EPOCH", help="The last epoch.")
@click.option("--provider", metavar="NODE", help="Only this provider.")
@click.option(
    "--format",
    "shape",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="A row a provider with its reasons, a line a verdict, or everything.",
)
@click.option(
    "--bundle",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the bundle behind each verdict into DIR, for 'dsn verify'.",
)
@pass_session
def report(
    session: Session,
    first: int | None,
    last: int | None,
    provider: str | None,
    shape: str,
    folder: Path | None,
) -> None:
    """Say what this home's verifier found, with every score explained."""
    from dsn.apps.verifier.reports import explain

    if first is not None and last is not None and first > last:
        raise UsageError(f"--from {first} is after --to {last}", hint="give the earlier one first")
    found = session.run(_report(session, first or 0, last, provider, folder))
    session.emit(found.fields())
    if session.json:
        return
    if shape == "json":
        click.echo(json.dumps(found.fields(), indent=2))
    elif shape == "csv":
        _print_csv(found)
    else:
        print_table(_HEADINGS, (each.cells() for each in found.providers))
        for each in found.providers:
            session.say(["", *explain(each)])


async def _report(
    session: Session, first: int, last: int | None, provider: str | None, folder: Path | None
) -> Report:
    from dsn.apps.verifier.reports import build_report
    from dsn.apps.verifier.run import VERDICTS
    from dsn.core.keys import IdentityKeys, SigningKey
    from dsn.ids import parse_node_id
    from dsn.runtime.clock import SystemClock
    from dsn.store.verdicts import open_verdicts

    home, node = Home.open(session.home_path()), parse_node_id(provider) if provider else None
    root, place = home.load_root(passphrase(session, home)), home.state / VERDICTS
    if not place.exists():
        raise NotFound(
            f"no verifier ran in {home.path} yet", code="no_verdicts", hint="dsn verifier run"
        )
    async with open_verdicts(place) as store:
        found = build_report(
            [each.signed for each in await store.page()],
            await store.draws(),
            verifier=SigningKey(IdentityKeys.derive(root).identity_seed).public,
            now_s=SystemClock().now_s(),
            first=first,
            last=last,
            node=node,
        )
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            rows = [row for each in found.providers for row in each.rows]
            kept = [await store.bundle(row.verdict.evidence) for row in rows]
            for row, raw in zip(rows, kept, strict=True):
                if raw:
                    name = f"{row.verdict.evidence.hex()[:16]}.dsnproof.json"
                    (folder / name).write_bytes(raw)
    return found


def _print_csv(found: Report) -> None:
    rows = [row.fields() for each in found.providers for row in each.rows]
    if rows:
        writer = csv.DictWriter(sys.stdout, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


async def _serve(session: Session, config: VerifierConfig) -> None:
    from dsn.apps.verifier.run import run_verifier
    from dsn.runtime.clock import SystemClock
    from dsn.runtime.entropy import system_entropy
    from dsn.runtime.process import stop_signals

    def say(ready: Ready) -> None:
        place = f"{ready.public_key}@{ready.address}"
        session.emit({"node_id": ready.node_id, "address": ready.address, "verifier": place})
        session.say(f"verifier {ready.node_id} serves on {ready.address}")
        session.say(f"others name it in their settings as client.verifiers: {place}")
        sys.stdout.flush()

    with stop_signals() as stopped:
        await run_verifier(
            config, clock=SystemClock(), entropy=system_entropy, stopped=stopped, on_ready=say
        )
