"""A coverage-guided fuzzer (atheris) of everything that reads proofs from strangers.

``python tests/fuzz/bundle_fuzzer.py NETWORK_FILE CORPUS [-runs=N] [libFuzzer's options]``. The
first byte of an input says who reads the rest. Nothing but a ``DsnError`` may come of it, and
what is accepted is written again as it was.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dsn"]):
    from google.protobuf.message import DecodeError

    from dsn.dht.network import parse_network
    from dsn.errors import DsnError
    from dsn.ledger.bundle import parse_bundle, verify_bundle
    from dsn.ledger.bundle_text import canonical
    from dsn.ledger.bundle_tree import bundle_tree
    from dsn.proofs.opening import proven_deal, verify_opening
    from dsn.proofs.verdict import SignedVerdict, verify_verdict
    from dsn.v1.node_pb2 import ChallengeReply
    from dsn.wire.convert import answer_from_wire

NETWORK = parse_network(Path(sys.argv.pop(1)).read_text("utf-8"))


def read_bundle(raw: bytes) -> None:
    bundle = parse_bundle(raw)
    assert canonical(bundle_tree(bundle)) == raw
    verify_bundle(bundle, NETWORK)


def read_verdict(raw: bytes) -> None:
    signed = SignedVerdict.decode(raw)
    assert signed.encode() == raw
    verify_verdict(signed)


def read_opening(raw: bytes) -> None:
    root, total, index = raw[:32], int.from_bytes(raw[32:40], "big"), int.from_bytes(raw[40:48])
    deals = bool(len(raw) % 2)
    verify_opening(raw[48:], root=root, total=total, index=index, inventory=deals)
    proven_deal(raw[48:], root=root, total=total, index=index)


def read_answer(raw: bytes) -> None:
    try:
        reply = ChallengeReply.FromString(raw)
    except DecodeError:  # gRPC ends the call
        return
    answer_from_wire(reply)


READERS = (read_bundle, read_verdict, read_opening, read_answer)


def read(raw: bytes) -> None:
    """One input."""
    if not raw:
        return
    try:
        READERS[raw[0] % len(READERS)](raw[1:])
    except DsnError:
        return


if __name__ == "__main__":
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
