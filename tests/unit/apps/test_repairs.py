"""Files that lost holders, shards and leaves, brought back on a real, paid network."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from dsn.apps import repair_shards
from dsn.apps.client import Client
from dsn.apps.manifests import Manifest
from dsn.apps.repair_file import FileRepair
from dsn.apps.repairs import _listed
from dsn.apps.results import FileState, RepairResult
from dsn.apps.targets import PutItem
from dsn.config import ClientSettings
from dsn.core.layout import Scheme
from dsn.core.merkle import ShardHasher
from dsn.core.rebuild import SegmentRebuilder
from dsn.dht.network import format_network
from dsn.errors import DsnError
from dsn.ids import Commit, NodeId
from dsn.ledger.bodies import Transfer
from dsn.ledger.settlement import SettlementKey
from dsn.machines.repair import Repair
from dsn.store.home import Home
from dsn.units import MIB
from tests.support.paid_net import CLIENT_ROOT, FINDING, PaidNet, bind, paid_net

SCHEME = Scheme(2, 4)
SIZE = 5 * MIB + 12_345


@dataclass
class Story:
    """A stored file, its owner, and others who may repair it."""

    net: PaidNet
    folder: Path
    data: bytes
    link: str
    read: str

    async def repairer(self, number: int, credits: int = 10**10) -> Home:
        """A funded home that knows nothing of the file."""
        root, served = bytes([200 + number]) * 32, self.net.served
        home = Home.create(self.folder / f"repairer-{number}", root)
        home.save_network(format_network(served.network))
        address = SettlementKey.derive(root).address
        await served.enter(SettlementKey.derive(CLIENT_ROOT), Transfer(address, credits))
        await bind(served, root)
        return home

    def open(self, home: Home) -> Client:
        return Client.open(
            home,
            notice=self.net.notices.append,
            progress=lambda progress: None,
            dht=FINDING,
            storing=ClientSettings(),
        )

    async def manifest(self) -> Manifest:
        async with self.net.client() as client:
            return await client._manifest(await client._resolve(self.link))

    async def kill(self, *nodes: NodeId) -> None:
        """These nodes answer nobody any more."""
        for node in nodes:
            await self.net.nodes[node]._server.stop(0)

    async def check(self) -> FileState:
        async with self.net.client() as client:
            return (await client.check("file", deep=True)).state

    async def reads(self) -> bool:
        """Whether the owner's read link still gives the file."""
        out = self.folder / "out"
        async with self.net.client() as client:
            await client.get(self.read, out, force=True)
        return out.read_bytes() == self.data


async def repair(
    client: Client, target: str, *, dry_run: bool = False, budget: int | None = None
) -> RepairResult:
    return await client.repair(target, dry_run=dry_run, days=10, budget=budget)


@pytest.fixture
async def story(tmp_path: Path) -> AsyncIterator[Story]:
    async with paid_net(tmp_path, nodes=8) as net:
        path = tmp_path / "file"
        path.write_bytes(os.urandom(SIZE))
        async with net.client() as client:
            (stored,) = await client.put([PutItem(path, "file")], scheme=SCHEME)
        yield Story(net, tmp_path, path.read_bytes(), stored.repair, stored.read)


def holders(manifest: Manifest, segment: int = 0) -> list[NodeId]:
    """Who holds the segment's shards, by index."""
    return [manifest.placement.nodes[p.node] for p in manifest.placement.rows[segment]]


async def test_a_stranger_with_the_repair_link_restores_total(story: Story) -> None:
    before = await story.manifest()
    gone = holders(before)[:2]
    await story.kill(*gone)
    async with story.open(await story.repairer(1)) as client:
        said = await client.repair(story.link, dry_run=True, days=10, budget=None)
        result = await repair(client, story.link)
        again = await repair(client, story.link)
    assert (result.rebuilt, result.moved, result.state) == (2, 2, FileState.HEALTHY)
    assert (said.rebuilt, said.moved) == (2, 2) and said.cost and result.cost == said.cost
    assert (again.rebuilt, again.state) == (0, FileState.HEALTHY), "nothing is left to do"
    after = await story.manifest()
    assert after.sequence > before.sequence
    assert not set(gone) & set(after.shards())
    generations = [place.generation for place in after.placement.rows[0]]
    assert generations == [1, 1, 0, 0]
    assert len(set(holders(after))) == 4
    assert await story.check() is FileState.HEALTHY
    assert await story.reads()


async def test_two_repairers_at_once_agree(story: Story) -> None:
    await story.kill(*holders(await story.manifest())[1:3])
    homes = [await story.repairer(number) for number in (1, 2)]
    async with story.open(homes[0]) as one, story.open(homes[1]) as two:
        results = await asyncio.gather(repair(one, story.link), repair(two, story.link))
    assert [result.state for result in results] == [FileState.HEALTHY] * 2
    assert len(set(holders(await story.manifest()))) == 4
    assert await story.check() is FileState.HEALTHY
    assert await story.reads()


