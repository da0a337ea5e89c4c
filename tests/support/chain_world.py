"""A ledger with all its parties, and the vault that it settles in, both in memory.

::

    world = ChainWorld()
    world.fund("alice", 1_000)              # paid in on the chain, entered on the ledger
    world.anchor()
    world.ledger("alice")                   # the ledger as Alice's home sees it
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dsn.apps.chain.ledger_now import Shown
from dsn.apps.chain.paying_in import PayingIn
from dsn.apps.chain.paying_out import PayingOut
from dsn.apps.chain.under_way import UnderWay
from dsn.apps.chain.vault import Times
from dsn.chain import Call
from dsn.ledger.binding import LedgerRoot
from dsn.ledger.bodies import Deposit
from dsn.ledger.cells import AccountCell, cell_key
from dsn.ledger.entry import Body
from dsn.ledger.log import LogLeaf
from dsn.ledger.onchain.tuples import place_tuple
from dsn.ledger.settlement import Address
from dsn.ledger.typed import sign_typed
from dsn.wire.ledger import Wanted
from tests.support.ledger_world import CHAIN_PARAMS, COSIGNERS, KEYS, World, address, shard
from tests.support.memory_evm import TIMES, EvmOf, MemoryEvm


class ChainWorld:
    """Both sides, which move apart unless a test has them meet."""

    def __init__(self, times: Times = TIMES, *, signed: bool = True) -> None:
        self.params = CHAIN_PARAMS
        self.world = World(CHAIN_PARAMS, signed=signed)
        self.evm = MemoryEvm(CHAIN_PARAMS, times)
        self.evm.shard_roots = {shard(number).root for number in range(32)}
        self.entered: dict[Address, int] = {}

    def chain(self, name: str) -> EvmOf:
        return self.evm.chain(address(name))

    def fund(self, name: str, amount: int) -> None:
        """Units of ``name`` are paid in, and the ledger has them."""
        who, vault = address(name), self.evm.vault
        self.evm.state.units[who] += amount
        self.evm.state.allowed[who, vault] = amount
        self.evm.run(self.evm.state, who, Call("Vault", "deposit", (who, amount)))
        self.evm.mine()
        self.enter_deposits()

    def enter_deposits(self, *, final: bool = False) -> None:
        """The operator enters what was paid in, or what of it is final."""
        state = self.evm.past[self.evm.final] if final else self.evm.state
        for who, made in state.deposits.items():
            for serial in range(self.entered.get(who, 0) + 1, len(made) + 1):
                self.world.do("operator", Deposit(who, made[serial - 1], serial))
                self.entered[who] = serial

    def root(self) -> LedgerRoot:
        """What can be signed of the ledger now."""
        head, epoch = self.world.frontier.head, self.world.epoch
        return LedgerRoot(head.size, head.root, self.world.state.root, epoch)

    def anchor(self) -> int:
        """Anchor the ledger as it is; gives the number."""
        root, domain = self.root(), self.params.domain
        signed = sign_typed(root, domain, KEYS["operator"])
        lines = [sign_typed(root, domain, key) for key in COSIGNERS]
        call = Call("Vault", "anchor", (tuple(root.values()), signed, lines))
        self.evm.run(self.evm.state, address("operator"), call)
        self.evm.mine()
        return len(self.evm.state.anchors) - 1

    def ledger(self, name: str) -> WorldLedger:
        return WorldLedger(self, name)

    @property
    def copy(self) -> WorldLog:
        """An honest copy of the log."""
        return WorldLog(self.world.leaves)

    # homes

    def paying_in(self, name: str, folder: Path, told: list[str] | None = None) -> PayingIn:
        under_way = UnderWay(folder, self.evm.vault)
        ledger, chain = self.ledger(name), self.chain(name)
        return PayingIn(chain, ledger, under_way, self.evm.sleep, notice_to(told))

    def paying_out(self, name: str, folder: Path, told: list[str] | None = None) -> PayingOut:
        under_way = UnderWay(folder, self.evm.vault)
        ledger, chain = self.ledger(name), self.chain(name)
        notice = notice_to(told)
        return PayingOut(chain, ledger, [self.copy], under_way, self.evm.sleep, notice)


class WorldLedger:
    """``dsn.apps.chain.ledger_now.Ledger`` for one home."""

    def __init__(self, both: ChainWorld, name: str) -> None:
        self._both, self._name, self.params = both, name, both.params
        self.shows = False
        """Whether its newest checkpoint is what is asked for, if it can be."""

    async def account(self, address: Address) -> AccountCell:
        return self._both.world.state.account(address)

    async def size(self) -> int:
        return len(self._both.world.leaves)

    async def shown(self, wanted: Wanted, root: LedgerRoot) -> Shown | None:
        state = self._both.world.state
        cell = state.cell(*wanted)
        if not self.shows or root != self._both.root() or cell is None:
            return None
        return cell, place_tuple(state.tree, cell_key(*wanted))

    async def enter(self, bodies: Sequence[Body]) -> None:
        for body in bodies:
            self._both.world.do(self._name, body)


@dataclass
class WorldLog:
    """``LogCopy``; ``spoil`` changes what it serves."""

    log: Sequence[LogLeaf]
    name: str = "a copy"
    spoil: Callable[[LogLeaf], LogLeaf] = field(default=lambda leaf: leaf)

    async def leaves(self, size: int) -> AsyncIterator[Sequence[LogLeaf]]:
        for start in range(0, min(size, len(self.log)), 7):
            yield [self.spoil(leaf) for leaf in self.log[start : min(size, start + 7)]]


def notice_to(told: list[str] | None) -> Callable[[str], None]:
    return (told if told is not None else []).append


def seeded(seed: int) -> Callable[[int], bytes]:
    """Entropy that comes again."""
    return random.Random(seed).randbytes
