"""The ledger is killed again and again under load: what it acknowledged is there, once."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom

from dsn.apps import devnet_run
from dsn.apps.devnet import Devnet
from dsn.apps.ledger.check import check_store
from dsn.apps.processes import send, wait_for_end
from dsn.core.keys import KEY_BYTES, SigningKey
from dsn.dht.network import Network
from dsn.errors import LimitReached, TransportError
from dsn.ledger.bodies import Transfer
from dsn.ledger.entry import Entry, sign_entry
from dsn.ledger.settlement import Address, SettlementKey
from dsn.rpc.channel import Connections
from dsn.rpc.ledger import LedgerPeer
from dsn.store.ledger import open_ledger
from tests.net.local import dsn
from tests.support.paid_devnet import funded, light_client, paid_devnet

KILLS = int(os.environ.get("DSN_TEST_LEDGER_KILLS", "6"))
SENDERS = 4
START = 10**9
TO = Address(b"\x07" * 20)


@dataclass
class Sender:
    """Pays one credit after the other, and notes where the ledger says that each stands."""

    network: Network
    key: SettlementKey
    nonce: int = 0
    acknowledged: dict[int, bytes] = field(default_factory=dict)

    async def run(self, stopped: asyncio.Event) -> None:
        """Pay until ``stopped``; after a crash the same entry is sent again."""
        params, ledger = self.network.ledger_params, self.network.ledger
        assert params is not None and ledger is not None
        async with Connections(SigningKey(os.urandom(32)), self.network.network_id) as connections:
            while not stopped.is_set():
                body = Transfer(TO, 1)
                entry = Entry(self.network.network_id, self.key.address, self.nonce + 1, body)
                signature = sign_entry(entry, params.domain, self.key).signature
                try:
                    peer = LedgerPeer(connections.line(ledger))
                    (outcome,) = await peer.submit([(entry.encode(), signature)], timeout_s=2.0)
                except (TransportError, LimitReached):
                    connections.forget(ledger)
                    await asyncio.sleep(0.05)
                    continue
                assert outcome.code in ("", "nonce_used"), outcome
                self.nonce += 1
                if not outcome.code:
                    assert outcome.index not in self.acknowledged
                    self.acknowledged[outcome.index] = entry.encode()


async def test_nothing_acknowledged_is_lost_or_applied_twice(tmp_path: Path) -> None:
    seed = SystemRandom().randrange(1 << 32)
    with paid_devnet(tmp_path / "net", epoch_s=2) as net:
        network = net.network()
        keys = [SettlementKey.derive(bytes([n + 1]) * KEY_BYTES) for n in range(SENDERS)]
        async with light_client(network, net.operator.load_root(), tmp_path / "op") as (_, who):
            await funded(who, keys, START)
        senders = [Sender(network, key) for key in keys]
        net = await kill_often(net, senders, Random(seed))
        async with AsyncExitStack() as stack:
            light, _ = await stack.enter_async_context(
                light_client(network, bytes(32), tmp_path / "reader")
            )
            sizes = [max(each.acknowledged, default=0) for each in senders]
            await light.wait_included(max(sizes))
            accounts = await light.accounts([each.key.address for each in senders])
        places = {p.name: p.volume for p in net.processes if p.role in ("ledger", "witness")}
        for name in reversed(places):
            dsn("devnet", "stop", name, "--dir", net.directory).check()
        check(places, senders, network, seed)
    fee = network.ledger_params.entry_fee if network.ledger_params else 0
    for each in senders:
        account = accounts[each.key.address]
        assert account.nonce == each.nonce, f"seed {seed}"
        assert account.available == START - each.nonce * (1 + fee), f"seed {seed}"


async def kill_often(net: Devnet, senders: list[Sender], random: Random) -> Devnet:
    """Let all send while the ledger is killed at random moments and started again."""
    stopped = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for sender in senders:
            group.create_task(sender.run(stopped))
        for _ in range(KILLS):
            await asyncio.sleep(random.random())
            ledger = net.named("ledger")
            assert ledger.pid is not None
            send(ledger.pid, Path(ledger.home), signal.SIGKILL)
            assert not wait_for_end([(ledger.pid, Path(ledger.home))], timeout_s=10)
            net = Devnet.load(net.directory)
            net = await devnet_run.bring_up(net, [net.named("ledger")])
        stopped.set()
    return net


def check(places: dict[str, str], senders: list[Sender], network: Network, seed: int) -> None:
    """Replay every copy of the log, and look for what was acknowledged where it was said to be."""
    heads = {}
    for name, place in places.items():
        with closing(open_ledger(place, signer=False)) as store:
            report = check_store(store, None)
            assert report.fault is None, f"{name}: {report.fault}, seed {seed}"
            heads[name] = report.head
            if name != "ledger":
                continue
            leaves = list(store.leaves(0, report.head.size))
            for sender in senders:
                for index, entry in sender.acknowledged.items():
                    assert leaves[index].entry == entry, f"entry {index}, seed {seed}"
            entries = [leaf.entry for leaf in leaves]
            assert len(set(entries)) == len(entries), f"seed {seed}"
    smallest = min(heads.values())
    assert smallest.size > 0
    for name, place in places.items():
        with closing(open_ledger(place, signer=False)) as store:
            last = next(store.leaves(smallest.size - 1, smallest.size))
            heads[name] = last
    assert len(set(heads.values())) == 1, f"the copies differ, seed {seed}"
