"""What a provider offers with a home: its settings, and where its node keeps everything."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from dsn.config import ChainSettings, DhtSettings, ProviderSettings
from dsn.core.keys import IdentityKeys, SigningKey
from dsn.dht.contact import is_address
from dsn.errors import ConfigError, UsageError
from dsn.ledger.money import epoch_price
from dsn.rpc.server import split_address
from dsn.store.files import write_atomic
from dsn.store.home import Home
from dsn.units import GIB, MIB, format_size

LEAST_CAPACITY_BYTES: Final = 64 * MIB
TB: Final = 10**12
_USUAL: Final = ProviderSettings()
_NO_CHAIN: Final = ChainSettings()


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What a node needs to know; paths follow from its home."""

    home: Home
    capacity_bytes: int
    listen: str
    address: str
    dht: DhtSettings
    passphrase: bytes | None = None
    prices: ProviderSettings = _USUAL
    """What is asked where bytes are paid."""
    chain: ChainSettings = _NO_CHAIN
    """How the chain is reached that the network settles on."""

    @property
    def volume(self) -> Path:
        """Where the shards are."""
        return self.home.path / "volume"


def identity(home: Home, passphrase: bytes | None) -> SigningKey:
    """The key that the home's node proves and signs with."""
    return SigningKey(IdentityKeys.derive(home.load_root(passphrase)).identity_seed)


def configure(
    home: Home, capacity_bytes: int, listen: str, address: str, settings_file: Path
) -> None:
    """Write what the home offers into its settings, leaving all others as they are.

    Args:
        home: Where the keys are.
        capacity_bytes: What is offered.
        listen: ``HOST:PORT`` to serve on.
        address: ``HOST:PORT`` at which others reach it; empty where it listens.
        settings_file: Written.

    Raises:
        UsageError: ``bad_capacity``: too little to be of use.
        ConfigError: ``capacity_too_large``: the disk has less; ``bad_address``.
    """
    split_address(listen)
    if address and not is_address(address):
        raise ConfigError(
            f"'{address}' is no address", code="bad_address", hint="write it as HOST:PORT"
        )
    if capacity_bytes < LEAST_CAPACITY_BYTES:
        raise UsageError(
            f"a capacity of {format_size(capacity_bytes)}, at least "
            f"{format_size(LEAST_CAPACITY_BYTES)} needed",
            code="bad_capacity",
        )
    room = shutil.disk_usage(home.path).free + _size_of(home.path / "volume")
    if capacity_bytes > room:
        raise ConfigError(
            f"{format_size(capacity_bytes)} offered, the disk of {home.path} has "
            f"{format_size(room)}",
            hint="offer less, or put the home on a larger disk",
            code="capacity_too_large",
        )
    offer: dict[str, int | str] = {"capacity": capacity_bytes, "listen": listen}
    if address:
        offer["address"] = address
    _change(settings_file, offer)


def set_prices(settings_file: Path, prices: Mapping[str, int]) -> None:
    """Write ``prices``, by the names of ``ProviderSettings``, leaving all else as it is."""
    _change(settings_file, prices)


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One price on the screen, in credits; disk is for 30 days.

    Attributes:
        name: What for.
        gib: A GiB.
        tb: A TB (10^12 bytes), rounded down.
        epoch: A GiB-epoch; ``None`` for all but disk, and where nobody pays.
    """

    name: str
    gib: int
    tb: int
    epoch: int | None = None

    def fields(self) -> dict[str, str]:
        """As ``--json`` prints it."""
        epoch = {} if self.epoch is None else {"epoch": str(self.epoch)}
        return {"gib": str(self.gib), "tb": str(self.tb)} | epoch

    def cells(self) -> list[str]:
        """As people read it."""
        epoch = "" if self.epoch is None else f"{self.epoch:,}"
        return [self.name, f"{self.gib:,}", f"{self.tb:,}", epoch]


def price_rows(offered: ProviderSettings, epoch_s: int | None) -> list[PriceRow]:
    """The prices of a home, on a network with epochs of ``epoch_s`` if it has any."""
    rows = [
        PriceRow(name, gib, gib * TB // GIB)
        for name, gib in (
            ("disk", offered.disk_price),
            ("ingress", offered.ingress_price),
            ("egress", offered.egress_price),
            ("repair", offered.repair_price),
        )
    ]
    if epoch_s is not None:
        rows[0] = replace(rows[0], epoch=epoch_price(offered.disk_price, epoch_s))
    return rows


def _change(settings_file: Path, offer: Mapping[str, int | str]) -> None:
    tables = tomllib.loads(settings_file.read_text("utf-8")) if settings_file.exists() else {}
    tables["provider"] = tables.get("provider", {}) | dict(offer)
    write_atomic(settings_file, _format_tables(tables).encode())


def _size_of(volume: Path) -> int:
    """What a volume takes already, which its own capacity may count again."""
    files = (path for path in volume.rglob("*") if path.is_file())
    return sum(path.stat().st_blocks * 512 for path in files)


def _format_tables(tables: dict[str, dict[str, Any]]) -> str:
    """Settings as TOML: one level of tables whose values are written as JSON writes them."""
    lines: list[str] = []
    for section, values in tables.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(v)}" for key, v in values.items()), ""]
    return "\n".join(lines)
