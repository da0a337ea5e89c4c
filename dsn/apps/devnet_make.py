"""Making a local network: homes, keys, settings and the network file; nothing runs yet."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from dsn.apps import devnet_chain, evmnode
from dsn.apps.devnet import CLIENT, LOCK_FILE, OPERATOR, Devnet, Process, free_port, publish, sign
from dsn.apps.provider import configure, set_prices
from dsn.config import FILE_NAME, ProviderSettings
from dsn.core.keys import KEY_BYTES, IdentityKeys, SigningKey, node_id_of
from dsn.dht.network import Genesis, Network, PlacementGroup, format_network
from dsn.errors import UsageError
from dsn.ids import NO_NETWORK, format_base32, format_node_id
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import NO_ADDRESS, SettlementKey
from dsn.ledger.typed import Domain
from dsn.ports import Clock, Entropy
from dsn.store.files import write_atomic
from dsn.store.home import Home

MAX_NODES: Final = 250
"""Node N has the address 127.0.N.1; the ledger, its witnesses, the verifier and a
chain come after them."""
VOLUME: Final = "volume"
DEFAULT_CAPACITY_BYTES: Final = 100 * 10**9
WITNESSES: Final = 2
ENTRY_FEE: Final = 100
VDF_ITERATIONS: Final = 10_000
VDF_BITS: Final = 512
"""So many squarings take about 0.1 s: nobody grinds a local network."""
HOUR_S: Final = 3_600
SALT_MS: Final = 10_000
"""Longer than a busy machine keeps a process waiting."""


def create(
    directory: Path,
    *,
    nodes: int,
    group: PlacementGroup,
    capacity_bytes: int | None,
    epoch_s: int | None,
    chain: bool = False,
    clock: Clock,
    entropy: Entropy,
) -> Devnet:
    """Make a new local network.

    Args:
        directory: Empty, or not there yet.
        nodes: 1 to ``MAX_NODES``.
        group: What may hold at most one shard of a segment.
        capacity_bytes: What each node offers; by default 100 GB, or its part of the free disk.
        epoch_s: How long an epoch lasts; ``None`` for a network where nobody pays.
        chain: Whether its ledger settles on a local chain.
        clock: Dates the network.
        entropy: Makes the keys.

    Raises:
        UsageError: ``not_empty``: something else is in ``directory``.
        ConfigError: ``no_anvil``, ``missing_extra``: a local chain cannot be run here.
    """
    _refuse_foreign(directory)
    if chain:
        evmnode.check_tools(directory)
    capacity_bytes = capacity_bytes or _share_of_disk(directory, nodes)
    with _emptied_on_failure(directory):
        root = entropy(KEY_BYTES)
        Home.create(directory / OPERATOR, root)
        Home.create(directory / CLIENT, entropy(KEY_BYTES))
        processes = [
            _node(directory, number, capacity_bytes, epoch_s, entropy) for number in _upto(nodes)
        ]
        witnesses = list[Home]()
        if epoch_s is not None:
            processes.append(_service(directory / OPERATOR, "ledger", MAX_NODES + 1))
            for number in _upto(WITNESSES):
                home = Home.create(directory / f"witness{number}", entropy(KEY_BYTES))
                processes.append(_service(home.path, "witness", MAX_NODES + 1 + number))
                witnesses.append(home)
            processes.append(_verifier(directory, MAX_NODES + 2 + WITNESSES, entropy))
        params = None if epoch_s is None else _params(root, witnesses, epoch_s)
        if params is not None and chain:
            params = _settled(params, SettlementKey.derive(root), witnesses)
        genesis = Genesis(
            "devnet",
            int(clock.now_s()),
            _public(Home(directory / OPERATOR)),
            group,
            address_limits=False,
            ledger=params,
        )
        devnet = Devnet(directory, tuple(processes))
        if chain:
            host = _host(MAX_NODES + 3 + WITNESSES)
            homes = [home.path for home in devnet.homes()]
            devnet = devnet.with_process(devnet_chain.add_chain(directory, host, homes))
        publish(devnet, sign(devnet, genesis))
        devnet.save()
        return devnet


def create_client(path: Path, network: Network, entropy: Entropy) -> Home:
    """A new home with its own keys that has joined ``network``."""
    home = Home.create(path, entropy(KEY_BYTES))
    home.save_network(format_network(network))
    return home


def _settled(
    params: LedgerParams, operator: SettlementKey, witnesses: Sequence[Home]
) -> LedgerParams:
    """``params`` on the local chain, where all credits are deposited."""
    keys = (SettlementKey.derive(home.load_root()) for home in witnesses)
    return replace(
        params,
        domain=devnet_chain.domain_of(operator),
        cosigners=frozenset(key.address for key in keys),
        allocation=(),
    )


def _params(root: bytes, witnesses: Sequence[Home], epoch_s: int) -> LedgerParams:
    """A ledger run by the owner of ``root``, whose account is the faucet."""
    operator = SettlementKey.derive(root).address
    return LedgerParams(
        Domain(NO_NETWORK, 0, NO_ADDRESS),
        operator,
        log_key=SigningKey(IdentityKeys.derive(root).identity_seed).public,
        witnesses=frozenset(map(_public, witnesses)),
        quorum=len(witnesses),
        epoch_s=epoch_s,
        open_s=epoch_s // 2,
        salt_ms=SALT_MS,
        vdf_iterations=VDF_ITERATIONS,
        vdf_bits=VDF_BITS,
        entry_fee=ENTRY_FEE,
        min_bond=ENTRY_FEE,
        claim_epochs=1,
        faucet=operator,
        allocation=((operator, devnet_chain.SUPPLY),),
    )


def _node(
    directory: Path, number: int, capacity_bytes: int, epoch_s: int | None, entropy: Entropy
) -> Process:
    """The home of node ``number``, and its process as it will be.

    An epoch, however short, pays as an hour: so one sees what it pays.
    """
    home, host = Home.create(directory / f"node{number}", entropy(KEY_BYTES)), _host(number)
    address = f"{host}:{free_port(host)}"
    configure(home, capacity_bytes, address, "", home.path / FILE_NAME)
    if epoch_s is not None:
        price = ProviderSettings().disk_price * HOUR_S // epoch_s
        set_prices(home.path / FILE_NAME, {"disk_price": price})
    return _process(home, "node", address, home.path / VOLUME)


def _service(path: Path, role: str, number: int) -> Process:
    """The process of a ledger, witness or verifier on the home at ``path``, and its settings."""
    home, host = Home(path), _host(number)
    address = f"{host}:{free_port(host)}"
    write_atomic(path / FILE_NAME, f"[{role}]\nlisten = {json.dumps(address)}\n".encode())
    return _process(home, role, address, path / "ledger")


def _verifier(directory: Path, number: int, entropy: Entropy) -> Process:
    """The process of a new verifier, which the client believes."""
    home = Home.create(directory / "verifier", entropy(KEY_BYTES))
    process = _service(home.path, "verifier", number)
    place = f"{format_base32(_public(home))}@{process.address}"
    settings = f"[client]\nverifiers = {json.dumps([place])}\n"
    write_atomic(directory / CLIENT / FILE_NAME, settings.encode())
    return process


def _process(home: Home, role: str, address: str, volume: Path) -> Process:
    return Process(
        name="ledger" if role == "ledger" else home.path.name,
        role=role,
        node_id=format_node_id(node_id_of(_public(home))),
        address=address,
        home=str(home.path),
        volume=str(volume),
        pid=None,
    )


def _public(home: Home) -> bytes:
    return SigningKey(IdentityKeys.derive(home.load_root()).identity_seed).public


def _upto(number: int) -> range:
    return range(1, number + 1)


def _host(number: int) -> str:
    """A loopback address of its own where the system has them all, so that subnets differ."""
    return f"127.0.{number}.1" if sys.platform == "linux" else "127.0.0.1"


def _share_of_disk(directory: Path, nodes: int) -> int:
    """What each of ``nodes`` can offer of the one disk they share; a tenth stays for others."""
    return min(DEFAULT_CAPACITY_BYTES, shutil.disk_usage(directory).free * 9 // 10 // nodes)


@contextmanager
def _emptied_on_failure(directory: Path) -> Iterator[None]:
    """Leave nothing in ``directory`` if what follows fails."""
    try:
        yield
    except BaseException:
        for path in directory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def _refuse_foreign(directory: Path) -> None:
    present = sorted(entry.name for entry in directory.iterdir() if entry.name != LOCK_FILE)
    if present:
        raise UsageError(
            f"{directory} holds {present[0]} and is no local network",
            hint="choose an empty folder",
            code="not_empty",
        )
