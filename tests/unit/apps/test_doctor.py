"""Each fault has a name and a fix."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from dsn.apps import devnet_make, doctor
from dsn.apps.devnet import Devnet
from dsn.apps.doctor import Finding, examine
from dsn.runtime.clock import SystemClock


class FixedClock(SystemClock):
    """A clock that stands at one moment."""

    def __init__(self, now_s: float) -> None:
        self._now_s = now_s

    def now_s(self) -> float:
        return self._now_s


async def findings(home: Path, now_s: float = 1e9) -> dict[str, Finding]:
    return {one.name: one async for one in examine(home, FixedClock(now_s), os.urandom)}


@pytest.fixture
def network(tmp_path: Path) -> Devnet:
    """One node that does not run, founded at 1e9."""
    return devnet_make.create(
        tmp_path,
        nodes=1,
        group="node",
        capacity_bytes=10**9,
        epoch_s=None,
        clock=FixedClock(1e9),
        entropy=os.urandom,
    )


async def test_without_a_home_the_machine_is_still_looked_at(tmp_path):
    found = await findings(tmp_path / "none" / "below")
    assert list(found) == ["erasure coding", "leaf hashes", "disk", "open files", "home"]
    assert not found["home"].ok
    assert "dsn init" in found["home"].fix
    assert not (tmp_path / "none").exists()


async def test_keys_that_others_can_read(network):
    (network.client_home / "keys" / "root.key").chmod(0o640)
    found = await findings(network.client_home)
    assert not found["home"].ok
    assert found["home"].fix.startswith("chmod 600 ")


async def test_a_home_without_a_network(network):
    (network.client_home / "network.toml").unlink()
    found = await findings(network.client_home)
    assert not found["network"].ok
    assert "dsn join" in found["network"].fix


async def test_silent_nodes_are_named(network):
    found = await findings(network.client_home)
    assert found["clock"].ok
    assert not found["nodes"].ok
    assert "none of 1 known nodes answered" in found["nodes"].detail
    assert found["nodes"].fix


async def test_a_clock_before_the_network_was_founded(network):
    assert (await findings(network.client_home, 1e9 - 29))["clock"].ok
    late = (await findings(network.client_home, 1e9 - 31))["clock"]
    assert not late.ok
    assert late.fix


async def test_bounds_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 1 << 60)
    monkeypatch.setattr(
        doctor, "LEAST_OPEN_FILES", resource.getrlimit(resource.RLIMIT_NOFILE)[0] + 1
    )
    found = await findings(tmp_path)
    for name in ("disk", "open files"):
        assert not found[name].ok
        assert found[name].fix
