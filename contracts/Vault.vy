# pragma version 0.4.3
# pragma evm-version cancun
# pragma nonreentrancy on
# pragma optimize codesize
"""
@title The vault of a network
@notice Holds what was deposited, and pays it out by what the ledger says. What the ledger says is
    anchored here: roots that the operator and a quorum of witnesses signed. An anchor is believed
    once it has stood for `challenge_s`; until then whoever shows a wrong step in its log has it
    dropped. From then on nobody drops it. After a conviction, or when no anchor came for
    `escape_s`, the vault is frozen: once `challenge_s` have passed, all leave with what the last
    anchor that stands says of them, and with the vouchers they hold. Nobody owns this contract
    or can change it.
"""

from ethereum.ercs import IERC20
from lib import cells
from lib import settling
from lib import state
from lib import typed


struct LedgerRoot:
    size: uint64
    root: bytes32
    state_root: bytes32
    epoch: uint64


struct Anchor:
    size: uint64
    epoch: uint64
    time: uint64
    root: bytes32
    state_root: bytes32


struct Times:
    challenge_s: uint64
    escape_s: uint64
    voucher_s: uint64
    inclusion_s: uint64


struct Voucher:
    deal: bytes32
    credits: uint64
    by_delegate: bool
    v: uint8
    r: bytes32
    s: bytes32


struct Slash:
    number: uint64
    time: uint64
    asker: address


# An anchor as it is stored: size, epoch and time share a word.
struct Kept:
    counts: uint256
    root: bytes32
    state_root: bytes32


# What is left of a deal after its escape: three amounts that change share a word, as do the
# delegate and the most that it may give.
struct Remnant:
    amounts: uint256
    client: address
    provider: address
    delegate: uint256


interface IDispute:
    def slashes(deal: bytes32) -> Slash: view


event Deposited:
    account: indexed(address)
    amount: uint64
    serial: uint64


event Anchored:
    number: indexed(uint256)
    size: uint64
    root: bytes32
    state_root: bytes32
    epoch: uint64


event Withdrawn:
    account: indexed(address)
    amount: uint256


event Frozen:
    time: uint64


event Convicted:
    reporter: indexed(address)
    reward: uint256
    anchors: uint256


event Credited:
    account: indexed(address)
    amount: uint256


event Collected:
    account: indexed(address)
    amount: uint256


MAX_WITNESSES: constant(uint256) = 50
MAX_JUDGES: constant(uint256) = 8
MAX_VOUCHERS: constant(uint256) = 64
ROOT_TYPE: constant(bytes32) = keccak256(
    "LedgerRoot(uint64 size,bytes32 root,bytes32 state_root,uint64 epoch)"
)
VOUCHER_TYPE: constant(bytes32) = keccak256("Voucher(bytes32 deal,uint64 credits)")
REPORTER_PART: constant(uint256) = 10
DEAL_OPEN: constant(uint8) = 1
DEAL_ENDED: constant(uint8) = 2

erc20: public(immutable(address))
network: public(immutable(bytes32))
operator: public(immutable(address))
quorum: public(immutable(uint64))
genesis_root: public(immutable(bytes32))
burn_ppm: public(immutable(uint256))
times: public(immutable(Times))
dispute: public(immutable(address))
separator: public(immutable(bytes32))
DEPLOYED: immutable(uint64)

judges: public(DynArray[address, MAX_JUDGES])
witnesses: public(HashMap[address, bool])
anchor_count: public(uint256)
deposits: public(HashMap[address, uint64])
paid: public(HashMap[address, uint128])
owed: public(HashMap[address, uint256])
bond: public(uint256)
frozen_at: public(uint64)
convicted: public(bool)
escaped: public(HashMap[address, bool])

_anchors: HashMap[uint256, Kept]
# The sum of an account's deposits up to a serial, and in the lower 64 bits its time.
_sums: HashMap[address, HashMap[uint64, uint256]]
_remnants: HashMap[bytes32, Remnant]


