"""The client's commands on a real network: what they print, and how they refuse."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.net.local import Done, described, down, dsn

PUT_FIELDS = {
    "name", "read", "repair", "verify", "file_id", "size", "scheme", "segments", "placed", "total",
    "uploaded_bytes", "cost", "expires", "seconds",
}  # fmt: skip


class Network(NamedTuple):
    """A running network and a file in it."""

    folder: Path
    home: Path
    path: Path
    read: str
    verify: str

    def dsn(self, *args: str | Path, stdin: bytes = b"") -> Done:
        return dsn(*args, home=self.home, stdin=stdin)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    base = tmp_path_factory.mktemp("cli")
    folder = base / "net"
    try:
        dsn("devnet", "up", "--free", "--dir", folder, "--nodes", "6", "--capacity", "1GB").check()
        home = Path(described(folder)["client_home"])
        (base / "report.pdf").write_bytes(os.urandom(1_000_000))
        stored = dsn("put", base / "report.pdf", "--json", home=home).check().fields
        yield Network(folder, home, base / "report.pdf", stored["read"], stored["verify"])
    finally:
        down(folder)


def test_put_prints_the_link_alone_and_says_the_rest_beside(net: Network, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1" * 10_000)
    done = net.dsn("put", tmp_path / "one").check()
    assert done.text.startswith("dsn:read:")
    assert len(done.text.splitlines()) == 1
    assert "stored one: 9.77 KiB as 4/6" in done.err[0]
    assert net.dsn("cat", done.text.strip()).check().out == b"1" * 10_000


def test_put_has_the_stable_fields(net: Network, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode() * 9_000)
    fields = net.dsn("put", tmp_path / "a", tmp_path / "b", "--json").check().fields
    assert all(set(one) >= PUT_FIELDS for one in fields["files"])
    assert [one["name"] for one in fields["files"]] == ["a", "b"]
    assert fields["files"][0]["cost"] is None


def test_standard_input_and_output(net: Network) -> None:
    data = os.urandom(300_000)
    net.dsn("put", "-", "--as", "piped", stdin=data).check()
    assert net.dsn("cat", "piped").check().out == data
    assert net.dsn("get", "piped", "-o", "-", "--range", "7-100").check().out == data[7:100]


def test_get_lands_under_its_own_name(net: Network, tmp_path: Path) -> None:
    done = net.dsn("get", net.read, "-o", tmp_path, "--json").check()
    digest = hashlib.sha256(net.path.read_bytes()).hexdigest()
    assert done.fields["sha256"] == digest
    assert done.fields["size"] == 1_000_000
    assert Path(done.fields["path"]) == tmp_path / "report.pdf"
    assert (tmp_path / "report.pdf").read_bytes() == net.path.read_bytes()
    again = net.dsn("get", net.read, "-o", tmp_path / "report.pdf").check(2)
    assert "exists" in again.err[0]


def test_ls_and_info(net: Network) -> None:
    (line,) = [one for one in net.dsn("ls", "--json").check().fields if one["name"] == "report.pdf"]
    assert set(line) >= {"name", "size", "state", "expires", "cost"}
    assert line["size"] == 1_000_000
    assert "report.pdf" in net.dsn("ls").check().text
    info = net.dsn("info", "report.pdf", "--json").check().fields
    assert len(info["holders"]) == 6
    assert net.dsn("info", net.verify, "--json").check().fields["name"] is None


def test_check_says_how_sure_it_is(net: Network) -> None:
    done = net.dsn("check", "report.pdf").check()
    assert "state       healthy" in done.text
    assert "confidence" in done.text
    fields = net.dsn("check", net.verify, "--json").check().fields
    assert fields["state"] == "healthy"
    assert fields["segments"] == [{"good": 6, "required": 4, "total": 6}]
    assert fields["loss_per_year"] is None
    assert net.dsn("check", "report.pdf", "--deep", "--json").check().fields["deep"]


def test_share_and_what_a_link_does_not_allow(net: Network, tmp_path: Path) -> None:
    for kind in ("read", "repair", "verify"):
        done = net.dsn("share", "report.pdf", f"--{kind}").check()
        assert done.text.startswith(f"dsn:{kind}:")
        assert "cannot be taken back" in done.err[1]
    refused = net.dsn("get", net.verify, "-o", tmp_path / "x", "--json").check(2)
    assert refused.fields["error"]["code"] == "bad_capability"
    assert os.listdir(tmp_path) == []


def test_rm_frees_and_forgets(net: Network, tmp_path: Path) -> None:
    (tmp_path / "gone").write_bytes(os.urandom(500_000))
    net.dsn("put", tmp_path / "gone").check()
    removed = net.dsn("rm", "gone", "--json").check().fields["removed"]
    assert removed[0]["freed_bytes"] > 500_000
    assert net.dsn("get", "gone").check(3).err[0].startswith("dsn: ")


def test_progress_as_lines(net: Network, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(os.urandom(2_000_000))
    done = net.dsn("--json-progress", "put", tmp_path / "p").check()
    lines = [json.loads(line) for line in done.err]
    assert any({"stage", "done", "total"} <= set(line) for line in lines)


def test_quiet_is_quiet(net: Network) -> None:
    assert net.dsn("--quiet", "share", "report.pdf", "--read").check().err == []


REFUSALS = {
    "missing path": (3, "not_found", ["put", "{tmp}/none"]),
    "directory without -r": (2, "is_directory", ["put", "{tmp}"]),
    "name taken": (2, "name_taken", ["put", "{file}"]),
    "scheme 0/5": (2, "bad_scheme", ["put", "{file}", "--as", "x", "--scheme", "0/5"]),
    "scheme 9/4": (2, "bad_scheme", ["put", "{file}", "--as", "x", "--scheme", "9/4"]),
    "scheme 300/400": (2, "bad_scheme", ["put", "{file}", "--as", "x", "--scheme", "300/400"]),
    "scheme of more nodes": (2, "bad_scheme", ["put", "{file}", "--as", "x", "--scheme", "4/7"]),
    "unknown name": (3, "unknown_name", ["get", "nothing-of-that-name"]),
    "truncated link": (2, "bad_capability", ["get", "{cut}", "-o", "{tmp}/x"]),
    "mistyped link": (2, "bad_capability", ["get", "{typo}", "-o", "{tmp}/x"]),
    "wrong kind": (2, "bad_capability", ["get", "{verify}", "-o", "{tmp}/x"]),
    "reversed range": (2, "bad_range", ["cat", "{read}", "--range", "9-3"]),
    "range past the end": (
        2,
        "bad_range",
        ["get", "{read}", "--range", "0-1000001", "-o", "{tmp}/x"],
    ),
    "bytes and json": (2, "usage", ["cat", "{read}"]),
    "no kind of link": (2, "usage", ["share", "report.pdf"]),
    "no such flag": (2, "usage", ["put", "--recursiv", "{tmp}"]),
    "no such command": (2, "usage", ["putt", "{tmp}"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_one_line_and_leaves_nothing(net: Network, tmp_path: Path, case: str) -> None:
    exit_code, code, words = REFUSALS[case]
    place = {"tmp": tmp_path, "file": net.path, "read": net.read, "verify": net.verify}
    place |= {"cut": net.read[:-9], "typo": swap(net.read)}
    before = {one["name"] for one in net.dsn("ls", "--json").check().fields}
    done = net.dsn(*(word.format(**place) for word in words), "--json").check(exit_code)
    assert done.fields["error"]["code"] == code
    assert done.fields["error"]["exit"] == exit_code
    assert done.err[0] == f"dsn: {done.fields['error']['message']}"
    assert len(done.err) <= 2
    assert os.listdir(tmp_path) == []
    assert {one["name"] for one in net.dsn("ls", "--json").check().fields} == before


def swap(link: str) -> str:
    """The link with one character of its key mistyped."""
    at = len("dsn:read:") + 3
    return link[:at] + ("b" if link[at] != "b" else "c") + link[at + 1 :]


def test_a_link_of_another_network_is_not_found(net: Network, tmp_path: Path) -> None:
    """A well-formed link to a file nobody here has heard of."""
    from dsn.core.capability import format_capability, make_capability
    from dsn.core.keys import FileKeys, Kind
    from dsn.ids import FileId

    link = make_capability(FileKeys.owner(os.urandom(16)), Kind.READ, FileId(os.urandom(32)))
    done = net.dsn("get", format_capability(link), "-o", tmp_path / "x", "--json").check(3)
    assert done.fields["error"]["code"] == "not_found"
    assert os.listdir(tmp_path) == []


def test_doctor_finds_all_nodes(net: Network) -> None:
    checks = {one["name"]: one for one in net.dsn("doctor", "--json").check().fields["checks"]}
    assert checks["nodes"]["detail"].startswith("6 nodes answer")
    assert all(one["ok"] for one in checks.values())


def test_doctor_tries_every_way_in_and_asks_the_own_node(net: Network) -> None:
    home = Path(net.folder) / "node2"
    checks = {
        one["name"]: one
        for one in dsn("doctor", "--net", "--json", home=home).check().fields["checks"]
    }
    assert checks["way in: network file"]["detail"] == "1 of 1 contacts answer"
    assert checks["way in: address book"]["ok"]
    assert "can call it" in checks["own node"]["detail"]
    assert checks["records"]["detail"].startswith("keeps ")
    assert all(one["ok"] for one in checks.values())


def test_doctor_names_what_to_do_when_nobody_answers(tmp_path: Path) -> None:
    dsn("devnet", "up", "--free", "--dir", tmp_path / "net", "--nodes", "1").check()
    dsn("devnet", "down", "--dir", tmp_path / "net").check()
    home = tmp_path / "net" / "client"
    checks = {
        one["name"]: one
        for one in dsn("doctor", "--net", "--json", home=home).check(1).fields["checks"]
    }
    assert not checks["nodes"]["ok"]
    assert "dsn devnet up" in checks["nodes"]["fix"]
    assert not checks["way in: network file"]["ok"]


def test_recover_brings_names_back_from_the_phrase(net: Network, tmp_path: Path) -> None:
    network_file = described(net.folder)["network_file"]
    made = dsn("init", "--network", network_file, "--json", home=tmp_path / "old").check().fields
    (tmp_path / "kept").write_bytes(b"keep" * 5_000)
    dsn("put", tmp_path / "kept", home=tmp_path / "old").check()
    back = dsn(
        "recover", "--network", network_file, "--json",
        home=tmp_path / "new", stdin=made["phrase"].encode(),
    ).check().fields  # fmt: skip
    assert (back["node_id"], back["files"], back["bytes"]) == (made["node_id"], 1, 20_000)
    assert dsn("cat", "kept", home=tmp_path / "new").check().out == b"keep" * 5_000
