# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Disputes over single leaves
@notice Where a client asks for a leaf of its deal, under a bond, when the ledger would not take
    the demand. The provider has its time to show the leaf, and then keeps the bond; if it does
    not, the deal is slashed: the ledger has to take that up, and the vault goes by it when all
    leave.
"""

from lib import cells
from lib import answers
from lib import state
from lib import typed

OPEN: constant(uint8) = 1
DEAL_TYPE: constant(bytes32) = keccak256(
    "Deal(address client,address provider,uint64 disk_price,uint64 ingress_price,uint64 egress_price,uint64 repair_price,uint64 open_by,uint64 end,uint64 grace,uint64 notice,uint64 miss_limit,uint64 dispute,uint64 disk_escrow,uint64 bandwidth_escrow,uint64 collateral_ppm,uint64 free_leaves,address delegate,uint64 delegate_credits,uint64 delegate_leaves,bytes32 salt)"
)
PLEDGE_TYPE: constant(bytes32) = keccak256(
    "Pledge(bytes32 deal,uint64 number,uint64 shards,uint64 leaves,bytes32 root)"
)
LOW: constant(uint256) = 2**64 - 1


struct Anchor:
    size: uint64
    epoch: uint64
    time: uint64
    root: bytes32
    state_root: bytes32


struct Pledge:
    deal: bytes32
    number: uint64
    shards: uint64
    leaves: uint64
    root: bytes32


struct Demand:
    # a leaf that was asked for, of holdings as an anchor had them; no deadline, no demand
    asker: address
    deadline: uint64
    provider: address
    leaf: uint64
    number: uint64
    leaves: uint64
    root: bytes32


struct Packed:
    # a demand in four words of storage
    asked: uint256  # asker, deadline
    wanted: uint256  # provider, leaf
    held: uint256  # anchor, number, leaves
    root: bytes32


struct Slash:
    number: uint64
    time: uint64
    asker: address


interface Vault:
    def anchor_count() -> uint256: view
    def anchors(number: uint256) -> Anchor: view
    def is_final(number: uint256) -> bool: view


event Demanded:
    deal: indexed(bytes32)
    provider: indexed(address)
    asker: address
    leaf: uint64
    number: uint64
    deadline: uint64


event Answered:
    deal: indexed(bytes32)


event Superseded:
    deal: indexed(bytes32)
    number: uint64


event Dropped:
    deal: indexed(bytes32)


event Slashed:
    deal: indexed(bytes32)
    number: uint64
    asker: address


vault: public(immutable(address))
bond_wei: public(immutable(uint256))
answer_s: public(immutable(uint64))
SEPARATOR: immutable(bytes32)

slashes: public(HashMap[bytes32, Slash])
_demands: HashMap[bytes32, Packed]
# What is credited, plus one for those who were ever asked: whoever asks pays for the slot.
_credits: HashMap[address, uint256]


@deploy
def __init__(vault_: address, network: bytes32, bond_wei_: uint256, answer_s_: uint64):
    """
    @notice Disputes of one network.
    @param vault_ Whose anchors say what is held.
    @param network The network's id.
    @param bond_wei_ What a demand puts at stake; it should pay for an answer.
    @param answer_s_ How long a provider has to answer, in seconds.
    """
    vault = vault_
    bond_wei = bond_wei_
    answer_s = answer_s_
    SEPARATOR = typed.separator(vault_, network)


@external
@payable
def demand(number: uint256, deal: cells.Deal, place: state.Place, leaf: uint64):
    """
    @notice Ask for a leaf of a deal's holdings. The caller is its client or delegate, and sends the
        bond.
    @param number The newest anchor's.
    @param deal The deal's cell as that anchor has it.
    @param place The cell's place in the state tree.
    @param leaf Which of the deal's leaves.
    """
    assert msg.value == bond_wei, "wrong_bond"
    assert number + 1 == staticcall Vault(vault).anchor_count(), "not_newest"
    anchor: Anchor = staticcall Vault(vault).anchors(number)
    assert place.key == cells.deal_key(deal.deal), "state_root"
    assert place.digest == cells.deal_digest(deal), "state_root"
    assert state.root_of(place) == anchor.state_root, "state_root"
    assert msg.sender == deal.terms.client or msg.sender == deal.terms.delegate, "not_the_client"
    assert deal.state == OPEN, "deal_not_open"
    assert leaf < deal.leaves, "no_such_leaf"
    assert self._demands[deal.deal].asked == 0, "demand_pending"
    slash: Slash = self.slashes[deal.deal]
    assert slash.time == 0 or slash.number < deal.number, "slashed_already"
    deadline: uint64 = convert(block.timestamp, uint64) + answer_s
    provider: address = deal.terms.provider
    self._demands[deal.deal] = Packed(
        asked=self._pack(msg.sender, deadline),
        wanted=self._pack(provider, leaf),
        held=number << 128 | convert(deal.number, uint256) << 64 | convert(deal.leaves, uint256),
        root=deal.root,
    )
    self._credits[provider] = max(self._credits[provider], 1)
    log Demanded(
        deal=deal.deal,
        provider=provider,
        asker=msg.sender,
        leaf=leaf,
        number=deal.number,
        deadline=deadline,
    )


@external
def answer(deal: bytes32, opening: Bytes[answers.MAX_ANSWER]):
    """
    @notice Show the leaf that was asked for; the bond goes to the provider. Anybody may.
    @param deal Whose.
    @param opening Of the leaf under the holdings that were asked, without the shard's root in front:
        it is where leaf and path lead.
    """
    asked: Demand = self._pending(deal)
    assert block.timestamp <= convert(asked.deadline, uint256), "too_late"
    fault: String[32] = answers.fault(
        opening, asked.root, convert(asked.leaves, uint256), convert(asked.leaf, uint256)
    )
    assert fault == "", fault
    self._end(deal, asked.provider)
    log Answered(deal=deal)


@external
def supersede(
    terms: cells.Terms,
    pledge: Pledge,
    by_delegate: bool,
    signature: Bytes[65],
    provider_signature: Bytes[65],
):
    """
    @notice Show that both sides agreed on a newer revision than the one that was asked, after which
        the provider may rightly have dropped the leaf. The bond goes to the provider.
    @param terms The deal's.
    @param pledge The revision.
    @param by_delegate Whether the delegate signed it for the client.
    @param signature The client's, or the delegate's.
    @param provider_signature The provider's.
    """
    deal: bytes32 = typed.digest(SEPARATOR, self._terms_hash(terms))
    asked: Demand = self._pending(deal)
    assert block.timestamp <= convert(asked.deadline, uint256), "too_late"
    assert pledge.deal == deal, "other_deal"
    assert pledge.number > asked.number, "stale_revision"
    author: address = terms.client
    if by_delegate:
        author = terms.delegate
        assert author != empty(address), "no_delegate"
        assert pledge.leaves >= asked.leaves, "delegate_lowers"
        assert pledge.leaves <= terms.delegate_leaves, "over_delegate_leaves"
    digest: bytes32 = typed.digest(SEPARATOR, self._pledge_hash(pledge))
    fault: String[32] = typed.fault(digest, signature, author)
    assert fault == "", fault
    fault = typed.fault(digest, provider_signature, terms.provider)
    assert fault == "", fault
    self._end(deal, asked.provider)
    log Superseded(deal=deal, number=pledge.number)


@external
def slash(deal: bytes32):
    """
    @notice Have it on record that a demand was not answered in time; the bond goes back to the
        asker. Anybody may, once the anchor that said what is held can fall no more: if it fell,
        only the bond goes back.
    @param deal Whose.
    """
    asked: Demand = self._pending(deal)
    assert block.timestamp > convert(asked.deadline, uint256), "still_time"
    number: uint256 = self._demands[deal].held >> 128
    if number >= staticcall Vault(vault).anchor_count():
        self._end(deal, asked.asker)
        log Dropped(deal=deal)
        return
    assert staticcall Vault(vault).is_final(number), "not_final"
    self.slashes[deal] = Slash(
        number=asked.number, time=convert(block.timestamp, uint64), asker=asked.asker
    )
    self._end(deal, asked.asker)
    log Slashed(deal=deal, number=asked.number, asker=asked.asker)


@external
def collect():
    """
    @notice Take out what is credited to the caller, in wei.
    """
    amount: uint256 = self._credit(msg.sender)
    assert amount != 0, "nothing_owed"
    self._credits[msg.sender] = 1
    raw_call(msg.sender, b"", value=amount)


@external
@view
def demands(deal: bytes32) -> Demand:
    """
    @notice The demand that is pending on a deal; empty if none is.
    @param deal Whose.
    @return Asker, deadline (Unix seconds), provider, and what leaf of which holdings is asked for.
    """
    return self._unpacked(deal)


@external
@view
def credit(who: address) -> uint256:
    """
    @notice What `collect` would pay, in wei.
    @param who Whom.
    @return Bonds that were not taken out yet.
    """
    return self._credit(who)


@view
@internal
def _credit(who: address) -> uint256:
    return max(self._credits[who], 1) - 1


@internal
def _end(deal: bytes32, to: address):
    """
    @notice The demand is over, and its bond is somebody's.
    """
    self._demands[deal] = empty(Packed)
    self._credits[to] = max(self._credits[to], 1) + bond_wei


@view
@internal
def _pending(deal: bytes32) -> Demand:
    asked: Demand = self._unpacked(deal)
    assert asked.deadline != 0, "no_demand"
    return asked


@view
@internal
def _unpacked(deal: bytes32) -> Demand:
    packed: Packed = self._demands[deal]
    return Demand(
        asker=convert(packed.asked >> 64, address),
        deadline=convert(packed.asked & LOW, uint64),
        provider=convert(packed.wanted >> 64, address),
        leaf=convert(packed.wanted & LOW, uint64),
        number=convert(packed.held >> 64 & LOW, uint64),
        leaves=convert(packed.held & LOW, uint64),
        root=packed.root,
    )


@pure
@internal
def _pack(who: address, number: uint64) -> uint256:
    return convert(who, uint256) << 64 | convert(number, uint256)


@pure
@internal
def _terms_hash(terms: cells.Terms) -> bytes32:
    return keccak256(abi_encode(DEAL_TYPE, terms))


@pure
@internal
def _pledge_hash(pledge: Pledge) -> bytes32:
    return keccak256(abi_encode(PLEDGE_TYPE, pledge))
