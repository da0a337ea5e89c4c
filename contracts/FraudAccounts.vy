# pragma version 0.4.3
# pragma optimize codesize
"""
@title Fraud in epochs and accounts
@notice Judges one step of the ledger that opens or shuts an epoch, binds an identity, deposits,
    withdraws or transfers, exactly as dsn/ledger/rules/accounts.py does. What the rules refuse, or
    what leads to another state than they do, convicts the operator.
@dev Ed25519 signatures and the evidence of a beacon value are believed: a chain cannot judge
    them, witnesses do. A sum beyond its field reverts; no history gets there unless an earlier
    step of it convicts.
"""

from lib import cells
from lib import entries
from lib import logs
from lib import state
from lib import turn
from lib import typed

MAX_BODY: constant(uint256) = 32865
MAX_WITNESSES: constant(uint256) = 50
MAX_CELLS: constant(uint256) = 4
FIRST_EPOCH: constant(uint64) = 1
SHUT: constant(uint8) = 0
OPEN: constant(uint8) = 1

OPEN_EPOCH: constant(uint8) = 1
SHUT_EPOCH: constant(uint8) = 2
BIND: constant(uint8) = 3
DEPOSIT: constant(uint8) = 4
WITHDRAW: constant(uint8) = 5
TRANSFER: constant(uint8) = 6

OPEN_HEAD: constant(uint256) = 84
# epoch 8, size 8, root 32, value 32, length 4; the evidence follows
SHUT_HEAD: constant(uint256) = 12
# epoch 8, count 4; the salts follow
SALT: constant(uint256) = 128
# witness 32, salt 32, signature 64
BINDING: constant(uint256) = 229
# identity 32, settlement 20, network 32, not before 8, serial 8, signatures 64 and 65

BEACON_TAG: constant(Bytes[16]) = b"dsn/beacon/v1\x00\x00\x00"
NODE_TAG: constant(Bytes[16]) = b"dsn/node/v1\x00\x00\x00\x00\x00"
BINDING_TYPE: constant(bytes32) = keccak256(
    "KeyBinding(bytes32 identity,address settlement,bytes32 network,uint64 not_before_s,uint64 serial)"
)


struct Closed:
    # the log as it was where an epoch's open calls it closed
    prefix: DynArray[bytes32, 64]
    last: Bytes[32865]
    last_path: DynArray[bytes32, 64]


struct Cells:
    # what a step may read of the state before it; what it does not come to is left blank
    mine: cells.Account
    # the signer's
    other: cells.Account
    # the one that a deposit or a transfer is to, if it is another one
    network: cells.Network
    node: cells.Node
    # the one that a binding takes; blank but for its id if nobody has it


struct Head:
    # how a log stood
    size: uint64
    root: bytes32


interface Vault:
    def anchors(number: uint256) -> entries.Anchor: view
    def deposits(account: address) -> uint64: view
    def deposited(account: address, serial: uint64) -> uint128: view


params: entries.Params


@deploy
def __init__(params: entries.Params):
    """
    @notice Judge by what a network fixed about its ledger.
    @param params Out of its network file.
    """
    self.params = params


@external
def convict(
    case: entries.Case,
    shown: Cells,
    places: DynArray[state.Place, MAX_CELLS],
    closed: DynArray[Closed, 1],
):
    """
    @notice Convict the operator of a step that the rules do not allow; reverts with "no_fault" if
        they do, with another reason if the evidence does not fit.
    @param case The step and the one before, under an anchor.
    @param shown The cells that the step reads.
    @param places Theirs: the signer's account, then the second cell: the network, the node or the
        other account. What was not read until a step is refused may be left out. A wrong closed
        log, or a deposit that the vault did not take, is shown as a step that is not refused.
    @param closed The log that an open calls closed. It takes this to convict of a wrong one, and
        nothing else needs it.
    """
    vault: address = self.params.vault
    root: bytes32 = entries.before_root(vault, case)
    network: bytes32 = self.params.network
    entry: entries.Entry = empty(entries.Entry)
    fault: String[32] = ""
    fault, entry = entries.open(case.step, typed.separator(vault, network), network)
    after: Cells = shown
    if len(fault) == 0:
        fault = self._form_fault(entry.kind, entry.body)
    if len(fault) == 0:
        fault = entry.said
    if len(fault) == 0:
        fault, after = self._judge(
            entry.kind, entry.signer, entry.nonce, entry.body, shown, len(places)
        )
    found: bytes32 = turn.walked(
        root, places, self._touched(entry.kind, shown, after), len(fault) == 0
    )
    if len(fault) == 0 and entry.kind == OPEN_EPOCH:
        fault = self._closed_fault(case.anchor, case.index, entry.body, closed)
    if len(fault) == 0 and entry.kind == DEPOSIT:
        fault = self._vault_fault(entry.body)
    if len(fault) == 0 and found != entry.post:
        fault = "state_root_differs"
    entries.convict(vault, case.index, fault)


