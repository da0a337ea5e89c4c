"""Making the contracts of a new network.

A network's id covers its vault's address, and the vault knows the network's id. So the address is
chosen first: it follows from who makes the vault and by which call. Then the network is founded,
and then the contracts are made, all at the places that were chosen. Whatever fails half way can be
done again: what stands already stays.

Spec: docs/spec/chain.md#deployment.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from dsn.errors import ChainRefused, ConfigError
from dsn.ids import NO_NETWORK
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import Address, format_address
from dsn.ledger.state import genesis
from dsn.ledger.typed import Domain

if TYPE_CHECKING:
    from dsn.rpc.evm_making import Maker

DAY_S: Final = 86_400
MAX_S: Final = 1 << 32
MAX_WEI: Final = 10**24

Tell = Callable[[str, int], None]
"""Is told the name of each contract that was made, and the gas it took."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a network's contracts say beyond the ledger's parameters.

    Attributes:
        erc20: What credits are units of.
        challenge_s: How long an anchor can be shown wrong, before it is believed.
        escape_s: How long no anchor may come until anybody freezes the vault.
        voucher_s: How long vouchers are taken once an escape began.
        inclusion_s: How soon the ledger must take up a deposit or a slash; at least ``escape_s``,
            or an old root that somebody anchors late convicts an operator that was only away.
        answer_s: How long a provider has to answer a demand on the chain.
        bond_wei: What a demand puts at stake; more than an answer costs.
    """

    erc20: Address
    challenge_s: int = 7 * DAY_S
    escape_s: int = 14 * DAY_S
    voucher_s: int = 7 * DAY_S
    inclusion_s: int = 14 * DAY_S
    answer_s: int = 2 * DAY_S
    bond_wei: int = 10**16


def parse_deployment(text: str, erc20: Address) -> Deployment:
    """Read the spans and the bond that a person wrote as TOML; the others stay as they are.

    Raises:
        ConfigError: ``bad_chain_params`` names what is wrong.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(f"not TOML: {error}") from error
    known = {each.name for each in fields(Deployment)} - {"erc20"}
    if unknown := table.keys() - known:
        raise _bad(f"unknown key {min(unknown)}")
    for name, value in table.items():
        most = MAX_WEI if name == "bond_wei" else MAX_S
        if type(value) is not int or not 1 <= value <= most:
            raise _bad(f"{name}: {value!r} is not a whole number in [1, {most}]")
    plan = Deployment(erc20, **table)
    if plan.inclusion_s < plan.escape_s:
        raise _bad(f"inclusion_s: {plan.inclusion_s}, no less than escape_s needed")
    return plan


async def choose_domain(maker: Maker) -> Domain:
    """Where the next contract of ``maker`` will be, as the domain of a network to be founded.

    Raises:
        ChainRefused: ``nonce_taken``: calls of its account wait to be mined.
    """
    return Domain(NO_NETWORK, await maker.chain_id(), maker.place(await maker.next_nonce()))


def _silent(name: str, gas: int) -> None:
    """Tell nobody."""


async def deploy(
    maker: Maker, params: LedgerParams, plan: Deployment, tell: Tell = _silent
) -> None:
    """Make those contracts of the network that do not stand yet; returns once all are final.

    Args:
        maker: Of the operator, who made nothing since ``choose_domain``.
        params: The ledger's, with the network's id; its vault is at the chosen place.
        plan: What the contracts say beyond them.
        tell: Told of each.

    Raises:
        ConfigError: ``wrong_chain``; ``bad_vault_place``: the vault's is not a place of this
            account's.
        ExceptionGroup: Of what stopped contracts, as follows.
        ChainRefused: A constructor refuses; ``nonce_taken``.
        LimitReached: ``not_enough_gas``.
        Unreachable: ``chain_unreachable``.
    """
    if (found := await maker.chain_id()) != params.domain.chain_id:
        raise ConfigError(
            f"the endpoint serves chain {found}, the network is of chain {params.domain.chain_id}",
            code="wrong_chain",
        )
    first = await _first_nonce(maker, params.domain.vault)
    values = constructor_values(maker, params, plan, first)
    async with asyncio.TaskGroup() as group:
        for nonce, (name, given) in enumerate(values.items(), first):
            group.create_task(_make(maker, name, given, nonce, tell))


def constructor_values(
    maker: Maker, params: LedgerParams, plan: Deployment, first: int
) -> dict[str, dict[str, Any]]:
    """What each contract's constructor is given, by its names, in the order they are made in."""
    from dsn.rpc.evm import JUDGES
    from dsn.rpc.evm_abi import rules

    names = ("Vault", "Dispute", *JUDGES, *rules().values())
    places = {name: maker.place(nonce) for nonce, name in enumerate(names, first)}
    known: dict[str, Any] = {
        name: getattr(params, name)
        for name in (each.name for each in fields(params))
        if name != "witnesses"
    }
    known |= asdict(plan) | {
        "network": params.domain.network,
        "vault": params.domain.vault,
        "dispute": places["Dispute"],
        **{known_as: places[name] for known_as, name in rules().items()},
        "judges": [places[name] for name in JUDGES],
        "genesis_root": genesis(params).root,
        "drand": params.drand is not None,
    }
    keys: Mapping[str, list[bytes]] = {"Vault": sorted(params.cosigners)}
    identities = sorted(params.witnesses)
    return {name: known | {"witnesses": keys.get(name, identities)} for name in names}


async def _first_nonce(maker: Maker, vault: Address) -> int:
    """The call of the account that made the vault, or that will."""
    used = await maker.count()
    for nonce in range(used, -1, -1):
        if maker.place(nonce) == vault:
            return nonce
    raise ConfigError(
        f"{format_address(vault)} is not where a contract of {format_address(maker.account)} "
        "can be",
        code="bad_vault_place",
        hint="found the network anew, with the same home",
    )


async def _make(maker: Maker, name: str, values: Mapping[str, Any], nonce: int, tell: Tell) -> None:
    """Make one, unless it stands or an earlier run's call for it was still on its way."""
    place = maker.place(nonce)
    try:
        if not await maker.exists(place):
            tell(name, (await maker.make(name, values, nonce, final=True)).gas)
            return
    except ChainRefused as refused:
        if refused.detail_code != "nonce_taken":
            raise
    if not await maker.stands(place):
        raise ChainRefused(
            f"{name} should be at {format_address(place)}, but something else was sent instead",
            code="nonce_taken",
            hint="found the network anew; use the key for nothing else meanwhile",
        )


def _bad(reason: str) -> ConfigError:
    return ConfigError(f"what the contracts say: {reason}", code="bad_chain_params")
