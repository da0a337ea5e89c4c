"""The modules that all contracts share, against the Python that they follow."""

from __future__ import annotations

import random
from hashlib import sha256
from typing import Any

import pytest

pytest.importorskip("boa", reason="needs titanoboa: pip install 'dsn[contracts]'")
import boa

from dsn.errors import DsnError
from dsn.ids import DealId, NetworkId, NodeId
from dsn.ledger.bodies import Transfer
from dsn.ledger.cells import (
    AccountCell,
    DealCell,
    DealState,
    NetworkCell,
    NodeCell,
    Pending,
    Phase,
    cell_digest,
)
from dsn.ledger.deal import Deal
from dsn.ledger.entry import Entry, sign_entry
from dsn.ledger.log import (
    Frontier,
    LogLeaf,
    TreeHead,
    build_inclusion_proof,
    build_prefix_proof,
    leaf_hash,
)
from dsn.ledger.onchain.tuples import (
    account_tuple,
    deal_tuple,
    network_tuple,
    node_tuple,
    place_tuple,
)
from dsn.ledger.radix import StateLeaf, StateTree
from dsn.ledger.settlement import Address, SettlementKey
from dsn.ledger.typed import Domain, digest
from dsn.proofs.post import Link

SOURCE = """
# pragma version 0.4.3
from lib import cells
from lib import entries
from lib import logs
from lib import state
from lib import typed

@external
@pure
def account(cell: cells.Account) -> bytes32:
    return cells.account_digest(cell)

@external
@pure
def deal(cell: cells.Deal) -> bytes32:
    return cells.deal_digest(cell)

@external
@pure
def node(cell: cells.Node) -> bytes32:
    return cells.node_digest(cell)

@external
@pure
def network(cell: cells.Network) -> bytes32:
    return cells.network_digest(cell)

@external
@pure
def root_of(place: state.Place) -> bytes32:
    return state.root_of(place)

@external
@pure
def absent(place: state.Place, key: bytes32) -> bool:
    return state.absent(place, key)

@external
@pure
def put(place: state.Place, key: bytes32, digest: bytes32) -> bytes32:
    return state.put(place, key, digest)

@external
@pure
def included(
    leaf: Bytes[32865], index: uint64, size: uint64, path: DynArray[bytes32, 64]
) -> bytes32:
    return logs.root_of(logs.leaf_hash(leaf), index, size, path)

@external
@pure
def roots_of(path: DynArray[bytes32, 64], old: uint64, new: uint64) -> (bytes32, bytes32):
    return logs.roots_of(path, old, new)

@external
@view
def separator(vault: address, network: bytes32) -> bytes32:
    return typed.separator(vault, network)

@external
@pure
def fault(digest: bytes32, signature: Bytes[65], who: address) -> String[32]:
    return typed.fault(digest, signature, who)

@external
@view
def open(leaf: Bytes[32865], vault: address, network: bytes32) -> (String[32], entries.Entry):
    return entries.open(leaf, typed.separator(vault, network), network)
"""


@pytest.fixture(scope="module")
def lib() -> Any:
    boa.interpret.set_search_paths(["contracts"])
    return boa.loads(SOURCE)


def draw_word(rng: random.Random) -> int:
    return rng.choice([0, 1, rng.getrandbits(8), rng.getrandbits(64), (1 << 64) - 1])


def draw_amount(rng: random.Random) -> int:
    return rng.choice([0, rng.getrandbits(50), (1 << 128) - 1])


def draw_address(rng: random.Random) -> Address:
    return Address(rng.randbytes(20))