@deploy
def __init__(
    erc20_: address,
    network_: bytes32,
    operator_: address,
    witnesses_: DynArray[address, MAX_WITNESSES],
    quorum_: uint64,
    genesis_root_: bytes32,
    burn_ppm_: uint256,
    times_: Times,
    dispute_: address,
    judges_: DynArray[address, MAX_JUDGES],
):
    """
    @notice Fix all that a network says of its vault; nothing of it ever changes.
    @param erc20_ What is deposited. Whatever takes fees of transfers is refused later.
    @param network_ The network id, which covers this contract's address.
    @param operator_ Who signs roots, and has a bond at stake.
    @param witnesses_ Who signs with it, all different.
    @param quorum_ How many of them must.
    @param genesis_root_ The state before the first entry.
    @param burn_ppm_ How much of disk pay the network burns, in millionths.
    @param times_ Seconds: how long an anchor can be challenged; how long no anchor may come;
        how long vouchers are taken after an escape began; how soon the ledger must take up what
        happened here: no sooner than `escape_s`, or a root that was signed before and is
        anchored late would convict an operator that was only away.
    @param dispute_ Whose slashes count.
    @param judges_ Who convicts.
    """
    assert operator_ != empty(address), "bad_settlement_address"
    assert quorum_ <= convert(len(witnesses_), uint64), "bad_quorum"
    assert times_.inclusion_s >= times_.escape_s, "bad_times"
    erc20 = erc20_
    network = network_
    operator = operator_
    quorum = quorum_
    genesis_root = genesis_root_
    burn_ppm = burn_ppm_
    times = times_
    dispute = dispute_
    separator = typed.separator(self, network_)
    DEPLOYED = self._now()
    self.judges = judges_
    for witness: address in witnesses_:
        assert witness != empty(address) and not self.witnesses[witness], "bad_quorum"
        self.witnesses[witness] = True


# Deposits and the bond


@external
def deposit(account: address, amount: uint64):
    """
    @notice Pay in from the caller's units, which the ledger then credits to `account`.
    @param account Whose credits they become.
    @param amount Base units; exactly as many must arrive.
    """
    assert self.frozen_at == 0, "frozen"
    assert account != empty(address), "bad_settlement_address"
    assert amount != 0, "zero_amount"
    serial: uint64 = self.deposits[account] + 1
    total: uint128 = self._deposited(account, serial - 1) + convert(amount, uint128)
    self.deposits[account] = serial
    self._sums[account][serial] = convert(total, uint256) << 64 | convert(self._now(), uint256)
    log Deposited(account=account, amount=amount, serial=serial)
    self._take(convert(amount, uint256))


@external
def post_bond(amount: uint256):
    """
    @notice Put the operator's units at stake.
    @param amount Base units, on top of what is there.
    """
    assert msg.sender == operator, "not_the_operator"
    assert self.frozen_at == 0, "frozen"
    self.bond += amount
    self._take(amount)


@external
def reclaim_bond():
    """
    @notice Credit the bond to an operator that nobody convicted, once all have left.
    """
    assert msg.sender == operator, "not_the_operator"
    self._check_frozen_for(times.challenge_s + times.voucher_s)
    bond: uint256 = self.bond
    self.bond = 0
    self._credit(operator, bond)


# Anchors


