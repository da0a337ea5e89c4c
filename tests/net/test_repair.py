"""``dsn repair`` as people run it: real processes, killed nodes, a home with a link and credits."""

from __future__ import annotations

import os
from pathlib import Path

from dsn.apps.damage import kill_now
from dsn.apps.devnet import Devnet
from tests.net.local import dsn
from tests.support.paid_devnet import paid_devnet


def kill_holders(net: Devnet, count: int) -> None:
    """SIGKILL ``count`` nodes that hold the file; the one that newcomers start from stays."""
    info = dsn("info", "file", "--json", home=net.client_home).check().fields
    holders = {holder["node"] for holder in info["holders"]}
    nodes = [each for each in net.processes if each.role == "node"][1:]
    victims = [each for each in nodes if each.node_id in holders][:count]
    assert len(victims) == count
    kill_now(victims)


def test_what_killed_nodes_held_comes_back_and_too_few_are_named(tmp_path: Path) -> None:
    source, out = tmp_path / "file", tmp_path / "out"
    source.write_bytes(os.urandom(3_000_000))
    with paid_devnet(tmp_path / "net", nodes=7) as net:
        owner, other = Path(net.client_home), tmp_path / "other"
        stored = dsn("put", source, "--scheme", "2/4", "--json", home=owner).check().fields
        dsn("init", "--network", net.network_file, home=other).check()
        dsn("join", net.network_file, home=other).check()
        kill_holders(net, 2)

        said = dsn("repair", stored["repair"], "--dry-run", "--json", home=other).check().fields
        assert (said["rebuilt"], said["state"], said["dry_run"]) == (2, "at_risk", True)
        assert int(said["locked"]) > int(said["cost"]) > 0
        over = dsn("repair", stored["repair"], "--budget", "1", "--json", home=other).check(6)
        assert over.fields["error"]["code"] == "over_budget"

        done = dsn("repair", stored["repair"], "--json", home=other).check().fields
        assert {"rebuilt", "moved", "state", "leaves", "bytes", "seconds"} <= done.keys()
        assert (done["rebuilt"], done["moved"], done["state"]) == (2, 2, "healthy")
        assert dsn("check", "file", "--deep", home=owner).check()
        dsn("get", stored["read"], "-o", out, home=owner).check()
        assert out.read_bytes() == source.read_bytes()
        assert dsn("repair", "file", "--json", home=owner).check().fields["rebuilt"] == 0

        kill_holders(net, 3)
        lost = dsn("repair", stored["repair"], home=other).check(5)
        assert lost.err[0] == "dsn: segment 0: 1 shards found, 2 needed"
        dsn("repair", stored["verify"], home=other).check(2)
