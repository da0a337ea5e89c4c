"""Makes opening.json and por.json: ``python -m tests.vectors.proof_vectors`` writes them.

The files are frozen: a change here that changes a byte there is a new version of a format.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dsn.core.hashing import sha256
from dsn.core.keys import SigningKey, node_id_of
from dsn.core.merkle import leaf_hash, shard_commit
from dsn.ids import DealId, NetworkId
from dsn.proofs.challenge import por_seed
from dsn.proofs.inventory import InventoryEntry, SumTree, holdings_leaf, inventory_leaf
from dsn.proofs.opening import (
    MAX_SHARD_BYTES,
    DealPart,
    ShardLeaf,
    build_opening,
    read_opening,
)
from dsn.proofs.por import Answer, build_challenge, draw, sign_answer
from dsn.units import leaf_count
from tests.support.proof_world import Holdings, Inventory
from tests.support.vectors import save

DEAL, OTHER = DealId(b"\x11" * 32), DealId(b"\xee" * 32)
HELD = Holdings.of(5000, 70_000, 1, name="v")
INVENTORY = Inventory([(DEAL, 3, HELD), (OTHER, 9, Holdings.of(2048, name="o"))])
SMALL = Holdings.of(5000, 1, 1025, name="v")
NETWORK = NetworkId(b"\x01" * 32)
NODE_KEY = SigningKey(b"\x03" * 32)


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def in_place(raw: bytes, at: int, part: bytes) -> bytes:
    return raw[:at] + part + raw[at + len(part) :]


def opened(note: str, raw: bytes, **stated: Any) -> dict[str, Any]:
    """A case that holds, with what it proves."""
    found = read_opening(raw, **stated)
    proves = {"commit": found.commit, "leaf": found.leaf, "length": found.length}
    if found.deal is not None:
        proves |= {"deal": found.deal.deal, "number": found.deal.number}
    return {"note": note, **stated, "opening": raw, "proves": proves}


def beside(key: bytes) -> list[tuple[bytes, bytes, int]]:
    """256 entries that each leave ``key``'s way at another level."""
    others = [(int.from_bytes(key, "big") ^ 1 << bit).to_bytes(32, "big") for bit in range(256)]
    return [(other, sha256(other), 1) for other in others]


def largest() -> dict[str, Any]:
    """256 levels twice, and a shard of 1 TiB of which only one leaf need exist."""
    leaves, leaf = leaf_count(MAX_SHARD_BYTES), b"\xab" * 1024
    path = [sha256(bytes([n])) for n in range(30)]
    root = leaf_hash(leaf)
    for sibling in path:
        root = sha256(root + sibling)
    commit = shard_commit(root, leaves, MAX_SHARD_BYTES)
    held = SumTree.build([(commit, holdings_leaf(commit, leaves), leaves), *beside(commit)])
    entry = InventoryEntry(DEAL, 1, held.root, held.total)
    deals = SumTree.build([(DEAL, inventory_leaf(*entry), entry.leaves), *beside(DEAL)])
    first = sum(weight for key, weight in held if key < commit)
    index = first + sum(weight for key, weight in deals if key < DEAL)
    part = DealPart(entry, deals.locate(index).steps)
    shard = ShardLeaf(root, MAX_SHARD_BYTES, leaf, path)
    raw = build_opening(shard, held.locate(first).steps, part)
    stated = {"root": deals.root, "total": deals.total, "index": index, "inventory": True}
    return opened("the largest there is", raw, **stated)


def holding() -> Iterator[dict[str, Any]]:
    """Openings that hold."""
    for inventory, world in ((False, HELD), (True, INVENTORY)):
        total = world.tree.total
        for index in sorted({0, 1, 7, 64, 68, total - 1}):
            stated = {"root": world.tree.root, "total": total, "inventory": inventory}
            note = f"leaf {index} of {'an inventory' if inventory else 'holdings'}"
            yield opened(note, world.opening(index), index=index, **stated)
    yield largest()


