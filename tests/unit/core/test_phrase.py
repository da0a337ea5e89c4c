"""The phrase a person writes down, and types again years later."""

from __future__ import annotations

import pytest

from dsn.core.phrase import format_phrase, parse_phrase
from dsn.errors import UsageError

ROOT = bytes(range(32))
WORDS = format_phrase(ROOT).split()


def refused(words: list[str]) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse_phrase(" ".join(words))
    assert caught.value.detail_code == "bad_phrase"
    return caught.value


def test_24_words_give_32_bytes_back() -> None:
    assert len(WORDS) == 24
    assert parse_phrase(" ".join(WORDS)) == ROOT


def test_case_and_white_space_do_not_matter() -> None:
    assert parse_phrase("\n  " + "\t".join(WORDS).upper() + " \r\n") == ROOT


@pytest.mark.parametrize("count", [0, 1, 12, 23, 25])
def test_a_wrong_count_is_named(count: int) -> None:
    assert f"has {count} words, 24 needed" in refused((WORDS * 2)[:count]).message


def test_an_unknown_word_is_named_with_what_it_may_have_been() -> None:
    error = refused([*WORDS[:6], "abandom", *WORDS[7:]])
    assert "word 7, 'abandom'," in error.message
    assert "abandon" in error.hint


def test_a_word_like_no_other_gets_no_guess() -> None:
    error = refused([*WORDS[:23], "qqqqqqqq"])
    assert "word 24" in error.message
    assert "perhaps" not in error.hint


def test_a_known_but_wrong_word_fails_the_checksum() -> None:
    error = refused([*WORDS[:23], "zoo" if WORDS[23] != "zoo" else "art"])
    assert "checksum" in error.message
    assert not any(word in error.message + error.hint for word in WORDS[:5])


def test_swapped_words_fail_the_checksum() -> None:
    assert "checksum" in refused([WORDS[1], WORDS[0], *WORDS[2:]]).message
