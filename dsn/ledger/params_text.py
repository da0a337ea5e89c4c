"""A ledger's parameters as TOML: in a network file, and what a ledger keeps of its beginning."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

from dsn.core.codec import U64_MAX
from dsn.core.keys import PUBLIC_KEY_BYTES
from dsn.errors import ConfigError, DsnError
from dsn.ids import NetworkId, format_base32, network_id, parse_base32
from dsn.ledger.params import LedgerParams, check_params
from dsn.ledger.settlement import NO_ADDRESS, Address, format_address, parse_address
from dsn.ledger.typed import Domain
from dsn.proofs.drand import QUICKNET, DrandChain

_MAX_CHAIN_ID: Final = (1 << 256) - 1


def parse_params(text: str, network: NetworkId | None = None) -> LedgerParams:
    """Read what ``format_params`` wrote, or a person who may leave out what has a default.

    Args:
        text: Untrusted.
        network: Which network it must be for, or may be silent about.

    Raises:
        ConfigError: ``bad_ledger_params`` names what is wrong, missing or unknown.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(f"not TOML: {error}") from error
    return read_params(table, network)


def read_params(table: dict[str, Any], network: NetworkId | None = None) -> LedgerParams:
    """As ``parse_params``, of a table (untrusted) that was read already."""
    if network is not None:
        named = format_base32(network)
        if table.get("network", named) != named:
            raise _bad("network: of another network")
        table = {**table, "network": named}
    if unknown := table.keys() - _READ.keys():
        raise _bad(f"unknown key {min(unknown)}")
    values = {name: _value(name, table[name]) for name in _READ if name in table}
    if missing := {"network", "operator"} - values.keys():
        raise _bad(f"{min(missing)} is missing")
    domain = Domain(
        values.pop("network"), values.pop("chain_id", 0), values.pop("vault", NO_ADDRESS)
    )
    params = LedgerParams(domain=domain, **values)
    check_params(params)
    return params


def change_params(params: LedgerParams, text: str) -> LedgerParams:
    """``params`` with those that a person wrote in ``text`` (untrusted TOML, perhaps empty).

    Raises:
        ConfigError: ``bad_ledger_params``; also if ``text`` names a network.
    """
    try:
        changes = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(f"not TOML: {error}") from error
    if "network" in changes:
        raise _bad("network: of another network")
    table = tomllib.loads("\n".join(param_lines(params)))
    return read_params(table | changes, params.domain.network)


def format_params(params: LedgerParams) -> str:
    """All parameters; ``parse_params`` reads them."""
    network = f'network = "{format_base32(params.domain.network)}"'
    return "\n".join([network, *param_lines(params)]) + "\n"


def param_lines(params: LedgerParams, table: str = "") -> list[str]:
    """All parameters but the network, as lines of the TOML table ``table``."""
    cosigners = ", ".join(f'"{format_address(each)}"' for each in sorted(params.cosigners))
    return [
        f"chain_id = {params.domain.chain_id}",
        f'vault = "{format_address(params.domain.vault)}"',
        f'operator = "{format_address(params.operator)}"',
        f'log_key = "{format_base32(params.log_key)}"',
        f"witnesses = [{', '.join(_quoted(params.witnesses))}]",
        *([f"cosigners = [{cosigners}]"] if params.settles else []),
        f'faucet = "{format_address(params.faucet)}"',
        *([] if params.drand is None else [f"drand = {_drand_table(params.drand)}"]),
        *(f"{name} = {getattr(params, name)}" for name in _COUNTS),
        "",
        f"[{table}.allocation]" if table else "[allocation]",
        *(f'"{format_address(account)}" = {amount}' for account, amount in params.allocation),
    ]


def _quoted(keys: frozenset[bytes]) -> list[str]:
    return [f'"{format_base32(key)}"' for key in sorted(keys)]


def _value(name: str, value: object) -> Any:
    try:
        return _READ[name](value)
    except DsnError as error:
        raise _bad(f"{name}: {error.message}") from error
    except (TypeError, ValueError) as error:
        raise _bad(f"{name}: {error}") from error


def _count(value: object, most: int = U64_MAX) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{value!r} is not a whole number in [0, {most}]")
    return value


def _chain_id(value: object) -> int:
    return _count(value, _MAX_CHAIN_ID)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _address(value: object) -> Address:
    return parse_address(_text(value))


def _network(value: object) -> NetworkId:
    return network_id(parse_base32(_text(value)))


def _key(value: object) -> bytes:
    key = parse_base32(_text(value))
    if len(key) != PUBLIC_KEY_BYTES:
        raise ValueError(f"{len(key)} bytes, {PUBLIC_KEY_BYTES} needed")
    return key


def _witnesses(value: object) -> frozenset[bytes]:
    if not isinstance(value, list):
        raise TypeError("a list of keys is needed")
    keys = frozenset(map(_key, value))
    if len(keys) < len(value):
        raise ValueError("a key is named twice")
    return keys


def _cosigners(value: object) -> frozenset[Address]:
    if not isinstance(value, list):
        raise TypeError("a list of addresses is needed")
    addresses = frozenset(map(_address, value))
    if len(addresses) < len(value):
        raise ValueError("an address is named twice")
    return addresses


def _drand_table(chain: DrandChain) -> str:
    times = f"genesis_s = {chain.genesis_s}, period_s = {chain.period_s}"
    return f'{{ key = "{chain.key.hex()}", {times} }}'


def _drand(value: object) -> DrandChain:
    if value == "quicknet":
        return QUICKNET
    if not isinstance(value, dict) or value.keys() != {"key", "genesis_s", "period_s"}:
        raise TypeError('"quicknet", or a table of key, genesis_s and period_s is needed')
    times = _count(value["genesis_s"]), _count(value["period_s"])
    return DrandChain(bytes.fromhex(_text(value["key"])), *times)


def _allocation(value: object) -> tuple[tuple[Address, int], ...]:
    if not isinstance(value, dict):
        raise TypeError("a table of addresses and amounts is needed")
    return tuple((_address(account), _count(amount)) for account, amount in value.items())


def _bad(reason: str) -> ConfigError:
    return ConfigError(f"the ledger's parameters: {reason}", code="bad_ledger_params")


_SPECIAL: Final[dict[str, Callable[[object], Any]]] = {
    "network": _network,
    "chain_id": _chain_id,
    "vault": _address,
    "operator": _address,
    "log_key": _key,
    "witnesses": _witnesses,
    "cosigners": _cosigners,
    "faucet": _address,
    "drand": _drand,
    "allocation": _allocation,
}
_COUNTS: Final = tuple(
    each.name for each in fields(LedgerParams) if each.name not in {"domain", *_SPECIAL}
)
_READ: Final = _SPECIAL | dict.fromkeys(_COUNTS, _count)
