from __future__ import annotations

import random

import dns.rdata
import pytest
from dns.rdtypes.ANY.TXT import TXT

from dsn.apps.bootstrap.dns import format_txt, parse_txt
from dsn.dht.node_record import MAX_NODE_RECORD_BYTES
from dsn.errors import MalformedMessage
from dsn.ids import NetworkId
from tests.support.names import node_record


def in_a_zone(text: str) -> tuple[bytes, ...]:
    """The strings of a TXT record as a zone file's parser sees them."""
    rdata = dns.rdata.from_text("IN", "TXT", text)
    assert isinstance(rdata, TXT)
    return rdata.strings


@pytest.mark.parametrize("size", [0, 1, 186, 187, 188, 378, MAX_NODE_RECORD_BYTES])
def test_a_record_of_any_size_reads_back_from_a_zone_file(size: int) -> None:
    raw = random.Random(size).randbytes(size)
    strings = in_a_zone(format_txt(raw))
    assert parse_txt(strings) == raw
    assert {len(each) for each in strings[:-1]} <= {255}
    assert 1 <= len(strings[-1]) <= 255


def test_a_node_record_reads_back() -> None:
    record = node_record(1, NetworkId(bytes(32)))
    assert parse_txt(in_a_zone(format_txt(record.encode()))) == record.encode()


def test_the_strings_may_be_cut_anywhere() -> None:
    raw = random.Random(1).randbytes(300)
    text = b"".join(in_a_zone(format_txt(raw)))
    for step in (1, 3, 7, 100, 255):
        assert parse_txt([text[at : at + step] for at in range(0, len(text), step)]) == raw


@pytest.mark.parametrize(
    "strings", [[], [b""], [b"v=spf1 -all"], [b"dsn1"], [b"dsn2 AAAA"], [b" dsn1 AAAA"]], ids=str
)
def test_what_others_write_there_is_not_ours(strings: list[bytes]) -> None:
    assert parse_txt(strings) is None


@pytest.mark.parametrize(
    "text", [b"dsn1 AAA", b"dsn1 AA AA", b"dsn1 AA=A", b"dsn1 \xff\xfe\xfd\xfc", b"dsn1 AAAA\n"]
)
def test_what_is_not_base64_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedMessage) as failure:
        parse_txt([text])
    assert failure.value.evidence == text
