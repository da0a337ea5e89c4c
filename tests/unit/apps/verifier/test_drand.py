"""A network whose beacons are drand's: a verifier's bundles bring what fixed each round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dsn.dht.network import Network
from dsn.ledger.bundle import EpochBundle, parse_bundle, verify_bundle
from dsn.proofs.verdict import Outcome
from tests.support.drand_time import DrandTime
from tests.support.verifier_world import GENESIS, AnswerNode, EpochWorld, bench

pytest.importorskip("py_arkworks_bls12381", reason="needs the extra drand")


class DrandEpochs(DrandTime, EpochWorld):
    """Its beacons are rounds of a chain that is signed here."""


async def test_a_bundle_has_the_shut_that_fixed_its_round(tmp_path: Path) -> None:
    from tests.support.drand_chain import own_chain

    assert GENESIS.ledger is not None
    chain = own_chain(1_700_000_000, 3)
    genesis = replace(GENESIS, ledger=replace(GENESIS.ledger, drand=chain))
    world = DrandEpochs(Network(bytes(64), genesis))
    paul = AnswerNode("paul", world)
    world.turn()
    epochs = [world.turn("paul") for _ in range(2)]
    async with paul.serving(), bench(tmp_path, world, [paul]) as verifier:
        verdicts = [each.verdict for each in await verifier.look()]
        held = [each for each in verdicts if each.outcome is Outcome.HELD]
        assert sorted(each.epoch for each in held) == epochs
        for each in held:
            bundle = parse_bundle(await verifier.store.bundle(each.evidence))
            assert isinstance(bundle, EpochBundle) and bundle.opened[0].shut is not None
            assert verify_bundle(bundle, world.network).held
