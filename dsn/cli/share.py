"""``dsn share``: a link that opens one file, and what it lets its holder do."""

from __future__ import annotations

import dataclasses

import click

from dsn.cli.session import Session, pass_session
from dsn.errors import UsageError


@click.command()
@click.argument("target", metavar="CAP|NAME")
@click.option("--read", is_flag=True, help="Read the file, and verify it.")
@click.option("--repair", is_flag=True, help="Rebuild lost shards, and verify; not read.")
@click.option("--verify", is_flag=True, help="Have the holders prove it; not read.")
@pass_session
def share(session: Session, target: str, read: bool, repair: bool, verify: bool) -> None:
    """Print a link to one file; a link cannot be taken back.

    Standard output gets the link alone.
    """
    asked = [kind for kind, on in (("read", read), ("repair", repair), ("verify", verify)) if on]
    if len(asked) != 1:
        raise UsageError(
            "exactly one of --read, --repair, --verify is needed",
            hint="--verify is the weakest: it checks the file and cannot read it",
        )
    result = session.with_client(lambda client: client.share(target, asked[0]))
    session.notice(f"this {result.kind} link allows: {result.allows}")
    session.notice("it cannot be taken back: whoever has it keeps what it allows")
    session.say(result.capability)
    session.emit(dataclasses.asdict(result))
