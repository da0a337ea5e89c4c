"""Signatures of entries and of what they bring along; states as values; who judges beacons."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsn.errors import DsnError, InvalidProof
from dsn.ids import DealId, NetworkId
from dsn.ledger.bodies import (
    Bind,
    Claim,
    CloseDeal,
    Open,
    OpenEpoch,
    ShutEpoch,
    TopUp,
    Transfer,
    Withdraw,
)
from dsn.ledger.cells import Cell, CellKind, NetworkCell
from dsn.ledger.deal import Close, Extension
from dsn.ledger.entry import Body, Entry, SignedEntry, sign_entry
from dsn.ledger.radix import StateLeaf, verify_absence, verify_cell
from dsn.ledger.rules.moves import apply, validate
from dsn.ledger.settlement import Address
from dsn.ledger.typed import Domain, sign_typed
from dsn.proofs.inventory import EMPTY, SumTree
from tests.support.ledger_world import DOMAIN, KEYS, NETWORK, PARAMS, World, address, terms
from tests.support.signing import mirrored, spoiled


def no_evidence(before: NetworkCell, body: OpenEpoch) -> None:
    """The `fixed` beacon: any value will do."""


@pytest.fixture
def world() -> World:
    world = World(signed=True)
    world.bind("alice", "paul")
    world.open_epoch()
    return world


def code(world: World, signed: SignedEntry) -> str:
    try:
        validate(world.state, signed, no_evidence)
    except DsnError as error:
        return error.detail_code
    return ""


def code_of(world: World, name: str, body: Body) -> str:
    return code(world, sign_entry(world.entry(name, body), DOMAIN, KEYS[name]))


def test_an_entry_counts_only_with_its_signer_s_signature(world: World) -> None:
    entry = world.entry("alice", Withdraw(5))
    good = sign_entry(entry, DOMAIN, KEYS["alice"])
    assert code(world, good) == ""
    assert code(world, sign_entry(entry, DOMAIN, KEYS["bob"])) == "invalid_signature"
    other = replace(entry, body=Withdraw(6))
    assert code(world, SignedEntry(other, good.signature)) == "invalid_signature"
    for what, bad, expected in spoiled(good.signature):
        assert code(world, SignedEntry(entry, bad)) == expected, what


@pytest.mark.parametrize(
    "domain",
    [
        Domain(NetworkId(bytes(32)), DOMAIN.chain_id, DOMAIN.vault),
        Domain(NETWORK, DOMAIN.chain_id + 1, DOMAIN.vault),
        Domain(NETWORK, DOMAIN.chain_id, Address(b"\x44" * 20)),
    ],
    ids=["network", "chain", "vault"],
)
def test_a_signature_holds_for_one_network_and_chain(world: World, domain: Domain) -> None:
    entry = world.entry("alice", Withdraw(5))
    assert code(world, sign_entry(entry, domain, KEYS["alice"])) == "invalid_signature"


def test_an_entry_for_another_network_is_refused(world: World) -> None:
    entry = replace(world.entry("alice", Withdraw(5)), network=NetworkId(bytes(32)))
    assert code(world, sign_entry(entry, DOMAIN, KEYS["alice"])) == "wrong_network"


def test_an_entry_of_more_than_32_kib_is_refused(world: World) -> None:
    head = world.state.network.closed
    for size, expected in ((32_000, "wrong_phase"), (33_000, "entry_too_large")):
        body = OpenEpoch(1, head, bytes(32), bytes(size))
        assert code_of(world, "operator", body) == expected


def test_a_replay_is_refused(world: World) -> None:
    signed = sign_entry(world.entry("alice", Transfer(address("bob"), 5)), DOMAIN, KEYS["alice"])
    world.submit(signed.entry, signed.signature)
    assert code(world, signed) == "nonce_used"


def swapped(world: World, deal: DealId) -> dict[str, tuple[str, Body]]:
    """Bodies whose inner signatures are each by the wrong one of two parties."""
    agreed: Any = world.agreed(terms(), terms())
    extension: Any = world.agreed(Extension(deal, 1, 30), terms())
    close: Any = world.agreed(Close(deal, 1), terms())
    pledge, voucher = world.pledge(deal, (1,)), world.voucher(deal, 5)
    by_dora = sign_typed(voucher.voucher, DOMAIN, KEYS["dora"])

    def back(both: Any) -> Any:
        return replace(
            both,
            client_signature=both.provider_signature,
            provider_signature=both.client_signature,
        )

    return {
        "open": ("alice", Open(back(agreed))),
        "extension": ("alice", TopUp(deal, 0, 0, back(extension))),
        "close": ("alice", CloseDeal(deal, back(close))),
        "revision without client": (
            "paul",
            Claim(deal, replace(pledge, signature=pledge.provider_signature), None),
        ),
        "revision without provider": (
            "alice",
            Claim(deal, replace(pledge, provider_signature=pledge.signature), None),
        ),
        "delegate's as client's": ("paul", Claim(deal, None, replace(voucher, signature=by_dora))),
        "client's as delegate's": ("paul", Claim(deal, None, replace(voucher, by_delegate=True))),
    }


KINDS = (
    "open",
    "extension",
    "close",
    "revision without client",
    "revision without provider",
    "delegate's as client's",
    "client's as delegate's",
)


@pytest.mark.parametrize("what", KINDS)
def test_what_is_brought_along_must_be_signed_by_the_right_party(world: World, what: str) -> None:
    deal = world.open(terms(salt=b"\x01" * 32))
    name, body = swapped(world, deal)[what]
    assert code_of(world, name, body) == "invalid_signature"


def test_a_second_spelling_of_an_inner_signature_is_refused(world: World) -> None:
    deal = world.open(terms())
    voucher = world.voucher(deal, 5)
    bad = replace(voucher, signature=mirrored(voucher.signature))
    assert code_of(world, "paul", Claim(deal, None, bad)) == "malleated_signature"
    assert code_of(world, "paul", Claim(deal, None, voucher)) == ""


def test_both_keys_of_a_binding_must_have_signed(world: World) -> None:
    good = world.binding("alice", 2)
    assert code_of(world, "alice", Bind(good)) == ""
    spoilt = replace(good, identity_signature=bytes(64))
    assert code_of(world, "alice", Bind(spoilt)) == "invalid_signature"
    spoilt = replace(good, settlement_signature=world.binding("bob", 2).settlement_signature)
    assert code_of(world, "alice", Bind(spoilt)) == "invalid_signature"
    abroad = replace(good, binding=replace(good.binding, network=NetworkId(bytes(32))))
    assert code_of(world, "alice", Bind(abroad)) == "other_network"


def test_salts_are_signed_for_their_epoch(world: World) -> None:
    world.shut_epoch()
    leaf = Entry.decode(world.leaves[-1].entry)
    assert isinstance(leaf.body, ShutEpoch)
    world.open_epoch()
    old = ShutEpoch(2, leaf.body.salts)
    assert code_of(world, "operator", old) == "invalid_signature"


def test_things_of_a_deal_that_is_not_there_have_no_right_signer(world: World) -> None:
    deal = world.open(terms())
    nowhere = DealId(bytes(32))
    bodies: tuple[Body, ...] = (
        Claim(nowhere, None, world.voucher(deal, 5)),
        TopUp(nowhere, 0, 0, world.agreed(Extension(nowhere, 1, 30), terms())),
        CloseDeal(nowhere, None),
    )
    for body in bodies:
        assert code_of(world, "alice", body) == "unknown_deal"


def test_evidence_is_judged_by_who_was_asked_to(world: World) -> None:
    world.shut_epoch()
    head = world.shut_head
    seen: list[OpenEpoch] = []

    def judge(before: NetworkCell, body: OpenEpoch) -> None:
        assert before.network == NETWORK
        seen.append(body)
        if body.evidence != b"right":
            raise InvalidProof("no such beacon", code="wrong_evidence")

    for evidence in (b"right", b"wrong"):
        body = OpenEpoch(2, head, bytes(32), evidence)
        signed = sign_entry(world.entry("operator", body), DOMAIN, KEYS["operator"])
        if evidence == b"right":
            validate(world.state, signed, judge)
        else:
            with pytest.raises(InvalidProof):
                validate(world.state, signed, judge)
    assert [body.evidence for body in seen] == [b"right", b"wrong"]


# states


def test_a_state_is_a_value(world: World) -> None:
    before, root = world.state, world.state.root
    after, changes = apply(before, world.entry("alice", Transfer(address("bob"), 5)))
    assert (before.root, before.account(address("alice")).nonce) == (root, 2 - 1)
    assert after.root != root
    assert {cell.kind for cell in changes.cells} == {CellKind.ACCOUNT}
    again, _ = apply(before, world.entry("alice", Transfer(address("bob"), 5)))
    assert again.root == after.root


class Kept:
    """A source that has what a state has touched, as a store would after a commit."""

    def __init__(self, world: World) -> None:
        self._cells = dict(world.state.cells)
        self._trees = dict(world.state.inventories)
        self.asked: list[bytes] = []

    def cell(self, key: bytes) -> Cell | None:
        self.asked.append(key)
        return self._cells.get(key)

    def inventory(self, provider: Address) -> SumTree:
        return self._trees.get(provider, EMPTY)


def test_a_state_on_a_store_asks_for_its_entry_s_cells_only(world: World) -> None:
    deal = world.open(terms())
    world.hold(deal, 1, 2)
    source = Kept(world)
    rebased = world.state.rebased(source)
    assert (rebased.root, dict(rebased.cells)) == (world.state.root, {})
    entry = world.entry("paul", Claim(deal, world.pledge(deal, (1,)), None))
    expected, _ = apply(world.state, entry)
    source.asked.clear()
    found, changes = apply(rebased, entry)
    assert found.root == expected.root
    assert set(found.cells) == {cell.key for cell in changes.cells}
    assert len(set(source.asked)) <= 1 + 4


def test_a_cell_is_proven_under_the_state_root(world: World) -> None:
    state = world.state
    account = state.account(address("alice"))
    leaf, steps = state.tree.build_proof(account.key)
    verify_cell(state.root, leaf, steps)
    stranger = state.account(Address(b"\x09" * 20))
    found, steps = state.tree.build_proof(stranger.key)
    verify_absence(state.root, stranger.key, found, steps)
    assert isinstance(leaf, StateLeaf)


def test_the_same_entries_give_the_same_roots() -> None:
    roots = []
    for _ in range(2):
        world = World(PARAMS)
        world.bind("alice", "paul")
        world.open_epoch()
        world.hold(world.open(terms()), 1, 2)
        world.pass_epochs(3, "paul")
        roots.append([leaf.state_root for leaf in world.leaves])
    assert roots[0] == roots[1]
