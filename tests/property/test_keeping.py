"""What a node keeps, against dictionaries: whatever is brought, by whom, when, in any order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dsn.core.hashing import sha256
from dsn.dht.keeping import BATCH_BYTES, COMMIT_BYTES, RECORD_BYTES, Keeper
from dsn.dht.record import parse_record, verify
from dsn.errors import DsnError
from dsn.ids import Commit, NodeId
from tests.support.records import NETWORK, NOW_S, SEQUENCE, batch, commits, node, slot

TERM_S, MOST, MOST_A_PUBLISHER, MOST_BATCHES = 50, 7, 3, 2
MOST_BYTES = 6 * (RECORD_BYTES + 400)
KEYS = {bytes(slot(number).key): number for number in range(5)}
SHARDS = commits(range(5))

numbers = st.integers(0, 4)
holders = st.integers(0, 2)
sequences = st.integers(SEQUENCE, SEQUENCE + 3)
lives_s = st.sampled_from([5, 40, 200])
publishers = st.sampled_from([NodeId(bytes([n]) * 32) for n in range(3)])
bodies = st.sampled_from([b"", b"x" * 300])
some = st.sets(numbers, min_size=1, max_size=5)


@dataclass(slots=True, eq=False)
class Thing:
    """A record, or a batch with the ``shards`` that it answers for, of all those ``named``."""

    raw: bytes
    sequence: int
    publisher: NodeId
    expires_s: int
    until_s: int
    size_bytes: int
    holder: int = -1
    named: frozenset[Commit] = frozenset()
    shards: frozenset[Commit] = frozenset()

    @property
    def rank(self) -> tuple[int, bytes]:
        """The lower one wins."""
        return -self.sequence, sha256(self.raw)


class Keeping(RuleBasedStateMachine):
    """Bring things, let time pass, restart; ``records`` and ``batches`` are the model."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = NOW_S
        self.keeper = self.fresh()
        self.records: dict[bytes, Thing] = {}
        self.batches: list[Thing] = []
        self.refused: dict[str, int] = {}

    def fresh(self) -> Keeper:
        return Keeper(
            NETWORK,
            most_records=MOST,
            most_bytes=MOST_BYTES,
            most_a_publisher=MOST_A_PUBLISHER,
            most_batches_a_publisher=MOST_BATCHES,
            term_s=TERM_S,
        )

    @rule(number=numbers, sequence=sequences, life_s=lives_s, body=bodies, publisher=publishers)
    def bring(
        self, number: int, sequence: int, life_s: int, body: bytes, publisher: NodeId
    ) -> None:
        record = slot(number, sequence=sequence, expires_s=self.now_s + life_s, body=body)
        raw, key = record.encode(), bytes(record.key)
        new = self.thing(raw, sequence, publisher, record.expires_s, RECORD_BYTES + len(raw))
        self.forget()
        old = self.records.get(key)
        expected = ""
        if old is not None and old.raw == raw:
            self.renew(old, publisher, list(self.records.values()), MOST_A_PUBLISHER)
        elif old is not None and old.rank < new.rank:
            expected = "stale_record"
        else:
            same = [each for each in self.records.values() if each is not old]
            expected = self.refusal(new, same, [*same, *self.batches], MOST_A_PUBLISHER, MOST_BYTES)
            if not expected:
                self.records[key] = new
        self.compare(expected, lambda: self.keeper.accept(key, raw, publisher, self.now_s))

    @rule(holder=holders, chosen=some, sequence=sequences, life_s=lives_s, publisher=publishers)
    def bring_batch(
        self, holder: int, chosen: set[int], sequence: int, life_s: int, publisher: NodeId
    ) -> None:
        expires_s = self.now_s + life_s
        made = batch(holder, sequence=sequence, expires_s=expires_s, commits=commits(chosen))
        raw = made.encode()
        new = self.thing(
            raw, sequence, publisher, expires_s, BATCH_BYTES + COMMIT_BYTES * len(chosen)
        )
        self.forget()
        known = next((each for each in self.batches if each.raw == raw), None)
        if known is not None:
            self.renew(known, publisher, self.batches, MOST_BATCHES)
            expected = ""
        else:
            expected = self.take_over(new, holder, frozenset(made.commits))
        self.compare(expected, lambda: self.keeper.accept_batch(raw, publisher, self.now_s))

    @precondition(lambda self: self.records or self.batches)
    @rule(data=st.data(), publisher=publishers)
    def bring_again(self, data: st.DataObject, publisher: NodeId) -> None:
        self.forget()
        kept = [*self.records.items(), *((b"", each) for each in self.batches)]
        if not kept:
            return
        key, thing = data.draw(st.sampled_from(kept), "again")
        if key:
            self.renew(thing, publisher, list(self.records.values()), MOST_A_PUBLISHER)
            self.compare("", lambda: self.keeper.accept(key, thing.raw, publisher, self.now_s))
        else:
            self.renew(thing, publisher, self.batches, MOST_BATCHES)
            self.compare("", lambda: self.keeper.accept_batch(thing.raw, publisher, self.now_s))

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds: int) -> None:
        self.now_s += seconds

    @rule()
    def sweep(self) -> None:
        before = len(self.records) + len(self.batches)
        self.forget()
        after = len(self.records) + len(self.batches)
        assert self.keeper.sweep(self.now_s) <= before - after + MOST
        assert len(self.keeper) == after

    @rule()
    def restart(self) -> None:
        self.forget()
        again = self.fresh()
        again.load(self.keeper.encode(), self.now_s)
        again.refused.update(self.keeper.refused)
        self.keeper = again
        for each in self.batches:  # a newer one that ran out since is not remembered
            newer = (
                b.named for b in self.batches if b.holder == each.holder and b.rank < each.rank
            )
            each.shards = each.named.difference(*newer)
        self.batches = [each for each in self.batches if each.shards]

    @invariant()
    def serves_what_the_model_has(self) -> None:
        for key in KEYS:
            thing = self.records.get(key)
            alive = thing is not None and thing.until_s > self.now_s
            assert self.keeper.find(key, self.now_s) == ([thing.raw] if thing and alive else [])
        for commit in SHARDS:
            wanted = {
                (node(each.holder), each.sequence)
                for each in self.batches
                if commit in each.shards and each.until_s > self.now_s
            }
            found = [parse_record(raw) for raw in self.keeper.find(commit, self.now_s)]
            for record in found:
                verify(record, NETWORK, self.now_s)
            assert len(found) == len(wanted)
            assert {(record.holder, record.sequence) for record in found} == wanted  # type: ignore[union-attr]

    @invariant()
    def stays_within_its_bounds(self) -> None:
        assert len(self.keeper) <= MOST
        assert self.keeper.size_bytes <= MOST_BYTES
        assert dict(self.keeper.refused) == self.refused

    def thing(
        self, raw: bytes, sequence: int, publisher: NodeId, expires_s: int, size_bytes: int
    ) -> Thing:
        until_s = min(expires_s, self.now_s + TERM_S)
        return Thing(raw, sequence, publisher, expires_s, until_s, size_bytes)

    def forget(self) -> None:
        now_s = self.now_s
        self.records = {key: each for key, each in self.records.items() if each.until_s > now_s}
        self.batches = [each for each in self.batches if each.until_s > now_s]

    def renew(self, kept: Thing, publisher: NodeId, same: list[Thing], most: int) -> None:
        kept.until_s = max(kept.until_s, min(kept.expires_s, self.now_s + TERM_S))
        if sum(each.publisher == publisher for each in same) < most:
            kept.publisher = publisher

    def refusal(
        self, new: Thing, same: list[Thing], others: list[Thing], most: int, most_bytes: int
    ) -> str:
        """Why ``new`` has no place beside ``same`` of its kind and all ``others``."""
        if sum(each.publisher == new.publisher for each in same) >= most:
            return "publisher_quota"
        size_bytes = new.size_bytes + sum(each.size_bytes for each in others)
        of_kind_bytes = new.size_bytes + sum(each.size_bytes for each in same)
        full = len(others) >= MOST or size_bytes > MOST_BYTES or of_kind_bytes > most_bytes
        return "records_full" if full else ""

    def take_over(self, new: Thing, holder: int, named: frozenset[Commit]) -> str:
        own = [each for each in self.batches if each.holder == holder]
        newer = (each.shards for each in own if each.rank < new.rank)
        new.holder, new.named, new.shards = holder, named, named.difference(*newer)
        if not new.shards:
            return "stale_record"
        stay = [each for each in self.batches if each.holder != holder or each.shards - new.shards]
        others = [*self.records.values(), *stay]
        expected = self.refusal(new, stay, others, MOST_BATCHES, MOST_BYTES // 2)
        if not expected:
            for each in own:
                each.shards -= new.shards
            self.batches = [*stay, new]
        return expected

    def compare(self, expected: str, call: object) -> None:
        assert callable(call)
        try:
            call()
        except DsnError as error:
            code = error.detail_code
            self.refused[code] = self.refused.get(code, 0) + 1
        else:
            code = ""
        assert code == expected


def test_a_keeper_is_its_model() -> None:
    run_state_machine_as_test(
        Keeping, settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
    )


@settings(max_examples=30)
@given(st.lists(st.tuples(holders, sequences), min_size=1, max_size=4, unique=True))
def test_the_newest_wins_in_any_order(versions: list[tuple[int, int]]) -> None:
    records = [slot(number, sequence=sequence) for number, sequence in versions]
    kept = set()
    for order in permutations(records):
        keeper = Keeper(NETWORK)
        for record in order:
            try:
                keeper.accept(bytes(record.key), record.encode(), node(1), NOW_S)
            except DsnError as error:
                assert error.detail_code == "stale_record"  # noqa: PT017
        keys = {bytes(record.key) for record in records}
        kept.add(frozenset((key, raw) for key in keys for raw in keeper.find(key, NOW_S)))
    newest = {number: max(s for n, s in versions if n == number) for number, _ in versions}
    wanted = [slot(number, sequence=sequence) for number, sequence in newest.items()]
    assert kept == {frozenset((bytes(each.key), each.encode()) for each in wanted)}
