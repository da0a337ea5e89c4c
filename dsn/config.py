"""Floor 7: settings. Defaults < ``dsn.toml`` in the home < ``DSN_SECTION__KEY`` < flags.

Protocol constants are not settings, and a secret is only ever named by its file's path.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from dsn.errors import ConfigError, UsageError
from dsn.units import MIB

FILE_NAME = "dsn.toml"
ENV_PREFIX = "DSN_"
SEPARATOR = "__"
QUICKNET: Final = "52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971"
"""The hash of drand's chain of a round every three seconds, by which relays know it."""
_SIZE: Final = TypeAdapter(Annotated[ByteSize, Field(gt=0)])

Credits = Annotated[int, Field(ge=0, le=1 << 53)]


class Section(BaseModel):
    """A table of ``dsn.toml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KeySettings(Section):
    """The keys of this home."""

    passphrase_file: str = Field("", description="File with the passphrase that opens the keys.")


class ClientSettings(Section):
    """How this home stores files."""

    scheme: str = Field(
        "auto", description="Shards required/total of a put; auto: by the nodes there are."
    )
    days: int = Field(90, ge=1, description="How long what is put is paid for.")
    budget: Credits = Field(
        0, description="The most credits that one command may lock or spend; 0: no bound."
    )
    verifiers: tuple[str, ...] = Field(
        (), description="KEY@HOST:PORT of verifiers whose verdicts weigh in where files are placed."
    )
    demands: bool = Field(
        True, description="Whether holdings are now and then demanded on the ledger, under a bond."
    )


class ProviderSettings(Section):
    """What this home offers as a storage node."""

    capacity: ByteSize = Field(ByteSize(0), description="Bytes offered, such as 500GB.")
    listen: str = Field("0.0.0.0:7077", description="Address and port the node listens on.")
    address: str = Field(
        "", description="HOST:PORT at which others reach the node; empty: where it listens."
    )
    disk_price: Credits = Field(4_000_000, description="Credits a GiB stored for 30 days.")
    ingress_price: Credits = Field(500_000, description="Credits a GiB sent to the node.")
    egress_price: Credits = Field(7_000_000, description="Credits a GiB read from the node.")
    repair_price: Credits = Field(
        10_000_000, description="Credits a GiB that it loses: what its clients get for repair."
    )
    free_quota: ByteSize = Field(
        ByteSize(64 * MIB), description="What anybody may read a day without paying."
    )
    scrub_days: float = Field(
        30.0, gt=0, description="Days in which everything that is stored is read once."
    )


class DhtSettings(Section):
    """How this home finds others, and they it."""

    refresh_s: float = Field(
        600.0, ge=1.0, description="Seconds between two rounds of a node's upkeep."
    )
    dns_server: str = Field(
        "", description="HOST:PORT of the DNS server to ask for contacts; empty: the system's."
    )
    lan: bool = Field(True, description="Announce this node on the LAN, and look for others there.")
    bittorrent: bool = Field(
        False, description="Meet others through the public BitTorrent DHT (dsn[bittorrent])."
    )


class LedgerSettings(Section):
    """Where this home serves the ledger, if it is the operator's."""

    listen: str = Field("0.0.0.0:7078", description="Address and port the ledger listens on.")
    http: str = Field(
        "", description="Address and port of the checkpoint and tiles over HTTP; empty: none."
    )
    place: str = Field(
        "", description="Directory or postgresql://... of the ledger; empty: ledger in the home."
    )
    drand: tuple[str, ...] = Field(
        tuple(f"https://{host}/{QUICKNET}" for host in ("api.drand.sh", "drand.cloudflare.com")),
        min_length=1,
        description="Relays of the drand chain, if the network's beacons are its rounds.",
    )


class WitnessSettings(Section):
    """Where this home serves as a witness."""

    listen: str = Field("0.0.0.0:7079", description="Address and port the witness listens on.")


class VerifierSettings(Section):
    """What this home audits, and where it serves its verdicts."""

    listen: str = Field("0.0.0.0:7080", description="Address and port the verifier listens on.")
    sample: int = Field(
        4, ge=1, le=64, description="Openings looked at of each link that is drawn."
    )
    links: int = Field(64, ge=1, description="The most links that are looked at an epoch.")
    budget: ByteSize = Field(
        ByteSize(64 * MIB), description="The most bytes of proofs that are fetched an hour."
    )


