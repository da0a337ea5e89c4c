"""A home is made once, joins one network, and comes back from its phrase."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from dsn.apps import devnet_make
from dsn.cli.main import main
from dsn.dht.network import parse_network
from dsn.runtime.clock import SystemClock
from dsn.store.home import Home


@pytest.fixture
def network(tmp_path) -> Path:
    (tmp_path / "net").mkdir()
    devnet_make.create(
        tmp_path / "net",
        nodes=2,
        group="node",
        capacity_bytes=10**9,
        epoch_s=None,
        clock=SystemClock(),
        entropy=os.urandom,
    )
    return tmp_path / "net" / "network.toml"


@pytest.fixture
def dsn(capsys, tmp_path, monkeypatch):
    """Run one command; returns code, the object on stdout and the lines on stderr."""

    def run(*args: str, home: str = "home", stdin: str = "") -> tuple[int, dict, list[str]]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = main(["--home", str(tmp_path / home), "--json", *args])
        out, err = capsys.readouterr()
        return code, json.loads(out), err.splitlines()

    return run


def test_init_makes_keys_and_shows_the_phrase_once(dsn, tmp_path):
    code, made, err = dsn("init")
    assert code == 0
    assert len(made["phrase"].split()) == 24
    assert err == ["next: dsn join NETWORK_FILE"]
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert " ".join(made["phrase"].split()[:3]).encode() not in stored


def test_init_never_overwrites(dsn, tmp_path):
    dsn("init")
    before = Home.open(tmp_path / "home").load_root()
    code, failure, err = dsn("init")
    assert (code, failure["error"]["code"]) == (2, "home_exists")
    assert len(err) == 2
    assert Home.open(tmp_path / "home").load_root() == before


def test_plain_text_shows_the_phrase_as_recover_reads_it(capsys, tmp_path, monkeypatch):
    assert main(["--home", str(tmp_path / "a"), "init"]) == 0
    phrase = capsys.readouterr().out.partition("once):")[2]
    monkeypatch.setattr("sys.stdin", io.StringIO(phrase))
    assert main(["--home", str(tmp_path / "b"), "recover"]) == 0
    assert Home.open(tmp_path / "a").load_root() == Home.open(tmp_path / "b").load_root()


def test_init_may_join_at_once(dsn, network, tmp_path):
    code, made, err = dsn("init", "--network", str(network))
    assert (code, err) == (0, [])
    assert made["network"]
    assert Home.open(tmp_path / "home").network() == parse_network(network.read_text())


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda text: text.replace("127.0.1.1", "127.0.9.9"), "bad_network_signature"),
        (lambda text: text.replace("[genesis]", "[gensis]"), "bad_network_file"),
        (lambda text: text[: len(text) // 2], None),
    ],
)
def test_a_broken_network_file_is_refused_and_nothing_is_left(dsn, network, tmp_path, damage, code):
    broken = tmp_path / "broken.toml"
    broken.write_text(damage(network.read_text()))
    exit_code, failure, err = dsn("init", "--network", str(broken))
    assert exit_code == 2
    assert code in (failure["error"]["code"], None)
    assert len(err) <= 2
    assert not (tmp_path / "home").exists()


def test_a_missing_network_file_is_not_found_and_nothing_is_left(dsn, tmp_path):
    code, failure, _ = dsn("init", "--network", str(tmp_path / "none"))
    assert (code, failure["error"]["code"]) == (3, "not_found")
    assert not (tmp_path / "home").exists()


def test_join_takes_a_newer_list_of_the_same_network(dsn, network, tmp_path):
    dsn("init", "--network", str(network))
    code, joined, _ = dsn("join", str(network))
    assert (code, joined["contacts"]) == (0, 1)


def test_join_refuses_another_network(dsn, network, tmp_path):
    dsn("init", "--network", str(network))
    (tmp_path / "other").mkdir()
    devnet_make.create(
        tmp_path / "other",
        nodes=1,
        group="node",
        capacity_bytes=10**9,
        epoch_s=None,
        clock=SystemClock(),
        entropy=os.urandom,
    )
    code, failure, _ = dsn("join", str(tmp_path / "other" / "network.toml"))
    assert (code, failure["error"]["code"]) == (2, "other_network")
    assert Home.open(tmp_path / "home").network() == parse_network(network.read_text())


def test_join_needs_keys(dsn, network):
    code, failure, _ = dsn("join", str(network))
    assert (code, failure["error"]["code"]) == (2, "no_keys")


def test_recover_brings_the_same_identity_back(dsn):
    _, made, _ = dsn("init")
    code, back, _ = dsn("recover", home="new", stdin=made["phrase"])
    assert code == 0
    assert back["node_id"] == made["node_id"]
    assert back["files"] is None


def test_recover_reads_the_phrase_from_a_file(dsn, tmp_path):
    _, made, _ = dsn("init")
    (tmp_path / "phrase").write_text(made["phrase"].upper().replace(" ", "\n"))
    _, back, _ = dsn("recover", "--phrase-file", str(tmp_path / "phrase"), home="new")
    assert back["node_id"] == made["node_id"]


def test_recover_repeats_but_never_overwrites_other_keys(dsn):
    _, first, _ = dsn("init")
    _, second, _ = dsn("init", home="second")
    assert dsn("recover", stdin=first["phrase"])[0] == 0
    code, failure, _ = dsn("recover", stdin=second["phrase"])
    assert (code, failure["error"]["code"]) == (2, "home_exists")


@pytest.mark.parametrize("phrase", ["", "one two three", " ".join(["abandon"] * 24)])
def test_a_wrong_phrase_leaves_nothing(dsn, tmp_path, phrase):
    code, failure, err = dsn("recover", home="new", stdin=phrase)
    assert (code, failure["error"]["code"]) == (2, "bad_phrase")
    assert len(err) <= 2
    assert not (tmp_path / "new").exists()


def test_a_passphrase_comes_from_a_private_file(dsn, tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.write_text("correct horse\n")
    secret.chmod(0o644)
    code, failure, _ = dsn("init", "--passphrase-file", str(secret))
    assert (code, failure["error"]["code"]) == (2, "keys_readable")
    secret.chmod(0o600)
    _, made, _ = dsn("init", "--passphrase-file", str(secret))
    assert Home.open(tmp_path / "home").needs_passphrase
    code, failure, _ = dsn("recover", stdin=made["phrase"])
    assert (code, failure["error"]["code"]) == (2, "passphrase_needed")
    monkeypatch.setenv("DSN_KEYS__PASSPHRASE_FILE", str(secret))
    assert dsn("recover", stdin=made["phrase"])[0] == 0


def test_keys_that_others_can_read_are_refused(dsn, network, tmp_path):
    dsn("init", "--network", str(network))
    (tmp_path / "home" / "keys" / "root.key").chmod(0o644)
    code, failure, err = dsn("ls")
    assert (code, failure["error"]["code"]) == (2, "keys_readable")
    assert err[1].startswith("hint: chmod 600 ")