@external
def anchor(
    root: LedgerRoot,
    operator_signature: Bytes[65],
    signatures: DynArray[Bytes[65], MAX_WITNESSES],
):
    """
    @notice Bring the vault to a newer state of the ledger. Anybody may.
    @param root What operator and witnesses signed; larger than the last one.
    @param operator_signature Over it.
    @param signatures Of different witnesses over it, by rising addresses; at least the quorum.
    """
    assert self.frozen_at == 0, "frozen"
    number: uint256 = self.anchor_count
    if number != 0:
        last: Anchor = self._anchor(number - 1)
        assert root.size > last.size, "log_shrunk"
        assert root.epoch >= last.epoch, "log_rewound"
    assert root.size != 0, "log_shrunk"
    digest: bytes32 = self._digest(root)
    self._check_signature(digest, operator_signature, operator)
    assert convert(len(signatures), uint64) >= quorum, "no_quorum"
    before: address = empty(address)
    for signature: Bytes[65] in signatures:
        witness: address = typed.signer(digest, signature)
        assert self.witnesses[witness], "unknown_witness"
        assert convert(witness, uint160) > convert(before, uint160), "unsorted_witnesses"
        before = witness
    self._anchors[number] = Kept(
        counts=self._pack(root.size, root.epoch, self._now()),
        root=root.root,
        state_root=root.state_root,
    )
    self.anchor_count = number + 1
    log Anchored(
        number=number,
        size=root.size,
        root=root.root,
        state_root=root.state_root,
        epoch=root.epoch,
    )


@external
def withdraw(number: uint256, cell: cells.Account, place: state.Place):
    """
    @notice Pay an account what it ever withdrew on the ledger, less what was paid. Anybody may.
    @param number Of an anchor that is final.
    @param cell The account's cell there.
    @param place Its way up to the anchor's state root.
    """
    assert self.frozen_at == 0, "frozen"
    assert self._is_final(number), "not_final"
    self._check_account(self._anchors[number].state_root, cell, place)
    paid: uint128 = self.paid[cell.who]
    assert cell.withdrawn > paid, "nothing_due"
    self.paid[cell.who] = cell.withdrawn
    amount: uint256 = convert(cell.withdrawn - paid, uint256)
    log Withdrawn(account=cell.who, amount=amount)
    self._give(cell.who, amount)


# The end


@external
def freeze():
    """
    @notice Stop, since no anchor came for `escape_s`. Anybody may.
    """
    assert self.frozen_at == 0, "frozen"
    last: uint64 = DEPLOYED
    if self.anchor_count != 0:
        last = self._anchor(self.anchor_count - 1).time
    assert self._now() - last >= times.escape_s, "still_time"
    self._freeze()


@external
def convict(index: uint64, reporter: address):
    """
    @notice A judge found the step with leaf `index` wrong: what is anchored with it and not
        final is dropped, the vault is frozen, the bond is taken.
    @dev While frozen, the window starts anew only if an anchor falls, and none is left to fall
        `challenge_s` after the first freeze: so nobody keeps a vault from being left.
    @param index Of the wrong leaf; anchors of more leaves have it.
    @param reporter Who gets a tenth of the bond.
    """
    assert msg.sender in self.judges, "not_a_judge"
    standing: uint256 = self._standing_without(index)
    dropped: bool = standing < self.anchor_count
    assert dropped or not self.convicted, "convicted_already"
    self.anchor_count = standing
    if dropped or self.frozen_at == 0:
        self._freeze()
    self._take_bond(reporter)


@external
def convict_equivocation(
    one: LedgerRoot, one_signature: Bytes[65], other: LedgerRoot, other_signature: Bytes[65]
):
    """
    @notice The operator signed two roots of one size that differ: the vault is frozen, the bond
        is taken. Anchors stand, for a quorum signed each.
    @param one A root.
    @param one_signature The operator's over it.
    @param other Another one of that size.
    @param other_signature The operator's over that one.
    """
    first: bytes32 = self._digest(one)
    second: bytes32 = self._digest(other)
    assert one.size == other.size and first != second, "no_fault"
    self._check_signature(first, one_signature, operator)
    self._check_signature(second, other_signature, operator)
    assert not self.convicted, "convicted_already"
    if self.frozen_at == 0:
        self._freeze()
    self._take_bond(msg.sender)


# Escapes


