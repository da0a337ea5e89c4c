"""``dsn verify``: what a verifier's bundle, or a file of evidence, is worth; offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsn.cli.session import Session, pass_session
from dsn.errors import PeerError
from dsn.ui.figures import count, format_date
from dsn.ui.table import columns, fields
from dsn.units import format_size

if TYPE_CHECKING:
    from dsn.apps.verifying import Report
    from dsn.dht.network import Network


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
@click.option(
    "--network",
    "network_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The network whose keys count; this home's by default.",
)
@click.option("--second-opinion", is_flag=True, help="Have merkletools check every shard path too.")
@pass_session
def verify(session: Session, file: str, network_file: Path | None, second_opinion: bool) -> int:
    """Verify a bundle (*.dsnproof.json) offline: who held how much of what, and when.

    Exits with 0 if the bundle is valid and says that everybody in it held; with 1 if it is not
    valid, or proves that somebody failed. It needs no keys, and with --network no home. A file of
    evidence is judged as 'dsn ledger check --evidence' does.
    """
    from dsn.apps.ledger.evidence_check import MAX_EVIDENCE_BYTES
    from dsn.apps.networks import read_network
    from dsn.apps.verifying import verify_file
    from dsn.ledger.conviction import MAGIC
    from dsn.store.home import Home

    network = read_network(network_file) if network_file else Home(session.home_path()).network()
    with click.open_file(file, "rb") as opened:
        raw = opened.read(MAX_EVIDENCE_BYTES + 1)
    if raw.startswith(MAGIC):
        return judge_evidence(session, raw, network)
    report = verify_file(raw, network, second_opinion=second_opinion)
    session.emit(report.fields())
    session.say(_told(report))
    return 0 if report.ok else 1


def judge_evidence(session: Session, raw: bytes, network: Network) -> int:
    """0 if the file of evidence ``raw`` (untrusted) convicts somebody, else 1."""
    from dsn.apps.ledger.evidence_check import check_evidence
    from dsn.apps.ledger.light import no_ledger_here

    if network.ledger_params is None:
        raise no_ledger_here(network)
    found = check_evidence(raw, network.ledger_params)
    session.emit(found.fields())
    session.say(found.line)
    return 0 if found.ok else 1


def _told(report: Report) -> Iterator[str]:
    """The report in lines: what it is about, who held what, and what that is worth."""
    if isinstance(report.outcome, PeerError):
        yield f"not valid: {report.outcome.message} ({report.outcome.detail_code})"
        return
    yield from fields(list(_about(report)))
    yield ""
    rows = [
        (
            str(row["provider"]),
            str(row["outcome"]),
            format_size(each.bytes),
            count(each.leaves, "leaf", "leaves"),
            each.reason or ("-" if each.bytes else "its copy of the head, which names none"),
        )
        for each, row in ((each, each.fields()) for each in report.providers)
    ]
    yield from columns([("PROVIDER", "OUTCOME", "HELD", "LOOKED AT", "WHY"), *rows])
    yield ""
    yield _verdict(report)


def _about(report: Report) -> Iterator[tuple[str, str]]:
    from dsn.ids import format_base32

    found, network = report.outcome, report.network
    assert not isinstance(found, PeerError)
    yield "network", f"{network.genesis.name} ({format_base32(network.network_id)})"
    params = network.ledger_params
    if found.witnessed is not None:
        seen = found.witnessed
        yield "witnesses", f"{seen.cosigned} of {seen.witnesses} cosigned, {seen.needed} needed"
    elif params is not None:
        yield "witnesses", f"{len(params.witnesses)}, {params.quorum} needed; none for an audit"
    yield "verifier", format_base32(found.verifier)
    if found.file is not None:
        yield "file", format_base32(found.file)
    first, last = found.epochs
    if first:
        yield "epochs", f"{first}" if first == last else f"{first} to {last}"
    yield "at", f"{format_date(found.at_s)} UTC, by the verifier's clock"
    yield "confidence", report.confidence
    if found.unasked:
        yield "not asked", count(found.unasked, "shard")
    if report.second_opinion is not None:
        yield "merkletools", f"accepts {count(report.second_opinion, 'shard path')} too"


def _verdict(report: Report) -> str:
    held = sum(1 for each in report.providers if not each.reason)
    total = count(len(report.providers), "provider")
    if not report.providers:
        return "valid, but it is about nobody"
    if report.ok:
        return f"valid: {held} of {total} held"
    return f"valid, and it proves a failure: {held} of {total} held"
