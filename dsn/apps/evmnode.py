"""A local EVM node (anvil, of npm) for a local network: its process, and what it is given.

It keeps its state in its folder. Its first account's key is public, so nothing on it is worth
anything.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from dsn.apps.chain.connect import need_library
from dsn.errors import ConfigError, DsnError
from dsn.ledger.settlement import Address

ROLE: Final = "chain"
PROGRAM: Final = "anvil"
VARIABLE: Final = "DSN_ANVIL"
CHAIN_ID: Final = 31_337
HARDFORK: Final = "prague"
MINED_S: Final = 1
"""Between two blocks."""
SAVED_S: Final = 5
"""Between two states on disk; what a killed node forgets."""
FINALITY: Final = 2
GAS_WEI: Final = 10**22
"""What each home can pay for gas with."""
_INSTALLED: Final = Path("node_modules", ".bin", PROGRAM)
_WRAPPER: Final = "bin.mjs"


def find_anvil(directory: Path) -> Path:
    """The program: ``DSN_ANVIL``, on the path, or where npm put it.

    Args:
        directory: Of a network, where npm may have put it, too.

    Raises:
        ConfigError: ``no_anvil``.
    """
    named = os.environ.get(VARIABLE)
    folders = (Path.cwd(), directory, Path.home(), Path.home() / ".npm-global")
    places: list[str | Path] = [named] if named else [PROGRAM]
    if not named:
        places += [
            *(folder / _INSTALLED for folder in folders),
            *(folder / "bin" / PROGRAM for folder in folders),
        ]
    for place in places:
        if found := shutil.which(place):
            return _native(Path(found).resolve())
    raise ConfigError(
        f"{named} is no program ({VARIABLE})" if named else f"{PROGRAM} is not installed",
        code="no_anvil",
        hint="npm install -g @foundry-rs/anvil",
    )


def check_tools(directory: Path) -> None:
    """Check that there is all that a local chain needs.

    Raises:
        ConfigError: ``no_anvil``, ``missing_extra``.
    """
    find_anvil(directory)
    need_library()


def words(home: Path, address: str) -> Sequence[str]:
    """The command line of the node whose folder is ``home``, one word of it.

    Raises:
        ConfigError: ``no_anvil``.
    """
    host, _, port = address.rpartition(":")
    options = {
        "--host": host,
        "--port": port,
        "--chain-id": CHAIN_ID,
        "--hardfork": HARDFORK,
        "--block-time": MINED_S,
        "--accounts": 1,
        "--state": home / "state.json",
        "--state-interval": SAVED_S,
        "--cache-path": home,
    }
    program = find_anvil(home.parent)
    return [str(program), "--quiet", *(str(each) for pair in options.items() for each in pair)]


async def serves(address: str) -> bool:
    """Whether the node there answers for the newest final block, too: it forgets older states."""
    from dsn.rpc.evm_endpoint import Refused

    try:
        number = int(str(await _ask(address, "eth_blockNumber")), 16)
        await _ask(address, "eth_getBalance", f"0x{'00' * 20}", hex(max(0, number - FINALITY)))
    except (DsnError, Refused):
        return False
    return True


async def give_gas(address: str, accounts: Iterable[Address]) -> None:
    """Have every one of ``accounts`` own ``GAS_WEI``.

    Raises:
        Unreachable: ``chain_unreachable``.
    """
    for account in accounts:
        await _ask(address, "anvil_setBalance", f"0x{account.hex()}", hex(GAS_WEI))


def url_of(address: str) -> str:
    """Of the endpoint at ``host:port``."""
    return f"http://{address}"


async def _ask(address: str, method: str, *params: object) -> Any:
    from dsn.rpc.evm_endpoint import Endpoint, Pace

    endpoint = Endpoint(url_of(address), Pace())
    try:
        return await endpoint.ask(method, *params)
    finally:
        await endpoint.close()


def _native(program: Path) -> Path:
    """The program behind npm's script, which would not pass every signal on."""
    if program.name != _WRAPPER:
        return program
    behind = sorted(program.parent.parent.glob(f"{PROGRAM}-*/bin/{PROGRAM}"))
    return behind[0] if behind else program