def draw_deal(rng: random.Random) -> DealCell:
    who = [draw_address(rng) for _ in range(3)]
    prices = [draw_word(rng) for _ in range(14)]
    terms = Deal(who[0], who[1], *prices, who[2], draw_word(rng), draw_word(rng), rng.randbytes(32))
    link = Link(
        draw_word(rng), rng.randbytes(32), rng.randbytes(32), draw_word(rng), 7, rng.randbytes(32)
    )
    demand = rng.choice(
        [
            None,
            Pending(draw_address(rng), draw_word(rng), draw_word(rng)),
            Pending(draw_address(rng), draw_word(rng), draw_word(rng), link, rng.getrandbits(32)),
        ]
    )
    words, amounts = [draw_word(rng) for _ in range(9)], [draw_amount(rng) for _ in range(10)]
    return DealCell(
        DealId(rng.randbytes(32)),
        terms,
        rng.choice(list(DealState)),
        *words,
        rng.randbytes(32),
        *amounts,
        demand,
    )


def draw_account(rng: random.Random) -> AccountCell:
    amounts, counts = [draw_amount(rng) for _ in range(3)], [draw_word(rng) for _ in range(3)]
    return AccountCell(
        draw_address(rng),
        *amounts,
        *counts,
        NodeId(rng.randbytes(32)),
        draw_word(rng),
        rng.getrandbits(720),
        rng.randbytes(32),
        draw_word(rng),
        rng.randbytes(32),
        draw_word(rng),
    )


@pytest.mark.parametrize("seed", range(8))
def test_cells_have_the_digests_that_the_state_tree_keeps(lib: Any, seed: int) -> None:
    rng = random.Random(seed)
    account, deal = draw_account(rng), draw_deal(rng)
    node = NodeCell(NodeId(rng.randbytes(32)), draw_address(rng), draw_word(rng))
    closed = TreeHead(draw_word(rng), rng.randbytes(32))
    network = NetworkCell(
        NetworkId(rng.randbytes(32)), draw_word(rng), Phase.OPEN, rng.randbytes(32), closed, 9
    )
    assert lib.account(hexed(account_tuple(account))) == cell_digest(account), seed
    assert lib.deal(hexed(deal_tuple(deal))) == cell_digest(deal), seed
    assert lib.node(hexed(node_tuple(node))) == cell_digest(node), seed
    assert lib.network(hexed(network_tuple(network))) == cell_digest(network), seed


def hexed(value: Any) -> Any:
    """Addresses as boa wants them."""
    if isinstance(value, bytes):
        return "0x" + value.hex() if len(value) == 20 else value
    return [hexed(each) for each in value] if isinstance(value, list | tuple) else value


def near(rng: random.Random, key: bytes) -> bytes:
    """A key that shares a random number of first bits with ``key``."""
    bit = rng.randrange(256)
    return (int.from_bytes(key, "big") ^ 1 << (255 - bit)).to_bytes(32, "big")


@pytest.mark.parametrize("seed", range(6))
def test_the_state_tree_is_changed_as_python_changes_it(lib: Any, seed: int) -> None:
    rng = random.Random(seed)
    keys = [rng.randbytes(32)]
    while len(keys) < 40:
        keys.append(near(rng, rng.choice(keys)) if rng.random() < 0.5 else rng.randbytes(32))
    tree = StateTree.build(StateLeaf(key, rng.randbytes(32)) for key in keys)
    for _ in range(12):
        key, fresh = rng.choice(keys), rng.randbytes(32)
        asked = rng.choice([key, near(rng, key), rng.randbytes(32)])
        place = place_tuple(tree, asked)
        assert lib.root_of(place) == tree.root, seed
        assert lib.absent(place, asked) == (tree.find(asked) is None), seed
        after = tree.put(asked, fresh)
        assert lib.put(place, asked, fresh) == after.root, seed
        tree, keys = after, [*keys, asked]


@pytest.mark.parametrize("seed", range(6))
def test_no_place_but_the_right_one_inserts(lib: Any, seed: int) -> None:
    """Whatever leaf is shown for an insertion, it gives the right root or none."""
    rng = random.Random(seed)
    keys = [rng.randbytes(32)]
    while len(keys) < 24:
        keys.append(near(rng, rng.choice(keys)) if rng.random() < 0.6 else rng.randbytes(32))
    tree = StateTree.build(StateLeaf(key, rng.randbytes(32)) for key in keys)
    refused = 0
    for _ in range(20):
        new, other, fresh = near(rng, rng.choice(keys)), rng.choice(keys), rng.randbytes(32)
        if tree.find(new) is not None:
            continue
        try:
            assert lib.put(place_tuple(tree, other), new, fresh) == tree.put(new, fresh).root, seed
        except boa.BoaError:
            refused += 1
            assert not lib.absent(place_tuple(tree, other), new), seed
    assert refused


