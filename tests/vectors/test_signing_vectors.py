"""Golden keys, statements, digests and signatures, and failures by their code."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from dsn.ids import DealId, NetworkId
from dsn.ledger.binding import SignedBinding, verify_binding
from dsn.ledger.settlement import Address, SettlementKey, format_address, parse_address, recover
from dsn.ledger.typed import Domain, Statement, digest, verify_typed
from dsn.ledger.voucher import Voucher, check_voucher
from tests.support.signing import CLASSES, refusal
from tests.support.vectors import hexed, load
from tests.vectors.signing_vectors import CHECKS, declared, signing

GOLDEN = load("signing")
TYPES = {cls.struct.name: cls for cls in CLASSES}
raw = bytes.fromhex


def domain(case: dict[str, Any]) -> Domain:
    return Domain(NetworkId(raw(case["network"])), case["chain_id"], Address(raw(case["vault"])))


DOMAINS = {case["separator"]: domain(case) for case in GOLDEN["domains"]}
ON = domain(GOLDEN["domains"][0])


def decoded(case: dict[str, Any]) -> Statement:
    return TYPES[case["type"]].decode(raw(case["raw"]))


def noted(cases: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", GOLDEN[cases], ids=lambda case: case["note"])


def test_the_code_still_makes_the_golden_bytes() -> None:
    assert hexed(signing()) == GOLDEN


@pytest.mark.parametrize("case", GOLDEN["keys"], ids=lambda case: case["text"])
def test_keys(case: dict[str, Any]) -> None:
    key = SettlementKey(raw(case["seed"]))
    assert key.address.hex() == case["address"]
    assert format_address(key.address) == case["text"]
    assert parse_address(case["text"]) == key.address
    assert key.sign(raw(case["digest"])).hex() == case["signature"]
    assert recover(raw(case["digest"]), raw(case["signature"])) == key.address


def test_the_key_of_a_phrase() -> None:
    case = GOLDEN["derived"]
    assert SettlementKey.derive(raw(case["root"])).address.hex() == case["address"]


@pytest.mark.parametrize("text", GOLDEN["addresses_refused"])
def test_addresses_that_are_refused(text: str) -> None:
    assert refusal(lambda: parse_address(text)) == "bad_settlement_address"


def test_types_and_domains() -> None:
    assert {name: declared(cls) for name, cls in TYPES.items()} == GOLDEN["types"]
    assert {each.separator.hex() for each in DOMAINS.values()} == set(DOMAINS)


@pytest.mark.parametrize("case", GOLDEN["statements"], ids=lambda case: case["type"])
def test_statements(case: dict[str, Any]) -> None:
    statement, on = decoded(case), DOMAINS[case["domain"]]
    assert hexed(asdict(statement)) == case["fields"]  # type: ignore[call-overload]
    assert statement.encode().hex() == case["raw"]
    assert digest(on, statement).hex() == case["digest"]
    verify_typed(statement, on, raw(case["signature"]), Address(raw(case["signer"])))


@noted("malformed")
def test_bytes_that_are_no_statement(case: dict[str, Any]) -> None:
    assert refusal(lambda: decoded(case)) == case["code"]


@noted("signatures_refused")
def test_signatures_that_are_refused(case: dict[str, Any]) -> None:
    statement, signature = decoded(case), raw(case["signature"])
    signer = Address(raw(case["signer"]))
    assert refusal(lambda: verify_typed(statement, ON, signature, signer)) == case["code"]


@pytest.mark.parametrize("case", GOLDEN["checks_refused"], ids=lambda case: case["code"])
def test_statements_that_are_wrong_by_themselves(case: dict[str, Any]) -> None:
    check: Any = CHECKS[case["type"]]
    assert refusal(lambda: check(decoded(case))) == case["code"]


@pytest.mark.parametrize("case", GOLDEN["vouchers"], ids=str)
def test_vouchers(case: dict[str, Any]) -> None:
    voucher = Voucher(DealId(raw(case["deal"])), case["credits"])

    def check() -> None:
        under = DealId(raw(case["under"]))
        check_voucher(voucher, under, paid=case["paid"], escrow=case["escrow"])

    if case["code"]:
        assert refusal(check) == case["code"]
    else:
        check()


@noted("bindings")
def test_bindings(case: dict[str, Any]) -> None:
    def judge() -> None:
        signed = SignedBinding.decode(raw(case["raw"]))
        assert signed.encode().hex() == case["raw"]
        verify_binding(signed, ON)

    if case["code"]:
        assert refusal(judge) == case["code"]
    else:
        judge()
