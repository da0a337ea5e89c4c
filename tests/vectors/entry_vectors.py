"""Makes entries.json: ``python -m tests.vectors.entry_vectors``.

The file is frozen: a change here that changes a byte there is a new version of a format.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dsn.ledger.entry import Entry
from dsn.ledger.params import LedgerParams
from dsn.ledger.params_text import format_params
from dsn.ledger.typed import digest
from dsn.proofs.drand import DrandChain
from tests.support.entry_kinds import ONE_OF_EACH
from tests.support.ledger_world import CHAIN_PARAMS, NETWORK, PARAMS, address
from tests.support.vectors import save

DRAND = replace(PARAMS, drand=DrandChain(bytes(range(96)), 7, 30))


def entries() -> dict[str, Any]:
    """All of the file."""
    made = [Entry(NETWORK, address("alice"), 5 + n, body) for n, body in enumerate(ONE_OF_EACH)]
    return {
        "entries": [of(each) for each in made],
        "malformed": list(malformed(made[0].encode())),
        "params": [encoded(each) for each in (PARAMS, DRAND, CHAIN_PARAMS)],
    }


def of(entry: Entry) -> dict[str, Any]:
    body = entry.body
    return {
        "kind": body.kind.name.lower(),
        "number": int(body.kind),
        "body": body.encode(),
        "raw": entry.encode(),
        "digest": digest(CHAIN_PARAMS.domain, entry),
    }


def malformed(raw: bytes) -> Iterator[dict[str, Any]]:
    yield {"note": "no kind", "raw": b"\0" + raw[1:], "code": "unknown_kind"}
    yield {"note": "a kind too many", "raw": b"\x14" + raw[1:], "code": "unknown_kind"}
    yield {"note": "cut short", "raw": raw[:-1], "code": "malformed_message"}
    yield {"note": "a byte too many", "raw": raw + b"\0", "code": "malformed_message"}
    short = b"\x13" + raw[1:61] + (59).to_bytes(4, "big") + bytes(59)
    yield {"note": "a short judged slash", "raw": short, "code": "malformed_message"}


def encoded(params: LedgerParams) -> dict[str, Any]:
    return {"text": format_params(params), "raw": params.encode()}


if __name__ == "__main__":
    save("entries", entries())
