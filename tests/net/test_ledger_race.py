"""Many processes claim the same vouchers at the same time: each is paid once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from dsn.core.keys import KEY_BYTES
from dsn.ledger.settlement import SettlementKey
from tests.support.paid_devnet import agreed_deal, binding, funded, light_client, paid_devnet

RACERS = 16
ROUNDS = int(os.environ.get("DSN_TEST_RACE_ROUNDS", "100"))
CREDITS = 7
REPOSITORY = Path(__file__).parents[2]
RACER = REPOSITORY / "tests" / "support" / "racer.py"
ALICE, PAUL = b"a" * KEY_BYTES, b"p" * KEY_BYTES


async def test_a_voucher_that_sixteen_processes_claim_is_paid_once(tmp_path: Path) -> None:
    with paid_devnet(tmp_path / "net") as net:
        network = net.network()
        alice, paul = SettlementKey.derive(ALICE), SettlementKey.derive(PAUL)
        root = net.operator.load_root()
        async with light_client(network, root, tmp_path / "op") as (light, operator):
            await funded(operator, [alice, paul], 10**9)
            for seed in (ALICE, PAUL):
                async with light_client(network, seed, tmp_path / seed[:1].decode()) as (_, who):
                    await who.send([binding(network, seed)])
            deal, opening = agreed_deal(
                network, alice, paul, epoch=await light.epoch(), bandwidth=ROUNDS * CREDITS
            )
            async with light_client(network, ALICE, tmp_path / "a") as (_, client):
                await client.send([opening])
            await light.refresh()
            before = await light.account(paul.address)
            counts = race(tmp_path, net.network_file, deal)
            await light.refresh()
            cell, after = (await light.deals([deal]))[deal], await light.account(paul.address)
    params = network.ledger_params
    assert params is not None
    paid = counts["accepted"]
    assert sum(counts.values()) == RACERS * ROUNDS
    assert set(counts) <= {"accepted", "stale_voucher", "nonce_used", "nonce_gap"}, counts
    assert cell.voucher_paid == ROUNDS * CREDITS, counts
    assert after.nonce - before.nonce == paid
    assert after.available - before.available == ROUNDS * CREDITS - paid * params.entry_fee
    assert paid <= ROUNDS


def race(folder: Path, network_file: Path, deal: bytes) -> Counter[str]:
    """Outcomes of all claims, by code, from as many processes as there are racers."""
    job = {
        "network": str(network_file), "deal": deal.hex(), "client": ALICE.hex(),
        "provider": PAUL.hex(), "rounds": ROUNDS, "credits": CREDITS,
    }  # fmt: skip
    racers = [
        subprocess.Popen(
            [sys.executable, str(RACER), json.dumps(job)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )
        for _ in range(RACERS)
    ]
    counts: Counter[str] = Counter()
    for racer in racers:
        out, _ = racer.communicate(timeout=300)
        assert racer.returncode == 0
        counts.update(json.loads(out))
    return counts
