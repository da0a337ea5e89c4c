"""A pledge: a revision as the ledger and a chain judge it.

Spec: docs/spec/economy.md#pledge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dsn.errors import PeerError
from dsn.ids import DealId
from dsn.ledger.typed import Statement, Struct
from dsn.proofs.inventory import EMPTY_ROOT, MAX_TOTAL


@dataclass(frozen=True, slots=True)
class Pledge(Statement):
    """Number ``number`` of a deal: ``shards`` shards of ``leaves`` leaves under ``root``."""

    struct: ClassVar[Struct] = Struct(
        "Pledge(bytes32 deal,uint64 number,uint64 shards,uint64 leaves,bytes32 root)"
    )

    deal: DealId
    number: int
    shards: int
    leaves: int
    root: bytes


def check_pledge(pledge: Pledge) -> None:
    """Check that some holdings could be as a pledge (untrusted) says.

    Raises:
        PeerError: ``bad_holdings``: a shard without leaves, 2^63 leaves, or an empty tree's root
            over something, or another one over nothing.
    """
    shards, leaves = pledge.shards, pledge.leaves
    if not shards <= leaves <= MAX_TOTAL:
        raise _bad(
            f"{shards} shards of {leaves} leaves, one leaf a shard to 2^63 - 1 in all needed"
        )
    if not (shards == 0) == (leaves == 0) == (pledge.root == EMPTY_ROOT):
        raise _bad(f"{shards} shards of {leaves} leaves do not go with the root")


def _bad(reason: str) -> PeerError:
    return PeerError(f"pledge: {reason}", code="bad_holdings")
