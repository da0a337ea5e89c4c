"""Epochs by rounds of a drand chain that is signed here; tests ask for the extra first."""

from __future__ import annotations

from dsn.ledger.bodies import Salt, ShutEpoch
from dsn.ledger.rules.signatures import salt_preimage
from dsn.proofs.drand import drand_evidence, drand_value, salt_for
from tests.support.ledger_world import WITNESSES, World

ROUND = 5_000


class DrandTime(World):
    """A world each of whose shuts fixes the round that the next epoch opens with."""

    def beacon(self, epoch: int) -> tuple[bytes, bytes]:
        from tests.support.drand_chain import sign_round

        if epoch == 1:
            return super().beacon(epoch)
        due = ROUND + epoch - 1
        evidence = drand_evidence(due, sign_round(due))
        return drand_value(self.params.domain.network, epoch, evidence), evidence

    def shut_epoch(self) -> None:
        epoch, salts = self.epoch, []
        for key in WITNESSES[:2]:
            salt = salt_for(ROUND + epoch, bytes(24))
            signature = key.sign(salt_preimage(self.params.domain.network, epoch, salt))
            salts.append(Salt(key.public, salt, signature))
        self.do("operator", ShutEpoch(epoch, tuple(salts)))
        self.shut_head = self.frontier.head
