"""The one table of domain-separation tags: 16 bytes, ASCII, NUL-padded, never reused.

A tag's bytes start every preimage that is hashed or signed, or the ``info`` of a key
derivation, so that bytes made for one purpose can never serve another.
"""

from __future__ import annotations

from typing import Final

TAG_BYTES: Final = 16


def _tag(name: str) -> bytes:
    raw = f"dsn/{name}/v1".encode("ascii")
    assert len(raw) <= TAG_BYTES
    return raw.ljust(TAG_BYTES, b"\0")


# identity and network
NODE: Final = _tag("node")
TLS: Final = _tag("tls")
NETWORK: Final = _tag("network")
MEETING: Final = _tag("meeting")
# keys
IDENTITY: Final = _tag("identity")
SLOT_KEY: Final = _tag("slotkey")
SLOT_SEAL: Final = _tag("slotseal")
READ: Final = _tag("read")
PLACE: Final = _tag("place")
CONTENT: Final = _tag("content")
MASK_KEY: Final = _tag("maskkey")
VERIFY: Final = _tag("verify")
HEAD_KEY: Final = _tag("headkey")
CAPABILITY: Final = _tag("cap")
# data
SEGMENT: Final = _tag("segment")
PRIVATE: Final = _tag("private")
MASK: Final = _tag("mask")
SHARD: Final = _tag("shard")
# manifest and records
CORE: Final = _tag("core")
FILE: Final = _tag("file")
HEAD: Final = _tag("head")
PAGE: Final = _tag("page")
POINTER: Final = _tag("pointer")
SLOT: Final = _tag("slot")
NODE_RECORD: Final = _tag("noderec")
SHARDS: Final = _tag("shards")
SHARD_RECORD: Final = _tag("shardrec")
KEPT: Final = _tag("kept")
CATALOGUE: Final = _tag("names")
DIRECTORY: Final = _tag("dir")
# deals
TERMS: Final = _tag("terms")
RECEIPT: Final = _tag("receipt")
REVISION: Final = _tag("revision")
# proofs
HELD: Final = _tag("held")
INVENTORY: Final = _tag("inv")
SUM: Final = _tag("sum")
SEED: Final = _tag("seed")
POR_SEED: Final = _tag("porseed")
INDEX: Final = _tag("idx")
OPEN: Final = _tag("open")
ANSWER: Final = _tag("answer")
POR_ANSWER: Final = _tag("poranswr")
BEACON: Final = _tag("beacon")
DRAND: Final = _tag("drand")
SALT: Final = _tag("salt")
VDF_IN: Final = _tag("vdfin")
VDF_OUT: Final = _tag("vdfout")
PROMISE: Final = _tag("promise")
VERDICT: Final = _tag("verdict")
EVIDENCE: Final = _tag("evidence")
BUNDLE: Final = _tag("bundle")
SAMPLE: Final = _tag("sample")
# ledger state
CELL_KEY: Final = _tag("cell")
CELL: Final = _tag("state")
CELL_LEAF: Final = _tag("stateleaf")
CELL_NODE: Final = _tag("statenode")
# settlement
SETTLEMENT: Final = _tag("settle")
BINDING: Final = _tag("binding")
