"""How long, for how much: what is read and how it is printed."""

from __future__ import annotations

from datetime import date

import pytest

from dsn.apps.quotes import Moment, quote
from dsn.apps.results import RenewResult
from dsn.cli.paying import (
    days_until,
    format_credits,
    iso_time,
    paid_fields,
    quote_fields,
    quote_pairs,
)
from dsn.cli.put import term_days, total_size
from dsn.cli.renew import renewed_fields
from dsn.core.layout import Scheme
from dsn.errors import UsageError
from dsn.units import MIB
from tests.unit.apps.test_quotes import MOMENT, candidates, terms

TODAY = date(2027, 3, 1)


def test_a_date_is_meant_with_its_last_hour() -> None:
    assert days_until("2027-03-01", TODAY) == 1
    assert days_until("2027-03-31", TODAY) == 31


@pytest.mark.parametrize("text", ["2027-02-28", "2027-02-30", "tomorrow", "", "3027-01-01"])
def test_a_date_has_to_be_one_and_ahead(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        days_until(text, TODAY)
    assert caught.value.detail_code == "bad_date"


def test_days_and_a_date_are_not_given_together() -> None:
    assert (term_days(None, None), term_days(5, None)) == (None, 5)
    with pytest.raises(UsageError):
        term_days(5, "2999-01-01")


def test_a_quote_of_paths_counts_their_files(tmp_path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/a").write_bytes(bytes(10))
    (tmp_path / "b").write_bytes(bytes(5))
    (tmp_path / "link").symlink_to(tmp_path / "b")
    assert total_size([tmp_path]) == 15
    assert total_size([tmp_path / "b", tmp_path / "inner"]) == 15
    with pytest.raises(UsageError):
        total_size([None])


def test_credits_are_strings_for_programs_and_grouped_for_people() -> None:
    assert paid_fields(1_234, 86_400) == {"cost": "1234", "expires": "1970-01-02T00:00:00Z"}
    assert paid_fields(None, None) == {"cost": None, "expires": None}
    assert (format_credits(1), format_credits(1_234)) == ("1 credit", "1,234 credits")
    assert iso_time(0) == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize("moment", [MOMENT, None])
def test_a_quote_has_the_same_fields_for_everybody(moment: Moment | None) -> None:
    found = quote(40 * MIB, Scheme(4, 6), 30, candidates(7), terms(*range(1_000, 1_007)), moment)
    fields = quote_fields(found)
    assert fields["size"] == 40 * MIB and fields["scheme"] == "4/6" and fields["nodes"] == 7
    text = dict(quote_pairs(found, durability=True))
    assert "loss in a year" in text and "loss in a shock" in text
    assert "loss in a year" not in dict(quote_pairs(found, durability=False))
    if moment is None:
        assert (fields["cost"], fields["expires"]) == (None, None)
        assert "nobody pays" in text["cost"]
        return
    assert found.cost is not None
    assert fields["cost"] == str(found.cost.total.expected)
    assert fields["cost_range"] == {
        name: str(getattr(found.cost.total, name)) for name in ("low", "expected", "high")
    }
    assert f"{found.cost.total.expected:,} credits" in text["cost"]
    assert isinstance(fields["fees"], str) and isinstance(fields["locked"], dict)


def test_a_renewal_is_told_in_plain_fields() -> None:
    assert renewed_fields(RenewResult("a", "f", 86_400, 12, ("n1",))) == {
        "name": "a",
        "file_id": "f",
        "expires": "1970-01-02T00:00:00Z",
        "added_cost": "12",
        "refused_nodes": ["n1"],
    }
