"""``dsn doctor``: what may keep dsn from working here, and the fix of each."""

from __future__ import annotations

import dataclasses

import click

from dsn.apps.doctor import Finding, examine
from dsn.cli.session import Session, pass_session
from dsn.runtime.clock import SystemClock
from dsn.runtime.entropy import system_entropy
from dsn.ui.table import print_table

FAULT_EXIT = 1


@click.command()
@click.option("--net", is_flag=True, help="Try every way into the network, and ask the own node.")
@pass_session
def doctor(session: Session, net: bool) -> int:
    """Check this machine, this home and its network; exits with 1 if something needs a fix."""
    findings = session.run(_examine(session, net))
    session.emit({"checks": [dataclasses.asdict(finding) for finding in findings]})
    if not session.json:
        rows = [(one.name, "ok" if one.ok else "fault", one.detail) for one in findings]
        print_table(("CHECK", "STATE", "FOUND"), rows)
    for finding in findings:
        if finding.fix:
            session.say(f"{'advice' if finding.ok else 'fix'} ({finding.name}): {finding.fix}")
    return 0 if all(finding.ok for finding in findings) else FAULT_EXIT


async def _examine(session: Session, net: bool) -> list[Finding]:
    home, ways = session.home_path(), session.settings().dht if net else None
    return [finding async for finding in examine(home, SystemClock(), system_entropy, ways)]
