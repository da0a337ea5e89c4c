"""What is under way is on disk, whole, a file a vault; and one at a time goes on with it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from dsn.apps.chain.under_way import UnderWay
from dsn.errors import ConfigError
from dsn.ledger.settlement import Address

VAULT, OTHER = Address(b"\x44" * 20), Address(b"\x45" * 20)


@dataclass(frozen=True)
class Plan:
    """Something that was begun."""

    amount: int
    to: str = "me"


def test_what_was_saved_is_there_until_it_is_forgotten(tmp_path: Path) -> None:
    under_way = UnderWay(tmp_path / "chain", VAULT)
    assert under_way.load("deposit", Plan) is None
    under_way.save("deposit", Plan(5))
    assert UnderWay(tmp_path / "chain", VAULT).load("deposit", Plan) == Plan(5)
    assert under_way.load("withdrawal", Plan) is None
    assert UnderWay(tmp_path / "chain", OTHER).load("deposit", Plan) is None
    under_way.forget("deposit")
    under_way.forget("deposit")
    assert under_way.load("deposit", Plan) is None


def test_it_is_the_owner_s_alone(tmp_path: Path) -> None:
    UnderWay(tmp_path / "chain", VAULT).save("deposit", Plan(5))
    [file] = (tmp_path / "chain").iterdir()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", '{"amount": 5, "from": "you"}', "{}"])
def test_what_cannot_be_read_is_not_taken_for_nothing(tmp_path: Path, text: str) -> None:
    under_way = UnderWay(tmp_path, VAULT)
    under_way.save("deposit", Plan(5))
    [file] = tmp_path.iterdir()
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        under_way.load("deposit", Plan)
    assert refused.value.detail_code == "bad_state_file"
    assert str(file) in refused.value.message


async def test_one_at_a_time_goes_on(tmp_path: Path) -> None:
    one, two = UnderWay(tmp_path, VAULT), UnderWay(tmp_path, VAULT)
    order: list[str] = []

    async def second() -> None:
        async with two.turn("deposit"):
            order.append("second")

    async with one.turn("deposit"):
        waiting = asyncio.create_task(second())
        async with two.turn("withdrawal"):
            order.append("another matter")
        await asyncio.sleep(0)
        order.append("first")
    await waiting
    assert order == ["another matter", "first", "second"]
