"""A real ledger and its witnesses for tests: a local network, and keys with credits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from dsn.apps.devnet import Devnet
from dsn.apps.ledger.account import LedgerAccount
from dsn.apps.ledger.light import LightClient
from dsn.core.keys import IdentityKeys, SigningKey
from dsn.dht.network import Network
from dsn.ids import DealId
from dsn.ledger.binding import KeyBinding, sign_binding
from dsn.ledger.bodies import Agreed, Bind, Open, Transfer
from dsn.ledger.deal import Deal
from dsn.ledger.settlement import NO_ADDRESS, SettlementKey
from dsn.ledger.typed import sign_typed
from dsn.rpc.channel import Connections
from dsn.runtime.clock import SystemClock
from tests.net.local import dsn

FOREVER = 1 << 20


@contextmanager
def paid_devnet(
    folder: Path, *, nodes: int = 1, epoch_s: int = 3, more: tuple[str, ...] = ()
) -> Iterator[Devnet]:
    """A local network with a ledger and two witnesses; stopped at the end."""
    dsn(
        "devnet", "up", "--dir", folder, "--nodes", str(nodes), "--capacity", "1GB",
        "--epoch-s", str(epoch_s), *more,
    ).check()  # fmt: skip
    try:
        yield Devnet.load(folder)
    finally:
        dsn("devnet", "down", "--dir", folder).check()


@asynccontextmanager
async def light_client(
    network: Network, root: bytes, file: Path
) -> AsyncIterator[tuple[LightClient, LedgerAccount]]:
    """The ledger as the owner of ``root`` sees it, and that owner's account."""
    identity = SigningKey(IdentityKeys.derive(root).identity_seed)
    async with Connections(identity, network.network_id) as connections:
        light = LightClient(network, connections, file, SystemClock())
        yield light, LedgerAccount(light, SettlementKey.derive(root))


def binding(network: Network, root: bytes) -> Bind:
    """The owner of ``root`` binds both its keys."""
    params, key = network.ledger_params, SettlementKey.derive(root)
    assert params is not None
    identity = SigningKey(IdentityKeys.derive(root).identity_seed)
    fields = KeyBinding(identity.public, key.address, network.network_id, 0, 1)
    return Bind(sign_binding(fields, params.domain, identity.sign, key))


def agreed_deal(
    network: Network, client: SettlementKey, provider: SettlementKey, *, epoch: int, bandwidth: int
) -> tuple[DealId, Open]:
    """A deal that both sign, with credits for bandwidth alone."""
    params = network.ledger_params
    assert params is not None
    deal = Deal(
        client.address, provider.address,
        disk_price=1, ingress_price=1, egress_price=1, repair_price=1,
        open_by=epoch + 1_000, end=epoch + FOREVER, grace=10, notice=1, miss_limit=10, dispute=1,
        disk_escrow=0, bandwidth_escrow=bandwidth, collateral_ppm=0, free_leaves=0,
        delegate=NO_ADDRESS, delegate_credits=0, delegate_leaves=0, salt=bytes(32),
    )  # fmt: skip
    signatures = (sign_typed(deal, params.domain, key) for key in (client, provider))
    return deal.deal_id(params.domain), Open(Agreed(deal, *signatures))


async def funded(operator: LedgerAccount, keys: list[SettlementKey], amount: int) -> None:
    """Give each of ``keys`` ``amount`` credits out of the operator's account."""
    await operator.send([Transfer(key.address, amount) for key in keys])