@pure
@internal
def _touched(
    kind: uint8, shown: Cells, after: Cells
) -> DynArray[turn.Touched, MAX_CELLS]:
    """
    @notice The cells that a step of this kind comes to, in the order of their places.
    """
    touched: DynArray[turn.Touched, MAX_CELLS] = [turn.account(shown.mine, after.mine)]
    if kind == OPEN_EPOCH or kind == SHUT_EPOCH:
        touched.append(turn.network(shown.network, after.network))
    elif kind == BIND:
        blank: cells.Node = cells.Node(
            node=shown.node.node, account=empty(address), serial=0
        )
        touched.append(
            turn.Touched(
                key=cells.node_key(blank.node),
                before=cells.node_digest(shown.node),
                blank=cells.node_digest(blank),
                after=cells.node_digest(after.node),
            )
        )
    else:
        touched.append(turn.account(shown.other, after.other))
    return touched


@view
@internal
def _judge(
    kind: uint8,
    signer: address,
    nonce: uint64,
    body: Bytes[MAX_BODY],
    shown: Cells,
    count: uint256,
) -> (String[32], Cells):
    """
    @notice What the rules refuse the entry with, if they do, and the cells as it leaves them.
    @param count How many cells have a place.
    """
    after: Cells = shown
    fault: String[32] = ""
    if kind == BIND:
        fault = self._binding_fault(body)
        if len(fault) != 0:
            return fault, after
    assert count >= 1 and shown.mine.who == signer, "incomplete_evidence"
    fault = turn.nonce_fault(shown.mine, nonce)
    if len(fault) != 0:
        return fault, after
    if kind == OPEN_EPOCH or kind == SHUT_EPOCH:
        fault, after.network = self._keep_time(kind, body, shown, count)
    elif kind == BIND:
        fault, after = self._bind(body, shown, count)
    elif kind == DEPOSIT:
        fault, after = self._deposit(body, shown, count)
    elif kind == WITHDRAW:
        fault, after = self._withdraw(body, shown)
    else:
        fault, after = self._transfer(body, shown, count)
    if len(fault) != 0:
        return fault, after
    at_most: bool = kind == OPEN_EPOCH or kind == SHUT_EPOCH or kind == DEPOSIT
    fault, after.mine = turn.count(after.mine, nonce, self.params.entry_fee, at_most)
    return fault, after


@pure
@internal
def _form_fault(kind: uint8, body: Bytes[MAX_BODY]) -> String[32]:
    """
    @notice Whether a body cannot be read at all.
    """
    size: uint256 = len(body)
    right: bool = False
    if kind == OPEN_EPOCH:
        if size >= OPEN_HEAD:
            right = size - OPEN_HEAD == convert(slice(body, OPEN_HEAD - 4, 4), uint256)
    elif kind == SHUT_EPOCH:
        if size >= SHUT_HEAD:
            right = size - SHUT_HEAD == SALT * convert(slice(body, 8, 4), uint256)
    elif kind == BIND:
        right = size == BINDING
    elif kind == DEPOSIT:
        right = size == 36
    elif kind == WITHDRAW:
        right = size == 8
    else:
        assert kind == TRANSFER, "other_kind"
        right = size == 28
    return "" if right else "malformed_message"


@pure
@internal
def _address(body: Bytes[MAX_BODY], at: uint256) -> address:
    return convert(convert(slice(body, at, 20), bytes20), address)


@pure
@internal
def _word(body: Bytes[MAX_BODY], at: uint256) -> uint64:
    return convert(slice(body, at, 8), uint64)


# epochs


