"""Entries that the rules refuse, with the code for it, shown to the rules and to the chain."""

from __future__ import annotations

from dataclasses import dataclass, field

from dsn.ledger.entry import Body, Entry, sign_entry
from dsn.ledger.fraud import Fraud
from dsn.ledger.log import LogLeaf
from dsn.ledger.onchain.cases import on_chain
from tests.support.evm import Receipt, Settled
from tests.support.fraud_world import SignedWorld
from tests.support.ledger_world import KEYS
from tests.support.onchain_history import (
    Lie,
    Verdict,
    anchor_lies,
    chain_verdict,
    python_verdict,
)

NOTHING_WRONG = Verdict(False, "no_fault")


def told(world: SignedWorld, entry: Entry) -> LogLeaf:
    """``entry``, signed by its signer, as if it had changed nothing."""
    names = {key.address: key for key in KEYS.values()}
    signed = sign_entry(entry, world.params.domain, names[entry.signer])
    return LogLeaf(entry.encode(), signed.signature, world.state.root)


@dataclass
class Refusals:
    """What an operator might have logged, and why it must not."""

    world: SignedWorld
    lies: list[Lie] = field(default_factory=list)

    def add(self, code: str, name: str, body: Body, nonce: int = 0) -> None:
        """``body`` by ``name`` is refused with ``code`` in the world as it stands."""
        entry = self.world.entry(name, body, nonce)
        self.lies.append(Lie(code, self.world.state, told(self.world, entry)))

    def check(self, settled: Settled) -> None:
        """Every one of them convicts, with the same code in Python and on the chain."""
        with settled.evm.undone():
            frauds, anchor = anchor_lies(settled, self.lies)
            for number, (lie, fraud) in enumerate(zip(self.lies, frauds, strict=True)):
                found = python_verdict(settled, fraud), chain_verdict(settled, fraud, anchor)
                assert found == (Verdict(True, lie.what),) * 2, f"lie {number}"


def honest_verdict(settled: Settled, world: SignedWorld, name: str, body: Body) -> Verdict:
    """What the chain says of ``body`` by ``name`` where the log has it as it should."""
    before, leaf = world.state, told(world, world.entry(name, body))
    world.do(name, body)
    leaf = LogLeaf(leaf.entry, leaf.signature, world.state.root)
    with settled.evm.undone():
        (fraud,), anchor = anchor_lies(settled, [Lie("honest", before, leaf)])
        return chain_verdict(settled, fraud, anchor)


def convict(settled: Settled, fraud: Fraud, anchor: int) -> Receipt:
    """Show ``fraud`` to the chain for good."""
    call = on_chain(fraud, settled.params, anchor)
    return settled.contract(call.contract).send(call.function, *call.args)
