"""The note that the nodes of a network leave for one another in a public DHT.

Its place and the key that signs it follow from the network id, so anybody can read it and
anybody can write it: a hint where to look, and nothing more. Each node that writes keeps what
it finds and puts itself first.

Spec: docs/guide/getting-in.md#bittorrent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dsn.core import tags
from dsn.core.codec import Reader, Writer
from dsn.core.keys import PUBLIC_KEY_BYTES, hkdf
from dsn.dht.contact import MAX_ADDRESS_CHARS, Contact, check_contact
from dsn.ids import NetworkId

MOST_BYTES: Final = 996
"""BEP 44 allows 1,000 bytes with the length that bencoding puts before them."""
TERM_S: Final = 24 * 3_600
"""A node that did not write for so long is left out."""
AHEAD_S: Final = 2 * 3_600
"""How far a clock may run ahead: a date in the future would keep its place for ever."""
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Sighting:
    """A node said at ``seen_s`` (Unix seconds) that it is there."""

    contact: Contact
    seen_s: int


def note_seed(network: NetworkId) -> bytes:
    """The 32-byte Ed25519 seed of the key pair under which the note of ``network`` stands."""
    return hkdf(network, tags.MEETING)


def expand_seed(seed: bytes) -> bytes:
    """The 64-byte private key that BitTorrent signs with (RFC 8032, section 5.1.5)."""
    digest = bytearray(hashlib.sha512(seed).digest())
    digest[0] &= 248
    digest[31] = digest[31] & 63 | 64
    return bytes(digest)


def encode_note(sightings: Iterable[Sighting]) -> bytes:
    """The note: the newest sighting of each node, newest first, as many as fit."""
    newest: dict[bytes, Sighting] = {}
    for each in sorted(sightings, key=lambda sighting: -sighting.seen_s):
        newest.setdefault(each.contact.public_key, each)
    note = Writer().u8(_VERSION).done()
    for each in newest.values():
        writer = Writer().raw(each.contact.public_key, PUBLIC_KEY_BYTES).u64(each.seen_s)
        line = writer.text(each.contact.address).done()
        if len(note) + len(line) <= MOST_BYTES:
            note += line
    return note


def decode_note(raw: bytes, now_s: float) -> list[Sighting]:
    """Read a note; sightings that are too old, or of the future, are left out.

    Args:
        raw: Untrusted.
        now_s: Unix seconds.

    Raises:
        MalformedMessage: Too long, of another version, or something in it is no contact.
    """
    reader = Reader(raw, "note")
    if len(raw) > MOST_BYTES:
        raise reader.refuse(f"{len(raw)} bytes, at most {MOST_BYTES} allowed")
    if (version := reader.u8()) != _VERSION:
        raise reader.refuse(f"version {version}, {_VERSION} needed")
    sightings = []
    while reader.left:
        public_key, seen_s = reader.raw(PUBLIC_KEY_BYTES), reader.u64()
        address = reader.text(MAX_ADDRESS_CHARS)
        sightings.append(Sighting(check_contact(public_key, address), seen_s))
    return [each for each in sightings if now_s - TERM_S < each.seen_s <= now_s + AHEAD_S]