@view
@internal
def _keep_time(
    kind: uint8, body: Bytes[MAX_BODY], shown: Cells, count: uint256
) -> (String[32], cells.Network):
    """
    @notice The operator opens the next epoch, or shuts the one that is open.
    """
    now: cells.Network = shown.network
    if shown.mine.who != self.params.operator:
        return "not_the_operator", now
    assert count == 2 and now.network == self.params.network, "incomplete_evidence"
    if now.phase != (SHUT if kind == OPEN_EPOCH else OPEN):
        return "wrong_phase", now
    epoch: uint64 = self._word(body, 0)
    if now.epoch != epoch:
        return "wrong_epoch", now
    fault: String[32] = ""
    if kind == SHUT_EPOCH:
        fault, now.round = self._fixed_round(body, now.round)
        now.phase = SHUT
        now.epoch = epoch + 1
        return fault, now
    closed: Head = self._closed(body)
    if epoch == FIRST_EPOCH:
        if closed.size != now.closed_size or closed.root != now.closed_root:
            return "bad_closed_log", now
    elif closed.size <= now.closed_size:
        return "bad_closed_log", now
    now.phase = OPEN
    now.beacon = sha256(concat(BEACON_TAG, slice(body, 48, 32)))
    now.closed_size = closed.size
    now.closed_root = closed.root
    return "", now


@view
@internal
def _fixed_round(body: Bytes[MAX_BODY], last: uint64) -> (String[32], uint64):
    """
    @notice The round of drand that the salts of a shut fix: the middle one of those they name, the
        lower of two. 0 where the log itself gives beacons.
    """
    count: uint256 = convert(slice(body, 8, 4), uint256)
    witnesses: DynArray[bytes32, MAX_WITNESSES] = self.params.witnesses
    if count > len(witnesses):
        return "bad_salts", 0
    given: uint256 = 0
    rounds: DynArray[uint64, MAX_WITNESSES] = []
    for at: uint256 in range(count, bound=MAX_WITNESSES):
        start: uint256 = SHUT_HEAD + SALT * at
        bit: uint256 = self._bit_of(extract32(body, start), witnesses)
        if bit == 0 or given & bit != 0:
            return "bad_salts", 0
        given |= bit
        rounds.append(convert(slice(body, start + 32, 8), uint64))
    if count < convert(self.params.quorum, uint256):
        return "no_quorum", 0
    if not self.params.drand:
        return "", 0
    due: uint64 = self._middle(rounds)
    return "bad_salts" if due <= last else "", due


@pure
@internal
def _bit_of(key: bytes32, witnesses: DynArray[bytes32, MAX_WITNESSES]) -> uint256:
    """
    @notice A bit of a witness's own; 0 for anyone else.
    """
    bit: uint256 = 1
    for each: bytes32 in witnesses:
        if each == key:
            return bit
        bit <<= 1
    return 0


@pure
@internal
def _middle(values: DynArray[uint64, MAX_WITNESSES]) -> uint64:
    """
    @notice The middle one by size, the lower of two.
    """
    place: uint256 = (len(values) - 1) // 2
    for each: uint64 in values:
        smaller: uint256 = 0
        equal: uint256 = 0
        for other: uint64 in values:
            if other < each:
                smaller += 1
            elif other == each:
                equal += 1
        if smaller <= place and place < smaller + equal:
            return each
    raise "unreachable"


@pure
@internal
def _closed(body: Bytes[MAX_BODY]) -> Head:
    return Head(size=convert(slice(body, 8, 8), uint64), root=extract32(body, 16))


@view
@internal
def _closed_fault(
    anchor: uint256, index: uint64, body: Bytes[MAX_BODY], shown: DynArray[Closed, 1]
) -> String[32]:
    """
    @notice Whether the log was not as an open says that it was closed: another one, or one that
        does not end with the shut of the epoch before. What is not shown is believed.
    """
    epoch: uint64 = convert(slice(body, 0, 8), uint64)
    head: Head = self._closed(body)
    if epoch == FIRST_EPOCH:
        return ""
    if head.size > index:
        return "bad_closed_log"
    if len(shown) == 0:
        return ""
    whole: entries.Anchor = staticcall Vault(self.params.vault).anchors(anchor)
    older: bytes32 = empty(bytes32)
    newer: bytes32 = empty(bytes32)
    older, newer = logs.roots_of(shown[0].prefix, head.size, whole.size)
    assert newer == whole.root, "wrong_path"
    if older != head.root:
        return "bad_closed_log"
    last: Bytes[MAX_BODY] = shown[0].last
    found: bytes32 = logs.root_of(
        logs.leaf_hash(last), head.size - 1, head.size, shown[0].last_path
    )
    assert found == older, "not_in_log"
    return "" if self._shuts(last, epoch - 1) else "bad_closed_log"


@pure
@internal
def _shuts(leaf: Bytes[MAX_BODY], epoch: uint64) -> bool:
    """
    @notice Whether a leaf is the shut of `epoch`, its form not judged.
    """
    if len(leaf) < 73 or convert(slice(leaf, 0, 1), uint8) != SHUT_EPOCH:
        return False
    return convert(slice(leaf, 65, 8), uint64) == epoch


