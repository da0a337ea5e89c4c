"""A home: the directory with one party's keys, network, state and locks.

::

    HOME/keys/root.key   the root that all keys derive from, 0600, sealed if a passphrase is set
    HOME/network.toml    the network this home has joined
    HOME/state/          what the roles remember
    HOME/run/            locks and sockets of running processes
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import platformdirs
from nacl import pwhash, utils
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from dsn.dht.book import AddressBook
from dsn.dht.network import Network, parse_network
from dsn.errors import ConfigError
from dsn.ids import ID_BYTES
from dsn.store.files import PRIVATE_DIRECTORY, write_atomic
from dsn.store.lock import FileLock, WaitNotice

_OTHERS = 0o077
_OPERATIONS, _MEMORY = pwhash.argon2id.OPSLIMIT_MODERATE, pwhash.argon2id.MEMLIMIT_MODERATE
"""About a second and 256 MiB a guess."""


def default_home() -> Path:
    """Where the home is when neither ``--home`` nor ``DSN_HOME`` says so."""
    return platformdirs.user_data_path("dsn", appauthor=False)


class Home:
    """One home; made by ``create`` or ``open``."""

    def __init__(self, path: Path) -> None:
        """Name the home in ``path`` without looking at it."""
        self.path = path

    @classmethod
    def create(cls, path: Path, root: bytes, passphrase: bytes | None = None) -> Home:
        """Make a home for ``root``, readable by its owner alone.

        Args:
            path: A directory without keys; made when it is not there.
            root: 32 secret bytes.
            passphrase: Seals the root; ``None`` stores it as it is.

        Raises:
            ConfigError: ``home_exists``: keys are there, and are never overwritten.
        """
        home = cls(path)
        for directory in (path, home.key_file.parent, home.state, home.run):
            directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        path.chmod(PRIVATE_DIRECTORY)
        try:
            write_atomic(home.key_file, _format_root(root, passphrase), replace=False)
        except FileExistsError:
            raise ConfigError(
                f"{path} has keys already",
                hint="choose another directory with --home; keys are never overwritten",
                code="home_exists",
            ) from None
        return home

    @classmethod
    def open(cls, path: Path) -> Home:
        """The home in ``path``.

        Raises:
            ConfigError: ``no_keys`` or ``keys_readable``.
        """
        home = cls(path)
        home._check_keys()
        return home

    @property
    def key_file(self) -> Path:
        """The root key."""
        return self.path / "keys" / "root.key"

    @property
    def network_file(self) -> Path:
        """The network this home has joined."""
        return self.path / "network.toml"

    @property
    def state(self) -> Path:
        """What the roles remember."""
        return self.path / "state"

    @property
    def book_file(self) -> Path:
        """Contacts that answered this home before."""
        return self.state / "peers.json"

    @property
    def run(self) -> Path:
        """Locks and sockets of running processes."""
        return self.path / "run"

    @property
    def needs_passphrase(self) -> bool:
        """Whether the root is sealed; raises as ``open`` and ``load_root``."""
        return "sealed" in self._read_keys()

    def load_root(self, passphrase: bytes | None = None) -> bytes:
        """The 32 bytes that all keys derive from.

        Raises:
            ConfigError: ``no_keys``, ``keys_readable``, ``bad_keys`` or ``bad_passphrase``.
        """
        keys = self._read_keys()
        try:
            root = _unseal(keys, passphrase) if "sealed" in keys else bytes.fromhex(keys["root"])
        except CryptoError:
            raise ConfigError(
                f"{self.key_file} does not open with {'this' if passphrase else 'no'} passphrase",
                hint="give the passphrase that was set when the home was made",
                code="bad_passphrase",
            ) from None
        except (KeyError, TypeError, ValueError):
            raise self._bad_keys() from None
        if len(root) != ID_BYTES:
            raise self._bad_keys()
        return root

    def network(self) -> Network:
        """The network this home has joined.

        Raises:
            ConfigError: ``no_network``, or what is wrong with the file.
        """
        try:
            text = self.network_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(
                f"{self.path} has joined no network",
                hint="dsn join NETWORK_FILE",
                code="no_network",
            ) from None
        except UnicodeDecodeError:
            raise ConfigError(
                f"{self.network_file} is not text",
                hint="dsn join NETWORK_FILE",
                code="bad_network_file",
            ) from None
        return parse_network(text)

    def save_network(self, text: str) -> Network:
        """Join the network that ``text`` (untrusted) describes, leaving any other.

        Raises:
            ConfigError: What is wrong with it; the file stays as it was.
        """
        network = parse_network(text)
        write_atomic(self.network_file, text.encode("utf-8"))
        return network

    @property
    def control_socket(self) -> Path:
        """Where commands on this home reach the process that runs on it."""
        return self.run / "control.sock"

    def book(self, network: Network) -> AddressBook:
        """The contacts that this home remembers; none if it is new or the file is damaged."""
        limits = network.genesis.address_limits
        try:
            raw = self.book_file.read_bytes()
        except FileNotFoundError:
            return AddressBook(subnet_limits=limits)
        return AddressBook.decode(raw, subnet_limits=limits)

    def save_book(self, book: AddressBook) -> None:
        """Remember the contacts of ``book``."""
        self.state.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        write_atomic(self.book_file, book.encode())

    def lock(
        self, on_wait: WaitNotice | None = None, *, shared: bool = False, wait: bool = True
    ) -> FileLock:
        """The home's lock, for ``with`` or ``async with``.

        Args:
            on_wait: Told the holder's process id once, if there is one to wait for.
            shared: Whether other shared holders are welcome.
            wait: Whether to wait in turn, or to raise ``home_in_use``.
        """
        self.run.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        what = f"the home {self.path}"
        return FileLock(self.run / "lock", what=what, shared=shared, wait=wait, on_wait=on_wait)

    def _check_keys(self) -> None:
        try:
            mode = self.key_file.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError(
                f"no keys in {self.path}", hint="dsn init makes them", code="no_keys"
            ) from None
        if mode & _OTHERS:
            raise ConfigError(
                f"others can read {self.key_file} (mode {mode & 0o777:04o}, 0600 needed)",
                hint=f"chmod 600 {self.key_file}",
                code="keys_readable",
            )

    def _read_keys(self) -> dict[str, Any]:
        self._check_keys()
        try:
            return tomllib.loads(self.key_file.read_text(encoding="utf-8"))
        except ValueError:
            raise self._bad_keys() from None

    def _bad_keys(self) -> ConfigError:
        return ConfigError(
            f"{self.key_file} is damaged",
            hint="dsn recover brings the keys back from the phrase",
            code="bad_keys",
        )


def _format_root(root: bytes, passphrase: bytes | None) -> bytes:
    lines = ["# The root that all keys of this home derive from. Whoever reads it is you."]
    if passphrase is None:
        lines.append(f'root = "{root.hex()}"')
    else:
        salt = utils.random(pwhash.argon2id.SALTBYTES)
        box = _box(passphrase, salt, _OPERATIONS, _MEMORY)
        lines += [
            'kdf = "argon2id"',
            f"operations = {_OPERATIONS}",
            f"memory_bytes = {_MEMORY}",
            f'salt = "{salt.hex()}"',
            f'sealed = "{box.encrypt(root).hex()}"',
        ]
    return ("\n".join(lines) + "\n").encode()


def _unseal(keys: dict[str, Any], passphrase: bytes | None) -> bytes:
    if passphrase is None:
        raise CryptoError("no passphrase")
    sealed, salt = bytes.fromhex(keys["sealed"]), bytes.fromhex(keys["salt"])
    return _box(passphrase, salt, keys["operations"], keys["memory_bytes"]).decrypt(sealed)


def _box(passphrase: bytes, salt: bytes, operations: int, memory_bytes: int) -> SecretBox:
    key = pwhash.argon2id.kdf(
        SecretBox.KEY_SIZE, passphrase, salt, opslimit=operations, memlimit=memory_bytes
    )
    return SecretBox(key)