@external
def escape_account(cell: cells.Account, place: state.Place):
    """
    @notice Owe an account all that the standing anchor says of it, and what was deposited since.
        Anybody may, once.
    @param cell The account's cell.
    @param place Its way up to the standing state root.
    """
    self._check_account(self._escape_root(), cell, place)
    newest: uint64 = self.deposits[cell.who]
    entered: uint128 = self._deposited(cell.who, min(cell.deposits, newest))
    since: uint128 = self._deposited(cell.who, newest) - entered
    self._leave(cell.who, convert(cell.available + cell.withdrawn + since, uint256))


@external
def escape_absent(account: address, place: state.Place):
    """
    @notice Owe an account that the standing anchor does not know all its deposits.
    @param account Whose.
    @param place Where the bits of its key lead: to the cell of another key.
    """
    root: bytes32 = self._escape_root()
    assert state.root_of(place) == root, "state_root"
    assert state.absent(place, cells.account_key(account)), "not_absent"
    self._leave(account, convert(self._deposited(account, self.deposits[account]), uint256))


@external
def escape_deal(
    deal: cells.Deal,
    deal_place: state.Place,
    provider: cells.Account,
    provider_place: state.Place,
):
    """
    @notice Divide what is locked in a deal: settled up to the standing anchor, or split if it
        was slashed. The bandwidth escrow is kept for vouchers. Anybody may, once.
    @param deal The deal's cell.
    @param deal_place Its way up to the standing state root.
    @param provider Its provider's cell.
    @param provider_place The way of that one.
    """
    root: bytes32 = self._escape_root()
    # copied once: every copy out of the arguments is code
    after: cells.Deal = deal
    holder: cells.Account = provider
    self._check_place(root, deal_place, cells.deal_key(after.deal), cells.deal_digest(after))
    self._check_account(root, holder, provider_place)
    assert holder.who == after.terms.provider, "not_the_provider"
    assert self._remnants[after.deal].client == empty(address), "escaped_already"
    self._remnants[after.deal].client = after.terms.client
    slash: Slash = self._slash_of(after.deal, after.state, after.number)
    if slash.asker != empty(address):
        reporter_part: uint256 = 0
        after, reporter_part = settling.split(after)
        self._credit(slash.asker, reporter_part)
    elif after.state == DEAL_OPEN:
        epoch: uint64 = self._anchor(self.anchor_count - 1).epoch  # genesis has no deals
        had: uint128 = holder.available
        after, holder = settling.settle(after, settling.roll(holder, epoch), epoch, burn_ppm)
        self._credit(holder.who, convert(holder.available - had, uint256))
    self._credit(holder.who, convert(after.collateral, uint256))
    self._credit(after.terms.client, convert(after.refund + after.disk_escrow, uint256))
    if after.pending:
        self._credit(after.demand.asker, convert(after.bond, uint256))
    self._remnants[after.deal].provider = holder.who
    self._remnants[after.deal].amounts = convert(after.bandwidth_escrow, uint256) << 128 | (
        self._pack(0, convert(after.voucher_paid, uint64), convert(after.delegate_paid, uint64))
    )
    self._remnants[after.deal].delegate = convert(after.terms.delegate, uint256) << 64 | convert(
        after.terms.delegate_credits, uint256
    )


@external
def redeem_many(vouchers: DynArray[Voucher, MAX_VOUCHERS]):
    """
    @notice Pay vouchers out of what escaped deals have left for bandwidth. Anybody may. What is
        worth nothing any more is passed over, so that nobody spoils a batch by being first.
    @param vouchers Of any deals. Of more than is left, what is left is paid.
    """
    assert self.frozen_at != 0, "not_frozen"
    for voucher: Voucher in vouchers:
        self._redeem(voucher)


@external
def finish_deal(deal: bytes32):
    """
    @notice Give what no voucher claimed in `voucher_s` back to the client.
    @param deal One that escaped.
    """
    self._check_frozen_for(times.challenge_s + times.voucher_s)
    left: uint256 = self._remnants[deal].amounts >> 128
    assert left != 0, "nothing_due"
    self._remnants[deal].amounts = 0
    self._credit(self._remnants[deal].client, left)


