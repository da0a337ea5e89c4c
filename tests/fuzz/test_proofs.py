"""Openings meet hostile bytes."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from dsn.errors import InvalidProof
from dsn.proofs.inventory import MAX_TOTAL
from dsn.proofs.opening import proven_deal, verify_opening

roots = st.binary(min_size=32, max_size=32)
totals = st.integers(0, MAX_TOTAL + 1)
lengths = st.sampled_from([0, 1, 1024, 1025, 5000, 1 << 40, (1 << 40) + 1, (1 << 64) - 1])
steps = st.lists(
    st.builds(lambda s, r: s.to_bytes(8, "big") + r, st.integers(0, 1 << 63), roots), max_size=4
).map(b"".join)
shaped = st.builds(
    lambda root, length, way, rest: root + length.to_bytes(8, "big") + way + rest,
    roots,
    lengths,
    steps,
    st.binary(max_size=1100),
)


@given(st.one_of(st.binary(max_size=300), shaped), roots, totals, totals, st.booleans())
@example(bytes(40), bytes(32), 1, 0, False)
@example(bytes(80), bytes(32), 1, 0, True)
def test_bytes_that_nobody_built_are_refused(
    opening: bytes, root: bytes, total: int, index: int, inventory: bool
) -> None:
    try:
        verify_opening(opening, root=root, total=total, index=index, inventory=inventory)
    except InvalidProof:
        pass
    else:
        raise AssertionError("accepted")
    try:
        proven_deal(opening, root=root, total=total, index=index)
    except InvalidProof:
        return
    raise AssertionError("accepted")
