"""What a network fixes about its ledger, once, in its network file.

Spec: docs/spec/economy.md#parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dsn.core.codec import U64_MAX, Writer
from dsn.core.keys import KEY_BYTES, PUBLIC_KEY_BYTES
from dsn.errors import ConfigError
from dsn.ledger.cells import KEPT_BITS
from dsn.ledger.checkpoint import MAX_SIGNATURES
from dsn.ledger.cosignature import MAX_WITNESSES
from dsn.ledger.money import PPM
from dsn.ledger.settlement import ADDRESS_BYTES, NO_ADDRESS, Address
from dsn.ledger.typed import Domain
from dsn.proofs.drand import KEY_BYTES as DRAND_KEY_BYTES
from dsn.proofs.drand import DrandChain

MAX_CLAIM_EPOCHS: Final = 700
"""A provider that claims later than this may find that the ledger forgot proven epochs."""
MAX_TERM: Final = 1 << 32
OPEN_S: Final = 600
MAX_DRAND_S: Final = 1 << 32
VDF_ITERATIONS: Final = 5_000_000
"""About a minute."""
MAX_VDF_BITS: Final = 1_024
"""What chiavdf squares in."""
MAX_COSIGNERS: Final = (MAX_SIGNATURES - 2) // 2
"""Witnesses of a network with a vault: each has two lines under a note, as the operator has."""
_CHAIN_BYTES: Final = 32
_COUNTS: Final = (
    "quorum", "epoch_s", "open_s", "salt_ms", "vdf_iterations", "vdf_bits", "entry_fee",
    "burn_ppm", "min_disk_price", "min_repair_price", "min_collateral_ppm", "max_free_leaves",
    "min_dispute", "min_bond", "max_term", "demand_epochs", "claim_epochs",
)  # fmt: skip
"""The fields that are whole numbers, in the order of their encoding."""


@dataclass(frozen=True, slots=True)
class LedgerParams:
    """The ledger's constants; amounts in base units, spans in epochs unless a name says more.

    Attributes:
        domain: The network, and the chain it settles on.
        operator: Who opens and shuts epochs and enters deposits.
        log_key: Ed25519: the operator signs checkpoints with it, and serves under it.
        witnesses: Ed25519 keys of those who cosign checkpoints and may give salts.
        cosigners: Settlement addresses of the same witnesses, one each, for a chain to know them
            by; none without a vault.
        quorum: How many of them must, under every checkpoint and in every shut.
        epoch_s: How long an epoch lasts, if all goes well.
        open_s: How long an epoch is open at least, by the clocks of witnesses.
        salt_ms: How old a witness lets its own salt become before it cosigns the shut.
        vdf_iterations: Squarings between a closed log and the next epoch's beacon.
        vdf_bits: The size of the group that is squared in; a multiple of 8.
        drand: The chain whose rounds give the beacons, or ``None``: the log gives them.
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
        allocation: What accounts have at genesis; nothing with a vault, where all is deposited.
    """

    domain: Domain
    operator: Address
    log_key: bytes = bytes(KEY_BYTES)
    witnesses: frozenset[bytes] = frozenset()
    cosigners: frozenset[Address] = frozenset()
    quorum: int = 0
    epoch_s: int = 3_600
    open_s: int = OPEN_S
    salt_ms: int = 6_000
    vdf_iterations: int = VDF_ITERATIONS
    vdf_bits: int = 1_024
    drand: DrandChain | None = None
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

    @property
    def settles(self) -> bool:
        """Whether there is a vault on a chain that the ledger settles in."""
        return self.domain.vault != NO_ADDRESS

    def encode(self) -> bytes:
        """The fixed encoding, which a network's id covers; the network itself is not in it."""
        chain_id = self.domain.chain_id.to_bytes(_CHAIN_BYTES, "big")
        writer = Writer().raw(chain_id, _CHAIN_BYTES).raw(self.domain.vault, ADDRESS_BYTES)
        writer.raw(self.operator, ADDRESS_BYTES).raw(self.log_key, PUBLIC_KEY_BYTES)
        writer.raw(self.faucet, ADDRESS_BYTES)
        writer.u8(self.drand is not None)
        if self.drand is not None:
            writer.raw(self.drand.key, DRAND_KEY_BYTES)
            writer.u64(self.drand.genesis_s).u64(self.drand.period_s)
        writer.u32(len(self.witnesses))
        for key in sorted(self.witnesses):
            writer.raw(key, PUBLIC_KEY_BYTES)
        if self.settles:
            writer.u32(len(self.cosigners))
            for cosigner in sorted(self.cosigners):
                writer.raw(cosigner, ADDRESS_BYTES)
        for name in _COUNTS:
            writer.u64(getattr(self, name))
        writer.u32(len(self.allocation))
        for account, amount in self.allocation:
            writer.raw(account, ADDRESS_BYTES).u64(amount)
        return writer.done()


def check_params(params: LedgerParams) -> None:
    """Check what a network file says of its ledger (untrusted).

    Raises:
        ConfigError: ``bad_ledger_params``, naming the field.
    """
    accounts = [account for account, _ in params.allocation]
    rules = {
        "witnesses": len(params.witnesses) <= (MAX_COSIGNERS if params.settles else MAX_WITNESSES),
        "cosigners": _are_cosigners(params),
        "quorum": 0 <= params.quorum <= len(params.witnesses),
        "epoch_s": 1 <= params.epoch_s <= U64_MAX,
        "open_s": 0 <= params.open_s <= params.epoch_s,
        "vdf_iterations": params.vdf_iterations >= 1,
        "vdf_bits": 256 <= params.vdf_bits <= MAX_VDF_BITS and params.vdf_bits % 8 == 0,
        "drand": _is_drand(params),
        "burn_ppm": 0 <= params.burn_ppm <= PPM,
        "entry_fee": 0 <= params.entry_fee <= U64_MAX,
        "min_bond": params.entry_fee <= params.min_bond <= U64_MAX,
        "min_dispute": 0 <= params.min_dispute <= params.max_term,
        "max_term": 1 <= params.max_term <= MAX_TERM,
        "demand_epochs": 1 <= params.demand_epochs <= KEPT_BITS,
        "claim_epochs": 1 <= params.claim_epochs <= MAX_CLAIM_EPOCHS,
        "allocation": len(set(accounts)) == len(accounts)
        and all(0 < amount <= U64_MAX for _, amount in params.allocation)
        and not (params.settles and accounts),
    }
    wrong = [name for name, holds in rules.items() if not holds]
    if wrong:
        raise ConfigError(
            f"the network's ledger: {', '.join(wrong)} out of range", code="bad_ledger_params"
        )


def _are_cosigners(params: LedgerParams) -> bool:
    """Whether a chain knows as many as there are witnesses; where there is none, nobody."""
    needed = len(params.witnesses) if params.settles else 0
    return len(params.cosigners) == needed and NO_ADDRESS not in params.cosigners


def _is_drand(params: LedgerParams) -> bool:
    """Whether the chain can be followed: some witness's salt has to name its rounds."""
    chain = params.drand
    return chain is None or (
        len(chain.key) == DRAND_KEY_BYTES
        and 0 <= chain.genesis_s <= MAX_DRAND_S
        and 1 <= chain.period_s <= MAX_DRAND_S
        and params.quorum >= 1
    )
