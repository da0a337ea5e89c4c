"""Three providers that do not keep their word, and what comes of it: for the story of ``dsn demo``.

Each does what an owner can do with a node of its own: delete files, answer with something made up
under its own keys, pull the plug. Nothing else on the network knows of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dsn.apps.devnet import Devnet, Process
from dsn.apps.ledger.account import LedgerAccount
from dsn.apps.ledger.light import LightClient
from dsn.apps.ledger.memory import load_cell
from dsn.apps.scores import check_verdict
from dsn.core.keys import IdentityKeys, SigningKey
from dsn.dht.contact import Contact
from dsn.errors import EntryRefused
from dsn.ledger.bodies import SubmitLink
from dsn.ledger.cells import AccountCell, Cell, DealCell, DealState, NetworkCell, Phase
from dsn.ledger.rules.settling import Parties, roll, settle
from dsn.ledger.settlement import Address, SettlementKey
from dsn.ports import Clock, Entropy
from dsn.proofs.por import answer_root
from dsn.proofs.post import Link, leaves_asked
from dsn.proofs.verdict import Verdict
from dsn.rpc.channel import Connections
from dsn.rpc.verifier import VerifierPeer
from dsn.store.answers import FOLDER, StoredAnswer, open_answers
from dsn.store.home import Home
from dsn.store.ledger import open_ledger

POLL_S: Final = 0.1
MADE_UP_BYTES: Final = 1_500
"""About what an opening has."""


def delete_all(volume: Path) -> int:
    """Remove every shard's file of a node that runs on; gives how many there were."""
    files = [path for path in (volume / "shards").rglob("*") if path.is_file()]
    for path in files:
        path.unlink()
    return len(files)


async def make_up(process: Process, clock: Clock, entropy: Entropy) -> int:
    """Link the next epoch that asks something of ``process`` with noise; its node has ended.

    Returns:
        The epoch. The node will serve the noise as its answer: it is what its home has.
    """
    home = Home(Path(process.home))
    network, root = home.network(), home.load_root()
    identity, key = SigningKey(IdentityKeys.derive(root).identity_seed), SettlementKey.derive(root)
    answers = open_answers(home.state / FOLDER)
    async with Connections(identity, network.network_id) as connections:
        light = LightClient(network, connections, home.state / "cheat.checkpoint", clock)
        account = LedgerAccount(light, key)
        while True:
            snapshot = await light.snapshot(key.address)
            time, own = snapshot.network, roll(snapshot.account, snapshot.network.epoch)
            due = own.frozen_leaves and not own.proven(time.epoch)
            if time.phase is Phase.OPEN and due and time.epoch not in answers:
                count = leaves_asked(own.frozen_leaves)
                noise = tuple(entropy(MADE_UP_BYTES) for _ in range(count))
                asked, root = own.frozen_leaves, answer_root(noise)
                link = Link(time.epoch, time.beacon, own.frozen, asked, count, root)
                await answers.put(StoredAnswer(link, noise))
                try:
                    await account.send([SubmitLink(link)])
                except EntryRefused:
                    continue  # the epoch was shut meanwhile
                return time.epoch
            await asyncio.sleep(POLL_S)


async def verdicts(network: Devnet, home: Home) -> list[Verdict]:
    """All that the network's verifier has said so far."""
    (process,) = network.of_role("verifier")
    contact = _contact(process)
    identity = SigningKey(IdentityKeys.derive(home.load_root()).identity_seed)
    said, network_id = list[Verdict](), network.network().network_id
    async with Connections(identity, network_id) as connections:
        peer, after = VerifierPeer(connections.line(contact)), 0
        while True:
            reply = await peer.get_verdicts(after)
            said += (check_verdict(each, contact.public_key, network_id) for each in reply.verdicts)
            if not reply.verdicts:
                return said
            after = reply.next


def _contact(process: Process) -> Contact:
    root = Home(Path(process.home)).load_root()
    return Contact(SigningKey(IdentityKeys.derive(root).identity_seed).public, process.address)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the ledger says of one provider.

    ``proven`` epochs of a span, ``disk`` credits due in all, and whether a deal has ``ended``.
    """

    proven: int
    disk: int
    ended: bool


def standings(network: Devnet, since: int) -> dict[str, Standing]:
    """How each provider stands, by its process's name.

    Args:
        network: Its ledger may run.
        since: The first epoch that counts as proven or not.
    """
    (ledger,) = network.of_role("ledger")
    with closing(open_ledger(ledger.volume, signer=False)) as store:
        cells = [load_cell(stored) for stored in store.all_cells()]
    params = network.network().ledger_params
    assert params is not None
    return {
        process.name: standing(
            cells,
            SettlementKey.derive(Home(Path(process.home)).load_root()).address,
            since,
            params.burn_ppm,
        )
        for process in network.of_role("node")
    }


def standing(cells: Sequence[Cell], provider: Address, since: int, burn_ppm: int) -> Standing:
    """How ``provider`` stands by all ``cells`` of a ledger; see ``standings``."""
    (epoch,) = (cell.epoch for cell in cells if isinstance(cell, NetworkCell))
    accounts = (c for c in cells if isinstance(c, AccountCell) and c.address == provider)
    account = roll(next(accounts, AccountCell(provider)), epoch)
    deals = [c for c in cells if isinstance(c, DealCell) and c.terms.provider == provider]
    return Standing(
        sum(map(account.proven, range(since, epoch))),
        sum(_disk_due(cell, account, epoch, burn_ppm) for cell in deals),
        any(cell.state is not DealState.OPEN for cell in deals),
    )


def _disk_due(cell: DealCell, account: AccountCell, epoch: int, burn_ppm: int) -> int:
    """What a deal has paid for disk, and would pay for what is proven, if it still pays."""
    if cell.state is not DealState.OPEN:
        return cell.disk_paid
    return settle(Parties(cell, account), epoch, burn_ppm).deal.disk_paid


def describe(said: Sequence[Verdict], since: int) -> str:
    """Verdicts on one node, from epoch ``since`` on, in words: ``3 held``, ``wrong (sum)``."""
    words = [
        each.outcome.name.lower() + (f" ({each.reason})" if each.reason else "")
        for each in said
        if each.epoch >= since
    ]
    return ", ".join(f"{count} {word}" for word, count in Counter(words).items()) or "nothing yet"
