from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from dsn.core.codec import Reader
from dsn.errors import InvalidSignature, MalformedMessage
from dsn.ids import DealId
from dsn.ledger.deal import Close
from dsn.ledger.settlement import recover
from dsn.ledger.typed import (
    Domain,
    Statement,
    Struct,
    Value,
    digest,
    sign_typed,
    verify_typed,
)
from dsn.ledger.voucher import Voucher
from tests.support.signing import (
    CLASSES,
    CLIENT,
    DEAL_ID,
    DOMAIN,
    NO_CHAIN,
    OTHER,
    OTHER_DOMAINS,
    STATEMENTS,
    domains,
    eth_digest,
    refusal,
    spoiled,
    statements,
    values,
)

EACH = pytest.mark.parametrize("statement", STATEMENTS, ids=lambda each: each.struct.name)
KINDS = Struct(
    "All(uint8 a,uint64 b,uint128 c,uint256 d,address e,bytes32 f,bytes g,string h,bytes i)"
)


@dataclass(frozen=True)
class All:
    """A message with a field of every kind, two of them hashed."""

    struct: ClassVar[Struct] = KINDS
    said: tuple[Value, ...]

    def values(self) -> Iterable[Value]:
        return self.said


@given(domains, statements())
def test_the_digest_is_the_one_of_ethereums_own_library(
    domain: Domain, statement: Statement
) -> None:
    assert digest(domain, statement) == eth_digest(domain, statement)


@EACH
def test_also_of_the_statements_that_other_tests_use(statement: Statement) -> None:
    for domain in (DOMAIN, NO_CHAIN):
        assert digest(domain, statement) == eth_digest(domain, statement)


@given(domains, st.tuples(*(values(member) for member in KINDS.members)))
def test_a_field_of_every_kind(domain: Domain, said: tuple[Value, ...]) -> None:
    assert digest(domain, All(said)) == eth_digest(domain, All(said))


@EACH
def test_a_wallet_signs_and_recovers_the_same(statement: Statement) -> None:
    whole: dict[str, Any] = {
        "domain": {
            "name": "dsn",
            "version": "1",
            "chainId": DOMAIN.chain_id,
            "verifyingContract": DOMAIN.vault,
            "salt": DOMAIN.network,
        },
        "primaryType": statement.struct.name,
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
                {"name": "salt", "type": "bytes32"},
            ],
            statement.struct.name: [
                {"name": each.name, "type": each.kind} for each in statement.struct.members
            ],
        },
        "message": {each.name: getattr(statement, each.name) for each in statement.struct.members},
    }
    signable = encode_typed_data(full_message=whole)
    theirs = bytes(Account.sign_message(signable, b"\x04" * 32).signature)
    ours = sign_typed(statement, DOMAIN, CLIENT)
    assert ours == theirs
    verify_typed(statement, DOMAIN, theirs, CLIENT.address)
    assert bytes.fromhex(Account.recover_message(signable, signature=ours)[2:]) == CLIENT.address


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.struct.name)
def test_a_struct_type_names_its_class_and_the_fields_in_order(cls: Any) -> None:
    assert cls.struct.name == cls.__name__
    assert [each.name for each in cls.struct.members] == [each.name for each in fields(cls)]


@EACH
def test_the_encoding_is_the_fields_one_after_another(statement: Any) -> None:
    sizes = {"uint64": 8, "address": 20, "bytes32": 32}
    expected = b""
    for member in statement.struct.members:
        value, size = getattr(statement, member.name), sizes[member.kind]
        expected += value.to_bytes(size, "big") if isinstance(value, int) else value
    assert statement.encode() == expected
    assert len(expected) == statement.struct.size


@given(statements())
def test_a_statement_reads_back(statement: Statement) -> None:
    assert type(statement).decode(statement.encode()) == statement


