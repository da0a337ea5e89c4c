"""``dsn witness``: follow the ledger, and cosign what follows from its entries."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from dsn.cli.secrets import passphrase
from dsn.cli.session import Session, pass_session
from dsn.store.home import Home
from dsn.ui.table import fields
from dsn.ui.told import told_fields

if TYPE_CHECKING:
    from dsn.apps.witness.run import Ready
    from dsn.config import Settings


@click.group()
def witness() -> None:
    """Witness a network's ledger: replay every entry, and cosign what was found."""


@witness.command()
@click.option("--listen", metavar="HOST:PORT", help="Where to listen; 0.0.0.0:7079 at first.")
@pass_session
def run(session: Session, listen: str | None) -> None:
    """Run the witness until it is told to stop.

    The home's key must be one of the network file's witnesses. The replica is in 'ledger' in the
    home, and what convicts the ledger's operator in 'evidence'. Never run a copy of this home.
    """
    from dsn.runtime.logs import configure_logs
    from dsn.runtime.process import silence_grpc, tune_allocator

    settings = session.settings(witness__listen=listen)
    silence_grpc()
    home = Home.open(session.home_path())
    secret = passphrase(session, home)
    configure_logs(settings.log.level, as_json=not sys.stderr.isatty())
    tune_allocator()
    session.run(_serve(session, home, settings, secret))


@witness.command()
@pass_session
def status(session: Session) -> None:
    """Ask the running witness of this home how far it has followed."""
    from dsn.runtime.control import ask_control

    home = Home.open(session.home_path())
    answer = session.run(ask_control(home.control_socket, "status"))
    session.emit(answer)
    session.say(fields(told_fields(answer)))


async def _serve(session: Session, home: Home, settings: Settings, secret: bytes | None) -> None:
    from dsn.apps.witness.run import run_witness
    from dsn.runtime.clock import SystemClock
    from dsn.runtime.entropy import system_entropy
    from dsn.runtime.process import stop_signals

    def say(ready: Ready) -> None:
        session.emit({"node_id": ready.node_id, "address": ready.address, "size": ready.size})
        session.say(f"witness {ready.node_id} serves on {ready.address}")
        sys.stdout.flush()

    with stop_signals() as stopped:
        await run_witness(
            home,
            settings.witness.listen,
            secret,
            chain=settings.chain,
            clock=SystemClock(),
            entropy=system_entropy,
            stopped=stopped,
            on_ready=say,
        )
