"""The chapter about three providers that break their word, and one that keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from dsn.apps import devnet_run
from dsn.apps.cheating import Standing, delete_all, describe, make_up, standings, verdicts
from dsn.apps.damage import kill_now
from dsn.apps.devnet import Devnet, Process
from dsn.apps.telling import Teller
from dsn.ids import NodeId, parse_node_id
from dsn.ports import Clock, Entropy
from dsn.proofs.verdict import Outcome, Verdict
from dsn.store.home import Home

EPOCHS: Final = 3
"""How long they go on."""
PATIENCE_EPOCHS: Final = 5
"""How long the verifier may take to look at an answer."""


class Cast(NamedTuple):
    """Who does what."""

    deleter: Process
    liar: Process
    silent: Process
    honest: Process


class Cheats:
    """Has them cheat, waits, and shows what each earns and what the verifier says."""

    def __init__(self, teller: Teller, clock: Clock, entropy: Entropy) -> None:
        """Tell it through ``teller``."""
        self._teller, self._clock, self._entropy = teller, clock, entropy

    async def run(self, network: Devnet, holders: Sequence[Process]) -> tuple[Devnet, Process]:
        """Choose four of ``holders``; gives the network as it is afterwards, and the liar.

        Raises:
            StoryBroken: A step did not hold.
        """
        self._teller.chapter("Three providers do not keep their word")
        cast = Cast(*holders[-4:])
        network, epoch = await self._break_words(network, cast)
        first = await devnet_run.wait_epochs(network, 1)
        before = standings(network, first)
        last = await devnet_run.wait_epochs(network, EPOCHS)
        after = standings(network, first)
        said = await self._said(network, cast.liar, epoch)
        slashed = await self._slashed(network, cast.liar)
        for process in cast:
            pay = after[process.name].disk - before[process.name].disk
            proven = f"proves {after[process.name].proven} of {last - first} epochs"
            words = describe(said[parse_node_id(process.node_id)], epoch)
            self._teller.fact(f"{process.name:7}{proven}, {pay:>6,} credits; verifier: {words}")
        self._judge(cast, before, after, said)
        self._teller.hold(slashed, f"the ledger slashes {cast.liar.name}: its deals are over")
        return await devnet_run.bring_up(network, network.processes), cast.liar

    async def _break_words(self, network: Devnet, cast: Cast) -> tuple[Devnet, int]:
        """Each in its way; gives the epoch that is lied about."""
        tell = self._teller.fact
        network, _ = devnet_run.stop(network, [cast.liar])
        epoch = await make_up(cast.liar, self._clock, self._entropy)
        network = await devnet_run.bring_up(network, [network.named(cast.liar.name)])
        tell(f"{cast.liar.name} answers epoch {epoch} with noise, signed by its own keys")
        files = delete_all(Path(cast.deleter.volume))
        tell(f"{cast.deleter.name} deletes the {files} files that it is paid for, and runs on")
        kill_now([cast.silent])
        tell(f"{cast.silent.name} is unplugged; {cast.honest.name} does what it is paid for")
        return network, epoch

    async def _said(
        self, network: Devnet, liar: Process, epoch: int
    ) -> dict[NodeId, list[Verdict]]:
        """The verifier's verdicts by node, once it has looked at the lie."""
        home, node = Home.open(network.client_home), parse_node_id(liar.node_id)
        said: list[Verdict] = []
        for _ in range(PATIENCE_EPOCHS):
            said = await verdicts(network, home)
            if any((each.node, each.epoch) == (node, epoch) for each in said):
                break
            await devnet_run.wait_epochs(network, 1)
        nodes = [parse_node_id(each.node_id) for each in network.of_role("node")]
        return {each: [verdict for verdict in said if verdict.node == each] for each in nodes}

    async def _slashed(self, network: Devnet, liar: Process) -> bool:
        """Whether the verifier's evidence ended the liar's deals, given a few epochs."""
        for _ in range(PATIENCE_EPOCHS):
            if standings(network, 1)[liar.name].ended:
                return True
            await devnet_run.wait_epochs(network, 1)
        return False

    def _judge(
        self,
        cast: Cast,
        before: Mapping[str, Standing],
        after: Mapping[str, Standing],
        said: Mapping[NodeId, Sequence[Verdict]],
    ) -> None:
        hold = self._teller.hold
        earned = {name: after[name].disk - before[name].disk for name in after}
        hold(earned[cast.honest.name] > 0, "who proves what it holds is paid for it")
        empty = (cast.deleter.name, cast.silent.name)
        hold(not any(earned[name] for name in empty), "who has nothing to show is paid nothing")
        wrong = {
            node
            for node, verdicts_on in said.items()
            if any(each.outcome is Outcome.WRONG for each in verdicts_on)
        }
        convicted = wrong == {parse_node_id(cast.liar.node_id)}
        hold(convicted, f"the verifier convicts {cast.liar.name} of lying, and nobody else")