class ChainSettings(Section):
    """The chain that the network settles on, if it has one."""

    rpc: str = Field(
        "", description="http(s)://... of a JSON-RPC endpoint of the chain; may hold a key."
    )
    finality: int = Field(
        12, ge=0, description="Blocks on top of one that make it final: what a ledger waits for."
    )
    anchor_epochs: int = Field(
        24, ge=1, description="Epochs between two anchors, if this home keeps the ledger."
    )
    watch: bool = Field(
        True, description="Whether disputes are answered and a frozen vault is left unasked."
    )


class LogSettings(Section):
    """The log of a role process."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least important line kept."
    )


class Settings(BaseSettings):
    """Every setting there is."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter=SEPARATOR, extra="forbid", frozen=True
    )

    keys: KeySettings = KeySettings()
    client: ClientSettings = ClientSettings()
    provider: ProviderSettings = ProviderSettings()
    dht: DhtSettings = DhtSettings()
    ledger: LedgerSettings = LedgerSettings()
    witness: WitnessSettings = WitnessSettings()
    verifier: VerifierSettings = VerifierSettings()
    chain: ChainSettings = ChainSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the file; nothing else is looked at."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


@dataclass(frozen=True, slots=True)
class Known:
    """One key as the reference page shows it."""

    key: str
    kind: str
    default: str
    text: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and for each key that is not a default where its value came from."""

    settings: Settings
    origins: Mapping[str, str]

    def rows(self) -> Iterator[tuple[str, object, str]]:
        """Each key, its value and its origin, in the order of the classes."""
        for known in reference():
            section, name = known.key.split(".")
            value = getattr(getattr(self.settings, section), name)
            yield known.key, value, self.origins.get(known.key, "default")


def reference() -> Iterator[Known]:
    """Every key there is, from the classes themselves."""
    for section, table in Settings.model_fields.items():
        model = table.annotation
        assert isinstance(model, type) and issubclass(model, Section)
        for name, info in model.model_fields.items():
            kind = getattr(info.annotation, "__name__", str(info.annotation))
            yield Known(f"{section}.{name}", kind, str(info.default), info.description or "")


def load(home: Path, flags: Mapping[str, object]) -> Loaded:
    """Read the settings of ``home``.

    Args:
        home: The home; it and its ``dsn.toml`` may be missing.
        flags: ``section__key`` -> value, as given on the command line.

    Raises:
        ConfigError: ``unknown_setting`` (the hint names the nearest), ``bad_setting`` or
            ``bad_toml``.
    """
    path = home / FILE_NAME
    origins = dict.fromkeys(_file_keys(path), FILE_NAME)
    origins |= {key: name for name, key in _environment_keys()}
    tables: dict[str, dict[str, object]] = {}
    for flag, value in flags.items():
        section, name = flag.split(SEPARATOR)
        tables.setdefault(section, {})[name] = value
        origins[f"{section}.{name}"] = "flag"
    _refuse_unknown(origins)
    return Loaded(_build(path, tables, origins), origins)


def parse_size(text: str) -> int:
    """Read ``500GB`` or ``1.5TiB`` (untrusted) as bytes.

    Raises:
        UsageError: ``bad_size``.
    """
    try:
        return int(_SIZE.validate_python(text))
    except ValidationError as error:
        raise UsageError(
            f"'{text}' is no size", hint="write it as 500GB or 1.5TiB", code="bad_size"
        ) from error


def _build(path: Path, flags: Mapping[str, Any], origins: Mapping[str, str]) -> Settings:
    class OfHome(Settings, toml_file=path):  # the source reads its path from the class
        pass

    try:
        return OfHome(**flags)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:2])
        text = first["msg"][:1].lower() + first["msg"][1:]
        raise ConfigError(
            f"{key} = {first['input']!r} ({origins.get(key, 'default')}): {text}",
            hint="'dsn config show' lists every setting",
            code="bad_setting",
        ) from error


def _file_keys(path: Path) -> Iterator[str]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: {error}", hint="correct that line, or remove the file", code="bad_toml"
        ) from error
    for section, table in tables.items():
        if not isinstance(table, dict):
            yield section
            continue
        yield from (f"{section}.{name}" for name in table)


def _environment_keys() -> Iterator[tuple[str, str]]:
    for name in os.environ:
        if name.startswith(ENV_PREFIX) and SEPARATOR in name:
            section, _, key = name.removeprefix(ENV_PREFIX).lower().partition(SEPARATOR)
            yield name, f"{section}.{key}"


def _refuse_unknown(origins: Mapping[str, str]) -> None:
    known = [entry.key for entry in reference()]
    for key, origin in origins.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            raise ConfigError(
                f"unknown setting {key} ({origin})",
                hint=f"did you mean {close[0]}?",
                code="unknown_setting",
            )
