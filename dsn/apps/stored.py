"""One file on its way into the network: its keys, its rows, its manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dsn.apps.manifests import Manifest
from dsn.core.cipher import seal_box, seal_private
from dsn.core.keys import FileKeys, SigningKey
from dsn.core.layout import FileLayout, Scheme
from dsn.core.manifest import Core, Private, SegmentSeal, sign_head
from dsn.core.merkle import ShardHasher
from dsn.core.placement import Copy, PageRef, Placement, ShardPlace, missing, page_hash
from dsn.core.segment import SegmentKeys
from dsn.dht.record import PointerBody, PointerRecord, next_sequence, sign_pointer
from dsn.ids import Commit, FileId, NetworkId, NodeId
from dsn.machines.upload import Row, Upload
from dsn.ports import Entropy
from dsn.store.transfer import Source

POINTER_TERM_S = 365 * 86_400
"""How long a pointer stands; deals will say it once they exist."""

REMOVAL_TERM_S = 30 * 86_400
"""How long a removal is remembered: longer than most nodes are away."""


@dataclass(slots=True)
class StoredFile:
    """A file while it is being stored.

    Attributes:
        name: Its name in the catalogue; empty for what the client stores for itself.
        keys: The owner's.
        owner_key: Behind ``keys``.
        scheme: Its erasure code.
        size: Plaintext bytes.
        private: What the core seals for readers.
        upload: Who holds which shard.
        source: Where the plaintext is, unless it lives in the manifest.
        seals: Of the segments that were sealed, by number.
        copies: Manifest shards by node: (commit, length).
        sent_bytes: Shard bytes that left this machine.
        children: Files that a directory's listing names.
        content_bytes: What a person takes for its size: of a directory, all its files.
        journal: Told of every segment whose rows all have receipts.
        reserved: Nodes that were asked to store its rows under a deal.
    """

    name: str
    owner_key: bytes
    scheme: Scheme
    size: int
    private: Private
    upload: Upload
    source: Source | None
    keys: FileKeys = field(init=False)
    placer: SigningKey = field(init=False)
    seals: dict[int, SegmentSeal] = field(default_factory=dict)
    copies: dict[NodeId, list[tuple[Commit, int]]] = field(default_factory=dict)
    core: Core | None = None
    sequence: int = 0
    sent_bytes: int = 0
    content_bytes: int = -1
    children: list[StoredFile] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    journal: Callable[[int], None] | None = None
    reserved: set[NodeId] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Derive all keys."""
        self.keys = FileKeys.owner(self.owner_key)
        self.placer = SigningKey(self.keys.place_seed)
        if self.content_bytes < 0:
            self.content_bytes = self.size

    @property
    def layout(self) -> FileLayout:
        """How the file is cut."""
        return FileLayout(self.size, self.scheme.required)

    @property
    def row_bytes(self) -> int:
        """What one of its nodes stores of all segments."""
        layout = self.layout
        return sum(layout.segment(each).shard_bytes for each in range(layout.segments))

    @property
    def file_id(self) -> FileId:
        """Once the core is made."""
        assert self.core is not None
        return self.core.file_id

    def segment_keys(self, segment: int, salt: bytes) -> SegmentKeys:
        """What seals and masks ``segment``."""
        final = segment == self.layout.segments - 1
        return SegmentKeys(self.keys.content_key, self.keys.mask_key, segment, salt, final)

    def make_core(self) -> Core:
        """The immutable part, once all segments are sealed; made once."""
        if self.core is None:
            seals = tuple(self.seals[g] for g in range(self.layout.segments))
            sealed = seal_private(self.keys.content_key, self.private.encode())
            self.core = Core(self.scheme, self.size, self.placer.public, seals, sealed)
        return self.core

    def placement(self) -> Placement:
        """Where the rows are now."""
        rows = [self.upload.rows(g) for g in range(self.layout.segments)]
        table = dict.fromkeys(row.node for each in rows for row in each if row.commit)
        numbers = {node: number for number, node in enumerate(table)}
        return Placement(
            tuple(table), tuple(tuple(_place(r, numbers) for r in each) for each in rows)
        )

    def touches(self, node: NodeId) -> bool:
        """Whether ``node`` holds, or is to hold, anything of it."""
        return node in self.copies or any(row.node == node for row in self.upload.known())

    def shards(self) -> dict[NodeId, dict[Commit, int]]:
        """Everything that nodes hold of it for sure: length by commit, by node."""
        held: dict[NodeId, dict[Commit, int]] = {}
        for row in self.upload.known():
            if row.commit is not None:
                held.setdefault(row.node, {})[row.commit] = row.length
        for node, copies in self.copies.items():
            held.setdefault(node, {}).update(copies)
        return held


