"""What is wrong with an anchored log itself, as the contract takes it that judges that.

Spec: docs/spec/chain.md; contracts/FraudLog.vy.
"""

from __future__ import annotations

from collections.abc import Sequence

from dsn.ledger.cells import AccountCell, DealCell, NetworkCell
from dsn.ledger.fraud import Fraud, Logged
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.onchain.tuples import account_tuple, deal_tuple, network_tuple, place_tuple
from dsn.ledger.radix import StateTree

_CONTRACT = "FraudLog"


def leaf_call(fraud: Fraud, anchor: int) -> OnChain:
    """``convict``: a leaf of the log of anchor number ``anchor`` is no entry of any kind."""
    step = fraud.step
    return OnChain(_CONTRACT, "convict", (anchor, fraud.index, step.leaf.encode(), list(step.path)))


def end_call(anchor: int, last: Logged, network: NetworkCell, tree: StateTree) -> OnChain:
    """``convict_end``: an anchor says another state or epoch than its log ends with.

    Args:
        anchor: Its number.
        last: The log's last leaf.
        network: The cell after it.
        tree: The state after it, which may be partial.
    """
    leaf, path = last.leaf.encode(), list(last.path)
    place = place_tuple(tree, network.key)
    return OnChain(_CONTRACT, "convict_end", (anchor, leaf, path, network_tuple(network), place))


def fork_call(older: int, newer: int, prefix: Sequence[bytes]) -> OnChain:
    """``convict_fork``: the log of anchor ``newer`` does not begin with that of ``older``.

    ``prefix`` is the prefix proof of the older one's size in the newer log.
    """
    return OnChain(_CONTRACT, "convict_fork", (older, newer, list(prefix)))


def deposit_call(anchor: int, serial: int, account: AccountCell, tree: StateTree) -> OnChain:
    """``convict_deposit``: deposit number ``serial`` is not in the state of anchor ``anchor``.

    Args:
        anchor: Its number.
        serial: The account's.
        account: The cell as that state has it; blank if there is none.
        tree: That state, which may be partial.
    """
    place = place_tuple(tree, account.key)
    args = (anchor, serial, account_tuple(account), place)
    return OnChain(_CONTRACT, "convict_deposit", args)


def slash_call(anchor: int, deal: DealCell, tree: StateTree) -> OnChain:
    """``convict_slash``: a deal slashed on chain is not in the state of anchor ``anchor``.

    Args:
        anchor: Its number.
        deal: The cell as that state has it.
        tree: That state, which may be partial.
    """
    place = place_tuple(tree, deal.key)
    return OnChain(_CONTRACT, "convict_slash", (anchor, deal_tuple(deal), place))
