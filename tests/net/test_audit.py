"""``dsn audit`` from a stranger's home, with real processes; the proof outlives the network."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dsn.units import KIB, MIB
from tests.net.local import described, down, dsn

NODES, SIZE = 9, 48 * MIB
MOST_BYTES = 200 * KIB


class Net(NamedTuple):
    """A network, a file in it, and the home of somebody who has no more than a link."""

    folder: Path
    home: Path
    stranger: Path
    put: dict[str, Any]

    def process(self, node: str) -> dict[str, Any]:
        """The process of a node, by name or id."""
        processes = described(self.folder)["processes"]
        return next(p for p in processes if node in (p["name"], p["node_id"]))


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    base = tmp_path_factory.mktemp("audit")
    folder, stranger, file = base / "net", base / "stranger", base / "file"
    file.write_bytes(random.Random("audit").randbytes(SIZE))
    try:
        up = ("devnet", "up", "--dir", folder, "--nodes", str(NODES), "--capacity", "1GB")
        devnet = dsn(*up, "--json").check().fields
        home = Path(devnet["client_home"])
        dsn("init", home=stranger).check()
        dsn("join", devnet["network_file"], home=stranger).check()
        put = dsn("put", file, "--scheme", "4/8", "--confirm-by", "verifier", "--json", home=home)
        yield Net(folder, home, stranger, put.check().fields)
    finally:
        down(folder)


def test_the_verifier_confirmed_what_was_put(net: Net) -> None:
    assert net.put["confirmed"] is True
    assert net.put["placed"] == net.put["total"] == 8


def test_whoever_has_the_link_can_audit_and_no_more(net: Net, tmp_path: Path) -> None:
    link, bundle = net.put["verify"], tmp_path / "file.dsnproof.json"
    found = dsn("audit", link, "--bundle", bundle, "--json", home=net.stranger).check().fields
    assert (found["held"], found["wrong"], found["silent"]) == (8, 0, 0)
    assert found["leaves"] == 80
    assert found["bytes"] < MOST_BYTES
    assert "a loss of 5.6 % would have been seen with 99 %" in found["confidence"]
    assert {each["outcome"] for each in found["verdicts"]} == {"held"}
    assert sum(each["held_bytes"] for each in found["verdicts"]) > 2 * SIZE
    assert json.loads(bundle.read_bytes())["kind"] == "live"
    assert "read link" in dsn("get", link, "-o", tmp_path / "x", home=net.stranger).check(2).err[0]
    dsn("repair", link, home=net.stranger).check(2)
    assert not list(tmp_path.glob("x*"))


def test_more_leaves_see_less_of_a_loss(net: Net) -> None:
    found = dsn("audit", net.put["verify"], "--leaves", "459", "--json", home=net.stranger).fields
    assert found["leaves"] >= 459
    assert "a loss of 1.0 % would have been seen" in found["confidence"]


def test_check_remembers_what_an_audit_saw(net: Net) -> None:
    """Last but one: a disk rots, and a process ends."""
    found = dsn("audit", net.put["name"], "--json", home=net.home).check().fields
    rotten, gone = (net.process(each["node"]) for each in found["verdicts"][:2])
    for path in Path(rotten["volume"], "shards").rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(path.stat().st_size))
    dsn("devnet", "stop", "--dir", net.folder, gone["name"]).check()
    found = dsn("audit", net.put["name"], "--json", home=net.home).check(1)
    reasons = {each["node"]: (each["outcome"], each["reason"]) for each in found.fields["verdicts"]}
    assert reasons[rotten["node_id"]] == ("silent", "declared_lost")
    assert any("has lost shard" in line for line in found.err)
    assert reasons[gone["node_id"]] == ("silent", "unreachable")
    assert found.fields["wrong"] == 0, "an honest node is never wrong"
    dsn("devnet", "start", "--dir", net.folder, gone["name"]).check()
    checked = dsn("check", net.put["name"], "--json", home=net.home).check(1).fields
    assert checked["faults"] and not checked["silent"]


def test_the_proof_outlives_the_network(net: Net, tmp_path: Path) -> None:
    """Last: it ends the network."""
    bundle = tmp_path / "file.dsnproof.json"
    dsn("audit", net.put["verify"], "--bundle", bundle, home=net.stranger)
    down(net.folder)
    found = dsn("verify", bundle, "--json", home=net.stranger)
    assert found.fields["kind"] == "live"
    assert len(found.fields["providers"]) == 8
    raw = bytearray(bundle.read_bytes())
    rng = random.Random(5)
    for _ in range(3):
        at = rng.randrange(len(raw))
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        bundle.write_bytes(changed)
        assert dsn("verify", bundle, home=net.stranger).code != 0, f"byte {at} changed"
