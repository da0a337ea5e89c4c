"""Parameters as TOML: what is written is read again, and what is wrong is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsn.errors import ConfigError
from dsn.ids import NetworkId, format_base32
from dsn.ledger.params import LedgerParams, check_params
from dsn.ledger.params_text import format_params, parse_params
from dsn.ledger.settlement import NO_ADDRESS, Address, format_address
from dsn.ledger.typed import Domain
from dsn.proofs.drand import QUICKNET, DrandChain
from tests.support.ledger_world import CHAIN_PARAMS, NETWORK, PARAMS, WITNESSES, address

LEAST = f'network = "{format_base32(NETWORK)}"\noperator = "{format_address(PARAMS.operator)}"\n'
MANY = replace(
    PARAMS,
    domain=Domain(NETWORK, (1 << 256) - 1, NO_ADDRESS),
    max_free_leaves=(1 << 64) - 1,
    faucet=address("bob"),
)
DRAND = replace(PARAMS, drand=DrandChain(bytes(range(96)), 7, 30))

OTHER = min(CHAIN_PARAMS.cosigners)
KEYS_OF_50 = frozenset(bytes([n]) * 32 for n in range(50))
ADDRESSES_OF_50 = frozenset(Address(bytes([n + 1]) * 20) for n in range(50))


def test_quicknet_has_a_name() -> None:
    lines = format_params(PARAMS).replace("faucet", 'drand = "quicknet"\nfaucet', 1)
    assert parse_params(lines) == replace(PARAMS, drand=QUICKNET)


@pytest.mark.parametrize(
    "params", [PARAMS, MANY, DRAND, CHAIN_PARAMS, replace(PARAMS, allocation=(), quorum=0)]
)
def test_what_is_written_is_read_again(params: LedgerParams) -> None:
    text = format_params(params)
    assert parse_params(text) == parse_params(text, NETWORK) == params
    assert format_params(parse_params(text)) == text


def test_what_has_a_default_may_be_left_out() -> None:
    params = parse_params(LEAST)
    assert params == LedgerParams(Domain(NETWORK, 0, params.domain.vault), PARAMS.operator)
    assert not any(params.domain.vault)
    assert parse_params(LEAST.partition("\n")[2], NETWORK) == params


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("quorum = 1", "quorum"),
        ("burn_ppm = 1000001", "burn_ppm"),
        ("entry_fee = -1", "entry_fee"),
        ("entry_fee = 1.0", "entry_fee"),
        ("entry_fee = true", "entry_fee"),
        (f"entry_fee = {1 << 64}", "entry_fee"),
        ("entry_free = 1", "entry_free"),
        ('vault = "0x00"', "vault"),
        ("vault = 0", "vault"),
        (f"chain_id = {1 << 256}", "chain_id"),
        ("witnesses = 1", "witnesses"),
        ('witnesses = ["aa"]', "witnesses"),
        ("witnesses = [7]", "witnesses"),
        (f'witnesses = ["{format_base32(NETWORK)}", "{format_base32(NETWORK)}"]', "witnesses"),
        ('drand = "fastnet"', "drand"),
        ('drand = { key = "00", genesis_s = 1, period_s = 1 }', "drand"),
        (f'drand = {{ key = "{"00" * 96}", genesis_s = 1, period_s = 0 }}', "drand"),
        (f'drand = {{ key = "{"00" * 96}", genesis_s = 1 }}', "drand"),
        ('drand = "quicknet"', "drand"),
        ("allocation = 3", "allocation"),
        ('[allocation]\n"0x00" = 1', "allocation"),
        (f'[allocation]\n"{format_address(PARAMS.operator)}" = 0', "allocation"),
        (f'[allocation]\n"{format_address(PARAMS.operator)}" = "1"', "allocation"),
        ("operator = 1", "TOML"),
        ("= 1", "TOML"),
        ("x = " + "[" * 5_000, "TOML"),
    ],
)
def test_what_is_wrong_is_named(more: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        parse_params(LEAST + more)
    assert caught.value.detail_code == "bad_ledger_params"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"cosigners": frozenset()}, "cosigners"),
        ({"witnesses": frozenset({WITNESSES[0].public}), "quorum": 1}, "cosigners"),
        ({"cosigners": CHAIN_PARAMS.cosigners - {OTHER} | {NO_ADDRESS}}, "cosigners"),
        ({"allocation": PARAMS.allocation}, "allocation"),
        ({"domain": PARAMS.domain}, "cosigners"),
        ({"witnesses": KEYS_OF_50, "cosigners": ADDRESSES_OF_50}, "witnesses"),
    ],
)
def test_a_vault_and_what_goes_with_it(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        check_params(replace(CHAIN_PARAMS, **changes))
    assert caught.value.detail_code == "bad_ledger_params"


def test_cosigners_are_encoded_with_a_vault_only() -> None:
    assert replace(PARAMS, cosigners=CHAIN_PARAMS.cosigners).encode() == PARAMS.encode()
    found = CHAIN_PARAMS.encode().index(b"".join(sorted(CHAIN_PARAMS.cosigners)))
    keys = b"".join(sorted(CHAIN_PARAMS.witnesses))
    assert found == CHAIN_PARAMS.encode().index(keys) + len(keys) + 4


@pytest.mark.parametrize("value", ["1", "[7]", '["0x00"]', "[TWICE]"])
def test_cosigners_that_are_wrong_are_named(value: str) -> None:
    one = f'"{format_address(OTHER)}"'
    lines = format_params(CHAIN_PARAMS).splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("cosigners"))
    lines[at] = f"cosigners = {value.replace('TWICE', f'{one}, {one}')}"
    with pytest.raises(ConfigError, match="cosigners"):
        parse_params("\n".join(lines))


@pytest.mark.parametrize(
    ("text", "network", "named"),
    [
        (LEAST, NetworkId(bytes(32)), "another network"),
        (LEAST.partition("\n")[2], None, "network is missing"),
        (LEAST.partition("\n")[0], None, "operator is missing"),
        (LEAST.replace('"', '"a', 1), None, "network"),
        ("network = 1", None, "network"),
    ],
)
def test_it_is_for_one_network(text: str, network: NetworkId | None, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse_params(text, network)
