"""The recovery phrase: 24 words (BIP39, English) for the 32 bytes all keys derive from."""

from __future__ import annotations

import difflib
from functools import cache

from mnemonic import Mnemonic

from dsn.core.keys import KEY_BYTES
from dsn.errors import UsageError

PHRASE_WORDS = 24


@cache
def _words() -> Mnemonic:
    return Mnemonic("english")


def format_phrase(root: bytes) -> str:
    """The 24 words of a 32-byte ``root``."""
    assert len(root) == KEY_BYTES
    return _words().to_mnemonic(root)


def parse_phrase(text: str) -> bytes:
    """Read a phrase as a person types it: any case, any white space.

    Args:
        text: Untrusted.

    Returns:
        The 32-byte root.

    Raises:
        UsageError: ``bad_phrase``; it names the count, the unknown word and what it may
            have been, or the checksum.
    """
    words = text.lower().split()
    if len(words) != PHRASE_WORDS:
        raise _bad_phrase(f"the phrase has {len(words)} words, {PHRASE_WORDS} needed", "")
    for place, word in enumerate(words, start=1):
        _check_word(place, word)
    try:
        return bytes(_words().to_entropy(words))
    except ValueError as error:
        raise _bad_phrase(
            "all words are known, but their checksum does not match",
            "a word is wrong or two are swapped; compare with what you wrote down",
        ) from error


def _check_word(place: int, word: str) -> None:
    known = _words().wordlist
    if word in known:
        return
    near = difflib.get_close_matches(word, known, n=3)
    hint = f"perhaps {' or '.join(near)}" if near else "compare with what you wrote down"
    raise _bad_phrase(f"word {place}, {word[:20]!r}, is not in the word list", hint)


def _bad_phrase(message: str, hint: str) -> UsageError:
    return UsageError(message, code="bad_phrase", hint=hint)
