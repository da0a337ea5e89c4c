"""A holder challenged again on an appeal: the same shards, a new nonce, both verdicts kept."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from dsn.apps.verifier.appeals import Appeals
from dsn.apps.verifier.live import LiveAudits
from dsn.core.keys import SigningKey
from dsn.errors import InvalidProof, UsageError
from dsn.ids import NetworkId
from dsn.ledger.bundle import LiveBundle, format_bundle, parse_bundle, verify_bundle
from dsn.proofs.verdict import Outcome, SignedVerdict, verify_verdict
from dsn.store.verdicts import VerdictStore, open_verdicts
from tests.support import attackers
from tests.support.attackers import Answering, Lie
from tests.support.audit_world import VERIFIER, AuditedFile, audited

LIAR = 2


@dataclass
class Turning:
    """A holder that tells its lie only while ``lies``."""

    lie: Lie
    lies: bool = True
    asked: list[Any] = field(default_factory=list)

    def __call__(self, answering: Answering, key: SigningKey, network: NetworkId) -> Answering:
        lying = self.lie(answering, key, network)

        async def answer(caller: Any, request: Any) -> Any:
            self.asked.append(request)
            return await (lying if self.lies else answering)(caller, request)

        return answer


@dataclass
class Verifier:
    """One that audited a file, and hears appeals."""

    file: AuditedFile
    store: VerdictStore
    audits: LiveAudits
    appeals: Appeals
    bundle: LiveBundle

    def on(self, number: int) -> SignedVerdict:
        node = self.file.holders[number].node_id
        (found,) = (part.verdict for part in self.bundle.parts if part.verdict.verdict.node == node)
        return found

    async def kept(self, verdict: SignedVerdict) -> LiveBundle:
        """The bundle that a verdict stands in, as anybody verifies it."""
        bundle = parse_bundle(await self.store.bundle(verdict.verdict.evidence))
        assert isinstance(bundle, LiveBundle)
        verify_bundle(bundle, self.file.nodes.network)
        return bundle


@asynccontextmanager
async def auditing(folder: Path, holder: Turning) -> AsyncIterator[Verifier]:
    async with (
        audited(folder / "net", lies={LIAR: holder}) as file,
        open_verdicts(folder / "verifier.db") as store,
    ):
        clock, unused = file.world.clock, cast(Any, None)
        audits = LiveAudits(VERIFIER, file.nodes, unused, store, clock, os.urandom)
        bundle = await file.audit()
        verdicts = [part.verdict for part in bundle.parts]
        raw = format_bundle(bundle, VERIFIER.sign)
        await store.add(verdicts, verdicts[0].verdict.evidence, raw)
        appeals = Appeals(store, unused, unused, audits)
        yield Verifier(file, store, audits, appeals, bundle)


@pytest.mark.parametrize(
    ("lie", "outcome"),
    [(attackers.wrong_bytes, Outcome.WRONG), (attackers.lost_one, Outcome.SILENT)],
)
async def test_who_answers_the_second_time_has_both_verdicts(
    tmp_path: Path, lie: Lie, outcome: Outcome
) -> None:
    holder = Turning(lie)
    async with auditing(tmp_path, holder) as verifier:
        first = verifier.on(LIAR)
        assert first.verdict.outcome is outcome
        holder.lies = False
        second = await verifier.appeals.hear(first)
        verify_verdict(second)
        assert second.verdict.outcome is Outcome.HELD
        assert second.verdict.appeal == first.verdict.hash
        assert second.verdict.subject == first.verdict.subject
        asked, again = holder.asked
        assert (asked.commits, asked.leaves) == (again.commits, again.leaves)
        assert asked.nonce != again.nonce == second.verdict.nonce
        (part,) = (await verifier.kept(second)).parts
        assert part.verdict == second and part.answer is not None
        assert len((await verifier.kept(first)).parts) == len(verifier.file.holders)
        assert await verifier.appeals.hear(first) == second
        assert len(holder.asked) == 2, "it is asked once more, not twice"
        with pytest.raises(UsageError, match="on an appeal"):
            await verifier.appeals.hear(second)


async def test_who_lies_again_is_wrong_again(tmp_path: Path) -> None:
    async with auditing(tmp_path, Turning(attackers.wrong_bytes)) as verifier:
        first = verifier.on(LIAR)
        second = await verifier.appeals.hear(first)
        assert second.verdict.outcome is Outcome.WRONG
        assert (second.verdict.leaves, second.verdict.size_bytes) == (0, 0)
        assert second.verdict.reason == first.verdict.reason
        await verifier.kept(second)


async def test_who_held_may_ask_too(tmp_path: Path) -> None:
    async with auditing(tmp_path, Turning(attackers.wrong_bytes)) as verifier:
        second = await verifier.appeals.hear(verifier.on(0))
        assert second.verdict.outcome is Outcome.HELD


async def test_another_count_of_leaves_proves_nothing(tmp_path: Path) -> None:
    async with auditing(tmp_path, Turning(attackers.wrong_bytes)) as verifier:
        (part,) = (part for part in verifier.bundle.parts if part.verdict == verifier.on(0))
        shards = {commit: leaves + 1 for commit, leaves in part.shards.items()}
        before = await verifier.store.count()
        with pytest.raises(InvalidProof) as refused:
            await verifier.audits.again(verifier.bundle, replace(part, shards=shards))
        assert refused.value.detail_code == "other_root"
        assert await verifier.store.count() == before
