"""A vault alone on a chain: its judge is an account, its dispute says what a test wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from dsn.ledger.binding import LedgerRoot
from dsn.ledger.bodies import Deposit
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import Address, SettlementKey
from dsn.ledger.state import genesis
from dsn.ledger.typed import Domain, sign_typed
from tests.contracts.probes import deploy_probe
from tests.support.evm import (
    CHAIN_ID,
    DEPLOYER,
    OPERATOR,
    WITNESSES,
    Contract,
    Evm,
    Receipt,
    Reverted,
)
from tests.support.ledger_world import CHAIN_PARAMS, START, World, address

JUDGE = Address(b"\x1d" * 20)
PARAMS = replace(CHAIN_PARAMS, quorum=2)
BOND = 1_005


class Times(NamedTuple):
    """The vault's spans, in seconds."""

    challenge_s: int = 1_000
    escape_s: int = 5_000
    voucher_s: int = 300
    inclusion_s: int = 5_000


TIMES = Times()


class VaultWorld(NamedTuple):
    """A vault, what it holds, and the network that settles there."""

    params: LedgerParams
    credit: Contract
    dispute: Contract
    vault: Contract

    @property
    def evm(self) -> Evm:
        return self.vault.evm

    # what people do

    def pay_in(self, name: str, amount: int = START) -> Receipt:
        """Mint for ``name``, and deposit it."""
        self.allow(address(name), amount)
        return self.vault.send("deposit", address(name), amount, sender=address(name))

    def allow(self, account: Address, amount: int) -> None:
        """Give ``account`` units that the vault may take, and gas."""
        self.evm.fund(account)
        self.credit.send("mint", account, amount)
        self.credit.send("approve", self.vault.address, amount, sender=account)

    def post_bond(self, amount: int = BOND) -> None:
        self.allow(OPERATOR.address, amount)
        self.vault.send("post_bond", amount, sender=OPERATOR.address)

    def anchored(self, world: World) -> int:
        """Anchor where ``world`` stands."""
        return self.anchor(root_of(world))

    def anchor(self, root: LedgerRoot) -> int:
        number = self.vault.call("anchor_count")
        self.vault.send("anchor", *self.anchor_args(root))
        return int(number)

    def anchor_args(
        self,
        root: LedgerRoot,
        signers: Sequence[SettlementKey] = tuple(WITNESSES[:2]),
        *,
        operator: SettlementKey = OPERATOR,
        domain: Domain | None = None,
    ) -> tuple[Any, ...]:
        """What is sent to anchor ``root``, signed for ``domain`` or else for the vault's."""
        domain = domain or self.params.domain
        signatures = [sign_typed(root, domain, key) for key in signers]
        return tuple(root.values()), sign_typed(root, domain, operator), signatures

    def do(self, call: OnChain) -> Receipt:
        assert call.contract == "Vault"
        return self.vault.send(call.function, *call.args)

    def freeze(self) -> None:
        """Let no anchor come until anybody may freeze the vault, who does."""
        self.evm.pass_time(TIMES.escape_s)
        self.vault.send("freeze")

    def begin_escape(self) -> None:
        """Freeze, and let the last window for convictions pass."""
        self.freeze()
        self.evm.pass_time(TIMES.challenge_s)

    def wait_until(self, time_s: int) -> None:
        """Mine a block of this time."""
        self.evm.rpc("evm_setNextBlockTimestamp", hex(time_s))
        self.evm.mine()

    # what can be seen

    def code(self, function: str, *args: Any, sender: Address = DEPLOYER) -> str:
        """What ``function`` is undone with now; empty if it is not."""
        try:
            self.vault.call(function, *args, sender=sender)
        except Reverted as error:
            return error.reason or "?"
        return ""

    def refused(self, call: OnChain) -> str:
        return self.code(call.function, *call.args)

    def units(self, account: Address) -> int:
        """What ``account`` has of the ERC-20."""
        return int(self.credit.call("balanceOf", account))

    def owed(self, name: str) -> int:
        return int(self.vault.call("owed", address(name)))


def root_of(world: World) -> LedgerRoot:
    """What operator and witnesses sign of ``world``."""
    head = world.frontier.head
    return LedgerRoot(head.size, head.root, world.state.root, world.epoch)


def enter(world: World, name: str, amount: int) -> None:
    """Enter a deposit into the ledger."""
    account = world.account(name)
    world.do("operator", Deposit(account.address, amount, account.deposits + 1))


def deploy_vault(node: Evm, credit: Contract | None = None) -> VaultWorld:
    """A vault of the ERC-20 ``credit``, or else of a new one."""
    node.rpc("anvil_setLoggingEnabled", False)  # nobody reads what it says
    node.fund(DEPLOYER, JUDGE)
    credit = credit or node.deploy("TestCredit")
    dispute = deploy_probe(node, "dispute_probe")
    domain = Domain(PARAMS.domain.network, CHAIN_ID, node.next_address())
    params = replace(PARAMS, domain=domain)
    cosigners = [key.address for key in WITNESSES]
    vault = node.deploy(
        "Vault",
        *(credit.address, domain.network, params.operator, cosigners, params.quorum),
        *(genesis(params).root, params.burn_ppm, TIMES, dispute.address, [JUDGE]),
    )
    assert vault.address == domain.vault
    return VaultWorld(params, credit, dispute, vault)