async def test_what_cannot_be_done_changes_nothing(story: Story) -> None:
    before = await story.manifest()
    await story.kill(*holders(before)[:2])
    stored = story.net.stored_bytes
    async with story.net.client() as client:
        weaker = [(await client.share("file", kind)).capability for kind in ("read", "verify")]
        for link in weaker:
            assert await refusal(repair(client, link)) == ("bad_capability", 2)
    async with story.open(await story.repairer(1)) as client:
        assert await refusal(repair(client, story.link, budget=10)) == ("over_budget", 6)
        await story.kill(holders(before)[2])
        with pytest.raises(DsnError, match="segment 0: 1 shards found, 2 needed") as failure:
            await repair(client, story.link)
    assert (failure.value.detail_code, failure.value.exit_code) == ("not_enough_shards", 5)
    assert story.net.stored_bytes == stored
    assert (await story.manifest()).sequence == before.sequence


async def refusal(work: Awaitable[object]) -> tuple[str, int]:
    with pytest.raises(DsnError) as failure:
        await work
    return failure.value.detail_code, failure.value.exit_code


def volume(story: Story, node: NodeId) -> Path:
    return story.net.nodes[node]._config.volume


def rot(story: Story, node: NodeId, length: int, at: int) -> None:
    """Flip a byte of the one large shard of ``length`` bytes that ``node`` has."""
    files = (each for each in (volume(story, node) / "shards").rglob("*") if each.is_file())
    (path,) = (each for each in files if length <= each.stat().st_size < length + 8_192)
    with path.open("r+b") as shard:
        shard.seek(at)
        old = shard.read(1)[0]
        shard.seek(at)
        shard.write(bytes([old ^ 0xFF]))


async def test_a_rotten_leaf_is_given_back_and_nothing_moves(story: Story) -> None:
    before = await story.manifest()
    node, length = holders(before)[1], before.core.layout.segment(0).shard_bytes
    rot(story, node, length, 70_000)
    assert await story.check() is FileState.AT_RISK, "the owner saw it"
    async with story.net.client() as client:
        planned = await repair(client, "file", dry_run=True)
        result = await repair(client, "file")
    assert (planned.leaves, planned.state) == (result.leaves, FileState.DEGRADED)
    assert (result.rebuilt, result.state) == (0, FileState.HEALTHY)
    assert 1 <= result.leaves <= 64
    assert (await story.manifest()).sequence == before.sequence
    assert await story.check() is FileState.HEALTHY


class Liar(SegmentRebuilder):
    """A repairer that sends noise, under the commits of that noise."""

    def band(
        self, start: int, end: int, frames: Mapping[int, bytes], generations: Sequence[int]
    ) -> list[bytes]:
        noise = [os.urandom(len(each)) for each in super().band(start, end, frames, generations)]
        if start == 0:
            self.noise = [ShardHasher() for _ in noise]
        for tree, frame in zip(self.noise, noise, strict=True):
            tree.update(frame)
        return noise

    def commits(self) -> dict[int, Commit]:
        return {index: tree.commit() for index, tree in zip(self._wanted, self.noise, strict=True)}


