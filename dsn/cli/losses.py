"""``dsn provider declare-loss`` and ``appeal``: owning up to a loss, and denying one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from dsn.cli.put import OWN_VERIFIER, choose_verifier
from dsn.cli.secrets import passphrase
from dsn.cli.session import Session, pass_session
from dsn.errors import LimitReached, NotFound, UsageError
from dsn.ids import ID_BYTES
from dsn.store.home import Home
from dsn.ui.figures import count, format_date
from dsn.ui.table import print_table

if TYPE_CHECKING:
    from dsn.proofs.verdict import Verdict

DECLARE_S: Final = 60.0
_SHORT: Final = 12


@click.command("declare-loss")
@click.argument("commits", nargs=-1, metavar="[COMMIT]...")
@click.option("--all-lost", is_flag=True, help="Declare every shard that is known to be lost.")
@click.option("--dry-run", is_flag=True, help="Show what would be declared, and what it costs.")
@pass_session
def declare_loss(session: Session, commits: Sequence[str], all_lost: bool, dry_run: bool) -> None:
    """Declare shards lost on the ledger and pay their repair out of the collateral.

    The node must run. It does this by itself, too, when nobody gave a shard back in time.
    """
    if bool(commits) == all_lost:
        raise UsageError("name shards by their commits, or give --all-lost")
    names = [_commit(each) for each in commits]
    home = Home.open(session.home_path())
    losses = session.run(_ask(home, "plan", names))
    _check_all(names, losses)
    if not dry_run:
        losses = session.run(_ask(home, "enter", names))
    cost = sum(int(each["cost"]) for each in losses)
    session.emit({"dry_run": dry_run, "losses": losses, "cost": str(cost)})
    if losses and not session.json:
        headings = ("deal", "shards", "leaves", "cost", "blocked")
        print_table(headings, [_row(each) for each in losses])
    shards = count(sum(len(each["shards"]) for each in losses), "shard")
    what = "would be declared" if dry_run else "declared"
    session.say(f"{shards} {what} lost; {cost:,} credits of collateral go to their clients")


@click.command()
@click.argument("verdict", metavar="VERDICT")
@click.option(
    "--verifier",
    metavar="KEY@HOST:PORT",
    default=OWN_VERIFIER,
    help="Who gave it, if not the first verifier of this home's settings.",
)
@pass_session
def appeal(session: Session, verdict: str, verifier: str) -> None:
    """Have a verifier look again at what it said of this home's node; both outcomes stand.

    VERDICT is the verdict's hash in hex, or how it begins.
    """
    from dsn.apps.appeals import appeal as ask

    contact = choose_verifier(session, verifier)
    home = Home.open(session.home_path())
    root = home.load_root(passphrase(session, home))
    outcome = session.run(ask(home, root, contact, verdict))
    verdicts = {"before": outcome.before, "after": outcome.after}
    session.emit({name: _verdict(each) for name, each in verdicts.items()})
    if not session.json:
        headings = ("", "OUTCOME", "REASON", "LEAVES", "ANSWER", "AT", "VERDICT")
        print_table(headings, [_told(name, each) for name, each in verdicts.items()])


def _commit(text: str) -> str:
    try:
        if len(bytes.fromhex(text)) == ID_BYTES:
            return text.lower()
    except ValueError:
        pass
    raise UsageError(
        f"'{text[:80]}' is no commit", code="bad_id", hint="give the 64 hex digits of each shard"
    )


async def _ask(home: Home, what: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """What the running node says of declaring the shards ``names``, or all that are lost."""
    from dsn.runtime.control import ask_control

    command = " ".join(["declare-loss", what, *names])
    answer = await ask_control(home.control_socket, command, timeout_s=DECLARE_S)
    if "error" in answer:
        raise LimitReached(answer["message"], code=answer["error"], hint=answer["hint"])
    losses: list[dict[str, Any]] = answer["losses"]
    return losses


def _check_all(names: Sequence[str], losses: Sequence[dict[str, Any]]) -> None:
    """Check that every shard that was named is in ``losses``.

    Raises:
        NotFound: ``unknown_shard``.
    """
    known = {shard for each in losses for shard in each["shards"]}
    strange = [name for name in names if name not in known]
    if strange:
        rest = f", nor {count(len(strange) - 1, 'other')} that you named" if strange[1:] else ""
        raise NotFound(
            f"no deal has shard {strange[0][:_SHORT]}{rest}",
            code="unknown_shard",
            hint="--all-lost --dry-run shows what is known to be lost",
        )


def _row(loss: dict[str, Any]) -> list[str]:
    cost, shards = f"{int(loss['cost']):,}", f"{len(loss['shards']):,}"
    return [loss["deal"][:_SHORT], shards, f"{loss['leaves']:,}", cost, loss["blocked"] or "-"]


def _told(name: str, verdict: Verdict) -> list[str]:
    """One verdict in a row."""
    return [
        name,
        verdict.outcome.name.lower(),
        verdict.reason or "-",
        f"{verdict.leaves:,}",
        f"{verdict.response_ms:,} ms",
        f"{format_date(verdict.at_s)} UTC",
        verdict.hash.hex()[: 2 * _SHORT],
    ]


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "hash": verdict.hash.hex(),
        "outcome": verdict.outcome.name.lower(),
        "reason": verdict.reason,
        "leaves": verdict.leaves,
        "response_ms": verdict.response_ms,
        "at_s": verdict.at_s,
        "evidence": verdict.evidence.hex(),
    }
