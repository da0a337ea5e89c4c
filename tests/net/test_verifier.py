"""A verifier's process on a real local network, and its service to strangers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dsn.apps.devnet import Devnet
from dsn.core.keys import IdentityKeys, SigningKey
from dsn.dht.contact import Contact
from dsn.errors import DsnError, UsageError
from dsn.ids import format_node_id, parse_base32
from dsn.ledger.bundle import LiveBundle, evidence_hash, parse_bundle, verify_bundle
from dsn.proofs.verdict import Outcome, SignedVerdict, Verdict, verify_verdict
from dsn.rpc.channel import Connections
from dsn.rpc.verifier import VerifierPeer
from dsn.store.home import Home
from tests.net.local import dsn
from tests.support.paid_devnet import paid_devnet

NODES = 4


def wait(net: Devnet, epochs: int) -> None:
    dsn("devnet", "wait", "--dir", net.directory, "--epochs", str(epochs)).check()


def report(net: Devnet, *options: str | Path) -> dict[str, Any]:
    home = net.named("verifier").home
    shown = dsn("--home", home, "--json", "verifier", "report", *options)
    found: dict[str, Any] = shown.check().fields
    return found


async def test_a_verifier_holds_every_honest_node_and_serves_what_it_found(tmp_path: Path) -> None:
    with paid_devnet(tmp_path / "net", nodes=NODES, epoch_s=4) as net:
        file = tmp_path / "file"
        file.write_bytes(os.urandom(200_000))
        put = dsn("--home", net.client_home, "--json", "put", "--scheme", "2/4", file).check()
        wait(net, 4)
        process = net.named("verifier")
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        wait(net, 2)
        dsn("devnet", "start", "verifier", "--dir", net.directory).check()
        wait(net, 2)
        _check_report(report(net, "--bundle", tmp_path / "bundles"))
        bundles = list((tmp_path / "bundles").glob("*.dsnproof.json"))
        assert len(bundles) >= NODES
        for bundle in bundles:
            assert verify_bundle(parse_bundle(bundle.read_bytes()), net.network()).held
        dsn("--home", net.client_home, "verify", bundles[0]).check()
        net = Devnet.load(net.directory)
        await _check_service(net, put.fields["verify"])
        await _check_appeal(net, put.fields["verify"])


def _check_report(found: dict[str, Any]) -> None:
    providers = found["providers"]
    assert len(providers) == NODES
    for each in providers:
        assert (each["wrong"], each["silent"]) == (0, 0), each["why"]
        epochs = [row["epoch"] for row in each["verdicts"]]
        assert len(set(epochs)) == len(epochs) == each["held"] >= 2
        assert epochs == list(range(epochs[0], epochs[-1] + 1))
    assert all(draw["done"] and not draw["skipped"] for draw in found["draws"])


def place_of(net: Devnet) -> str:
    """``KEY@HOST:PORT`` of the verifier, as the client's settings name it."""
    (place,) = json.loads((net.client_home / "dsn.toml").read_text().partition(" = ")[2])
    return str(place)


@asynccontextmanager
async def verifier_of(net: Devnet) -> AsyncIterator[VerifierPeer]:
    """The verifier, as the client asks it."""
    key, _, address = place_of(net).partition("@")
    identity = SigningKey(IdentityKeys.derive(Home(net.client_home).load_root()).identity_seed)
    async with Connections(identity, net.network().network_id) as connections:
        yield VerifierPeer(connections.line(Contact(parse_base32(key), address)))


async def _check_appeal(net: Devnet, link: str) -> None:
    """A node that is away is silent; back again, its provider appeals, and it is held."""
    node = net.of_role("node")[-1]
    assert node.pid is not None
    os.kill(node.pid, signal.SIGKILL)
    async with verifier_of(net) as peer:
        audited = await peer.audit(link)
        dsn("devnet", "start", node.name, "--dir", net.directory).check()
        said = [Verdict.decode(each.verdict) for each in audited.verdicts]
        (first,) = [each for each in said if format_node_id(each.node) == node.node_id]
        assert first.outcome is Outcome.SILENT
        words = ("provider", "appeal", first.hash.hex(), "--verifier", place_of(net))
        rows = dsn("--home", node.home, "--json", *words).check().fields
        assert (rows["before"]["outcome"], rows["after"]["outcome"]) == ("silent", "held")
        page = await peer.get_verdicts()
        after = [Verdict.decode(each.verdict) for each in page.verdicts]
        (second,) = [each for each in after if each.appeal == first.hash]
        assert second.hash.hex() == rows["after"]["hash"]
        bundle = parse_bundle(await peer.get_bundle(second.evidence))
        assert verify_bundle(bundle, net.network()).held


async def _check_service(net: Devnet, link: str) -> None:
    network, (key, _, _) = net.network(), place_of(net).partition("@")
    async with verifier_of(net) as peer:
        before = (await peer.get_verdicts()).next
        audited = await peer.audit(link)
        verdicts = [
            SignedVerdict(Verdict.decode(each.verdict), each.signature) for each in audited.verdicts
        ]
        for each in verdicts:
            verify_verdict(each)
            assert each.verdict.verifier == parse_base32(key)
        raw = await peer.get_bundle(audited.evidence)
        bundle = parse_bundle(raw)
        assert isinstance(bundle, LiveBundle) and evidence_hash(raw) == audited.evidence
        assert verify_bundle(bundle, network).held
        assert [part.verdict for part in bundle.parts] == verdicts
        page = await peer.get_verdicts(before)
        assert {each.verdict for each in audited.verdicts} <= {e.verdict for e in page.verdicts}
        assert await peer.get_bundle(bytes(32)) == b""
        with pytest.raises(UsageError) as refused:
            await peer.appeal(verdicts[0].verdict.hash)
        assert refused.value.detail_code == "no_verdict"
        with pytest.raises(DsnError) as refused_link:
            await peer.audit(link[:-1] + ("a" if link[-1] != "a" else "b"))
        assert refused_link.value.detail_code == "bad_capability"
