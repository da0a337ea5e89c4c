"""What is said of files that expire, and how a renewal changes their rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsn.apps.listing import (
    DAY_S,
    check_not_expired,
    expiring,
    listed,
    renewal_due,
    renewed_rows,
)
from dsn.apps.results import FileState, RenewResult
from dsn.core.catalogue import Entry, Paid
from dsn.core.layout import Scheme
from dsn.core.manifest import FileKind
from dsn.errors import NotFound, Unreachable
from dsn.ids import FileId

NOW_S = 1_000_000


def entry(name: str, left_s: float | None, *, renew: bool = False) -> Entry:
    paid = None if left_s is None else Paid(50, int(NOW_S + left_s), renew)
    file_id, scheme = FileId(bytes(32)), Scheme(4, 6)
    return Entry(name, bytes(16), file_id, 9, scheme, FileKind.FILE, 0, paid)


def test_a_person_is_told_30_7_and_1_days_before() -> None:
    left = {"gone": -1, "now": 0, "hours": 3_600, "day": DAY_S, "week": 7 * DAY_S,
            "month": 30 * DAY_S, "later": 30 * DAY_S + 1, "free": None}  # fmt: skip
    files = [listed(entry(name, each), FileState.HEALTHY) for name, each in left.items()]
    assert expiring(files, NOW_S) == {
        0: ["gone", "now"], 1: ["hours", "day"], 7: ["week"], 30: ["month"]
    }  # fmt: skip
    assert (files[0].cost, files[0].expires_s) == (50, NOW_S - 1)
    assert (files[-1].cost, files[-1].expires_s) == (None, None)


def test_a_file_that_is_gone_and_not_paid_for_has_expired() -> None:
    why = Unreachable("nobody answers")
    check_not_expired("a", None, NOW_S, why)
    check_not_expired("a", Paid(1, NOW_S + 1), NOW_S, why)
    with pytest.raises(NotFound, match="a expired 2 days ago") as caught:
        check_not_expired("a", Paid(1, NOW_S - 2 * DAY_S), NOW_S, why)
    assert (caught.value.detail_code, caught.value.exit_code) == ("file_expired", 3)
    assert caught.value.__cause__ is why


def test_what_is_to_be_renewed_is_when_a_third_is_left() -> None:
    entries = [
        entry("soon", 9 * DAY_S, renew=True), entry("late", 11 * DAY_S, renew=True),
        entry("not", DAY_S), entry("free", None),
    ]  # fmt: skip
    assert renewal_due(entries, 30, NOW_S) == ["soon"]


def test_a_renewal_changes_the_rows_of_what_lasts_longer() -> None:
    entries = {each.name: each for each in (entry("a", 5), entry("b", 5), entry("free", None))}
    result = RenewResult("a", "f", NOW_S + 99, 7, ())
    later = replace(entries["a"], paid=Paid(57, NOW_S + 99))
    assert renewed_rows(entries, [result]) == [later]
    same = RenewResult("b", "f", NOW_S + 5, 0, ())
    free = replace(result, name="free")
    link = replace(result, name=None)
    refused = replace(result, refused_nodes=("n1",))
    assert renewed_rows(entries, [same, free, link, refused]) == []
