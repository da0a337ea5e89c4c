"""Epochs proven and paid to the unit while processes are restarted; ``bench/epochs.py``, short."""

from __future__ import annotations

from pathlib import Path

from bench.epochs import AWAY, fill, run, up
from tests.net.local import down

EPOCH_S = 10
SEED = 5


async def test_restarts_cost_nobody_an_epoch_and_an_absence_costs_what_it_lasted(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "net"
    up(folder, 4, EPOCH_S)
    try:
        fill(folder, 2, 4 << 20, "2/4", SEED)
        result = await run(folder, 0.0, EPOCH_S, SEED)
    finally:
        down(folder)
    assert result["agrees"], (SEED, result["reasons"], result["late"])
    assert not [said for said in result["verdicts"] if said.startswith("wrong")]
    roles = {what.split()[1] for what in result["restarts"]}
    assert roles == {"node", "ledger", "witness", "verifier"}, (SEED, result)
    (away,) = [each for each in result["nodes"] if each["node"] == result["away"]]
    assert len(away["missed"]) >= AWAY and away["lost"] > 0