def failing() -> Iterator[dict[str, Any]]:
    """Openings that fail, each for one reason."""
    held: dict[str, Any] = {"root": HELD.tree.root, "total": HELD.tree.total, "inventory": False}
    deals: dict[str, Any] = {
        "root": INVENTORY.tree.root,
        "total": INVENTORY.tree.total,
        "inventory": True,
    }
    raw, whole = HELD.opening(0), INVENTORY.opening(0)

    def case(note: str, code: str, opening: bytes, stated: dict[str, Any]) -> dict[str, Any]:
        return {"note": note, "index": 0, **stated, "opening": opening, "code": code}

    deep = {"root": bytes(32), "total": 258, "index": 257, "inventory": False}
    step = number(1) + bytes(32)
    flipped = in_place(whole, len(whole) - 1, bytes([whole[-1] ^ 1]))
    yield case("index is the total", "index", raw, held | {"index": HELD.tree.total})
    yield case("no leaves at all", "index", raw, held | {"total": 0})
    yield case("a total of 2^63", "index", raw, held | {"total": 1 << 63})
    yield case("empty", "short", b"", held)
    yield case("the last byte is missing", "short", raw[:-1], held)
    yield case("cut in the bracket", "short", whole[:100], deals)
    yield case("nothing to the left", "sum", in_place(raw, 40, number(0)), held)
    yield case("all to the left", "sum", in_place(raw, 40, number(HELD.tree.total)), held)
    yield case("a shard of more leaves than all", "sum", in_place(raw, 32, number(1 << 40)), held)
    yield case("257 levels", "deep", bytes(32) + number(1) + 257 * step, deep)
    yield case("another deal number", "inventory", in_place(whole, 32, number(4)), deals)
    yield case("another inventory", "inventory", whole, deals | {"root": bytes(32)})
    yield case("a shard of 0 bytes", "length", in_place(raw, 32, number(0)), held)
    over = number(MAX_SHARD_BYTES + 1)
    yield case("a shard over 2^40 bytes", "length", in_place(raw, 32, over), held)
    yield case("other holdings", "holdings", raw, held | {"root": bytes(32)})
    yield case("another shard root", "holdings", in_place(raw, 0, bytes(32)), held)
    yield case("a byte more", "trailing", raw + b"\0", held)
    yield case("a flipped bit at the end", "shard", flipped, deals)


def por_cases() -> Iterator[dict[str, Any]]:
    """Answers that hold and answers that fail, with the one reason."""
    node = node_id_of(NODE_KEY.public)
    for leaves in (1, 3, 1000):
        challenge = build_challenge(
            SMALL.pairs, nonce=b"\x05" * 32, leaves=leaves, deadline_ms=1_700_000_000_123
        )
        drawn = draw(challenge, SMALL.tree, network=NETWORK, node=node)
        each = [SMALL.opened(at) for at in drawn]
        answer = sign_answer(NODE_KEY.sign, challenge, each, network=NETWORK, node=node)
        case = {
            "leaves": leaves,
            "nonce": challenge.nonce,
            "deadline_ms": challenge.deadline_ms,
            "root": challenge.root,
            "seed": por_seed(NETWORK, node, challenge.nonce, challenge.root),
            "asked": [[at.key, at.offset] for at in drawn],
        }
        yield case | answered("as asked", answer)
        if leaves == 3:
            yield (
                case
                | answered("one too few", replace(answer, openings=tuple(each[:2])))
                | {"code": "answer_count"}
            )
            yield (
                case
                | answered("another root", replace(answer, answer_root=bytes(32)))
                | {"code": "answer_root"}
            )
            yield (
                case
                | answered("not signed", replace(answer, signature=bytes(64)))
                | {"code": "invalid_signature"}
            )
            lie = [each[0], each[1][:-1], each[2]]
            forged = sign_answer(NODE_KEY.sign, challenge, lie, network=NETWORK, node=node)
            yield (
                case
                | answered("signed, and too short", forged)
                | {
                    "code": "short",
                    "wrong": [case["asked"][1]],
                }
            )


def answered(note: str, answer: Answer) -> dict[str, Any]:
    """The answer's fields."""
    return {
        "note": note,
        "openings": answer.openings,
        "answer_root": answer.answer_root,
        "signature": answer.signature,
    }


def opening_vectors() -> dict[str, Any]:
    return {"holds": list(holding()), "fails": list(failing())}


def por_vectors() -> dict[str, Any]:
    return {
        "shards": 'data("v.<n>", length), n = 0, 1, ...: see the notes of proofs.json',
        "lengths": [5000, 1, 1025],
        "network": NETWORK,
        "public_key": NODE_KEY.public,
        "pairs": sorted(SMALL.pairs),
        "cases": list(por_cases()),
    }


MAKERS = {"opening": opening_vectors, "por": por_vectors}

if __name__ == "__main__":
    for name, make in MAKERS.items():
        save(name, make())
