"""``dsn dispute``: a leaf asked for on the chain, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dsn.cli.onchain import deal_argument, log_option, parse_deal, run_on_chain
from dsn.cli.session import Session, pass_session
from dsn.errors import LimitReached, NotFound
from dsn.ids import DealId, format_node_id
from dsn.ledger.settlement import format_address
from dsn.store.home import Home
from dsn.ui.figures import count, format_date
from dsn.ui.table import print_table

if TYPE_CHECKING:
    from dsn.apps.chain.accusing import Convicted
    from dsn.apps.chain.auditing import Audit
    from dsn.apps.chain.dispute import Asked
    from dsn.apps.chain.home import HomeOnChain

_SHOWN = 16
ANSWER_S = 60.0
"""What an answer by the running node may take: it has to be in a block."""


FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def dispute() -> None:
    """Have a node show a leaf on the chain, when the ledger would not take the demand.

    It is the last resort: whoever asks puts a bond of the chain's own coin at stake, which goes to
    the node if it shows the leaf. If it does not in time, the deal is slashed.
    """


@dispute.command("open")
@click.argument("target", metavar="DEAL|CAP|NAME")
@click.option("--node", metavar="N", help="Of the file's holders, the one with this node id.")
@click.option("--leaf", metavar="I", type=click.IntRange(0), help="Ask for this leaf, from 0.")
@pass_session
def open_(session: Session, target: str, node: str | None, leaf: int | None) -> None:
    """Demand a leaf of what a node holds under a deal.

    A leaf is drawn if you name none.

    DEAL is a deal's 64 hexadecimal digits. Of a file, one of the deals under which its holders
    have it is drawn, or the one with --node; the leaf may be of any file under that deal.
    """
    from dsn.runtime.entropy import system_entropy

    deal = parse_deal(target) or _deal_of_file(session, target, node)
    opened = run_on_chain(session, lambda home: home.disputing.demand(deal, leaf, system_entropy))
    asked = opened.asked
    bond = {"bond_wei": str(opened.bond_wei), "anchor": opened.anchor, "gas": opened.gas}
    session.emit(_fields(asked) | bond)
    session.say(
        f"leaf {asked.leaf:,} of {asked.leaves:,} of deal {deal.hex()[:_SHOWN]} is demanded; "
        f"the node has until {format_date(asked.deadline_s)} UTC"
    )
    session.say(
        f"at stake: {opened.bond_wei:,} wei, which go to the node if it shows the leaf; "
        f"if not: dsn dispute slash {deal.hex()}"
    )


@dispute.command()
@click.argument("deal", metavar="DEAL")
@pass_session
def answer(session: Session, deal: str) -> None:
    """Have this home's running node answer a demand.

    It does so by itself, unless chain.watch is off. It shows the leaf, or a newer revision that
    both sides signed; the bond then is this home's.
    """
    from dsn.runtime.control import ask_control

    home = Home.open(session.home_path())
    command = f"answer-demand {deal_argument(deal).hex()}"
    found = session.run(ask_control(home.control_socket, command, timeout_s=ANSWER_S))
    if found.get("error") == "unknown command":
        raise NotFound(
            "the node that runs here watches no chain",
            code="no_watch",
            hint="set chain.rpc in dsn.toml, leave chain.watch on, and start it again",
        )
    if "error" in found:
        raise LimitReached(found["message"], code=found["error"], hint=found["hint"])
    session.emit(found)
    session.say(f"{found['how']} in block {found['block']:,}, gas {found['gas']:,}")


@dispute.command()
@click.argument("deal", metavar="DEAL")
@pass_session
def slash(session: Session, deal: str) -> None:
    """Slash DEAL: nobody answered in time.

    The bond goes back to whoever asked; the ledger slashes the deal, or the vault does when it is
    left. Anybody may.
    """
    chosen = deal_argument(deal)

    async def slashed(home: HomeOnChain) -> tuple[int, int]:
        gas = await home.disputing.slash(chosen)
        return gas, await home.disputing.collect()

    gas, wei = run_on_chain(session, slashed)
    session.emit({"deal": chosen.hex(), "gas": gas, "collected_wei": str(wei)})
    session.say(f"deal {deal[:_SHOWN]} is slashed on the chain, gas {gas:,}")
    if wei:
        session.say(f"{wei:,} wei of bonds came back")


@dispute.command("ls")
@pass_session
def ls(session: Session) -> None:
    """List what is demanded of this home's deals.

    And which of them were slashed on the chain.
    """

    async def listed(home: HomeOnChain) -> tuple[list[Asked], list[dict[str, Any]]]:
        deals, disputing = await home.deals(), home.disputing
        slashes = await disputing.slashed(deals)
        return await disputing.pending(deals), [
            {
                "deal": each.deal.hex(),
                "number": each.number,
                "asker": format_address(each.asker),
            }
            for each in slashes
        ]

    pending, slashed = run_on_chain(session, listed)
    session.emit({"pending": [_fields(each) for each in pending], "slashed": slashed})
    if session.json:
        return
    rows = [
        (each.deal.hex()[:_SHOWN], f"{each.leaf:,}", "waits", format_date(each.deadline_s))
        for each in pending
    ]
    rows += [(each["deal"][:_SHOWN], "-", "slashed", "-") for each in slashed]
    if rows:
        print_table(("DEAL", "LEAF", "STATE", "UNTIL"), rows)
    else:
        session.notice("nothing is disputed")


@dispute.command()
@click.argument("evidence", metavar="EVIDENCE", type=click.File("rb"))
@pass_session
def convict(session: Session, evidence: Any) -> None:
    """Have the chain judge a file of evidence.

    Such files come from 'dsn ledger check' and from witnesses, who bring theirs themselves. A
    wrong step of an anchored log has that anchor dropped and the vault frozen; whoever showed it
    gets a tenth of the operator's bond.
    """
    from dsn.apps.ledger.evidence_check import MAX_EVIDENCE_BYTES

    raw = evidence.read(MAX_EVIDENCE_BYTES + 1)

    async def brought(home: HomeOnChain) -> Any:
        from dsn.apps.chain.accusing import bring

        return await bring(home.chain, raw, home.params, home.copies)

    done = run_on_chain(session, brought)
    session.emit(asdict(done))
    session.say(
        f"convicted: entry {done.index:,} ({done.fault}), by {done.contract}, gas {done.gas:,}"
    )
    session.say("the vault is frozen: dsn escape")


@dispute.command()
@log_option
@click.option("--convict", "convicts", is_flag=True, help="Have the chain judge what is found.")
@pass_session
def audit(session: Session, log: Path | None, convicts: bool) -> int:
    """Hold what is anchored against its log and against the chain.

    It replays the log, from a witness or a copy here, and says what is wrong: an entry against the
    rules, an end that is not what was anchored, a log that does not begin as it did, a deposit or a
    slash of the chain that was made up, or left out for too long. Exits with 1 if something is.

    With --convict it exits with 0 once the chain has judged that: the vault is frozen, and this
    home gets a tenth of the operator's bond. It costs gas on the chain.

    Signatures are not looked at: 'dsn ledger check' does that, and 'dsn dispute convict' brings
    its evidence.
    """

    async def audited(home: HomeOnChain) -> tuple[Audit | None, Convicted | None]:
        from dsn.apps.chain import auditing

        found = await auditing.audit(
            home.chain, home.params, home.copies, home.under_way, home.notice
        )
        if not convicts or found is None or not found.findings:
            return found, None
        return found, await auditing.convict(home.chain, found.findings)

    found, done = run_on_chain(session, audited, log)
    session.emit(_audit_fields(found, done))
    session.say(_audit_lines(found, done))
    return 0 if found is None or not found.findings or done is not None else 1


@dispute.command()
@click.argument("note", metavar="NOTE", type=FILE)
@click.argument("other", metavar="OTHER", type=FILE)
@pass_session
def equivocation(session: Session, note: Path, other: Path) -> None:
    """Show the chain two checkpoints that cannot both be true.

    NOTE and OTHER are checkpoints as the ledger publishes them, of as many entries each, and not
    the same: the operator shows one ledger to some and another to others. It loses its bond, of
    which whoever showed it gets a tenth, and the vault is frozen.
    """
    from dsn.ledger.checkpoint import MAX_NOTE_BYTES

    def read(path: Path) -> bytes:
        with path.open("rb") as file:
            return file.read(MAX_NOTE_BYTES + 1)

    one, another = read(note), read(other)

    async def brought(home: HomeOnChain) -> int:
        from dsn.apps.chain.accusing import bring_notes

        return await bring_notes(home.chain, one, another, home.params)

    gas = run_on_chain(session, brought)
    session.emit({"fault": "equivocation", "gas": gas})
    session.say(f"convicted: two ledgers of one size, gas {gas:,}")
    session.say("the vault is frozen: dsn escape")


def _deal_of_file(session: Session, target: str, node: str | None) -> DealId:
    """One of this home's deals under which holders of the file have it.

    Raises:
        NotFound: ``unknown_deal``.
    """
    from dsn.apps.deal_file import FOLDER, DealFolder
    from dsn.runtime.entropy import system_entropy

    found = session.with_client(lambda client: client.info(target))
    holders = {holder.node for holder in found.holders if node in (None, holder.node)}
    folder = DealFolder(Home.open(session.home_path()).state / FOLDER)
    deals = [deal.deal for deal in folder.load() if format_node_id(deal.node) in holders]
    if not deals:
        raise NotFound(
            f"this home has no deal with {node or 'a holder of that file'}",
            code="unknown_deal",
            hint="'dsn info' names its holders; whoever put it has the deals",
        )
    return deals[int.from_bytes(system_entropy(8), "big") % len(deals)]


def _audit_fields(found: Audit | None, done: Convicted | None) -> dict[str, Any]:
    """The stable output of an audit; without an anchor the figures are null."""
    anchor = found.anchor if found else None
    findings = found.findings if found else ()
    return {
        "anchor": anchor.number if anchor else None,
        "size": anchor.size if anchor else None,
        "epoch": anchor.epoch if anchor else None,
        "deposits": found.deposits if found else None,
        "slashes": found.slashes if found else None,
        "findings": [
            {"anchor": each.anchor, "index": each.index, "fault": each.fault, "text": each.text}
            for each in findings
        ],
        "convicted": asdict(done) if done else None,
    }


def _audit_lines(found: Audit | None, done: Convicted | None) -> Iterator[str]:
    if found is None:
        yield "nothing is anchored"
        return
    anchor = found.anchor
    for each in found.findings:
        yield f"anchor {each.anchor:,} is wrong ({each.fault}): {each.text}"
    if not found.findings:
        yield f"anchor {anchor.number:,} is right: {_figures(found)}"
    elif done is None:
        yield "have the operator convicted: dsn dispute audit --convict"
    else:
        yield f"convicted: {done.fault}, by {done.contract}, gas {done.gas:,}"
        yield "the vault is frozen: dsn escape"


def _figures(found: Audit) -> str:
    said = count(found.deposits, "deposit"), count(found.slashes, "slash", "slashes")
    entries = count(found.anchor.size, "entry", "entries")
    return f"{entries} up to epoch {found.anchor.epoch:,}, held against {said[0]} and {said[1]}"


def _fields(asked: Asked) -> dict[str, Any]:
    """The stable output of one demand."""
    return {
        "deal": asked.deal.hex(),
        "asker": format_address(asked.asker),
        "provider": format_address(asked.provider),
        "leaf": asked.leaf,
        "leaves": asked.leaves,
        "number": asked.number,
        "deadline_s": asked.deadline_s,
    }