@pytest.mark.parametrize("seed", range(6))
def test_the_log_s_proofs(lib: Any, seed: int) -> None:
    rng = random.Random(seed)
    leaves = [rng.randbytes(rng.randint(98, 300)) for _ in range(rng.randint(2, 70))]
    frontier, hashes = Frontier(), {}
    for leaf in leaves:
        frontier, new = frontier.extend([leaf_hash(leaf)])
        hashes |= dict(new)
    size = len(leaves)
    head = frontier.head
    for index in rng.sample(range(size), min(size, 6)):
        path = build_inclusion_proof(hashes.__getitem__, index, size)
        assert lib.included(leaves[index], index, size, path) == head.root, (seed, index)
        for wrong in (path[:-1], [*path, bytes(32)]):
            with pytest.raises(boa.BoaError, match="bad_path"):
                lib.included(leaves[index], index, size, wrong)
    for old in rng.sample(range(1, size + 1), min(size, 6)):
        path = build_prefix_proof(hashes.__getitem__, old, size)
        older, newer = lib.roots_of(path, old, size)
        assert newer == head.root, (seed, old)
        assert older == Frontier().extend(map(leaf_hash, leaves[:old]))[0].head.root, (seed, old)


def test_entries_and_their_signatures(lib: Any) -> None:
    rng = random.Random(1)
    network, vault = NetworkId(rng.randbytes(32)), Address(rng.randbytes(20))
    key = SettlementKey(rng.randbytes(32))
    chain_id = boa.env.evm.patch.chain_id
    domain = Domain(network, chain_id, vault)
    at = "0x" + vault.hex()
    assert lib.separator(at, network) == domain.separator
    entry = Entry(network, key.address, 7, Transfer(Address(rng.randbytes(20)), 5))
    signed = sign_entry(entry, domain, key)
    post = rng.randbytes(32)
    raw = LogLeaf(entry.encode(), signed.signature, post).encode()
    fault, found = lib.open(raw, at, network)
    assert (fault, found.said, found.kind, found.nonce) == ("", "", 6, 7)
    assert found.signer.lower() == "0x" + key.address.hex()
    assert (found.body, found.post) == (entry.body.encode(), post)
    wrong = {
        "unknown_kind": bytes([0]) + raw[1:],
        "malformed_message": raw[:64] + bytes([raw[64] ^ 1]) + raw[65:],
        "wrong_network": raw[:1] + bytes([raw[1] ^ 1]) + raw[2:],
        "invalid_signature": raw[:70] + bytes([raw[70] ^ 1]) + raw[71:],
    }
    for code, bad in wrong.items():
        fault, found = lib.open(bad, at, network)
        assert (fault or found.said) == code
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    half = signed.signature
    s = order - int.from_bytes(half[32:64], "big")
    twin = half[:32] + s.to_bytes(32, "big") + bytes([55 - half[64]])
    message = digest(domain, entry)
    owner = "0x" + key.address.hex()
    assert lib.fault(message, half, owner) == ""
    assert lib.fault(message, twin, owner) == "malleated_signature"
    assert lib.fault(message, half[:64], owner) == "invalid_signature"
    assert lib.fault(sha256(message).digest(), half, owner) == "invalid_signature"
    assert lib.fault(message, half[:64] + b"\x00", owner) == "malleated_signature"


def test_entries_too_short_for_a_header_are_no_entries(lib: Any) -> None:
    network = NetworkId(bytes(32))
    for size in (1, 64):
        raw = bytes([6]) * size + bytes(97)
        fault, _ = lib.open(raw, "0x" + "11" * 20, network)
        assert fault == "malformed_message"
        with pytest.raises(DsnError):
            Entry.decode(LogLeaf.decode(raw).entry)
