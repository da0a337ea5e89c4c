"""All that a ledger does with its chain: bring in what happened there, and anchor."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from dsn.apps.ledger.chain import Settling
from dsn.apps.ledgerd.anchors import Anchors
from dsn.apps.ledgerd.deposits import Deposits
from dsn.apps.ledgerd.desk import Desk, Operator
from dsn.apps.ledgerd.intake import Intake
from dsn.apps.ledgerd.judged import JudgedSlashes
from dsn.apps.ledgerd.publisher import SHORT_EPOCH_S, Publisher
from dsn.apps.ledgerd.views import Views

DEPOSITS_FILE: Final = "ledger.deposits"
SLASHES_FILE: Final = "ledger.slashes"
LOOK_S: Final = 5.0
"""Between two looks at the chain; less where epochs are short."""
SHORT_LOOK_S: Final = 0.25


class Settler:
    """Works beside a ledger on its chain."""

    def __init__(
        self,
        desk: Desk,
        operator: Operator,
        publisher: Publisher,
        views: Views,
        settling: Settling,
        state: Path,
    ) -> None:
        """Work for the ledger of ``desk``; ``state`` is a directory for what is remembered."""
        params = operator.params
        look_s = SHORT_LOOK_S if params.epoch_s < SHORT_EPOCH_S else LOOK_S
        self.deposits = Intake(
            desk,
            settling.vault.deposits_since,
            Deposits(desk, operator).enter,
            file=state / DEPOSITS_FILE,
            every_s=look_s,
        )
        self.slashes = Intake(
            desk,
            settling.disputes.slashes_since,
            JudgedSlashes(operator).enter,
            file=state / SLASHES_FILE,
            every_s=look_s,
        )
        self.anchors = Anchors(publisher, views, params, settling)

    async def run(self) -> None:
        """Work for good; raises as ``Intake.run``."""
        async with asyncio.TaskGroup() as group:
            for each in (self.deposits, self.slashes, self.anchors):
                group.create_task(each.run())
