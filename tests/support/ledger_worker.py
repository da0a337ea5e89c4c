"""A process that puts payments into a ledger until it is killed, and says what it acknowledged.

Payment ``number`` is entry ``number`` of the log. Every line on stdout is ``try FIRST END`` before
payments are submitted, ``done NUMBER`` once one was acknowledged, or ``signed SIZE ROOT`` once a
checkpoint could be signed. What was stored before is submitted again each time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache
from random import Random

from dsn.apps.ledger.batch import Accepted, Submission
from dsn.apps.ledger.engine import Sequencer, open_sequencer
from dsn.ids import NetworkId
from dsn.ledger.bodies import Transfer
from dsn.ledger.entry import Entry, sign_entry
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import NO_ADDRESS, SettlementKey
from dsn.ledger.typed import Domain

DOMAIN = Domain(NetworkId(b"\x21" * 32), 0, NO_ADDRESS)
KEYS = [SettlementKey(bytes([n + 1]) * 32) for n in range(5)]
START = 1_000_000
PARAMS = LedgerParams(
    DOMAIN,
    KEYS[0].address,
    entry_fee=1,
    min_bond=1,
    allocation=tuple((key.address, START) for key in KEYS),
)
AGAIN = 20
"""Payments that are submitted once more after a restart."""


@cache
def payment(number: int) -> Submission:
    """The payment that only this place in the log can have."""
    key, to = KEYS[number % 5], KEYS[(number + 1) % 5]
    entry = Entry(DOMAIN.network, key.address, number // 5 + 1, Transfer(to.address, number + 1))
    return Submission(entry.encode(), sign_entry(entry, DOMAIN, key).signature)


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def submit(sequencer: Sequencer, numbers: range) -> None:
    """Those in the log already are refused, the others acknowledged."""
    size = sequencer.head.size
    say(f"try {numbers[0]} {numbers[-1] + 1}")
    for number, outcome in zip(numbers, sequencer.submit(map(payment, numbers)), strict=True):
        assert isinstance(outcome, Accepted) == (number >= size), (number, size, outcome)
        if isinstance(outcome, Accepted):
            say(f"done {outcome.index}")


def ranges(size: int, random: Random) -> Iterator[range]:
    """What to submit next, for ever."""
    first = max(0, size - AGAIN)
    while True:
        end = max(first, size) + random.choice([1, 3, 40, 300])
        yield range(first, end)
        first = end


def main(place: str, seed: int) -> None:
    random = Random(seed)
    with open_sequencer(place) as sequencer:
        for numbers in ranges(sequencer.head.size, random):
            submit(sequencer, numbers)
            if random.random() < 0.5:
                signed = sequencer.checkpoint()
                say(f"signed {signed.size} {signed.root.hex()}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
