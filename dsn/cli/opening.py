"""Opening this home for one command."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from dsn.apps.client import Client
from dsn.cli.secrets import passphrase
from dsn.cli.session import Session
from dsn.store.home import Home

Result = TypeVar("Result")


def run_with_client(
    session: Session, work: Callable[[Client], Coroutine[Any, Any, Result]]
) -> Result:
    """Open the client of the session's home, run ``work`` and close it again."""
    home = Home.open(session.home_path())
    secret, settings = passphrase(session, home), session.settings()

    async def run() -> Result:
        with session.progress() as progress:
            opened = Client.open(
                home,
                notice=session.notice,
                progress=progress,
                passphrase=secret,
                dht=settings.dht,
                storing=settings.client,
            )
            async with opened as client:
                return await work(client)

    return session.run(run())