@EACH
def test_cut_or_lengthened_bytes_are_malformed(statement: Statement) -> None:
    raw = statement.encode()
    for bad in (*(raw[:size] for size in range(len(raw))), raw + b"\0"):
        with pytest.raises(MalformedMessage) as failure:
            type(statement).decode(bad)
        assert failure.value.message.startswith(statement.struct.name.lower() + ": ")


def test_a_statement_is_read_from_between_others() -> None:
    reader = Reader(b"\x01" + Voucher(DEAL_ID, 3).encode() + b"\x02", "a body")
    assert (reader.u8(), Voucher.read(reader), reader.u8()) == (1, Voucher(DEAL_ID, 3), 2)
    reader.end()


@EACH
@pytest.mark.parametrize("other", OTHER_DOMAINS)
def test_a_signature_holds_on_its_network_chain_and_vault_only(
    statement: Statement, other: str
) -> None:
    signature = sign_typed(statement, DOMAIN, CLIENT)
    verify_typed(statement, DOMAIN, signature, CLIENT.address)
    with pytest.raises(InvalidSignature) as failure:
        verify_typed(statement, OTHER_DOMAINS[other], signature, CLIENT.address)
    assert failure.value.detail_code == "invalid_signature"


@EACH
def test_every_field_is_signed(statement: Any) -> None:
    signature = sign_typed(statement, DOMAIN, CLIENT)
    for member in statement.struct.members:
        value = getattr(statement, member.name)
        other = value + 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
        changed = replace(statement, **{member.name: other})
        with pytest.raises(InvalidSignature):
            verify_typed(changed, DOMAIN, signature, CLIENT.address)


@EACH
def test_nobody_signs_for_another(statement: Statement) -> None:
    signature = sign_typed(statement, DOMAIN, OTHER)
    with pytest.raises(InvalidSignature) as failure:
        verify_typed(statement, DOMAIN, signature, CLIENT.address)
    assert failure.value.detail_code == "invalid_signature"


@EACH
def test_a_second_spelling_of_a_signature_is_refused(statement: Statement) -> None:
    signature = sign_typed(statement, DOMAIN, CLIENT)
    for what, bad, code in spoiled(signature):
        found = refusal(lambda: verify_typed(statement, DOMAIN, bad, CLIENT.address))  # noqa: B023
        assert found == code, what


def test_statements_of_equal_fields_are_told_apart_by_their_type() -> None:
    voucher, close = Voucher(DEAL_ID, 7), Close(DEAL_ID, 7)
    assert voucher.encode() == close.encode()
    signature = sign_typed(close, DOMAIN, CLIENT)
    assert refusal(lambda: verify_typed(voucher, DOMAIN, signature, CLIENT.address)) == (
        "invalid_signature"
    )


def test_a_domain_is_its_three_values() -> None:
    domains = {DOMAIN, replace(DOMAIN), *OTHER_DOMAINS.values()}
    assert len(domains) == len({each.separator for each in domains}) == 4


@pytest.mark.parametrize("credits", [-1, 1 << 64])
def test_a_number_out_of_range_is_neither_encoded_nor_signed(credits: int) -> None:
    voucher = Voucher(DEAL_ID, credits)
    with pytest.raises(OverflowError):
        voucher.encode()
    with pytest.raises(OverflowError):
        sign_typed(voucher, DOMAIN, CLIENT)


def test_a_field_of_another_size_is_our_own_mistake() -> None:
    for size in (31, 33):
        with pytest.raises(AssertionError, match="deal"):
            digest(DOMAIN, Voucher(DealId(bytes(size)), 1))


def test_the_values_must_be_as_many_as_the_type_says() -> None:
    for said in ((DEAL_ID,), (DEAL_ID, 1, 2)):
        with pytest.raises(ValueError, match="zip"):
            Voucher.struct.hash(said)


def test_an_unknown_kind_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="uint32"):
        Struct("Odd(uint32 a)")


def test_who_signed_is_told() -> None:
    voucher = Voucher(DEAL_ID, 7)
    signature = sign_typed(voucher, DOMAIN, OTHER)
    assert recover(digest(DOMAIN, voucher), signature) == OTHER.address
