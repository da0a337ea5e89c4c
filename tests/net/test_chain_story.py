"""A whole network on a real EVM node, by its commands: in, deals, a dispute, out, and the end.

Each part needs the one before, and starting processes is what takes the time.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.net.local import described, down, dsn
from tests.support.evm import anvil_program, missing

PATIENCE_S = 60.0
MONTH_S = 31 * 86_400
HOUR_S = 3_600


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the network goes; whatever runs there ends with the test."""
    program = anvil_program()
    if program is None or missing():
        pytest.skip(missing())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "anvil").symlink_to(Path(program).resolve())
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    yield tmp_path / "net"
    down(tmp_path / "net")


def test_the_story_of_a_network_on_a_chain(folder: Path, tmp_path: Path) -> None:
    words = ("--nodes", "2", "--capacity", "1GB", "--epoch-s", "4", "--chain", "--json")
    network = dsn("devnet", "up", "--dir", folder, *words).check().fields
    client = Path(network["client_home"])
    deposits_and_withdraws(client)
    stores_a_file_and_asks_for_a_leaf(client, tmp_path)
    the_operator_goes_and_all_leave(folder, client)


def wallet(home: Path) -> dict[str, int]:
    fields = dsn("wallet", "balance", "--json", home=home).check().fields
    return {name: int(amount) for name, amount in fields.items()}


def deposits_and_withdraws(client: Path) -> None:
    """To the unit on both sides."""
    before = wallet(client)
    paid = dsn("wallet", "deposit", "5000", "--json", home=client).check().fields
    assert int(paid["units"]) == before["on_chain"] - 5_000
    assert int(paid["available"]) == before["available"] + 5_000
    done = dsn("wallet", "withdraw", "1234", "--json", home=client).check().fields
    assert (done["collected"], done["withdrawn"], done["paid"]) == ("1234",) * 3
    after = wallet(client)
    assert after["on_chain"] == before["on_chain"] - 5_000 + 1_234
    assert before["available"] + 5_000 - 1_234 - after["available"] >= 0, "less the fee"
    assert (after["depositing"], after["withdrawing"], after["owed"]) == (0, 0, 0)
    nothing = dsn("wallet", "withdraw", "--json", home=client).check().fields
    assert (nothing["collected"], nothing["gas"]) == ("0", 0)


def stores_a_file_and_asks_for_a_leaf(client: Path, tmp_path: Path) -> None:
    """The node answers by itself, and nobody tells it to."""
    (tmp_path / "file").write_bytes(os.urandom(60_000))
    dsn("put", tmp_path / "file", "--as", "f", "--scheme", "1/2", home=client).check()
    opened: dict[str, Any] = {}
    deadline_s = time.monotonic() + PATIENCE_S
    while not opened:
        dsn("ledger", "anchor", home=client).check()
        tried = dsn("dispute", "open", "f", "--json", home=client)
        if tried.code == 0:
            opened = tried.fields
        else:  # it holds nothing in an anchored state yet
            assert tried.fields["error"]["code"] in ("no_such_leaf", "unknown_deal")
            assert time.monotonic() < deadline_s
    assert 0 <= opened["leaf"] < opened["leaves"]
    while dsn("dispute", "ls", "--json", home=client).check().fields["pending"]:
        assert time.monotonic() < deadline_s
    late = dsn("dispute", "slash", opened["deal"], "--json", home=client)
    assert late.fields["error"]["code"] == "no_demand"


def the_operator_goes_and_all_leave(folder: Path, client: Path) -> None:
    """A witness freezes the vault, nodes leave by themselves, and clients when they like."""
    before, rpc = wallet(client), endpoint(folder)
    dsn("devnet", "stop", "ledger", "--dir", folder).check()
    early = dsn("escape", "--json", home=client).check().fields
    assert early["frozen_s"] is None and early["waiting"]
    pass_time(rpc, MONTH_S)
    waiting = left(client, lambda fields: fields["frozen_s"] is not None)
    assert waiting["credited"] == {}
    pass_time(rpc, HOUR_S)
    left(client, lambda fields: int(fields["paid"]) > 0)
    pass_time(rpc, MONTH_S)
    last = left(client, lambda fields: fields["waiting"] == [])
    assert last["owed"] == "0"
    assert int(last["paid"]) == sum(map(int, last["credited"].values()))
    assert int(last["units"]) == before["on_chain"] + int(last["paid"])
    assert int(last["paid"]) <= before["total"]
    for name in ("node1", "node2"):
        done = dsn("escape", "--json", home=folder / name).check().fields
        assert int(done["paid"]) > 0 and done["owed"] == "0"


def left(client: Path, enough: Any) -> dict[str, Any]:
    """What ``dsn escape`` says once that is ``enough``."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        fields = dsn("escape", "--json", home=client).check().fields
        if enough(fields):
            return dict(fields)
        assert time.monotonic() < deadline_s, fields


def endpoint(folder: Path) -> str:
    """Where the local chain answers."""
    processes = described(folder)["processes"]
    return str(next(each["address"] for each in processes if each["role"] == "chain"))


def pass_time(address: str, seconds: int) -> None:
    """Have the chain's clock move, and some blocks come."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    for method, params in (("evm_increaseTime", [hex(seconds)]), ("anvil_mine", ["0x5"])):
        connection = HTTPConnection(host, int(port), timeout=20)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        assert "error" not in json.loads(connection.getresponse().read())
        connection.close()
