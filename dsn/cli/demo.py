"""``dsn demo``: the story of one file, told on one page."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import click

from dsn.apps.demo import NETWORK_FOLDER, Demo, end_network
from dsn.apps.telling import Line
from dsn.cli.session import Session, pass_session
from dsn.runtime.clock import SystemClock
from dsn.runtime.entropy import system_entropy
from dsn.ui.figures import format_seconds


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--nodes", type=click.IntRange(6, 250), default=12, show_default=True)
@click.option("--kill", type=click.IntRange(1), default=3, show_default=True)
@click.option("--keep", is_flag=True, help="Leave the network running at the end.")
@pass_session
def demo(session: Session, file: Path | None, nodes: int, kill: int, keep: bool) -> None:
    """Tell the story of FILE on a network of real processes on this machine.

    It is stored, K of N nodes are killed, it is read back and compared, a byte rots on a disk
    and is caught. Without FILE it is this machine's own Python library. Nothing stays behind.
    """
    with _folder(session, keep) as folder:
        story = Demo(
            folder,
            source=file,
            nodes=nodes,
            kill=kill,
            keep=keep,
            tell=lambda line: _tell(session, line),
            clock=SystemClock(),
            entropy=system_entropy,
        )
        outcome = session.run(story.run())
    session.say(f"\nEvery step held, in {format_seconds(outcome.seconds)}.")
    session.emit(asdict(outcome))


@contextmanager
def _folder(session: Session, keep: bool) -> Iterator[Path]:
    """A folder for the story; with all its processes it is gone at the end, however that comes."""
    folder = Path(tempfile.mkdtemp(prefix="dsn-demo-"))
    before = signal.signal(signal.SIGTERM, _interrupt)
    kept = False
    try:
        yield folder
        kept = keep
    finally:
        signal.signal(signal.SIGTERM, before)
        if kept:
            _tell_kept(session, folder)
        else:
            _clean_up(folder)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _clean_up(folder: Path) -> None:
    """End every process and remove the folder; a second Ctrl-C waits until that is done."""
    impatient = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        end_network(folder)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        signal.signal(signal.SIGINT, impatient)


def _tell(session: Session, line: Line) -> None:
    """One line; a pipe gets it without the colours."""
    match line.kind:
        case "chapter":
            session.say("\n" + click.style(line.text, bold=True))
        case "held":
            session.say(f"  {click.style('ok', fg='green')}  {line.text}")
        case "fact":
            session.say(f"      {line.text}")


def _tell_kept(session: Session, folder: Path) -> None:
    network = folder / NETWORK_FOLDER
    session.say("\nThe network runs on:")
    session.say(f"  store a file  dsn --home {network / 'client'} put FILE")
    session.say(f"  end it        dsn devnet down --dir {network} && rm -r {folder}")
