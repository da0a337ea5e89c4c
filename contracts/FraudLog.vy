# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title Fraud in an anchored log itself
@notice Convicts the operator of what is wrong with an anchor whatever the rules say of any step:
    leaves that are no entries, an end that is not what was anchored, two logs, and deposits or
    slashes of the chain that the ledger left out.
"""

from lib import cells
from lib import entries
from lib import logs
from lib import state
from lib import turn

MAX_LEAF: constant(uint256) = 32865
SIGNED: constant(uint256) = 97
MAX_PATH: constant(uint256) = 64
DEAL_OPEN: constant(uint8) = 1
DEAL_ENDED: constant(uint8) = 2


struct Times:
    challenge_s: uint64
    escape_s: uint64
    voucher_s: uint64
    inclusion_s: uint64


struct Slash:
    number: uint64
    time: uint64
    asker: address


interface Vault:
    def anchors(number: uint256) -> entries.Anchor: view
    def times() -> Times: view
    def deposits(account: address) -> uint64: view
    def deposit_times(account: address, serial: uint64) -> uint64: view


interface Dispute:
    def slashes(deal: bytes32) -> Slash: view


NETWORK: immutable(bytes32)
VAULT: immutable(address)
DISPUTE: immutable(address)


@deploy
def __init__(params: entries.Params):
    """
    @notice A judge for one network, for good.
    @param params What the network fixes about its ledger.
    """
    NETWORK = params.network
    VAULT = params.vault
    DISPUTE = params.dispute


@external
def convict(
    number: uint256, index: uint64, leaf: Bytes[MAX_LEAF], path: DynArray[bytes32, MAX_PATH]
):
    """
    @notice Convict of a leaf that is no entry of any kind. Whoever judges a kind judges the rest.
    @param number Of an anchor.
    @param index The leaf's, in the anchor's log.
    @param leaf Its bytes.
    @param path Its inclusion proof.
    """
    self._check_leaf(staticcall Vault(VAULT).anchors(number), index, leaf, path)
    fault: String[32] = "malformed_message"
    entry: entries.Entry = empty(entries.Entry)
    if len(leaf) > SIGNED:
        fault, entry = entries.open(leaf, empty(bytes32), NETWORK)
    entries.convict(VAULT, index, fault)


@external
def convict_end(
    number: uint256,
    leaf: Bytes[MAX_LEAF],
    path: DynArray[bytes32, MAX_PATH],
    network: cells.Network,
    place: state.Place,
):
    """
    @notice Convict of an anchor that says another state, or another epoch, than its log ends with.
    @param number Of the anchor.
    @param leaf The last one of its log.
    @param path The leaf's inclusion proof.
    @param network The network's cell after it.
    @param place The cell's, under the state root that the leaf says.
    """
    anchor: entries.Anchor = staticcall Vault(VAULT).anchors(number)
    last: uint64 = anchor.size - 1
    self._check_leaf(anchor, last, leaf, path)
    post: bytes32 = entries.post_root(leaf)
    assert network.network == NETWORK, "other_network"
    self._prove(post, place, turn.network(network, network))
    same: bool = post == anchor.state_root and network.epoch == anchor.epoch
    entries.convict(VAULT, last, "" if same else "end_differs")


@external
def convict_fork(older: uint256, newer: uint256, path: DynArray[bytes32, MAX_PATH]):
    """
    @notice Convict of an anchor whose log does not begin with that of an earlier one.
    @param older Number of the earlier anchor; it stands.
    @param newer Number of the other.
    @param path The prefix proof of as many leaves as the earlier has, in the log of the other.
    """
    assert older < newer, "bad_path"
    first: entries.Anchor = staticcall Vault(VAULT).anchors(older)
    second: entries.Anchor = staticcall Vault(VAULT).anchors(newer)
    begins: bytes32 = empty(bytes32)
    whole: bytes32 = empty(bytes32)
    begins, whole = logs.roots_of(path, first.size, second.size)
    assert whole == second.root, "wrong_path"
    entries.convict(VAULT, first.size, "" if begins == first.root else "log_forked")


@external
def convict_deposit(
    number: uint256, serial: uint64, account: cells.Account, place: state.Place
):
    """
    @notice Convict of a deposit that the ledger does not have, though the time for that is over.
    @param number Of an anchor.
    @param serial Which of the account's deposits.
    @param account The account's cell in the anchor's state; blank but for its address if there is
        none.
    @param place The cell's.
    """
    who: address = account.who
    assert 0 < serial and serial <= staticcall Vault(VAULT).deposits(who), "unknown_deposit"
    anchor: entries.Anchor = staticcall Vault(VAULT).anchors(number)
    self._prove(anchor.state_root, place, turn.account(account, account))
    late: bool = self._is_late(anchor.time, staticcall Vault(VAULT).deposit_times(who, serial))
    omitted: bool = late and account.deposits < serial
    entries.convict(VAULT, anchor.size - 1, "deposit_omitted" if omitted else "")


@external
def convict_slash(number: uint256, deal: cells.Deal, place: state.Place):
    """
    @notice Convict of a deal that was slashed on chain and not in the ledger, though the time for
        that is over.
    @dev A deal with a newer revision than the slash was judged under cannot be slashed for it.
    @param number Of an anchor.
    @param deal The deal's cell in the anchor's state.
    @param place The cell's.
    """
    slash: Slash = staticcall Dispute(DISPUTE).slashes(deal.deal)
    assert slash.time != 0, "not_slashed"
    anchor: entries.Anchor = staticcall Vault(VAULT).anchors(number)
    digest: bytes32 = cells.deal_digest(deal)
    touched: turn.Touched = turn.Touched(
        key=cells.deal_key(deal.deal), before=digest, blank=empty(bytes32), after=digest
    )
    self._prove(anchor.state_root, place, touched)
    held: bool = deal.state == DEAL_OPEN or deal.state == DEAL_ENDED
    omitted: bool = held and deal.number <= slash.number
    late: bool = self._is_late(anchor.time, slash.time)
    entries.convict(VAULT, anchor.size - 1, "slash_omitted" if late and omitted else "")


@pure
@internal
def _check_leaf(
    anchor: entries.Anchor, index: uint64, leaf: Bytes[MAX_LEAF], path: DynArray[bytes32, MAX_PATH]
):
    root: bytes32 = logs.root_of(logs.leaf_hash(leaf), index, anchor.size, path)
    assert root == anchor.root, "not_in_log"


@pure
@internal
def _prove(root: bytes32, place: state.Place, cell: turn.Touched):
    """
    @notice Revert unless the cell is of the state at `root`.
    """
    assert turn.walked(root, [place], [cell], False) == root


@view
@internal
def _is_late(anchored: uint64, happened: uint64) -> bool:
    """
    @notice Whether an anchor was made when the ledger must have had what happened on chain.
    """
    times: Times = staticcall Vault(VAULT).times()
    return anchored > happened + times.inclusion_s
