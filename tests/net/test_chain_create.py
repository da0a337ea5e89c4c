"""``dsn net create`` on a real EVM node: contracts, and going on after it broke off."""

from __future__ import annotations

from pathlib import Path

from dsn.dht.network import parse_network
from dsn.ledger.settlement import Address, SettlementKey, format_address
from dsn.rpc.evm_abi import artefact
from dsn.store.home import Home
from tests.net.local import Done, dsn
from tests.support.evm import CHAIN_ID, DEPLOYER, Evm, running_evm

ROOT = b"\x6b" * 32
KEY = SettlementKey.derive(ROOT)
GAS_PRICE = 3 * 10**9
"""Above what a fresh node asks."""


def create(home: Path, file: Path, evm: Evm, credit: Address) -> Done:
    return dsn(
        *("net", "create", "toy", "-o", file, "--witnesses", "3", "--faucet", "--json"),
        *("--erc20", format_address(credit), "--chain", evm.url),
        home=home,
    )


def test_a_network_is_founded_with_its_contracts(tmp_path: Path) -> None:
    """Interrupted once, because the founder could not pay; then repeated."""
    home, file = Home.create(tmp_path / "home", ROOT).path, tmp_path / "n.toml"
    (home / "dsn.toml").write_text("[chain]\nfinality = 0\n")
    with running_evm() as evm:
        evm.rpc("anvil_setLoggingEnabled", False)
        credit = evm.next_address()
        evm.send(None, artefact("TestCredit").creation({}), DEPLOYER)
        evm.fund(KEY.address, wei=9_000_000 * GAS_PRICE)
        broken = create(home, file, evm, credit).check(6)
        assert broken.fields["error"]["code"] == "not_enough_gas"
        assert not file.exists()
        assert evm.nonce(KEY.address) > 0
        begun = parse_network((tmp_path / "n.toml.part").read_text())
        evm.fund(KEY.address)
        create(home, file, evm, credit).check()
        network = parse_network(file.read_text())
        assert network == begun
        assert not (tmp_path / "n.toml.part").exists()
        params = network.ledger_params
        assert params is not None
        assert params.domain.chain_id == CHAIN_ID
        homes = [Home.open(tmp_path / f"n-witness{number}") for number in (1, 2, 3)]
        keys = {SettlementKey.derive(each.load_root()).address for each in homes}
        assert params.cosigners == keys
        separator = evm.call(params.domain.vault, artefact("Vault").call("separator", ()))
        assert separator == params.domain.separator
        sent = evm.nonce(KEY.address)
        again = create(home, file, evm, credit).check(2)
        assert again.fields["error"]["code"] == "output_exists"
        assert evm.nonce(KEY.address) == sent
