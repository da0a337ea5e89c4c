"""Tab and purse, alone and over a wire that loses, delays and cuts off."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dsn.errors import LimitReached, PeerError
from dsn.ledger.bandwidth import Traffic, bandwidth_due, window
from dsn.ledger.deal import Deal
from dsn.machines.settle import Purse, Tab
from dsn.units import KIB, MIB
from tests.support.signing import deal

PRICE = MIB
"""A MiB costs 1,024 credits: the first window is 1,024, the last 16,384."""
PLENTY = 10**9


def both(limit: int = PLENTY, **prices: int) -> tuple[Tab, Purse]:
    terms = deal(**({"ingress_price": PRICE, "egress_price": PRICE} | prices))
    return Tab(terms, Traffic(), 0, limit), Purse(terms, Traffic(), 0, limit)


def refused(call: Any, *arguments: Any) -> str:
    with pytest.raises((PeerError, LimitReached)) as error:
        call(*arguments)
    return error.value.detail_code


# the node


def test_a_window_is_owed_and_no_more() -> None:
    tab, _ = both()
    assert tab.expect(MIB)
    assert not tab.expect(KIB)
    tab.lost(MIB)
    assert tab.expect(KIB)
    tab.stored(KIB)
    assert (tab.owed, tab.traffic) == (1, Traffic(KIB, 0))


def test_reads_stop_at_a_window_and_go_on_with_a_voucher() -> None:
    tab, _ = both()
    assert tab.room(4 * MIB) == MIB
    tab.read(MIB)
    assert tab.room(1) == 0
    assert tab.pay(512)
    assert tab.room(4 * MIB) == MIB // 2
    tab.read(tab.room(4 * MIB))
    assert tab.pay(1_536)
    assert tab.room(4 * MIB) == 1_536 * KIB


def test_only_the_highest_voucher_counts() -> None:
    tab, _ = both()
    assert tab.pay(500)
    assert not tab.pay(500)
    assert not tab.pay(3)
    assert tab.credits == 500


def test_a_voucher_that_could_bounce() -> None:
    tab, _ = both(limit=1_000)
    assert tab.pay(1_000)
    assert refused(tab.pay, 1_001) == "over_escrow"
    assert tab.credits == 1_000


def test_nothing_is_moved_that_no_voucher_could_pay() -> None:
    tab, _ = both(limit=1_000)
    assert refused(tab.expect, MIB) == "escrow_spent"
    assert tab.room(MIB) == 1_000 * KIB
    tab.read(1_000 * KIB)
    assert refused(tab.room, 1) == "escrow_spent"


def test_a_rest_of_escrow_that_buys_no_byte_is_spent() -> None:
    tab, _ = both(limit=3, egress_price=1 << 32)
    assert refused(tab.room, 1) == "escrow_spent"


def test_what_is_free_needs_no_voucher() -> None:
    tab, _ = both(limit=0, ingress_price=0, egress_price=0)
    assert tab.room(PLENTY) == PLENTY
    assert tab.expect(PLENTY)
    tab.stored(PLENTY)
    assert tab.owed == tab.arrears == 0


def test_arrears_are_what_storing_left() -> None:
    tab, _ = both()
    assert tab.expect(MIB // 2)
    tab.stored(MIB // 2)
    assert tab.arrears == 512
    tab.pay(512)
    assert tab.arrears == 0
    tab.read(KIB)
    assert (tab.owed, tab.arrears) == (1, 0)
    assert tab.expect(KIB)
    tab.stored(KIB)
    assert (tab.owed, tab.arrears) == (2, 1)


# the client


def test_a_voucher_is_due_at_half_a_window() -> None:
    _, purse = both()
    purse.received(MIB // 2 - 1)
    assert purse.voucher_due() is None
    assert purse.voucher_due(all_of_it=True) == 511
    purse.received(1)
    assert purse.voucher_due() == 512
    purse.promised(512)
    assert purse.voucher_due(all_of_it=True) is None


def test_a_client_promises_no_more_than_is_locked() -> None:
    _, purse = both(limit=1_000)
    purse.sending(MIB)
    assert refused(purse.voucher_due) == "escrow_spent"
    purse.unsent(MIB)
    assert purse.voucher_due(all_of_it=True) is None


def test_a_client_that_lost_its_state_goes_on_from_its_voucher() -> None:
    _, purse = both()
    purse.promised(5_000)
    purse.agree(Traffic(0, 9 * MIB))
    assert (purse.owed, purse.traffic) == (9 * 1_024 - 5_000, Traffic(0, 9 * MIB))
    assert refused(purse.agree, Traffic(0, 100 * MIB)) == "overcharged"


def test_a_voucher_from_before_shows_that_the_count_is_behind() -> None:
    _, purse = both()
    purse.received(MIB)
    assert refused(purse.agree, Traffic(0, 100 * MIB)) == "overcharged"
    purse.promised(100 * 1_024)
    purse.agree(Traffic(0, 101 * MIB))
    assert (purse.owed, purse.traffic) == (1_024, Traffic(0, 101 * MIB))


@pytest.mark.parametrize("more", [Traffic(0, 64 * KIB), Traffic(64 * KIB, 0)])
def test_a_node_that_says_more_every_time_gets_a_window(more: Traffic) -> None:
    _, purse = both()
    purse.received(10 * MIB)
    own = bandwidth_due(purse.terms, purse.traffic)
    purse.promised(own)
    said = purse.traffic
    with suppress(PeerError):
        for _ in range(1_000):
            said += more
            purse.agree(said)
            purse.promised(purse.voucher_due(all_of_it=True) or 0)
    assert refused(purse.agree, said) == "overcharged"
    assert own < purse.credits <= own + window(purse.terms, purse.credits) + own // 50


def test_what_is_on_its_way_is_paid_when_it_comes() -> None:
    _, purse = both()
    purse.asked(8 * MIB)
    purse.agree(Traffic(0, 7 * MIB))
    assert purse.owed == 0
    for came in range(1, 9):
        purse.received(MIB)
        assert purse.owed == came * 1_024


def test_what_was_on_its_way_as_the_count_was_taken_over_is_paid_once() -> None:
    _, purse = both()
    purse.asked(2 * MIB)
    purse.promised(5_000)
    purse.agree(Traffic(0, 6 * MIB))
    assert purse.owed == 6 * 1_024 - 5_000
    purse.received(2 * MIB)
    assert purse.owed == 6 * 1_024 - 5_000
    purse.agree(Traffic(0, 7 * MIB))
    assert purse.owed == 7 * 1_024 - 5_000


def test_what_may_have_been_moved_is_granted() -> None:
    _, purse = both()
    purse.sending(64 * MIB)
    purse.unsent(64 * MIB)
    purse.forgone(3 * MIB, 3 * MIB)
    purse.agree(Traffic(64 * MIB, 3 * MIB))
    assert purse.owed == 67 * 1_024
    purse.received(MIB)
    assert purse.owed == 68 * 1_024
    assert refused(purse.agree, Traffic(64 * MIB, 40 * MIB)) == "overcharged"
    assert refused(purse.agree, Traffic(128 * MIB, 4 * MIB)) == "overcharged"


def test_what_came_is_not_on_its_way_any_more() -> None:
    _, purse = both()
    purse.asked(40 * MIB)
    purse.received(40 * MIB)
    assert refused(purse.agree, Traffic(0, 60 * MIB)) == "overcharged"


def test_a_count_is_taken_over_once_and_what_it_says_too_much_is_remembered() -> None:
    _, purse = both()
    purse.promised(5_000)
    purse.agree(Traffic(0, 9 * MIB))
    purse.promised(9 * 1_024)
    assert refused(purse.agree, Traffic(0, 14 * MIB)) == "overcharged"


def test_what_may_not_have_been_in_the_count_taken_over_is_granted() -> None:
    _, purse = both()
    purse.asked(4 * MIB)
    purse.promised(5_000)
    purse.agree(Traffic(0, 6 * MIB))
    purse.received(4 * MIB)
    purse.agree(Traffic(0, 10 * MIB))
    purse.agree(Traffic(0, 13 * MIB))


def test_what_is_given_up_after_the_count_was_taken_over_is_not_waited_for() -> None:
    _, purse = both()
    purse.asked(4 * MIB)
    purse.promised(5_000)
    purse.agree(Traffic(0, 6 * MIB))
    purse.forgone(4 * MIB, 0)
    purse.asked(MIB)
    purse.received(MIB)
    assert purse.owed == 7 * 1_024 - 5_000


# both, over a wire


@dataclass
class Stream:
    """A download: what is left to ask, frames on their way, vouchers on theirs."""

    left: int
    frames: deque[int] = field(default_factory=deque)
    vouchers: deque[int] = field(default_factory=deque)


@dataclass
class Group:
    """A group on its way up, and what became of it."""

    size: int
    voucher: int
    stored: bool = False


class Wire(RuleBasedStateMachine):
    """A node, a client, and streams that the machine delays, mixes and cuts off."""

    def __init__(self) -> None:
        super().__init__()
        self.tab, self.purse = both()
        self.streams: list[Stream] = []
        self.coming: list[Group] = []
        self.receipts: list[Group] = []
        self.real = self.doubtful = Traffic()

    @property
    def terms(self) -> Deal:
        return self.tab.terms

    def voucher(self, *, all_of_it: bool = False) -> int | None:
        """The next one, if it is due."""
        credits = self.purse.voucher_due(all_of_it=all_of_it)
        if credits is not None:
            self.purse.promised(credits)
        return credits

    def newest(self, *, all_of_it: bool = False) -> int:
        """The highest one: those before it may have got lost."""
        self.voucher(all_of_it=all_of_it)
        return self.purse.credits

    @precondition(lambda self: len(self.streams) < 4)
    @rule(size=st.integers(1, 20 * MIB))
    def ask(self, size: int) -> None:
        self.purse.asked(size)
        self.streams.append(Stream(size, vouchers=deque([self.newest()])))

    @precondition(lambda self: self.streams)
    @rule(data=st.data(), most=st.integers(1, MIB))
    def send(self, data: st.DataObject, most: int) -> None:
        stream = data.draw(st.sampled_from(self.streams))
        self.node_sends(stream, most)

    def node_sends(self, stream: Stream, most: int) -> bool:
        size = self.tab.room(min(most, stream.left)) if stream.left else 0
        if size:
            self.tab.read(size)
            self.real = self.real.read(size)
            stream.left -= size
            stream.frames.append(size)
        return bool(size)

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def receive(self, data: st.DataObject) -> None:
        self.client_receives(data.draw(st.sampled_from(self.streams)))

    def client_receives(self, stream: Stream) -> bool:
        if not stream.frames:
            return False
        self.purse.received(stream.frames.popleft())
        if (credits := self.voucher()) is not None:
            stream.vouchers.append(credits)
        return True

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        self.node_is_paid(data.draw(st.sampled_from(self.streams)))

    def node_is_paid(self, stream: Stream) -> bool:
        if not stream.vouchers:
            return False
        self.tab.pay(stream.vouchers.popleft())
        return True

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        """The client leaves; what was on its way either way is gone."""
        stream = data.draw(st.sampled_from(self.streams))
        self.streams.remove(stream)
        self.forgo(stream)

    def forgo(self, stream: Stream) -> None:
        self.purse.forgone(stream.left + sum(stream.frames), sum(stream.frames))
        self.doubtful = self.doubtful.read(sum(stream.frames))

    def give_up(self, group: Group) -> None:
        self.purse.unsent(group.size)
        self.doubtful = self.doubtful.stored(group.size)

    @precondition(lambda self: len(self.coming) < 4)
    @rule(size=st.integers(1, 8 * MIB))
    def put(self, size: int) -> None:
        self.purse.sending(size)
        self.coming.append(Group(size, self.newest()))

    @precondition(lambda self: self.coming)
    @rule(data=st.data(), arrives=st.booleans())
    def take(self, data: st.DataObject, arrives: bool) -> None:
        """A header comes, the rest of its group does or does not."""
        group = self.coming.pop(data.draw(st.integers(0, len(self.coming) - 1)))
        self.tab.pay(group.voucher)
        if self.tab.expect(group.size):
            if arrives:
                self.tab.stored(group.size)
                self.real = self.real.stored(group.size)
                group.stored = True
            else:
                self.tab.lost(group.size)
        self.receipts.append(group)

    @precondition(lambda self: self.receipts)
    @rule(data=st.data(), lost=st.booleans())
    def receipt(self, data: st.DataObject, lost: bool) -> None:
        """A receipt comes, or the stream broke before it did."""
        group = self.receipts.pop(data.draw(st.integers(0, len(self.receipts) - 1)))
        if lost or not group.stored:
            self.give_up(group)

    @rule()
    def compare(self) -> None:
        """Pay: the client hears the node's counts, agrees, and signs for them."""
        self.purse.promised(self.tab.credits)
        self.purse.agree(self.tab.traffic)
        self.tab.pay(self.newest(all_of_it=True))

    @rule()
    def restart(self) -> None:
        """The client is gone, and what it counted with it; another one begins anew."""
        for group in (*self.coming, *self.receipts):
            self.doubtful = self.doubtful.stored(group.size)
        for stream in self.streams:
            self.doubtful = self.doubtful.read(sum(stream.frames))
        self.streams, self.coming, self.receipts = [], [], []
        self.purse = Purse(self.terms, Traffic(), 0, PLENTY)

    @invariant()
    def the_node_is_out_a_window_at_most(self) -> None:
        assert self.tab.owed <= window(self.terms, self.tab.credits)
        assert self.tab.traffic == self.real

    @invariant()
    def the_client_pays_for_what_it_had_done(self) -> None:
        under_way = sum(group.size for group in (*self.coming, *self.receipts))
        most = (self.real + self.doubtful).stored(under_way)
        assert self.purse.credits <= bandwidth_due(self.terms, most)

    def teardown(self) -> None:
        """Whatever happened, a new stream comes to its end: after one comparison at most."""
        for group in (*self.coming, *self.receipts):
            self.give_up(group)
        for broken in self.streams:
            self.forgo(broken)
        self.compare()
        self.purse.asked(40 * MIB)
        stream = Stream(40 * MIB)
        while stream.left or stream.frames:
            moved = self.node_sends(stream, MIB)
            moved |= self.client_receives(stream)
            moved |= self.node_is_paid(stream)
            assert moved, "both wait for the other"
        self.compare()
        assert self.tab.owed == self.purse.owed == 0


TestWire = Wire.TestCase
TestWire.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(
    st.integers(1, 40 * MIB),
    st.integers(1, 10**10),
    st.integers(0, 10**10),
    st.lists(st.integers(1, MIB), min_size=1, max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_an_honest_download_never_stands_still(
    size: int, read: int, stored: int, frames: list[int]
) -> None:
    tab, purse = both(limit=1 << 60, ingress_price=stored, egress_price=read)
    at = turns = 0
    while at < size:
        room = tab.room(min(size - at, max(frames[turns % len(frames)], size // 500)))
        assert room, "both wait for the other"
        tab.read(room)
        purse.received(room)
        if (credits := purse.voucher_due()) is not None:
            purse.promised(credits)
            tab.pay(credits)
        at, turns = at + room, turns + 1
    assert tab.owed == purse.owed <= window(tab.terms, tab.credits)
