"""A home: keys that only their owner reads, a network, a lock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsn.errors import ConfigError
from dsn.store.home import Home, default_home

ROOT = bytes(range(32))
PASSPHRASE = b"correct horse"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "home"


def code(caught: pytest.ExceptionInfo[ConfigError]) -> str:
    assert caught.value.message == caught.value.message.rstrip()
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value.detail_code


def test_a_home_gives_back_its_root(path: Path) -> None:
    home = Home.create(path, ROOT)
    assert home.load_root() == ROOT
    assert Home.open(path).load_root() == ROOT
    assert not home.needs_passphrase
    assert home.key_file.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_mode & 0o777 == 0o700
    assert ROOT.hex() in home.key_file.read_text()
    assert sorted(each.name for each in path.iterdir()) == ["keys", "run", "state"]


def test_a_passphrase_seals_the_root(path: Path) -> None:
    home = Home.create(path, ROOT, PASSPHRASE)
    assert home.needs_passphrase
    assert home.load_root(PASSPHRASE) == ROOT
    assert ROOT.hex() not in home.key_file.read_text()
    for wrong in (None, b"correct horsf"):
        with pytest.raises(ConfigError) as caught:
            home.load_root(wrong)
        assert code(caught) == "bad_passphrase"


def test_keys_are_never_overwritten(path: Path) -> None:
    Home.create(path, ROOT)
    with pytest.raises(ConfigError) as caught:
        Home.create(path, bytes(32))
    assert code(caught) == "home_exists"
    assert Home.open(path).load_root() == ROOT
    assert [each.name for each in (path / "keys").iterdir()] == ["root.key"]


@pytest.mark.parametrize("present", ["nothing", "directory", "file"])
def test_a_home_without_keys_says_how_to_make_them(path: Path, present: str) -> None:
    if present == "directory":
        path.mkdir(parents=True)
    elif present == "file":
        path.parent.mkdir()
        path.write_text("")
    for look in (Home.open, lambda path: Home(path).load_root()):
        with pytest.raises(ConfigError) as caught:
            look(path)
        assert code(caught) == "no_keys"
        assert "dsn init" in caught.value.hint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o601, 0o777])
def test_keys_that_others_can_read_are_refused(path: Path, mode: int) -> None:
    home = Home.create(path, ROOT)
    home.key_file.chmod(mode)
    for look in (Home.open, lambda path: Home(path).load_root()):
        with pytest.raises(ConfigError) as caught:
            look(path)
        assert code(caught) == "keys_readable"
        assert caught.value.hint == f"chmod 600 {home.key_file}"
    home.key_file.chmod(0o600)
    assert home.load_root() == ROOT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "root = 5",
        'root = "zz"',
        f'root = "{bytes(31).hex()}"',
        "not toml",
        'sealed = "00"',
        'sealed = "zz"\nsalt = ""\noperations = 1\nmemory_bytes = 8192',
    ],
)
def test_damaged_keys_say_so(path: Path, text: str) -> None:
    home = Home.create(path, ROOT)
    home.key_file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        home.load_root(PASSPHRASE)
    assert code(caught) == "bad_keys"


def test_keys_that_are_not_text_are_damaged(path: Path) -> None:
    home = Home.create(path, ROOT)
    home.key_file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError) as caught:
        home.load_root()
    assert code(caught) == "bad_keys"


def test_a_home_without_a_network_says_how_to_join_one(path: Path) -> None:
    home = Home.create(path, ROOT)
    with pytest.raises(ConfigError) as caught:
        home.network()
    assert code(caught) == "no_network"
    home.network_file.write_bytes(b"\xff")
    with pytest.raises(ConfigError) as caught:
        home.network()
    assert code(caught) == "bad_network_file"


def test_a_joined_network_stays(path: Path, repository: Path) -> None:
    vector = json.loads((repository / "tests" / "vectors" / "network.json").read_text())["holds"]
    home = Home.create(path, ROOT)
    joined = home.save_network(vector["text"])
    assert joined.network_id.hex() == vector["network_id"]
    assert Home.open(path).network() == joined
    assert home.network_file.read_text() == vector["text"]
    with pytest.raises(ConfigError):
        home.save_network("[genesis]")
    assert home.network() == joined


def test_a_bad_network_file_is_not_saved(path: Path) -> None:
    home = Home.create(path, ROOT)
    with pytest.raises(ConfigError):
        home.save_network("[genesis]")
    assert not home.network_file.exists()


def test_one_role_holds_a_home(path: Path) -> None:
    home = Home.create(path, ROOT)
    with home.lock():
        with pytest.raises(ConfigError) as caught:
            home.lock(wait=False).acquire()
        assert code(caught) == "home_in_use"
        assert str(path) in caught.value.message
    with home.lock(shared=True), home.lock(shared=True, wait=False):
        pass


def test_the_default_home_is_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_home().name == "dsn"
