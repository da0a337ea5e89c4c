# pragma version 0.4.3
"""
@title Entries
@notice One step of the ledger as it stands in an anchored log: the entry, who signed it, and the
    state roots before and after. What all contracts that judge a step begin and end with.
"""

from lib import logs
from lib import typed

MAX_LEAF: constant(uint256) = 32865
MAX_ENTRY: constant(uint256) = 32768
MAX_PATH: constant(uint256) = 64
HEAD: constant(uint256) = 65
SIGNED: constant(uint256) = 97
KINDS: constant(uint8) = 19
ENTRY_TYPE: constant(bytes32) = keccak256(
    "Entry(bytes32 network,uint8 kind,address signer,uint64 nonce,bytes body)"
)


struct Params:
    network: bytes32
    operator: address
    vault: address
    dispute: address
    quorum: uint64
    entry_fee: uint64
    burn_ppm: uint64
    min_disk_price: uint64
    min_repair_price: uint64
    min_collateral_ppm: uint64
    max_free_leaves: uint64
    min_dispute: uint64
    min_bond: uint64
    max_term: uint64
    demand_epochs: uint64
    drand: bool
    witnesses: DynArray[bytes32, 50]


struct Anchor:
    size: uint64
    epoch: uint64
    time: uint64
    root: bytes32
    state_root: bytes32


struct Case:
    anchor: uint256
    index: uint64
    before: Bytes[MAX_LEAF]
    before_path: DynArray[bytes32, MAX_PATH]
    step: Bytes[MAX_LEAF]
    step_path: DynArray[bytes32, MAX_PATH]


struct Entry:
    kind: uint8
    signer: address
    nonce: uint64
    body: Bytes[MAX_LEAF]
    post: bytes32
    said: String[32]


interface Vault:
    def anchors(number: uint256) -> Anchor: view
    def genesis_root() -> bytes32: view
    def convict(index: uint64, reporter: address): nonpayable


event Convicted:
    index: indexed(uint64)
    reporter: indexed(address)
    fault: String[32]


@pure
@internal
def post_root(leaf: Bytes[MAX_LEAF]) -> bytes32:
    """
    @notice The state root that a leaf says stands after its entry.
    """
    assert len(leaf) > SIGNED, "bad_leaf"
    return extract32(leaf, len(leaf) - 32)


@view
@internal
def before_root(vault: address, case: Case) -> bytes32:
    """
    @notice The state root before the step, once both leaves are proven under the anchor's root.
    """
    anchor: Anchor = staticcall Vault(vault).anchors(case.anchor)
    root: bytes32 = logs.root_of(
        logs.leaf_hash(case.step), case.index, anchor.size, case.step_path
    )
    assert root == anchor.root, "not_in_log"
    if case.index == 0:
        return staticcall Vault(vault).genesis_root()
    root = logs.root_of(
        logs.leaf_hash(case.before), case.index - 1, anchor.size, case.before_path
    )
    assert root == anchor.root, "not_in_log"
    return self.post_root(case.before)


@pure
@internal
def open(leaf: Bytes[MAX_LEAF], separator: bytes32, network: bytes32) -> (String[32], Entry):
    """
    @notice What a leaf says, and what is wrong with its header.
    @dev `said` is what is wrong with network and signature: the rules ask for that once the body
        can be read at all.
    """
    entry: Entry = empty(Entry)
    entry.post = self.post_root(leaf)
    fault: String[32] = "malformed_message"
    size: uint256 = len(leaf) - SIGNED
    entry.kind = convert(slice(leaf, 0, 1), uint8)
    if size > MAX_ENTRY:
        fault = "entry_too_large"
    elif entry.kind == 0 or entry.kind > KINDS:
        fault = "unknown_kind"
    elif size >= HEAD and convert(slice(leaf, 61, 4), uint256) == size - HEAD:
        fault = ""
        entry.signer = convert(convert(slice(leaf, 33, 20), bytes20), address)
        entry.nonce = convert(slice(leaf, 53, 8), uint64)
        entry.body = slice(leaf, HEAD, size - HEAD)
        entry.said = "wrong_network"
    if len(fault) == 0 and extract32(leaf, 1) == network:
        struct_hash: bytes32 = keccak256(
            abi_encode(
                ENTRY_TYPE,
                network,
                convert(entry.kind, uint256),
                entry.signer,
                convert(entry.nonce, uint256),
                keccak256(entry.body),
            )
        )
        entry.said = typed.fault(
            typed.digest(separator, struct_hash), slice(leaf, size, 65), entry.signer
        )
    return fault, entry


@internal
def convict(vault: address, index: uint64, fault: String[32]):
    """
    @notice Have the vault drop every anchor over the step, and pay whoever showed it.
    @dev No fault, no conviction.
    """
    assert fault != "", "no_fault"
    log Convicted(index=index, reporter=msg.sender, fault=fault)
    extcall Vault(vault).convict(index, msg.sender)
