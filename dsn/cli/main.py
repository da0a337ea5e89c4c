"""The one entry of the command line: find the command, run it, turn any outcome into a code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from dsn.cli.failure import BROKEN_PIPE_EXIT, describe, is_broken_pipe, report
from dsn.cli.lazy import LazyGroup
from dsn.cli.session import Session

EPILOG = "Exit codes: 0 done, 1 a check found a fault, 2 usage or configuration, 3 not found, \
4 a peer broke the protocol, 5 data lost, 6 limit or credit, 7 unreachable, 130 interrupted."

SECTIONS = {
    "Start": {
        "demo": ("dsn.cli.demo:demo", "The story of a file on a real network on this machine."),
        "devnet": ("dsn.cli.devnet:devnet", "A local network of real nodes that stays."),
        "init": ("dsn.cli.init:init", "Create a home: keys and a recovery phrase."),
        "join": ("dsn.cli.init:join", "Join the network a network file describes."),
        "recover": ("dsn.cli.init:recover", "Bring a lost home back from its phrase."),
        "doctor": ("dsn.cli.doctor:doctor", "Check this machine and name each fix."),
    },
    "Files": {
        "put": ("dsn.cli.put:put", "Store files and directories."),
        "get": ("dsn.cli.get:get", "Read a file or directory back."),
        "cat": ("dsn.cli.get:cat", "Write a file's bytes to standard output."),
        "ls": ("dsn.cli.files:ls", "List what is stored."),
        "info": ("dsn.cli.files:info", "Show one file and who holds it."),
        "check": ("dsn.cli.check:check", "Have the holders prove a file."),
        "audit": ("dsn.cli.audit:audit", "Have each holder prove a file, and keep the proof."),
        "verify": ("dsn.cli.verify:verify", "Say what a bundle or evidence is worth, offline."),
        "repair": ("dsn.cli.repair:repair", "Make lost shards of a file again on other nodes."),
        "quote": ("dsn.cli.quote:quote", "Say what storing would cost, and how safe it is."),
        "renew": ("dsn.cli.renew:renew", "Have stored files last longer."),
        "share": ("dsn.cli.share:share", "Print a link that opens one file."),
        "rm": ("dsn.cli.files:rm", "Remove files and free their space."),
    },
    "Credits": {
        "wallet": ("dsn.cli.wallet:wallet", "What this home has, and paying others."),
        "dispute": ("dsn.cli.dispute:dispute", "Have a node show a leaf on the chain."),
        "escape": ("dsn.cli.escape:escape", "Leave a frozen vault with all that is yours."),
    },
    "Network": {
        "net": ("dsn.cli.net:net", "Found a network, see its nodes, follow a search."),
        "sim": ("dsn.cli.sim:sim", "Try the protocols at a scale no machine holds."),
    },
    "Operators": {
        "provider": ("dsn.cli.provider:provider", "Offer disk to the network."),
        "ledger": ("dsn.cli.ledger:ledger", "Keep a ledger, export it, check it."),
        "witness": ("dsn.cli.witness:witness", "Replay the ledger and cosign what was found."),
        "verifier": ("dsn.cli.verifier:verifier", "Look at what nodes prove, and say what it saw."),
        "config": ("dsn.cli.config:config", "Show every setting and where it came from."),
    },
}


@click.group(
    cls=LazyGroup, sections=SECTIONS, epilog=EPILOG, context_settings={"max_content_width": 100}
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _, asked: _print_version(ctx) if asked else None,
    help="Print the version and exit.",
)
def cli() -> None:
    """Store files on a decentralized network that proves it still holds them."""


def _print_version(ctx: click.Context) -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"dsn {version('dsn')}")
    except PackageNotFoundError:
        click.echo("dsn (not installed: run from its source folder)")
    ctx.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; no traceback leaves this function.

    Args:
        argv: The arguments without the program's name; the process's own when ``None``.

    Returns:
        One of the exit codes of ``EPILOG``, or 70 for an internal error and 141 when
        standard output was closed early.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read at import; our errors say it better
    args = list(sys.argv[1:] if argv is None else argv)
    session = Session(json="--json" in args)
    try:
        outcome = _run(args, session)
        sys.stdout.flush()
    except click.exceptions.Exit as asked:
        return asked.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except (Exception, KeyboardInterrupt) as error:
        if is_broken_pipe(error):
            _drop_stdout()
            return BROKEN_PIPE_EXIT
        return report(error, describe(error), session)
    return outcome if isinstance(outcome, int) else 0


def _run(args: list[str], session: Session) -> object:
    """What click's own ``main`` does, without its handling of errors."""
    if completion := os.environ.get("_DSN_COMPLETE"):
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, "dsn", "_DSN_COMPLETE", completion)
    with cli.make_context("dsn", args, obj=session) as context:
        return cli.invoke(context)


def _drop_stdout() -> None:
    """Point standard output at nothing, so that the interpreter's last flush is quiet too."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
    os.close(sink)
