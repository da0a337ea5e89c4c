"""Network files of networks that pay: the ledger is in the id, its address is not."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact
from dsn.dht.network import (
    MAX_WITNESSES,
    Genesis,
    Network,
    format_network,
    parse_network,
    sign_network,
)
from dsn.errors import ConfigError
from dsn.ids import NO_NETWORK, format_base32
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import NO_ADDRESS, Address, format_address
from dsn.ledger.typed import Domain
from dsn.proofs.drand import QUICKNET

FOUNDER, LOG_KEY, STRANGER = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3))
WITNESSES = [SigningKey(bytes([n + 10]) * 32).public for n in range(3)]
ADDRESSES = [Address(bytes([n + 0xAB]) * 20) for n in range(3)]
PARAMS = LedgerParams(
    Domain(NO_NETWORK, 31_337, NO_ADDRESS),
    ADDRESSES[0],
    log_key=LOG_KEY.public,
    witnesses=frozenset(WITNESSES),
    quorum=2,
    epoch_s=60,
    open_s=20,
    salt_ms=1_500,
    vdf_iterations=100_000,
    vdf_bits=512,
    entry_fee=3,
    min_bond=9,
    faucet=ADDRESSES[0],
    allocation=((ADDRESSES[0], 10**15), (ADDRESSES[1], 7)),
)
ON_CHAIN = replace(
    PARAMS,
    domain=Domain(NO_NETWORK, 31_337, ADDRESSES[2]),
    cosigners=frozenset(ADDRESSES),
    allocation=(),
)
GENESIS = Genesis("paid", 1_700_000_000, FOUNDER.public, "node", False, ledger=PARAMS)
NODE = Contact(SigningKey(b"\x09" * 32).public, "127.0.0.1:4001")
LEDGER = Contact(LOG_KEY.public, "ledger.example.org:7078")
PLACES = [Contact(key, f"192.0.2.{n}:7079") for n, key in enumerate(WITNESSES)]


@pytest.fixture(scope="module")
def network() -> Network:
    return sign_network(GENESIS, [NODE], FOUNDER.sign, ledger=LEDGER, witnesses=PLACES)


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as failure:
        parse_network(text)
    assert "\n" not in failure.value.message
    return failure.value


def test_a_network_that_pays_reads_back(network: Network) -> None:
    assert parse_network(format_network(network)) == network
    assert (network.genesis, network.ledger) == (GENESIS, LEDGER)
    assert network.witnesses == tuple(PLACES)


def test_one_whose_ledger_is_nowhere_yet_reads_back() -> None:
    network = sign_network(GENESIS, [], FOUNDER.sign)
    assert parse_network(format_network(network)) == network
    assert (network.ledger, network.witnesses) == (None, ())
    assert network.ledger_params is not None


def test_the_parameters_name_the_network(network: Network) -> None:
    params = network.ledger_params
    assert params is not None
    assert params.domain == Domain(network.network_id, 31_337, NO_ADDRESS)
    assert replace(params, domain=PARAMS.domain) == PARAMS


def test_a_network_without_one_has_no_parameters() -> None:
    free = sign_network(replace(GENESIS, ledger=None), [NODE], FOUNDER.sign)
    assert free.ledger_params is None
    assert "ledger" not in format_network(free)


def test_addresses_are_not_in_the_id(network: Network) -> None:
    moved = replace(LEDGER, address="127.0.0.1:1")
    other = sign_network(GENESIS, [], FOUNDER.sign, ledger=moved, witnesses=PLACES[:1])
    assert other.network_id == network.network_id
    assert other.signature != network.signature


def changed() -> list[LedgerParams]:
    """Another value for every parameter, one at a time."""
    given: dict[str, Any] = {
        "domain": Domain(NO_NETWORK, 1, NO_ADDRESS),
        "operator": ADDRESSES[1],
        "log_key": STRANGER.public,
        "witnesses": frozenset(WITNESSES[:2]),
        "quorum": 1,
        "vdf_bits": 1_024,
        "drand": QUICKNET,
        "faucet": ADDRESSES[1],
        "allocation": ((ADDRESSES[0], 10**15),),
        "max_term": 1_000,
        "max_free_leaves": 1_000,
    }
    names = [each.name for each in fields(LedgerParams) if each.name != "cosigners"]
    return [
        replace(PARAMS, **{name: given[name] if name in given else getattr(PARAMS, name) + 1})
        for name in names
    ]


def test_every_parameter_is_in_the_id() -> None:
    others = [None, *changed()]
    ids = {replace(GENESIS, ledger=params).network_id for params in [PARAMS, *others]}
    assert len(ids) == len(fields(LedgerParams)) + 1


def test_a_vault_and_its_cosigners_are_in_the_id() -> None:
    other = replace(ON_CHAIN, cosigners=frozenset({*ADDRESSES[1:], Address(b"\x01" * 20)}))
    moved = replace(ON_CHAIN, domain=Domain(NO_NETWORK, 31_337, ADDRESSES[1]))
    ids = {replace(GENESIS, ledger=each).network_id for each in (PARAMS, ON_CHAIN, other, moved)}
    assert len(ids) == 4


def test_a_network_with_a_vault_reads_back() -> None:
    settled = sign_network(replace(GENESIS, ledger=ON_CHAIN), [NODE], FOUNDER.sign)
    assert parse_network(format_network(settled)) == settled


def test_all_of_a_drand_chain_is_in_the_id() -> None:
    chains = [
        QUICKNET,
        replace(QUICKNET, key=bytes(96)),
        replace(QUICKNET, genesis_s=1),
        replace(QUICKNET, period_s=30),
    ]
    ids = {replace(GENESIS, ledger=replace(PARAMS, drand=each)).network_id for each in chains}
    assert len(ids) == len(chains)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("entry_fee = 3", "entry_fee = 4"),
        ("quorum = 2", "quorum = 1"),
        (f"{10**15}", f"{10**15 + 1}"),
        ("ledger.example.org:7078", "other.example.org:7078"),
        ("192.0.2.1:7079", "192.0.2.9:7079"),
        ("chain_id = 31337", "chain_id = 1"),
    ],
)
def test_any_changed_value_breaks_the_signature(network: Network, old: str, new: str) -> None:
    text = format_network(network)
    assert old in text
    assert refused(text.replace(old, new, 1)).detail_code == "bad_network_signature"


def test_places_cannot_be_dropped_added_or_swapped(network: Network) -> None:
    for places in ({"ledger": None}, {"witnesses": ()}, {"witnesses": network.witnesses[::-1]}):
        text = format_network(replace(network, **places))
        assert refused(text).detail_code == "bad_network_signature"


BAD = [
    ("entry_fee = 3", "entry_fee = -1", "entry_fee"),
    ("entry_fee = 3", "entry_fee = 10", "min_bond"),
    ("entry_fee = 3", "entry_fee = 3.5", "entry_fee"),
    ("entry_fee = 3", "entry_fee = true", "entry_fee"),
    ("entry_fee = 3", "entry_fee = 3\nentry_fees = 3", "unknown key entry_fees"),
    ("quorum = 2", "quorum = 4", "quorum"),
    ("epoch_s = 60", "epoch_s = 0", "epoch_s"),
    ("open_s = 20", "open_s = 61", "open_s"),
    ("vdf_iterations = 100000", "vdf_iterations = 0", "vdf_iterations"),
    ("vdf_bits = 512", "vdf_bits = 513", "vdf_bits"),
    ("vdf_bits = 512", "vdf_bits = 8192", "vdf_bits"),
    ("burn_ppm = 10000", "burn_ppm = 1000001", "burn_ppm"),
    ("claim_epochs = 24", "claim_epochs = 701", "claim_epochs"),
    ("demand_epochs = 48", "demand_epochs = 0", "demand_epochs"),
    ("max_term = 4294967296", "max_term = 0", "max_term"),
    ("min_dispute = 0", "min_dispute = 4294967297", "min_dispute"),
    ("chain_id = 31337", "chain_id = -1", "chain_id"),
    (f"= {10**15}", "= 0", "allocation"),
    (f"= {10**15}", '= "all"', "allocation"),
    (format_address(ADDRESSES[1]), format_address(ADDRESSES[1]).lower(), "0x"),
    (format_base32(WITNESSES[0]), "aa", "witnesses"),
    (format_base32(LOG_KEY.public), format_base32(STRANGER.public), "ledger.public_key is not"),
    ("[ledger]", "[ledgers]", "unknown key ledgers, did you mean ledger?"),
    ("[[witnesses]]", "[[witness]]", "unknown key witness, did you mean witnesses?"),
    ("7078", "0", "ledger.address"),
    ("7079", "70000", "witnesses.0.address"),
]


@pytest.mark.parametrize(("old", "new", "says"), BAD)
def test_what_is_wrong_is_named(network: Network, old: str, new: str, says: str) -> None:
    text = format_network(network)
    assert old in text
    error = refused(text.replace(old, new, 1))
    assert error.detail_code == "bad_network_file"
    assert says in error.message


def test_a_ledger_under_another_key_is_refused() -> None:
    with pytest.raises(ConfigError) as failure:
        sign_network(GENESIS, [], FOUNDER.sign, ledger=replace(LEDGER, public_key=STRANGER.public))
    assert "ledger.public_key is not genesis.ledger.log_key" in failure.value.message


@pytest.mark.parametrize(
    "places", [[Contact(STRANGER.public, "127.0.0.1:1")], [PLACES[0], PLACES[0]]]
)
def test_witnesses_are_those_of_the_genesis_section_once_each(places: list[Contact]) -> None:
    with pytest.raises(ConfigError) as failure:
        sign_network(GENESIS, [], FOUNDER.sign, witnesses=places)
    assert "witnesses name a public_key" in failure.value.message


def test_places_without_a_ledger_to_be_at_are_refused() -> None:
    free = replace(GENESIS, ledger=None)
    for places in ({"ledger": LEDGER}, {"witnesses": PLACES[:1]}):
        with pytest.raises(ConfigError) as failure:
            sign_network(free, [], FOUNDER.sign, **places)
        assert "without a genesis.ledger" in failure.value.message


def test_as_many_witnesses_as_a_checkpoint_has_room_for() -> None:
    keys = [SigningKey(bytes([n, 7]) * 16).public for n in range(MAX_WITNESSES + 1)]
    for count in (MAX_WITNESSES, MAX_WITNESSES + 1):
        params = replace(PARAMS, witnesses=frozenset(keys[:count]), quorum=count)
        genesis = replace(GENESIS, ledger=params)
        places = [Contact(key, "127.0.0.1:1") for key in keys[:count]]
        if count == MAX_WITNESSES:
            sign_network(genesis, [], FOUNDER.sign, witnesses=places)
            continue
        with pytest.raises(ConfigError):
            sign_network(genesis, [], FOUNDER.sign, witnesses=places)
