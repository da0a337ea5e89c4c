"""Which beacon a network has, and whether an epoch's open says the right value.

Spec: docs/spec/proofs.md#beacon.
"""

from __future__ import annotations

from dsn.ledger.bodies import OpenEpoch
from dsn.ledger.cells import NetworkCell
from dsn.ledger.params import LedgerParams
from dsn.proofs.beacon import verify_value
from dsn.proofs.drand import verify_drand


def verify_beacon(params: LedgerParams, before: NetworkCell, body: OpenEpoch) -> None:
    """Check the value that ``body`` (untrusted) opens an epoch with.

    The first epoch asks nothing, and no shut came before it: its value is the log's everywhere.

    Args:
        params: The network's.
        before: Where time stood; its round of drand is what the last shut fixed.
        body: Says the closed log, which the caller judges, the value and its evidence.

    Raises:
        InvalidProof: ``bad_beacon``.
        ConfigError: ``missing_extra``: drand's signatures cannot be judged here.
    """
    network = params.domain.network
    if params.drand is not None and before.round:
        verify_drand(
            network,
            body.epoch,
            body.value,
            body.evidence,
            key=params.drand.key,
            number=before.round,
        )
        return
    verify_value(
        network,
        body.epoch,
        body.closed.root,
        body.value,
        body.evidence,
        iterations=params.vdf_iterations,
        bits=params.vdf_bits,
    )