def _place(row: Row, numbers: dict[NodeId, int]) -> ShardPlace:
    if row.commit is None:
        return missing(row.generation)
    return ShardPlace(numbers[row.node], row.generation, row.commit)


@dataclass(frozen=True, slots=True)
class Box:
    """A sealed manifest shard and its commit."""

    data: bytes
    commit: Commit


def seal_box_for(key: bytes, plain: bytes, entropy: Entropy) -> Box:
    """Seal a copy of its own: a fresh nonce gives each copy a commit of its own."""
    data = seal_box(key, plain, entropy(12))
    return Box(data, ShardHasher.over(data).commit())


def seal_manifest(
    file: StoredFile, holders: Sequence[NodeId], sequence: int, entropy: Entropy
) -> dict[NodeId, list[Box]]:
    """Each holder's boxes: its own sealed head first, then its own sealed pages."""
    placement, key = file.placement(), file.keys.head_key
    table = list(dict.fromkeys([*placement.nodes, *holders])) if placement.rows else []
    numbers = {node: number for number, node in enumerate(table)}
    pages = placement.pages()
    boxes: dict[NodeId, list[Box]] = {
        node: [seal_box_for(key, page, entropy) for page in pages] for node in holders
    }
    refs = [
        PageRef(
            page_hash(page),
            tuple(Copy(numbers[node], boxes[node][number].commit) for node in holders),
        )
        for number, page in enumerate(pages)
    ]
    head = sign_head(file.make_core(), sequence, table, refs, file.placer.sign)
    plain = head.encode()
    for node in holders:
        boxes[node].insert(0, seal_box_for(key, plain, entropy))
    return boxes


def sign_file_pointer(
    file: StoredFile,
    boxes: Mapping[NodeId, Sequence[Box]],
    network: NetworkId,
    now_s: float,
    entropy: Entropy,
) -> PointerRecord:
    """Point to the heads among ``boxes``, as of the file's sequence."""
    heads = {node: copies[0] for node, copies in boxes.items()}
    length = len(next(iter(heads.values())).data)
    body = PointerBody(length, tuple((node, head.commit) for node, head in heads.items()))
    return sign_pointer(
        file.placer.sign,
        network=network,
        placement_public=file.placer.public,
        core_hash=file.make_core().hash,
        sequence=file.sequence,
        expires_s=int(now_s) + POINTER_TERM_S,
        body=seal_box(file.keys.head_key, body.encode(), entropy(12)),
    )


def sign_removal(manifest: Manifest, network: NetworkId, now_s: float) -> PointerRecord:
    """A pointer to nothing, which supersedes the one to ``manifest``; its keys are the owner's."""
    seed = manifest.keys.place_seed
    assert seed is not None
    return sign_pointer(
        SigningKey(seed).sign,
        network=network,
        placement_public=manifest.core.placement_public,
        core_hash=manifest.core.hash,
        sequence=next_sequence(manifest.sequence, int(now_s * 1e6)),
        expires_s=int(now_s) + REMOVAL_TERM_S,
        body=b"",
    )