@external
def collect(account: address):
    """
    @notice Pay an account what it is owed. Anybody may, at any time.
    @param account Whose.
    """
    amount: uint256 = self.owed[account]
    assert amount != 0, "nothing_due"
    self.owed[account] = 0
    log Collected(account=account, amount=amount)
    self._give(account, amount)


# Views


@external
@view
def anchors(number: uint256) -> Anchor:
    """
    @notice An anchor that stands.
    @param number From 0.
    @return It, with the time when it was made in Unix seconds.
    """
    return self._anchor(number)


@external
@view
def is_final(number: uint256) -> bool:
    """
    @notice Whether an anchor can be withdrawn against, and never be dropped any more.
    @param number From 0.
    @return Whether it stands, and has for `challenge_s`.
    """
    return self._is_final(number)


@external
@view
def deposited(account: address, serial: uint64) -> uint128:
    """
    @notice How much an account got in its first deposits.
    @param account Whose.
    @param serial The last one that counts; at most `deposits`.
    @return Base units.
    """
    return self._deposited(account, serial)


@external
@view
def deposit_times(account: address, serial: uint64) -> uint64:
    """
    @notice When a deposit was made.
    @param account Whose.
    @param serial Which one, from 1.
    @return Unix seconds; 0 if it was not made.
    """
    return convert(self._sums[account][serial] & convert(max_value(uint64), uint256), uint64)


@external
@view
def unredeemed(deal: bytes32) -> uint128:
    """
    @notice What an escaped deal has left for vouchers.
    @param deal Its id.
    @return Base units.
    """
    return convert(self._remnants[deal].amounts >> 128, uint128)


# Checks


@view
@internal
def _now() -> uint64:
    return convert(block.timestamp, uint64)


@view
@internal
def _check_frozen_for(span_s: uint64):
    assert self.frozen_at != 0, "not_frozen"
    assert self._now() - self.frozen_at >= span_s, "still_time"


@view
@internal
def _escape_root() -> bytes32:
    """
    @notice The state that all leave with, once nothing can change it any more.
    """
    self._check_frozen_for(times.challenge_s)
    if self.anchor_count == 0:
        return genesis_root
    return self._anchors[self.anchor_count - 1].state_root


@pure
@internal
def _check_place(root: bytes32, place: state.Place, key: bytes32, digest: bytes32):
    assert place.key == key and place.digest == digest, "other_cell"
    assert state.root_of(place) == root, "state_root"


@pure
@internal
def _check_account(root: bytes32, cell: cells.Account, place: state.Place):
    self._check_place(root, place, cells.account_key(cell.who), cells.account_digest(cell))


@view
@internal
def _digest(root: LedgerRoot) -> bytes32:
    return typed.digest(separator, keccak256(abi_encode(ROOT_TYPE, root)))


@view
@internal
def _check_signature(digest: bytes32, signature: Bytes[65], signer: address):
    fault: String[32] = typed.fault(digest, signature, signer)
    assert fault == "", fault


# Anchors, inside


@pure
@internal
def _pack(one: uint64, two: uint64, three: uint64) -> uint256:
    return (
        convert(one, uint256) << 128 | convert(two, uint256) << 64 | convert(three, uint256)
    )


@view
@internal
def _anchor(number: uint256) -> Anchor:
    assert number < self.anchor_count, "no_anchor"
    kept: Kept = self._anchors[number]
    word: uint256 = convert(max_value(uint64), uint256)
    return Anchor(
        size=convert(kept.counts >> 128, uint64),
        epoch=convert(kept.counts >> 64 & word, uint64),
        time=convert(kept.counts & word, uint64),
        root=kept.root,
        state_root=kept.state_root,
    )


@view
@internal
def _is_final(number: uint256) -> bool:
    return self._now() - self._anchor(number).time >= times.challenge_s