async def test_garbage_under_a_valid_commit_is_found_and_replaced(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await story.manifest()
    await story.kill(holders(before)[0])
    with monkeypatch.context() as patch:
        patch.setattr(repair_shards, "SegmentRebuilder", Liar)
        async with story.open(await story.repairer(1)) as client:
            assert (await repair(client, story.link)).state is FileState.HEALTHY
    planted = await story.manifest()
    noise, liar = planted.placement.rows[0][0], holders(planted)[0]
    async with story.net.client() as client:
        assert (await client.check("file")).state is FileState.HEALTHY, "it proves well"
    await story.kill(holders(planted)[1])
    async with story.open(await story.repairer(2)) as client:
        result = await repair(client, story.link)
    assert (result.rebuilt, result.state) == (2, FileState.HEALTHY)
    after = await story.manifest()
    assert noise.commit not in {place.commit for place in after.placement.rows[0]}
    assert after.placement.rows[0][0].generation > noise.generation
    assert liar not in holders(after)
    assert await story.check() is FileState.HEALTHY
    assert await story.reads()


class Crash(BaseException):
    """The process ends here."""


async def crash(*_: object) -> None:
    raise Crash


async def test_an_interrupted_repair_goes_on(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    await story.kill(*holders(await story.manifest())[:2])
    home = await story.repairer(1)
    with monkeypatch.context() as patch:
        patch.setattr(FileRepair, "_publish", crash)
        with pytest.raises(Crash):
            async with story.open(home) as client:
                await repair(client, story.link)
    async with story.open(home) as client:
        result = await repair(client, story.link)
    assert (result.rebuilt, result.state) == (2, FileState.HEALTHY)
    assert result.bytes < MIB, "no shard was sent twice"
    assert await story.check() is FileState.HEALTHY


async def test_what_an_interrupted_repair_left_is_let_go_once_it_is_of_no_use(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    await story.kill(*holders(await story.manifest())[:2])
    homes = [await story.repairer(number) for number in (1, 2)]
    with monkeypatch.context() as patch:
        patch.setattr(FileRepair, "_publish", crash)
        patch.setattr(Repair, "_rank", lambda _, candidate: candidate.node)
        with pytest.raises(Crash):
            async with story.open(homes[0]) as client:
                await repair(client, story.link)
    async with story.open(homes[1]) as client:
        await repair(client, story.link)
    published = await story.manifest()
    async with story.open(homes[0]) as client:
        assert (await repair(client, story.link)).state is FileState.HEALTHY
        left = {node: client._holdings._loaded[node].leaves for node in client._holdings._loaded}
    named = published.shards()
    for node, leaves in left.items():
        assert set(leaves) <= set(named.get(node, {})), "what is held is named"


async def test_after_the_owner_removed_it_a_repairer_holds_nothing(story: Story) -> None:
    gone = holders(await story.manifest())[:2]
    await story.kill(*gone)
    home = await story.repairer(1)
    async with story.open(home) as client:
        await repair(client, story.link)
    async with story.net.client() as client:
        (removed,) = await client.rm(["file"])
    assert removed.freed_bytes > 0
    async with story.open(home) as client:
        with pytest.raises(DsnError) as failure:
            await repair(client, story.link)
        held = [each.leaves for each in client._holdings._loaded.values()]
    assert failure.value.detail_code == "removed"
    assert len(held) >= 2 and not any(held)


async def test_the_owner_repairs_by_name_and_drops_what_was_replaced(story: Story) -> None:
    before = await story.manifest()
    index, node = 2, holders(before)[2]
    lose(story, node, before)
    async with story.net.client() as client:
        result = await repair(client, "file")
        assert before.placement.rows[0][index].commit not in client._holdings._loaded[node].leaves
    assert (result.rebuilt, result.state) == (1, FileState.HEALTHY)
    assert holders(await story.manifest())[index] != node
    assert await story.check() is FileState.HEALTHY


def lose(story: Story, node: NodeId, manifest: Manifest) -> None:
    """Rot so much of a shard that its node is not to be trusted with it."""
    length = manifest.core.layout.segment(0).shard_bytes
    for at in range(0, length, 64 * 1024):
        rot(story, node, length, at)


async def test_a_file_that_lives_in_its_manifest_gets_its_copies_back(
    story: Story,
) -> None:
    path = story.folder / "small"
    path.write_bytes(b"a small file")
    async with story.net.client() as client:
        (stored,) = await client.put([PutItem(path, "small")], scheme=SCHEME)
        manifest = await client._manifest(await client._resolve("small"))
    gone = [copy.node for copy in manifest.copies][:2]
    await story.kill(*gone)
    async with story.open(await story.repairer(1)) as client:
        result = await repair(client, stored.repair)
    assert (result.rebuilt, result.state) == (0, FileState.HEALTHY)
    async with story.net.client() as client:
        after = await client._manifest(await client._resolve("small"))
        assert (await client.check("small")).state is FileState.HEALTHY
    assert len(after.copies) == len(manifest.copies)
    assert not set(gone) & {copy.node for copy in after.copies}


async def test_a_directory_is_repaired_with_all_it_lists(story: Story) -> None:
    folder = story.folder / "photos"
    folder.mkdir()
    for number, size in enumerate((3 * MIB, 20_000, 30_000)):
        (folder / f"{number}").write_bytes(os.urandom(size))
    async with story.net.client() as client:
        item = PutItem(folder, "photos", recursive=True)
        await client.put([item], scheme=SCHEME)
        meant = await client._resolve("photos")
        (pack, large) = await _listed(meant.file_id, meant.keys, client._parts)
        manifest = await client._manifests.fetch(*large)
        assert pack[0] != large[0]
    await story.kill(holders(manifest)[0])
    async with story.net.client() as client:
        result = await repair(client, "photos")
        shutil.rmtree(folder)
        await client.get("photos", folder)
        again = await repair(client, "photos")
    assert result.state is FileState.HEALTHY and result.rebuilt > 0
    assert again.rebuilt == 0
    assert sorted(each.name for each in folder.iterdir()) == ["0", "1", "2"]
