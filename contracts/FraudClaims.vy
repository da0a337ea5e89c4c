# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title Fraud in links, claims and losses
@notice Judges one such step of the ledger. What the rules refuse, or what leads to another state
    than they do, convicts the operator. The rules themselves are two contracts of their own, for
    no contract may be longer than 24,576 bytes.
"""

from lib import deals
from lib import entries
from lib import state
from lib import sums
from lib import turn
from lib import typed

LINK: constant(uint8) = 9
CLAIM: constant(uint8) = 10
LOSS: constant(uint8) = 11


interface Rules:
    def judge(
        entry: entries.Entry,
        shown: deals.Cells,
        held: DynArray[sums.Holding, sums.MAX_HELD],
        count: uint256,
    ) -> (String[32], DynArray[turn.Touched, turn.MOST]): view


VAULT: immutable(address)
NETWORK: immutable(bytes32)
CLAIMS: immutable(Rules)
LOSSES: immutable(Rules)


@deploy
def __init__(params: entries.Params, claim_rules: address, loss_rules: address):
    """
    @notice Judge by what a network fixed about its ledger.
    @param params Out of its network file.
    @param claim_rules Who knows the rules of claims.
    @param loss_rules Who knows those of links and losses.
    """
    VAULT = params.vault
    NETWORK = params.network
    CLAIMS = Rules(claim_rules)
    LOSSES = Rules(loss_rules)


@external
def convict(
    case: entries.Case,
    shown: deals.Cells,
    places: DynArray[state.Place, turn.MOST],
    held: DynArray[sums.Holding, sums.MAX_HELD],
):
    """
    @notice Convict the operator of a step that the rules do not allow; reverts with "no_fault" if
        they do, with another reason if the evidence does not fit.
    @param case The step and the one before, under an anchor.
    @param shown The cells that the step reads.
    @param places Theirs: the signer's account, the network, and of a loss the deal. Of a claim the
        deal comes first, and the provider's account last if somebody else signed. What was not
        read until a step is refused may be left out.
    @param held All that the provider holds, if the step changes that.
    """
    root: bytes32 = entries.before_root(VAULT, case)
    fault: String[32] = ""
    entry: entries.Entry = empty(entries.Entry)
    fault, entry = entries.open(case.step, typed.separator(VAULT, NETWORK), NETWORK)
    deals.need(entry.kind >= LINK and entry.kind <= LOSS and len(fault) == 0)
    rules: Rules = CLAIMS if entry.kind == CLAIM else LOSSES
    touched: DynArray[turn.Touched, turn.MOST] = []
    fault, touched = staticcall rules.judge(entry, shown, held, len(places))
    root = turn.walked(root, places, touched, len(fault) == 0)
    if len(fault) == 0 and root != entry.post:
        fault = "state_root_differs"
    entries.convict(VAULT, case.index, fault)
