"""Cells as of the published checkpoint, whatever the ledger does meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsn.apps.ledger.batch import Accepted, Submission
from dsn.apps.ledgerd.books import Books, Candidate, merged
from dsn.apps.ledgerd.views import Views
from dsn.errors import NotFound, Unreachable
from dsn.ledger.bodies import Kind, Transfer
from dsn.ledger.cells import AccountCell, CellKind, cell_digest, cell_key
from dsn.ledger.checkpoint import SignedCheckpoint
from dsn.ledger.entry import Entry
from dsn.ledger.log import (
    TreeHead,
    leaf_hash,
    verify_consistency_proof,
    verify_inclusion_proof,
)
from dsn.ledger.radix import StateLeaf, verify_absence, verify_cell
from dsn.ledger.tiles import Bundle, Tile, decode_bundle
from dsn.proofs.inventory import SumTree, inventory_leaf
from dsn.store.ledger import open_ledger
from tests.support.ledger_story import make_ledger, story, submission, submissions, transfers
from tests.support.ledger_world import KEYS, NETWORK, address


@pytest.fixture
def books(tmp_path: Path) -> Books:
    make_ledger(str(tmp_path / "ledger"))
    return Books(open_ledger(str(tmp_path / "ledger"), signer=True))


def viewed(books: Books) -> Views:
    return Views(books.sequencer.cells())


def publish(views: Views, candidate: Candidate) -> None:
    """As if nobody had to sign."""
    signed = SignedCheckpoint(candidate.checkpoint)
    views.publish(signed, candidate.tree, candidate.changed.values())


def available(views: Views, name: str) -> int:
    cell = views.prove(cell_key(CellKind.ACCOUNT, address(name))).cell
    assert isinstance(cell, AccountCell)
    return cell.available


def test_nothing_is_told_before_something_is_published(books: Books) -> None:
    with pytest.raises(Unreachable) as caught:
        viewed(books).published()
    assert caught.value.detail_code == "ledger_unreachable"


def test_cells_stay_as_they_were_published_until_the_next_time(books: Books) -> None:
    views, told = viewed(books), transfers(30, seed=1)
    books.enter(told[:10])
    first = books.propose()
    books.enter(told[10:20])
    second = books.propose()
    books.enter(told[20:])
    publish(views, first)
    roots = [first.checkpoint.state_root]
    seen = {name: available(views, name) for name in ("alice", "bob", "paul", "petra")}
    for name in seen:
        check_proof(views, cell_key(CellKind.ACCOUNT, address(name)), roots[0])
    publish(views, second)
    now = {name: available(views, name) for name in seen}
    assert now != seen
    assert sum(now.values()) < sum(seen.values()), "fees were burned"
    for name in seen:
        check_proof(views, cell_key(CellKind.ACCOUNT, address(name)), second.checkpoint.state_root)


def test_what_was_never_published_is_in_the_next_that_is(books: Books) -> None:
    views, told = viewed(books), transfers(20, seed=2)
    books.enter(told[:10])
    lost = books.propose()
    books.enter(told[10:])
    candidate = merged(lost, books.propose())
    publish(views, candidate)
    for cell in books.sequencer.cells():
        check_proof(views, cell.key, candidate.checkpoint.state_root)
        assert views.prove(cell.key).cell == cell


def check_proof(views: Views, key: bytes, root: bytes) -> None:
    proven = views.prove(key)
    assert proven.cell is not None
    verify_cell(root, StateLeaf(key, cell_digest(proven.cell)), proven.steps)


def test_what_is_not_there_is_proven_not_to_be(books: Books) -> None:
    views = viewed(books)
    books.enter(transfers(1, seed=3))
    candidate = books.propose()
    publish(views, candidate)
    key = cell_key(CellKind.DEAL, bytes(32))
    proven = views.prove(key)
    assert proven.cell is None
    verify_absence(candidate.checkpoint.state_root, key, proven.leaf, proven.steps)


def test_an_inventory_is_what_the_live_root_is_over(books: Books) -> None:
    """At every step of a story in which deals are filled, lose shards and are slashed."""
    views, seen = viewed(books), set[int]()
    for entered in submissions(story()):
        books.enter([entered])
        candidate = books.propose()
        publish(views, candidate)
        for name in ("paul", "petra"):
            cell = views.prove(cell_key(CellKind.ACCOUNT, address(name))).cell
            held, more = views.inventory(address(name), b"", 9)
            leaves = [(each.deal, inventory_leaf(*each), each.leaves) for each in held]
            if isinstance(cell, AccountCell):
                assert SumTree.build(leaves).root == cell.live
            assert not more
            seen.add(len(held))
    assert seen == {0, 1}


def test_an_inventory_comes_in_pages(books: Books) -> None:
    views = viewed(books)
    for entered in submissions(story()):
        books.enter([entered])
    candidate = books.propose()
    publish(views, candidate)
    ((entry,), more) = views.inventory(address("paul"), b"", 1)
    assert not more
    assert views.inventory(address("paul"), b"", 0) == ([], True)
    assert views.inventory(address("paul"), entry.deal, 1) == ([], False)
    assert views.inventory(address("sam"), b"", 1) == ([], False)


# what comes from the books alone


def test_the_log_that_closed_is_found_again(books: Books) -> None:
    """However long ago the shut was."""
    world, told = story(), submissions(story())
    expected: TreeHead | None = None
    for size, (leaf, entered) in enumerate(zip(world.leaves, told, strict=True), 1):
        books.enter([entered])
        if leaf.entry[0] == Kind.SHUT_EPOCH:
            expected = books.sequencer.head
            assert expected.size == size
        if expected:
            assert books.closed() == expected
    nonce = world.account("sam").nonce + 1
    books.enter(
        [
            submission(
                Entry(NETWORK, address("sam"), nonce + n, Transfer(address("bob"), 1)), KEYS["sam"]
            )
            for n in range(600)
        ]
    )
    assert books.sequencer.head.size == len(told) + 600
    assert books.closed() == expected


def test_proofs_and_tiles_hold_at_every_size(books: Books) -> None:
    books.enter(transfers(300, seed=5)[:256])
    books.enter(transfers(300, seed=5)[256:])
    head = books.sequencer.head
    for index in (0, 255, 299):
        leaf, path = books.inclusion(index, 300)
        verify_inclusion_proof(head, index, leaf_hash(leaf.encode()), path)
    for old in (1, 256, 257):
        hashes = [leaf_hash(leaf) for leaf in decode_bundle(books.resource(Bundle(0)), 256)]
        assert books.resource(Tile(0, 0)) == b"".join(hashes)
        path = books.consistency(old, 300)
        if old == 256:
            root = books.resource(Tile(1, 0, 1))
            verify_consistency_proof(TreeHead(256, root), head, path)
    for call in (
        lambda: books.inclusion(300, 300),
        lambda: books.inclusion(0, 301),
        lambda: books.consistency(301, 300),
        lambda: books.consistency(1, 301),
        lambda: books.resource(Bundle(1, 45)),
    ):
        with pytest.raises(NotFound):
            call()


def test_the_operators_entry_gets_the_nonce_that_is_next(books: Books) -> None:
    """However many others of the same key were entered since it was thought of."""
    books.enter(transfers(40, seed=6))
    nonces = list[int]()

    def sign(nonce: int) -> Submission:
        nonces.append(nonce)
        return submission(
            Entry(NETWORK, address("alice"), nonce, Transfer(address("sam"), 1)), KEYS["alice"]
        )

    first = books.sequencer.state.account(address("alice")).nonce + 1
    assert isinstance(books.enter_own(address("alice"), sign), Accepted)
    outcome, candidate = books.enter_last(address("alice"), sign)
    assert isinstance(outcome, Accepted) and candidate is not None
    assert candidate.checkpoint.size == outcome.index + 1
    assert nonces == [first, first + 1]
