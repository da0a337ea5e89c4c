"""No changed opening is ever accepted, and none ends in anything but a reason."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dsn.errors import InvalidProof
from dsn.ids import DealId
from dsn.proofs.opening import proven_deal, read_opening, verify_opening
from tests.support.proof_world import Holdings, Inventory

REASONS = {"index", "short", "sum", "deep", "inventory", "length", "holdings", "trailing", "shard"}
WORLD = Inventory(
    [
        (DealId(bytes([40 * n]) * 32), n + 1, Holdings.of(*lengths, name=f"p{n}"))
        for n, lengths in enumerate([(1,), (1024, 5000), (70_000, 1025, 2048), (3000,) * 9])
    ]
)
indices = st.integers(0, WORLD.tree.total - 1)


@st.composite
def changed(draw: st.DrawFn, original: bytes) -> bytes:
    """``original`` after one to three flips, insertions, deletions, cuts or repeats."""
    raw = bytearray(original)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(raw) - 1)))
        match draw(st.sampled_from(["flip", "set", "insert", "delete", "cut", "repeat"])):
            case "flip" if raw:
                raw[at] ^= 1 << draw(st.integers(0, 7))
            case "set":
                raw[at : at + 8] = draw(st.integers(0, (1 << 64) - 1)).to_bytes(8, "big")
            case "insert":
                raw[at:at] = draw(st.binary(min_size=1, max_size=40))
            case "delete":
                del raw[at : at + draw(st.sampled_from([1, 8, 32, 40]))]
            case "cut":
                del raw[at:]
            case "repeat":
                raw[at:at] = raw[at : at + 40]
    assume(bytes(raw) != original)
    return bytes(raw)


def reason(opening: bytes, **stated: Any) -> str | None:
    try:
        verify_opening(opening, **stated)
    except InvalidProof as error:
        return error.detail_code
    return None


@settings(max_examples=400)
@given(st.data(), indices)
def test_a_changed_opening_is_refused(data: st.DataObject, index: int) -> None:
    stated = {"root": WORLD.tree.root, "total": WORLD.tree.total, "index": index}
    original = WORLD.opening(index)
    opening = data.draw(changed(original))
    assert reason(original, inventory=True, **stated) is None
    assert reason(opening, inventory=True, **stated) in REASONS
    entry = read_opening(original, inventory=True, **stated).deal
    try:
        found = proven_deal(opening, **stated)
    except InvalidProof:
        return
    assert found == entry


@settings(max_examples=400)
@given(st.data())
def test_a_changed_opening_under_holdings_is_refused(data: st.DataObject) -> None:
    held = data.draw(st.sampled_from([held for _, _, held in WORLD.deals]))
    index = data.draw(st.integers(0, held.tree.total - 1))
    stated = {"root": held.tree.root, "total": held.tree.total, "index": index}
    assert reason(held.opening(index), inventory=False, **stated) is None
    assert reason(data.draw(changed(held.opening(index))), inventory=False, **stated) in REASONS


@settings(max_examples=200)
@given(indices, st.integers(-1, WORLD.tree.total), st.integers(0, 200))
def test_an_opening_serves_its_own_number_only(index: int, other: int, total: int) -> None:
    assume(other != index)
    root, opening = WORLD.tree.root, WORLD.opening(index)
    stated = {"root": root, "inventory": True}
    assert reason(opening, total=WORLD.tree.total, index=other, **stated) in REASONS
    assume(total != WORLD.tree.total)
    assert reason(opening, total=total, index=index, **stated) in REASONS
