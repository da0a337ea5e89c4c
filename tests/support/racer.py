"""One of many processes that claim the same vouchers: takes a job, prints its outcomes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from dsn.apps.networks import read_network
from dsn.core.keys import SigningKey
from dsn.dht.network import Network
from dsn.errors import TooMany
from dsn.ids import DealId
from dsn.ledger.bodies import Claim, SignedVoucher
from dsn.ledger.entry import Entry, sign_entry
from dsn.ledger.settlement import SettlementKey
from dsn.ledger.typed import sign_typed
from dsn.ledger.voucher import Voucher
from dsn.rpc.channel import Connections
from dsn.rpc.ledger import LedgerPeer
from dsn.v1 import ledger_pb2


class Racer:
    """Claims vouchers over ever more credits, as a provider whose key others use as well."""

    def __init__(self, peer: LedgerPeer, network: Network, job: dict[str, Any]) -> None:
        params = network.ledger_params
        assert params is not None
        self._peer, self._network, self._domain = peer, network, params.domain
        self._client = SettlementKey.derive(bytes.fromhex(job["client"]))
        self._provider = SettlementKey.derive(bytes.fromhex(job["provider"]))
        self._deal = DealId(bytes.fromhex(job["deal"]))
        self._nonce = 0

    async def claim(self, credits: int) -> str:
        """``accepted`` or why not; a nonce that was used meanwhile is no reason to give up."""
        voucher = Voucher(self._deal, credits)
        signature = sign_typed(voucher, self._domain, self._client)
        body = Claim(self._deal, None, SignedVoucher(voucher, False, signature))
        while True:
            nonce = self._nonce + 1
            entry = Entry(self._network.network_id, self._provider.address, nonce, body)
            outcome = await self._submit(entry)
            self._nonce = nonce
            if outcome.code not in ("nonce_used", "nonce_gap"):
                self._nonce -= outcome.code != ""
                return outcome.code or "accepted"

    async def _submit(self, entry: Entry) -> ledger_pb2.EntryOutcome:
        signed = sign_entry(entry, self._domain, self._provider)
        while True:
            try:
                (outcome,) = await self._peer.submit([(entry.encode(), signed.signature)])
                return outcome
            except TooMany:
                await asyncio.sleep(0.1)


async def main(job: dict[str, Any]) -> Counter[str]:
    """All rounds of one racer."""
    network = read_network(Path(job["network"]))
    assert network.ledger is not None
    async with Connections(SigningKey(os.urandom(32)), network.network_id) as connections:
        racer = Racer(LedgerPeer(connections.line(network.ledger)), network, job)
        outcomes = [await racer.claim(n * job["credits"]) for n in range(1, job["rounds"] + 1)]
    return Counter(outcomes)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