# accounts


@view
@internal
def _binding_fault(body: Bytes[MAX_BODY]) -> String[32]:
    """
    @notice Whether the owner of the settlement key did not make a binding for this network.
    """
    network: bytes32 = extract32(body, 52)
    if network != self.params.network:
        return "other_network"
    settlement: address = convert(convert(slice(body, 32, 20), bytes20), address)
    struct_hash: bytes32 = keccak256(
        abi_encode(
            BINDING_TYPE,
            extract32(body, 0),
            settlement,
            network,
            convert(slice(body, 84, 8), uint256),
            convert(slice(body, 92, 8), uint256),
        )
    )
    digest: bytes32 = typed.digest(typed.separator(self.params.vault, network), struct_hash)
    return typed.fault(digest, slice(body, 164, 65), settlement)


@pure
@internal
def _bind(body: Bytes[MAX_BODY], shown: Cells, count: uint256) -> (String[32], Cells):
    """
    @notice An account takes an identity; while it has deals it keeps the one it has.
    """
    after: Cells = shown
    if self._address(body, 32) != shown.mine.who:
        return "foreign_binding", after
    node: bytes32 = sha256(concat(NODE_TAG, slice(body, 0, 32)))
    assert count == 2 and shown.node.node == node, "incomplete_evidence"
    if shown.node.account != empty(address) and shown.node.account != shown.mine.who:
        return "node_taken", after
    after.node.account = shown.mine.who
    after.node.serial = self._word(body, 92)
    if after.node.serial <= shown.node.serial:
        return "stale_binding", after
    if shown.mine.deals != 0:
        return "deals_open", after
    after.mine.node = node
    return "", after


@view
@internal
def _deposit(body: Bytes[MAX_BODY], shown: Cells, count: uint256) -> (String[32], Cells):
    """
    @notice The operator enters what the vault took.
    """
    after: Cells = shown
    if shown.mine.who != self.params.operator:
        return "not_the_operator", after
    who: address = self._address(body, 0)
    amount: uint64 = self._word(body, 20)
    serial: uint64 = self._word(body, 28)
    if amount == 0:
        return "zero_amount", after
    own: bool = who == shown.mine.who
    account: cells.Account = shown.mine
    if not own:
        account = shown.other
        assert count == 2 and account.who == who, "incomplete_evidence"
    if convert(serial, uint256) != convert(account.deposits, uint256) + 1:
        return "wrong_deposit", after
    account.available += convert(amount, uint128)
    account.deposits = serial
    if own:
        after.mine = account
    else:
        after.other = account
    return "", after


@view
@internal
def _vault_fault(body: Bytes[MAX_BODY]) -> String[32]:
    """
    @notice Whether the vault did not take what a deposit says.
    """
    vault: address = self.params.vault
    who: address = self._address(body, 0)
    serial: uint64 = self._word(body, 28)
    if serial > staticcall Vault(vault).deposits(who):
        return "deposit_differs"
    took: uint128 = staticcall Vault(vault).deposited(who, serial)
    if serial > 1:
        took -= staticcall Vault(vault).deposited(who, serial - 1)
    return "" if took == convert(self._word(body, 20), uint128) else "deposit_differs"


@pure
@internal
def _withdraw(body: Bytes[MAX_BODY], shown: Cells) -> (String[32], Cells):
    """
    @notice An account takes credits out.
    """
    after: Cells = shown
    fault: String[32] = "zero_amount"
    amount: uint64 = self._word(body, 0)
    if amount != 0:
        fault, after.mine = turn.debit(shown.mine, convert(amount, uint256))
        after.mine.withdrawn += convert(amount, uint128)
    return fault, after


@pure
@internal
def _transfer(body: Bytes[MAX_BODY], shown: Cells, count: uint256) -> (String[32], Cells):
    """
    @notice An account gives credits to another one.
    """
    after: Cells = shown
    to: address = self._address(body, 0)
    amount: uint64 = self._word(body, 20)
    if amount == 0:
        return "zero_amount", after
    if to == shown.mine.who:
        return "same_account", after
    fault: String[32] = ""
    fault, after.mine = turn.debit(shown.mine, convert(amount, uint256))
    if len(fault) != 0:
        return fault, after
    assert count == 2 and shown.other.who == to, "incomplete_evidence"
    after.other.available += convert(amount, uint128)
    return "", after