@view
@internal
def _standing_without(index: uint64) -> uint256:
    """
    @notice How many anchors stand if those of more than `index` leaves fall that are not final.
    @dev Both rise with the number, so it is searched by halves.
    """
    low: uint256 = 0
    high: uint256 = self.anchor_count
    for _: uint256 in range(64):
        if low == high:
            break
        middle: uint256 = (low + high) // 2
        if self._anchor(middle).size > index and not self._is_final(middle):
            high = middle
        else:
            low = middle + 1
    return low


@internal
def _freeze():
    self.frozen_at = self._now()
    log Frozen(time=self.frozen_at)


@internal
def _take_bond(reporter: address):
    """
    @notice A tenth of the bond to who showed the fault; the rest is nobody's any more.
    """
    reward: uint256 = self.bond // REPORTER_PART
    self.bond = 0
    self.convicted = True
    log Convicted(reporter=reporter, reward=reward, anchors=self.anchor_count)
    self._credit(reporter, reward)


# Money, inside


@view
@internal
def _deposited(account: address, serial: uint64) -> uint128:
    return convert(self._sums[account][serial] >> 64, uint128)


@internal
def _credit(account: address, amount: uint256):
    if amount == 0:
        return
    self.owed[account] += amount
    log Credited(account=account, amount=amount)


@internal
def _leave(account: address, all_told: uint256):
    assert not self.escaped[account], "escaped_already"
    self.escaped[account] = True
    paid: uint256 = convert(self.paid[account], uint256)
    if all_told > paid:
        self._credit(account, all_told - paid)


@internal
def _take(amount: uint256):
    """
    @notice Move units of the caller here; what keeps a part of them on the way is refused.
    """
    before: uint256 = staticcall IERC20(erc20).balanceOf(self)
    assert extcall IERC20(erc20).transferFrom(
        msg.sender, self, amount, default_return_value=True
    ), "erc20_refused"
    assert staticcall IERC20(erc20).balanceOf(self) == before + amount, "wrong_amount"


@internal
def _give(account: address, amount: uint256):
    assert extcall IERC20(erc20).transfer(
        account, amount, default_return_value=True
    ), "erc20_refused"


# Deals, inside


@view
@internal
def _slash_of(deal: bytes32, standing: uint8, number: uint64) -> Slash:
    """
    @notice The slash that still counts for a deal with this state and number; that of nobody if
        there is none.
    """
    if standing != DEAL_OPEN and standing != DEAL_ENDED:
        return empty(Slash)
    slash: Slash = staticcall IDispute(dispute).slashes(deal)
    return slash if slash.number >= number else empty(Slash)


@internal
def _redeem(voucher: Voucher):
    """
    @notice Pay the rise of the client's or the delegate's voucher, as far as it is covered.
    """
    amounts: uint256 = self._remnants[voucher.deal].amounts
    word: uint256 = convert(max_value(uint64), uint256)
    left: uint256 = amounts >> 128
    row: uint256 = 0 if voucher.by_delegate else 64
    paid: uint256 = amounts >> row & word
    signer: address = empty(address)
    most: uint256 = word
    if voucher.by_delegate:
        delegate: uint256 = self._remnants[voucher.deal].delegate
        signer = convert(convert(delegate >> 64, uint160), address)
        most = delegate & word
    else:
        signer = self._remnants[voucher.deal].client
    credits: uint256 = min(convert(voucher.credits, uint256), most)
    if credits <= paid or left == 0:
        return
    digest: bytes32 = typed.digest(
        separator, keccak256(abi_encode(VOUCHER_TYPE, voucher.deal, voucher.credits))
    )
    signature: Bytes[65] = concat(voucher.r, voucher.s, convert(voucher.v, bytes1))
    self._check_signature(digest, signature, signer)
    rise: uint256 = min(credits - paid, left)
    self._remnants[voucher.deal].amounts = amounts - (rise << 128) + (rise << row)
    self._credit(self._remnants[voucher.deal].provider, rise)
