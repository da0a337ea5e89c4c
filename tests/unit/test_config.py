"""Settings: who wins, what is refused, and where a value came from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dsn.config import load, reference
from dsn.errors import ConfigError


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("DSN_")]:
        monkeypatch.delenv(name)


def write(home: Path, text: str) -> Path:
    (home / "dsn.toml").write_text(text)
    return home


def origin(home: Path, key: str, **flags: object) -> tuple[object, str]:
    rows = {name: (value, source) for name, value, source in load(home, flags).rows()}
    return rows[key]


def test_defaults_without_a_home(tmp_path):
    assert origin(tmp_path / "none", "client.scheme") == ("auto", "default")


def test_each_source_beats_the_one_before(tmp_path, monkeypatch):
    write(tmp_path, '[client]\nscheme = "4/6"\n')
    assert origin(tmp_path, "client.scheme") == ("4/6", "dsn.toml")
    monkeypatch.setenv("DSN_CLIENT__SCHEME", "3/10")
    assert origin(tmp_path, "client.scheme") == ("3/10", "DSN_CLIENT__SCHEME")
    assert origin(tmp_path, "client.scheme", client__scheme="10/30") == ("10/30", "flag")


def test_a_flag_leaves_the_rest_of_its_section_alone(tmp_path):
    write(tmp_path, '[provider]\nlisten = "127.0.0.1:1"\n')
    loaded = load(tmp_path, {"provider__capacity": "2GB"})
    assert loaded.settings.provider.listen == "127.0.0.1:1"
    assert loaded.settings.provider.capacity == 2_000_000_000


def test_sizes_are_read_with_their_unit(tmp_path):
    write(tmp_path, '[provider]\ncapacity = "1.5GiB"\n')
    assert load(tmp_path, {}).settings.provider.capacity == 3 << 29


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ('[client]\nshceme = "4/6"\n', "unknown_setting", "client.scheme"),
        ('[clint]\nscheme = "4/6"\n', "unknown_setting", "client.scheme"),
        ("scheme = 1\n", "unknown_setting", "client.scheme"),
        ("[provider]\ncapacity = []\n", "bad_setting", ""),
        ('[log]\nlevel = "loud"\n', "bad_setting", ""),
        ("[client\n", "bad_toml", ""),
    ],
)
def test_a_bad_file_is_named_with_its_nearest_key(tmp_path, text, code, named):
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), {})
    assert caught.value.detail_code == code
    assert named in caught.value.hint
    assert "\n" not in caught.value.message
    assert "dsn.toml" in caught.value.message


@pytest.mark.parametrize("name", ["DSN_CLIENT__SCHEM", "DSN_CLENT__SCHEME"])
def test_a_mistyped_variable_is_refused_too(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "4/6")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {})
    assert name in caught.value.message
    assert "client.scheme" in caught.value.hint


def test_variables_without_a_section_are_not_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("DSN_HOME", "x")
    monkeypatch.setenv("DSN_DEBUG", "1")
    assert load(tmp_path, {}).origins == {}


def test_every_key_is_described():
    for known in reference():
        assert known.text.endswith("."), known
