"""Golden parity: every kernel makes it, and any ``required`` golden shards give the data back."""

from __future__ import annotations

from typing import Any

import pytest

from dsn.core.erasure import Erasure
from dsn.errors import DsnError
from dsn.kernels import isal
from dsn.kernels.isal import Galois
from tests.support import field
from tests.support.vectors import load
from tests.vectors.erasure_vectors import LENGTH, make, shards

VECTORS = load("erasure")
KERNELS = {kernel.name: kernel for kernel in isal.kernels()}


@pytest.mark.parametrize("galois", KERNELS.values(), ids=list(KERNELS))
def test_every_kernel_still_makes_the_golden_bytes(galois: Galois) -> None:
    assert make(galois) == VECTORS


@pytest.mark.parametrize(
    "case", VECTORS["schemes"], ids=lambda case: f"{case['required']}/{case['total']}"
)
@pytest.mark.parametrize("galois", KERNELS.values(), ids=list(KERNELS))
def test_golden_parity_gives_the_data_back(galois: Galois, case: dict[str, Any]) -> None:
    required, total = case["required"], case["total"]
    whole = [*shards(required), *(memoryview(bytes.fromhex(text)) for text in case["parity"])]
    have, out = (
        range(total - required, total),
        [memoryview(bytearray(LENGTH)) for _ in range(required)],
    )
    plan = Erasure(required, total, galois).decode_plan(tuple(have), tuple(range(required)))
    plan.run([whole[at] for at in have], out)
    assert out == shards(required)


@pytest.mark.parametrize(
    "case", VECTORS["schemes"][:4], ids=lambda case: f"{case['required']}/{case['total']}"
)
def test_golden_parity_is_that_of_the_slow_field(case: dict[str, Any]) -> None:
    required, matrix = case["required"], bytes.fromhex(case["matrix"])
    for at, parity in enumerate(case["parity"]):
        row = matrix[at * required :][:required]
        assert [field.times(value, required + at ^ column) for column, value in enumerate(row)] == [
            1
        ] * required
        assert field.combine(row, shards(required)).hex() == parity


@pytest.mark.parametrize(
    "case", VECTORS["refused"], ids=lambda case: f"{case['code']} {case['required']}"
)
def test_refusals_keep_their_codes(case: dict[str, Any]) -> None:
    with pytest.raises(DsnError) as caught:
        run(case)
    assert caught.value.detail_code == case["code"]


def run(case: dict[str, Any]) -> None:
    code = Erasure(case["required"], case["total"], isal.load())
    code.decode_plan(tuple(case["have"]), tuple(case["want"]))
