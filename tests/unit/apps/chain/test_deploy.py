"""What a network's contracts are made with, and where."""

from __future__ import annotations

import pytest

from dsn.apps.chain.deploy import Deployment, constructor_values, parse_deployment
from dsn.errors import ConfigError
from dsn.ledger.settlement import Address, format_address
from dsn.ledger.state import genesis
from dsn.rpc.evm_abi import artefact
from dsn.rpc.evm_making import Maker, place_of
from tests.support.fraud_world import SIGNED_PARAMS
from tests.support.ledger_world import KEYS

ERC20 = Address(b"\x20" * 20)
MAKER = Maker("http://127.0.0.1:1", KEYS["operator"], finality=0)
VALUES = constructor_values(MAKER, SIGNED_PARAMS, Deployment(ERC20), 7)


def test_places_follow_from_account_and_call() -> None:
    """By the first contracts of a known account, as block explorers show them."""
    account = Address(bytes.fromhex("f39fd6e51aad88f6f4ce6ab8827279cfffb92266"))
    assert format_address(place_of(account, 0)) == "0x5FbDB2315678afecb367f032d93F642f64180aa3"
    assert format_address(place_of(account, 1)) == "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"
    assert len({place_of(account, nonce) for nonce in (0, 1, 127, 128, 255, 256, 1 << 40)}) == 7


def test_the_vault_is_first_and_all_know_one_another() -> None:
    assert [*VALUES][:2] == ["Vault", "Dispute"]
    places = {name: MAKER.place(7 + at) for at, name in enumerate(VALUES)}
    vault = VALUES["Vault"]
    assert vault["dispute"] == places["Dispute"]
    assert vault["judges"] == [places[name] for name in VALUES if name.startswith("Fraud")]
    assert VALUES["FraudClaims"]["loss_rules"] == places["LossRules"]


def test_a_vault_knows_cosigners_and_a_judge_identities() -> None:
    assert VALUES["Vault"]["witnesses"] == sorted(SIGNED_PARAMS.cosigners)
    assert VALUES["FraudLog"]["witnesses"] == sorted(SIGNED_PARAMS.witnesses)
    assert VALUES["Vault"]["genesis_root"] == genesis(SIGNED_PARAMS).root
    assert VALUES["Vault"]["erc20"] == ERC20
    assert VALUES["FraudLog"]["vault"] == SIGNED_PARAMS.domain.vault


@pytest.mark.parametrize("name", VALUES)
def test_every_constructor_finds_what_it_asks_for(name: str) -> None:
    made = artefact(name)
    assert made.creation(VALUES[name]).startswith(made.bytecode)


def test_what_is_not_said_stays() -> None:
    assert parse_deployment("", ERC20) == Deployment(ERC20)
    changed = parse_deployment("challenge_s = 20\nbond_wei = 5\n", ERC20)
    assert changed == Deployment(ERC20, challenge_s=20, bond_wei=5)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("challenge_s = 0", "challenge_s"),
        ("challenge_s = 1.5", "challenge_s"),
        ("answer_s = true", "answer_s"),
        ("voucher_s = -1", "voucher_s"),
        (f"escape_s = {(1 << 32) + 1}", "escape_s"),
        ("bond_wei = '1'", "bond_wei"),
        ("erc20 = 5", "unknown key erc20"),
        ("patience = 5", "unknown key patience"),
        ("[[", "not TOML"),
    ],
)
def test_what_makes_no_sense_is_named(text: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_deployment(text, ERC20)
    assert caught.value.detail_code == "bad_chain_params"
    assert part in caught.value.message
