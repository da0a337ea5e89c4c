"""What a network fixes about its ledger, once, in its network file.

Spec: docs/spec/economy.md#parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dsn.core.codec import U64_MAX
from dsn.errors import ConfigError
from dsn.ledger.cells import KEPT_BITS
from dsn.ledger.money import PPM
from dsn.ledger.settlement import NO_ADDRESS, Address
from dsn.ledger.typed import Domain

MAX_CLAIM_EPOCHS: Final = 700
"""A provider that claims later than this may find that the ledger forgot proven epochs."""
MAX_TERM: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class LedgerParams:
    """The ledger's constants; amounts in base units, spans in epochs.

    Attributes:
        domain: The network, and the chain it settles on.
        operator: Who opens and shuts epochs and enters deposits.
        witnesses: Ed25519 keys of those who may give salts.
        quorum: How many of them must, in every shut.
        entry_fee: Burned from the signer of an entry.
        burn_ppm: How much of disk pay is burned, in millionths.
        min_disk_price: The least a deal may pay a GiB-epoch.
        min_repair_price: The least a lost GiB may cost its provider.
        min_collateral_ppm: The least a deal may have as ``collateral_ppm``.
        max_free_leaves: The most leaves a deal may leave without collateral.
        min_dispute: The least a deal may have as ``dispute``.
        min_bond: The least a demand may put at stake; no less than the fee, so that whoever
            serves it can pay for that.
        max_term: How far ahead a deal may end, and the most for its grace, notice and dispute.
        demand_epochs: How long a provider has to serve a demand.
        claim_epochs: How often a node claims; no rule reads it, all nodes do.
        faucet: Whose owner pays each new key once, or ``NO_ADDRESS``; no rule reads it.
        allocation: What accounts have at genesis.
    """

    domain: Domain
    operator: Address
    witnesses: frozenset[bytes] = frozenset()
    quorum: int = 0
    entry_fee: int = 0
    burn_ppm: int = 10_000
    min_disk_price: int = 0
    min_repair_price: int = 0
    min_collateral_ppm: int = 0
    max_free_leaves: int = U64_MAX
    min_dispute: int = 0
    min_bond: int = 0
    max_term: int = MAX_TERM
    demand_epochs: int = 48
    claim_epochs: int = 24
    faucet: Address = NO_ADDRESS
    allocation: tuple[tuple[Address, int], ...] = ()


def check_params(params: LedgerParams) -> None:
    """Check what a network file says of its ledger (untrusted).

    Raises:
        ConfigError: ``bad_ledger_params``, naming the field.
    """
    accounts = [account for account, _ in params.allocation]
    rules = {
        "quorum": 0 <= params.quorum <= len(params.witnesses),
        "burn_ppm": 0 <= params.burn_ppm <= PPM,
        "entry_fee": 0 <= params.entry_fee <= U64_MAX,
        "min_bond": params.entry_fee <= params.min_bond <= U64_MAX,
        "min_dispute": 0 <= params.min_dispute <= params.max_term,
        "max_term": 1 <= params.max_term <= MAX_TERM,
        "demand_epochs": 1 <= params.demand_epochs <= KEPT_BITS,
        "claim_epochs": 1 <= params.claim_epochs <= MAX_CLAIM_EPOCHS,
        "allocation": len(set(accounts)) == len(accounts)
        and all(0 < amount <= U64_MAX for _, amount in params.allocation),
    }
    wrong = [name for name, holds in rules.items() if not holds]
    if wrong:
        raise ConfigError(
            f"the network's ledger: {', '.join(wrong)} out of range", code="bad_ledger_params"
        )
