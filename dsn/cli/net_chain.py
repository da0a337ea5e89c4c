"""What ``dsn net create`` does for a network that settles on a chain: its contracts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from dsn.cli.session import Session
from dsn.errors import UsageError
from dsn.ui.figures import count
from dsn.ui.table import fields

if TYPE_CHECKING:
    from dsn.apps.chain.deploy import Deployment
    from dsn.dht.network import Network
    from dsn.ledger.settlement import Address, SettlementKey
    from dsn.ledger.typed import Domain
    from dsn.rpc.evm_making import Maker

PART = ".part"
"""Ends the name of a network file whose contracts are not all made yet."""
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--erc20",
        metavar="ADDRESS",
        help="Settle on a chain: credits are units of this ERC-20 there, and are deposited.",
    ),
    click.option(
        "--chain",
        "rpc",
        metavar="URL",
        help="A JSON-RPC endpoint of that chain; [chain] rpc of this home if not given.",
    ),
    click.option(
        "--cosigner",
        "cosigners",
        metavar="ADDRESS",
        multiple=True,
        help="The settlement address of a --witness ('dsn wallet address'); may be repeated.",
    ),
    click.option(
        "--chain-params",
        "changes",
        metavar="FILE",
        type=click.File("r", encoding="utf-8", errors="replace"),
        help="Spans and bond of the contracts (TOML).",
    ),
)


def chain_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command take the options of ``OnChain.parse``, all in ``on_chain``'s names."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class OnChain:
    """The chain that a new network settles on, as its founder named it."""

    url: str
    finality: int
    plan: Deployment
    cosigners: Sequence[Address]

    @classmethod
    def parse(
        cls,
        session: Session,
        erc20: str | None,
        rpc: str | None,
        cosigners: Sequence[str],
        changes: TextIO | None,
    ) -> OnChain | None:
        """What the options say; ``None`` if the network settles on no chain.

        Raises:
            UsageError: Some make no sense without ``--erc20``; ``bad_settlement_address``.
            ConfigError: ``bad_chain_params``, ``no_endpoint``, ``missing_extra``.
        """
        if erc20 is None:
            if rpc or cosigners or changes:
                raise UsageError(
                    "--chain, --cosigner and --chain-params are a chain's",
                    hint="say what credits are there: --erc20 ADDRESS",
                )
            return None
        from dsn.apps.chain.connect import check_endpoint, need_library
        from dsn.apps.chain.deploy import parse_deployment
        from dsn.ledger.settlement import parse_address

        settings = session.settings().chain
        check_endpoint(rpc or settings.rpc)
        need_library()
        plan = parse_deployment(changes.read() if changes else "", parse_address(erc20))
        return cls(
            rpc or settings.rpc, settings.finality, plan, [parse_address(one) for one in cosigners]
        )

    def choose(self, session: Session, key: SettlementKey) -> Domain:
        """The chain, and where ``key`` will make the vault there."""
        from dsn.apps.chain.deploy import choose_domain

        async def chosen() -> Domain:
            async with self._maker(key) as maker:
                return await choose_domain(maker)

        return session.run(chosen())

    def make(self, session: Session, key: SettlementKey, network: Network) -> None:
        """Make the contracts of ``network`` that do not stand yet, and say what gas they took."""
        from dsn.apps.chain.deploy import deploy
        from dsn.ledger.settlement import format_address

        params = network.ledger_params
        assert params is not None
        used = dict[str, int]()

        async def made() -> None:
            async with self._maker(key) as maker:
                await deploy(maker, params, self.plan, used.__setitem__)

        session.notice(f"making the contracts; {self.finality} blocks on top make them final")
        session.run(made())
        session.say(fields([(name, f"{gas:,} gas") for name, gas in sorted(used.items())]))
        session.notice(
            f"vault {format_address(params.domain.vault)}: {count(len(used), 'contract')} made, "
            f"{sum(used.values()):,} gas"
        )

    def _maker(self, key: SettlementKey) -> Maker:
        from dsn.rpc.evm_making import Maker

        return Maker(self.url, key, finality=self.finality)


def part_of(output: Path) -> Path:
    """Where the network file is while its contracts are being made."""
    return output.with_name(output.name + PART)
