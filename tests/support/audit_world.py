"""A file on real nodes in this process, some of which lie when they are challenged.

::

    async with audited(tmp_path, lies={2: attackers.wrong_bytes}) as file:
        findings = await file.examine(leaves=80)
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dsn.apps.auditing import Finding, audit_file, draw_scope, examine
from dsn.apps.manifests import PAGE_PLACE_BYTES, Copies, Manifest
from dsn.apps.node.service import NodeService
from dsn.apps.node.terms import Self
from dsn.apps.nodes import Nodes
from dsn.core.cipher import BOX_EXTRA_BYTES, seal_private
from dsn.core.keys import FileKeys, SigningKey
from dsn.core.layout import FileLayout, Scheme
from dsn.core.manifest import (
    Copy,
    Core,
    FileKind,
    PageRef,
    Private,
    SegmentSeal,
    sign_head,
)
from dsn.core.placement import Placement, ShardPlace, page_hash
from dsn.dht.contact import Contact
from dsn.ids import NodeId
from dsn.ledger.bundle_parts import LiveBundle
from dsn.ledger.terms import Terms
from dsn.rpc.channel import Connections
from dsn.rpc.server import Server, Unary
from dsn.store.shards import open_store
from dsn.units import GIB
from tests.support.attackers import Lie, honest
from tests.support.dht_world import LOCAL, World
from tests.support.node_world import Client, Shard

VERIFIER, OWNER = SigningKey(b"V" * 32), SigningKey(b"O" * 32)
_CHALLENGE = "/dsn.v1.NodeService/Challenge"


@dataclass
class AuditedFile:
    """A file, who holds it, and a verifier's view of them."""

    world: World
    manifest: Manifest
    holders: list[Contact]
    nodes: Nodes
    volumes: list[Path]

    async def examine(self, leaves: int = 80, **options: Any) -> dict[int, Finding]:
        """What each holder shows, by its number."""
        scope = draw_scope(self.manifest, os.urandom)
        findings = await examine(scope, self.nodes, leaves=leaves, **self._tools(), **options)
        numbers = {contact.node_id: number for number, contact in enumerate(self.holders)}
        return {numbers[finding.node]: finding for finding in findings}

    async def audit(self, leaves: int = 80) -> LiveBundle:
        """The bundle of an audit."""
        network = self.world.network_id
        return await audit_file(
            self.manifest,
            self.nodes,
            leaves=leaves,
            identity=VERIFIER,
            network=network,
            **self._tools(),
        )

    def _tools(self) -> dict[str, Any]:
        return {
            "clock": self.world.clock,
            "entropy": os.urandom,
            "progress": lambda progress: None,
        }


@asynccontextmanager
async def audited(
    root: Path,
    *,
    lies: Mapping[int, Lie] | None = None,
    scheme: Scheme | None = None,
    size: int = 1_000_000,
    seed: int = 0,
) -> AsyncIterator[AuditedFile]:
    """A file of random shards by ``scheme`` (2/5), on as many nodes; ``lies`` by number.

    Each node holds its shard, a copy of the placement page and a copy of the head.
    """
    world, rng, scheme = World(root), random.Random(seed), scheme or Scheme(2, 5)
    layout = FileLayout(size, scheme.required)
    lengths = (
        layout.segment(0).shard_bytes,
        PAGE_PLACE_BYTES * scheme.total + BOX_EXTRA_BYTES,
        700,
    )
    held = [[Shard(rng.randbytes(each)) for each in lengths] for _ in range(scheme.total)]
    async with AsyncExitStack() as stack:
        stack.push_async_callback(world.close)
        holders = [
            await _holder(stack, world, number, shards, (lies or {}).get(number, honest))
            for number, shards in enumerate(held)
        ]
        nodes = await world.client_nodes(who=VERIFIER)
        for contact in holders:
            nodes.dht.hear(contact)
        manifest = _manifest(layout, scheme, [each.node_id for each in holders], held)
        volumes = [_volume(world, number) for number in range(scheme.total)]
        yield AuditedFile(world, manifest, holders, nodes, volumes)


def _volume(world: World, number: int) -> Path:
    return world.root / f"holder{number}"


async def _holder(
    stack: AsyncExitStack, world: World, number: int, shards: list[Shard], lie: Lie
) -> Contact:
    """A node that holds ``shards`` under its client's signature, and tells ``lie``."""
    key, root = SigningKey(bytes([number + 1]) * 32), _volume(world, number)
    store = await stack.enter_async_context(
        open_store(root, capacity_bytes=GIB, entropy=os.urandom, create=True)
    )
    service = NodeService(Self(world.network_id, key, Terms()), store, world.clock, LOCAL)
    methods = [
        replace(each, handle=lie(each.handle, key, world.network_id))
        if isinstance(each, Unary) and each.path == _CHALLENGE
        else each
        for each in service.methods()
    ]
    server = Server(key, world.network_id, methods, LOCAL)
    contact = Contact(key.public, await server.start("127.0.0.1:0"))
    stack.push_async_callback(server.stop, 0)
    async with Connections(OWNER, world.network_id) as connections:
        await Client(OWNER, connections.peer(contact), world.network_id).hold(*shards)
    return contact


def _manifest(
    layout: FileLayout, scheme: Scheme, nodes: list[NodeId], held: list[list[Shard]]
) -> Manifest:
    """The manifest of a file of one segment whose shard ``n`` is on node ``n``."""
    keys = FileKeys.owner(b"K" * 16)
    assert keys.place_seed is not None
    placer = SigningKey(keys.place_seed)
    private = Private("file", "", 0, {}, FileKind.FILE, None)
    sealed = seal_private(keys.content_key, private.encode())
    seals = (SegmentSeal(bytes(16), bytes(32)),)
    core = Core(scheme, layout.size, placer.public, seals, sealed)
    row = tuple(ShardPlace(number, 0, own[0].commit) for number, own in enumerate(held))
    placement = Placement(tuple(nodes), (row,))
    copies = tuple(Copy(number, own[1].commit) for number, own in enumerate(held))
    (page,) = placement.pages()
    head = sign_head(core, 1, nodes, [PageRef(page_hash(page), copies)], placer.sign)
    stored = tuple(
        Copies(node, tuple((shard.commit, len(shard.data)) for shard in own[1:]))
        for node, own in zip(nodes, held, strict=True)
    )
    return Manifest(core.file_id, keys, 1, core, placement, stored, head)
