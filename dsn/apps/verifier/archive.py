"""The ledger as a verifier replayed it: epochs, their links, and who has none.

Everything here blocks as the replica's store does and belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from dsn.apps.ledger.engine import Turning
from dsn.apps.verifier.installed import Installed
from dsn.apps.witness.files import ReplayFiles
from dsn.apps.witness.follower import Follower
from dsn.apps.witness.replica import Replica
from dsn.apps.witness.served import Course
from dsn.ids import NodeId
from dsn.ledger.bodies import Kind, OpenEpoch, SubmitLink
from dsn.ledger.cells import NO_NODE, AccountCell, DealCell, DealState, NetworkCell
from dsn.ledger.checkpoint import Checkpoint, SignedCheckpoint
from dsn.ledger.conviction import by_operator
from dsn.ledger.entry import Entry
from dsn.ledger.log import LogLeaf, build_inclusion_proof
from dsn.ledger.rules.settling import roll
from dsn.ledger.settlement import Address
from dsn.ledger.trust import Trust
from dsn.ports import LedgerStore
from dsn.proofs.post import Link

LATEST: Final = 24
"""A verifier that was away looks back so many epochs, not at all that it missed."""


@dataclass(frozen=True, slots=True)
class Span:
    """One epoch in the log: the numbers of the entries that opened and shut it, and its beacon.

    ``shut`` is 0 while it is open.
    """

    epoch: int
    opened: int
    beacon: bytes
    shut: int = 0


@dataclass(frozen=True, slots=True)
class Logged:
    """A link as it stands in the log, as entry ``index``."""

    index: int
    leaf: LogLeaf
    account: Address
    node: NodeId
    link: Link


class Provider(NamedTuple):
    """An identity and the account that it is bound to."""

    node: NodeId
    account: Address


class Archive:
    """One replica, and what is looked up in it."""

    def __init__(
        self, store: LedgerStore, trust: Trust, files: ReplayFiles, since: int = 0
    ) -> None:
        """Go on where ``store`` ends.

        Args:
            store: Open to sign.
            trust: Whose log it is.
            files: What is remembered beside the replica.
            since: Epochs that began before this entry are of no interest any more.
        """
        self.installed = Installed()
        self.replica = Replica(store, self.installed.see)
        self.installed.see(0, self.replica.cells())
        self._trust, self._follower = trust, Follower(trust, self.replica, files)
        self._spans: dict[int, Span] = {}
        for turning in self.replica.turnings(min(since, self.size)):
            self._turn(turning)

    @property
    def size(self) -> int:
        """Entries that were replayed."""
        return self._follower.size

    @property
    def network(self) -> NetworkCell:
        """Where time stands after the last of them."""
        return self.replica.state.network

    def follow(self, signed: SignedCheckpoint) -> Course[Checkpoint]:
        """Replay up to a checkpoint that a quorum cosigned; as ``Follower.follow``."""
        return self._follower.follow(by_operator(signed, self._trust), self._turn)

    def due(self, after: int) -> list[Span]:
        """The epochs later than ``after`` whose next one is open, oldest first, but few."""
        known = self._spans
        return [known[each] for each in sorted(known) if each > after and each + 1 in known][
            -LATEST:
        ]

    def span(self, epoch: int) -> Span:
        """An epoch that is known; of others ``KeyError``."""
        return self._spans[epoch]

    def forget(self, before: int) -> None:
        """Let go of the epochs before ``before``."""
        self._spans = {each: span for each, span in self._spans.items() if each >= before}

    def links(self, span: Span) -> list[Logged]:
        """The links of an epoch that is shut, as they are logged."""
        return [*self._links(span)]

    def missed(self, epoch: int) -> list[Provider]:
        """Who was asked in ``epoch``, which is shut, and has no link."""
        now = self.network.epoch
        return [
            Provider(cell.node, cell.address)
            for cell in self.replica.cells()
            if isinstance(cell, AccountCell)
            and cell.node != NO_NODE
            and not roll(cell, now).proven(epoch)
        ]

    def deals_of(self, provider: Address) -> list[DealCell]:
        """Its deals that are not closed."""
        return [
            cell
            for cell in self.replica.cells()
            if isinstance(cell, DealCell)
            and cell.terms.provider == provider
            and cell.state is not DealState.CLOSED
        ]

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """That entry ``index`` is in the log of ``size`` entries."""
        return build_inclusion_proof(self.replica.hashes, index, size)

    def _links(self, span: Span) -> Iterator[Logged]:
        leaves = self.replica.leaves(span.opened, span.shut)
        for index, leaf in enumerate(leaves, span.opened):
            if leaf.entry[0] != Kind.LINK:
                continue
            entry = Entry.decode(leaf.entry)
            assert isinstance(entry.body, SubmitLink)
            node = self.replica.state.account(entry.signer).node
            yield Logged(index, leaf, entry.signer, node, entry.body.link)

    def _turn(self, turning: Turning) -> None:
        body = turning.body
        if isinstance(body, OpenEpoch):
            self._spans[body.epoch] = Span(body.epoch, turning.index, body.value)
        elif body.epoch in self._spans:
            shut = replace(self._spans[body.epoch], shut=turning.index)
            self._spans[body.epoch] = shut
