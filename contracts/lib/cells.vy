# pragma version 0.4.3
"""
@title Cells
@notice What the ledger's state is made of, as structs, and the digests that the state tree keeps
    of them. Field by field as docs/spec/economy.md has them.
"""

from lib import state

CELL: constant(Bytes[16]) = b"dsn/state/v1\x00\x00\x00\x00"
NETWORK: constant(uint8) = 1
ACCOUNT: constant(uint8) = 2
NODE: constant(uint8) = 3
DEAL: constant(uint8) = 4
SHUT: constant(uint8) = 0
OPEN: constant(uint8) = 1


struct Network:
    network: bytes32
    epoch: uint64
    phase: uint8
    beacon: bytes32
    closed_size: uint64
    closed_root: bytes32
    round: uint64


struct Account:
    who: address
    available: uint128
    withdrawn: uint128
    burned: uint128
    nonce: uint64
    deposits: uint64
    deals: uint64
    node: bytes32
    rolled: uint64
    bits: uint256[3]
    live: bytes32
    live_leaves: uint64
    frozen: bytes32
    frozen_leaves: uint64


struct Node:
    node: bytes32
    account: address
    serial: uint64


struct Terms:
    client: address
    provider: address
    disk_price: uint64
    ingress_price: uint64
    egress_price: uint64
    repair_price: uint64
    open_by: uint64
    end: uint64
    grace: uint64
    notice: uint64
    miss_limit: uint64
    dispute: uint64
    disk_escrow: uint64
    bandwidth_escrow: uint64
    collateral_ppm: uint64
    free_leaves: uint64
    delegate: address
    delegate_credits: uint64
    delegate_leaves: uint64
    salt: bytes32


struct Pending:
    asker: address
    deadline: uint64
    index: uint64
    link: Bytes[116]
    place: uint32


struct Deal:
    deal: bytes32
    terms: Terms
    state: uint8
    end: uint64
    grace: uint64
    settled: uint64
    serial: uint64
    ended: uint64
    missed: uint64
    number: uint64
    shards: uint64
    leaves: uint64
    root: bytes32
    leaf_epochs: uint128
    disk_paid: uint128
    voucher_paid: uint128
    delegate_paid: uint128
    disk_escrow: uint128
    bandwidth_escrow: uint128
    collateral: uint128
    refund: uint128
    bond: uint128
    burned: uint128
    pending: bool
    demand: Pending


@pure
@internal
def network_key(network: bytes32) -> bytes32:
    """
    @notice The key of a network's cell in the state tree.
    """
    return state.key_of(NETWORK, concat(network, b""))


@pure
@internal
def account_key(who: address) -> bytes32:
    """
    @notice The key of an account's cell in the state tree.
    """
    return state.key_of(ACCOUNT, concat(convert(who, bytes20), b""))


@pure
@internal
def node_key(node: bytes32) -> bytes32:
    """
    @notice The key of a node's cell in the state tree.
    """
    return state.key_of(NODE, concat(node, b""))


@pure
@internal
def deal_key(deal: bytes32) -> bytes32:
    """
    @notice The key of a deal's cell in the state tree.
    """
    return state.key_of(DEAL, concat(deal, b""))


@pure
@internal
def network_digest(cell: Network) -> bytes32:
    """
    @notice What the state tree keeps of a network's cell.
    """
    return sha256(
        concat(
            CELL,
            self.network_key(cell.network),
            cell.network,
            convert(cell.epoch, bytes8),
            convert(cell.phase, bytes1),
            cell.beacon,
            convert(cell.closed_size, bytes8),
            cell.closed_root,
            convert(cell.round, bytes8),
        )
    )


@pure
@internal
def account_digest(cell: Account) -> bytes32:
    """
    @notice What the state tree keeps of an account's cell.
    """
    assert cell.bits[2] < 2**208, "bad_cell"
    return sha256(
        concat(
            CELL,
            self.account_key(cell.who),
            convert(cell.who, bytes20),
            convert(cell.available, bytes16),
            convert(cell.withdrawn, bytes16),
            convert(cell.burned, bytes16),
            convert(cell.nonce, bytes8),
            convert(cell.deposits, bytes8),
            convert(cell.deals, bytes8),
            cell.node,
            convert(cell.rolled, bytes8),
            slice(convert(cell.bits[2], bytes32), 6, 26),
            convert(cell.bits[1], bytes32),
            convert(cell.bits[0], bytes32),
            cell.live,
            convert(cell.live_leaves, bytes8),
            cell.frozen,
            convert(cell.frozen_leaves, bytes8),
        )
    )


@pure
@internal
def node_digest(cell: Node) -> bytes32:
    """
    @notice What the state tree keeps of a node's cell.
    """
    return sha256(
        concat(
            CELL,
            self.node_key(cell.node),
            cell.node,
            convert(cell.account, bytes20),
            convert(cell.serial, bytes8),
        )
    )


@pure
@internal
def _terms(terms: Terms) -> Bytes[220]:
    return concat(
        convert(terms.client, bytes20),
        convert(terms.provider, bytes20),
        convert(terms.disk_price, bytes8),
        convert(terms.ingress_price, bytes8),
        convert(terms.egress_price, bytes8),
        convert(terms.repair_price, bytes8),
        convert(terms.open_by, bytes8),
        convert(terms.end, bytes8),
        convert(terms.grace, bytes8),
        convert(terms.notice, bytes8),
        convert(terms.miss_limit, bytes8),
        convert(terms.dispute, bytes8),
        convert(terms.disk_escrow, bytes8),
        convert(terms.bandwidth_escrow, bytes8),
        convert(terms.collateral_ppm, bytes8),
        convert(terms.free_leaves, bytes8),
        convert(terms.delegate, bytes20),
        convert(terms.delegate_credits, bytes8),
        convert(terms.delegate_leaves, bytes8),
        terms.salt,
    )


@pure
@internal
def _demand(cell: Deal) -> Bytes[158]:
    if not cell.pending:
        return b"\x00"
    demand: Pending = cell.demand
    head: Bytes[37] = concat(
        b"\x01",
        convert(demand.asker, bytes20),
        convert(demand.deadline, bytes8),
        convert(demand.index, bytes8),
    )
    if len(demand.link) == 0:
        return concat(head, b"\x00")
    assert len(demand.link) == 116, "bad_cell"
    return concat(head, b"\x01", demand.link, convert(demand.place, bytes4))


@pure
@internal
def deal_digest(cell: Deal) -> bytes32:
    """
    @notice What the state tree keeps of a deal's cell.
    """
    return sha256(
        concat(
            CELL,
            self.deal_key(cell.deal),
            cell.deal,
            self._terms(cell.terms),
            convert(cell.state, bytes1),
            convert(cell.end, bytes8),
            convert(cell.grace, bytes8),
            convert(cell.settled, bytes8),
            convert(cell.serial, bytes8),
            convert(cell.ended, bytes8),
            convert(cell.missed, bytes8),
            convert(cell.number, bytes8),
            convert(cell.shards, bytes8),
            convert(cell.leaves, bytes8),
            cell.root,
            convert(cell.leaf_epochs, bytes16),
            convert(cell.disk_paid, bytes16),
            convert(cell.voucher_paid, bytes16),
            convert(cell.delegate_paid, bytes16),
            convert(cell.disk_escrow, bytes16),
            convert(cell.bandwidth_escrow, bytes16),
            convert(cell.collateral, bytes16),
            convert(cell.refund, bytes16),
            convert(cell.bond, bytes16),
            convert(cell.burned, bytes16),
            self._demand(cell),
        )
    )
