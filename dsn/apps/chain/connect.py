"""Getting to the chain that a home's network settles on.

Spec: docs/spec/chain.md#endpoint.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dsn.chain import Chain
from dsn.config import ChainSettings
from dsn.errors import ConfigError
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import SettlementKey


@asynccontextmanager
async def open_chain(
    settings: ChainSettings, key: SettlementKey, params: LedgerParams
) -> AsyncIterator[Chain]:
    """The chain that ``params`` settles on, for as long as the context lasts.

    Nothing is asked before the first call: a process can begin while its endpoint is away.

    Args:
        settings: Where the endpoint is, and what is final.
        key: Of this home: signs what is sent, and pays for it.
        params: The network's ledger, with its id.

    Raises:
        ConfigError: ``no_chain``: the network has none; ``no_endpoint``: the home names none;
            ``missing_extra``; ``bad_setting``.
    """
    if not params.settles:
        raise ConfigError(
            "this network settles on no chain",
            code="no_chain",
            hint="its credits are its operator's word",
        )
    check_endpoint(settings.rpc)
    need_library()
    from dsn.rpc.evm import EvmChain

    async with EvmChain(settings.rpc, key, params, finality=settings.finality) as chain:
        yield chain


def check_endpoint(url: str) -> None:
    """Check that an endpoint is named.

    Raises:
        ConfigError: ``no_endpoint``.
    """
    if not url:
        raise ConfigError(
            "no endpoint of the chain is named",
            code="no_endpoint",
            hint="[chain] rpc in dsn.toml: the URL of any JSON-RPC endpoint",
        )


def need_library() -> None:
    """Check that there is what speaks to a chain.

    Raises:
        ConfigError: ``missing_extra``.
    """
    try:
        import web3  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "a chain is reached by web3, which is not installed",
            code="missing_extra",
            hint="pip install 'dsn[chain]'",
        ) from error
