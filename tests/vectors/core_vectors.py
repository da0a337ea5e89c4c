"""Makes the golden vectors of ``dsn.core``: ``python -m tests.vectors.core_vectors`` writes them.

The files are frozen: a change here that changes a byte there is a new version of a format.
``data(name, size)`` stands for the first ``size`` bytes of SHA-256(name, u32 0),
SHA-256(name, u32 1) ... so that other implementations can make the same inputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dsn.core.capability import Capability, format_capability, make_capability
from dsn.core.catalogue import Entry, Removed, RunRef, SlotBody, encode_run
from dsn.core.cipher import SegmentCipher, mask_stream, seal_box, seal_private
from dsn.core.directory import Item, ItemKind, Listing, Packed
from dsn.core.keys import FileKeys, IdentityKeys, Kind, SigningKey, node_id_of
from dsn.core.layout import FileLayout, Scheme
from dsn.core.manifest import Core, FileKind, Head, Private, SegmentSeal, sign_head
from dsn.core.merkle import ShardHasher, build_path
from dsn.core.phrase import format_phrase
from dsn.core.placement import Copy, PageRef, ShardPlace, encode_page, missing, page_hash
from dsn.ids import Commit, FileId, NodeId, format_base32
from dsn.kernels import leafhash
from dsn.units import GROUP_LEAVES, LEAF_BYTES, SYMBOL_PLAIN_BYTES

FOLDER = Path(__file__).parent
Vectors = dict[str, Any]


def data(name: str, size: int) -> bytes:
    """``size`` bytes that anybody can make again from ``name``."""
    count = -(-size // 32)
    parts = (hashlib.sha256(name.encode() + at.to_bytes(4, "big")) for at in range(count))
    return b"".join(part.digest() for part in parts)[:size]


OWNER_KEY = data("owner", 16)
KEYS = FileKeys.owner(OWNER_KEY)
PLACEMENT_KEY = SigningKey(KEYS.place_seed)
FILE_ID = FileId(data("file", 32))


def broken(name: str, good: bytes, *faults: tuple[str, bytes]) -> list[dict[str, str]]:
    """What a decoder of ``good`` refuses: it cut short, with a byte more, and ``faults``."""
    cases = [("cut short", good[:-1]), ("a byte too many", good + b"\0"), ("empty", b""), *faults]
    return [
        {"decoder": name, "fault": fault, "bytes": bad.hex(), "code": "malformed_message"}
        for fault, bad in cases
    ]


def patched(good: bytes, at: int, new: bytes) -> bytes:
    return good[:at] + new + good[at + len(new) :]


def layout() -> Vectors:
    files = [
        (0, 4), (4_096, 4), (4_097, 4), (65_520, 4), (65_521, 10), (33_546_240, 4),
        (33_546_241, 4), (37_739_520, 4), (37_739_521, 4), (1 << 30, 10), (1 << 40, 29),
    ]  # fmt: skip
    return {
        "about": "how a file of size bytes is cut; ends: [plain bytes, cipher bytes, shard bytes] "
        "of the first and the last segment",
        "files": [
            {"size": size, "required": required, "segments": layout.segments, "ends": cut(layout)}
            for size, required, layout in ((*each, FileLayout(*each)) for each in files)
        ],
        "schemes": [
            {"scheme": text, "repair_at": scheme.repair_at, "copies": scheme.manifest_copies}
            for text, scheme in ((text, Scheme.parse(text)) for text in ("4/6", "3/10", "10/30"))
        ],
        "refused": [
            {"decoder": "scheme", "text": text, "code": "bad_scheme"}
            for text in ("0/5", "9/4", "300/400", "4", "04/6", " 4/6", "4/6/6", "")
        ],
    }


def cut(file: FileLayout) -> list[list[int]]:
    ends = [file.segment(at) for at in (0, file.segments - 1) if file.segments]
    return [[each.plain_bytes, each.cipher_bytes, each.shard_bytes] for each in ends]


def keys() -> Vectors:
    identity = IdentityKeys.derive(data("root", 32))
    signer = SigningKey(identity.identity_seed)
    return {
        "about": "what derives from data('owner', 16), and from the root data('root', 32)",
        "file": {
            "owner_key": KEYS.owner_key.hex(),
            "read_key": KEYS.read_key.hex(),
            "place_seed": KEYS.place_seed.hex(),
            "placement_public": PLACEMENT_KEY.public.hex(),
            "content_key": KEYS.content_key.hex(),
            "mask_key": KEYS.mask_key.hex(),
            "verify_key": KEYS.verify_key.hex(),
            "head_key": KEYS.head_key.hex(),
        },
        "identity": {
            "root": data("root", 32).hex(),
            "identity_seed": identity.identity_seed.hex(),
            "slot_seed": identity.slot_seed.hex(),
            "slot_seal_key": identity.slot_seal_key.hex(),
            "public": signer.public.hex(),
            "node_id": node_id_of(signer.public).hex(),
            "signature_of_abc": signer.sign(b"abc").hex(),
        },
    }


def cipher() -> Vectors:
    salt, names = data("salt", 16), [(0, 0, 0), (1, 5, 0), (4_294_967_295, 254, 65_535)]
    return {
        "about": "keys as in keys.json, salt data('salt', 16), plaintext data('plain', 100)",
        "symbols": [
            {"segment": seg, "symbol": symbol, "last": last, "box": box(seg, symbol, last).hex()}
            for seg, symbol, last in [(0, 0, False), (0, 0, True), (7, 575, False)]
        ],
        "masks": [
            {"segment": seg, "index": index, "generation": generation, "start": start,
             "stream": mask_stream(KEYS.mask_key, salt, seg, index, generation, start)
             .update(bytes(48)).hex()}
            for seg, index, generation in names for start in (0, 16, 1 << 20)
        ],
        "private": seal_private(KEYS.content_key, data("plain", 100)).hex(),
        "box": seal_box(KEYS.head_key, data("plain", 100), data("nonce", 12)).hex(),
    }  # fmt: skip


def box(segment: int, symbol: int, last: bool) -> bytes:
    out = bytearray(116)
    aead = SegmentCipher(KEYS.content_key, segment, data("salt", 16))
    aead.seal(symbol, last, data("plain", 100), out)
    return bytes(out)


def shard() -> Vectors:
    sizes = (1, 1_023, 1_024, 1_025, 5_000, 66_000, 200_000, 1_048_577)
    return {
        "about": "shards data('shard', size); an independent prototype made the same",
        "shards": [tree(size) for size in sizes],
    }


def tree(size: int) -> Vectors:
    content = data("shard", size)
    hasher, leaves = ShardHasher.over(content), leafhash.leaves(content)
    count = len(leaves) // 32
    chosen = sorted({0, 1, count // 2, count - 1} & set(range(count)))
    return {
        "size": size,
        "leaf_count": count,
        "root": hasher.root().hex(),
        "groups": hashlib.sha256(hasher.groups()).hexdigest(),
        "commit": hasher.commit().hex(),
        "paths": {str(index): shard_path(content, index, hasher.groups()) for index in chosen},
    }


def shard_path(content: bytes, index: int, groups: bytes) -> list[str]:
    start = index // GROUP_LEAVES * GROUP_LEAVES * LEAF_BYTES
    group = leafhash.leaves(content[start : start + GROUP_LEAVES * LEAF_BYTES])
    count = -(-len(content) // LEAF_BYTES)
    return [sibling.hex() for sibling in build_path(groups, count, index, group)]


def nodes(count: int) -> tuple[NodeId, ...]:
    return tuple(NodeId(data(f"node,{at}", 32)) for at in range(count))


def place(node: int, generation: int, name: str) -> ShardPlace:
    return ShardPlace(node, generation, Commit(data(name, 32)))


PRIVATES = {
    "least": Private(""),
    "inline": Private("né.txt", "text/plain", -1, {"a": "1", "b": ""}, inline=b"hello"),
    "empty file": Private("empty", inline=b""),
    "directory": Private("photos", mtime_us=1_700_000_000_000_000, kind=FileKind.DIRECTORY),
}
CORES = {
    "inline": Core(
        Scheme(4, 6), 5, PLACEMENT_KEY.public, (),
        seal_private(KEYS.content_key, PRIVATES["inline"].encode()),
    ),
    "two segments": Core(
        Scheme(1, 2), (512 + 64) * SYMBOL_PLAIN_BYTES, PLACEMENT_KEY.public,
        tuple(SegmentSeal(data(f"salt,{at}", 16), data(f"hash,{at}", 32)) for at in range(2)),
        seal_private(KEYS.content_key, PRIVATES["least"].encode()),
    ),
}  # fmt: skip
PAGE = encode_page([(place(0, 0, "c0"), place(1, 3, "c1")), (missing(2), place(2, 0, "c2"))])


def heads() -> dict[str, Head]:
    copies = (Copy(0, Commit(data("copy,0", 32))), Copy(2, Commit(data("copy,2", 32))))
    refs = (PageRef(page_hash(PAGE), copies),)
    sign = PLACEMENT_KEY.sign
    return {
        "inline": sign_head(CORES["inline"], 1, nodes(2), (), sign),
        "two segments": sign_head(
            CORES["two segments"], 1_700_000_000_000_000, nodes(3), refs, sign
        ),
    }


def manifest() -> Vectors:
    private, core, head = PRIVATES["inline"].encode(), CORES["two segments"].encode(), heads()
    signed = head["two segments"].encode()
    table = len(core) + 8
    return {
        "about": "page: 2 segments, 2 shards a segment, 3 nodes; head_file_id: H over its core",
        "encoded": {
            "private": {name: value.encode().hex() for name, value in PRIVATES.items()},
            "core": {name: value.encode().hex() for name, value in CORES.items()},
            "page": {"page": PAGE.hex()},
            "head": {name: value.encode().hex() for name, value in head.items()},
        },
        "core_hash": {name: value.hash.hex() for name, value in CORES.items()},
        "page_hash": page_hash(PAGE).hex(),
        "head_file_id": {name: value.core.file_id.hex() for name, value in head.items()},
        "refused": [
            *broken(
                "private", private,
                ("unknown kind", patched(private, 0, b"\2")),
                ("name too long", patched(private, 1, b"\0\0\1\0")),
                ("name is a path", private.replace(b"n\xc3\xa9.txt", b"../../x")),
                ("name is not UTF-8", private.replace(b"\xc3\xa9", b"\xc3\x28")),
                ("metadata not sorted", private.replace(b"\1a", b"\1c")),
                ("metadata key twice", private.replace(b"\1b", b"\1a")),
                ("inline flag 2", private[:-10] + b"\2" + private[-9:]),
                ("inline over 4 KiB", private[:-9] + b"\0\0\x10\1" + bytes(4_097)),
            ),
            *broken(
                "core", core,
                ("required 0", patched(core, 1, b"\0")),
                ("required over total", patched(core, 1, b"\3")),
                ("more segments than bytes", patched(core, 3, (1 << 46).to_bytes(8, "big"))),
                ("a size beyond all bounds", patched(core, 3, b"\xff" * 8)),
            ),
            {"decoder": "core", "fault": "a newer version", "code": "unknown_version",
             "bytes": patched(core, 0, b"\2").hex()},
            *broken(
                "page", PAGE,
                ("a node beyond the table", patched(PAGE, 0, b"\0\3")),
                ("a commit that nobody holds", patched(PAGE, 36, b"\xff\xff")),
            ),
            *broken(
                "head", signed,
                ("a node twice", patched(signed, table + 2, signed[table + 34 : table + 66])),
                ("a copy beyond the table", patched(signed, len(signed) - 98, b"\0\3")),
                ("more nodes than bytes", patched(signed, table, b"\xff\xff")),
            ),
        ],
    }  # fmt: skip


def capability() -> Vectors:
    links = {
        kind.value: make_capability(KEYS, kind, FILE_ID) for kind in Kind if kind != Kind.OWNER
    }
    texts = {kind: format_capability(link) for kind, link in links.items()}
    read = texts["read"]
    bad = {
        "one character": read[:10] + ("a" if read[10] != "a" else "b") + read[11:],
        "two swapped": read[:20] + read[21] + read[20] + read[22:],
        "last character missing": read[:-1],
        "cut in the key": read[:20],
        "cut in the kind": "dsn:rea",
        "a character more": read + "a",
        "white space": read + "\n",
        "upper case": read.upper(),
        "another kind's name": read.replace("dsn:read:", "dsn:verify:"),
        "unknown kind": read.replace(":read:", ":write:"),
        "owner": read.replace(":read:", ":owner:"),
        "a digit that never occurs": read[:12] + "1" + read[13:],
        "colon misplaced": read[:34] + ":" + read[34] + read[36:],
        "a file name": "notes.txt",
        "empty": "",
    }
    return {
        "about": "links from the keys of keys.json to the file data('file', 32)",
        "links": texts,
        "spare_bits": format_base32(data("owner", 16))[-1],
        "refused": [
            {"decoder": "capability", "fault": fault, "text": text, "code": "bad_capability"}
            for fault, text in bad.items()
        ],
    }


def catalogue() -> Vectors:
    entry = Entry(
        "b/ü",
        OWNER_KEY,
        FILE_ID,
        1 << 40,
        Scheme(10, 30),
        FileKind.DIRECTORY,
        1_700_000_000_000_000,
    )
    rows = (Entry("a", OWNER_KEY, FILE_ID, 0, Scheme(4, 6), FileKind.FILE, 0), entry, Removed("c"))
    run, slot = encode_run(rows), SlotBody((RunRef(OWNER_KEY, FILE_ID, 3),)).encode()
    first = run.index(b"\0\0\0\1a")
    return {
        "about": "run: names a, b/ü and a removed c; slot: one run",
        "encoded": {
            "run": {"three": run.hex(), "none": encode_run(()).hex()},
            "slot": {"one": slot.hex(), "none": SlotBody().encode().hex()},
        },
        "refused": [
            *broken(
                "run", run,
                ("another tag", patched(run, 0, b"x")),
                ("more names than bytes", patched(run, 16, b"\xff\xff\xff\xff")),
                ("names not sorted", patched(run, first + 4, b"z")),
                ("a name twice", run[:16] + b"\0\0\0\2" + 2 * run[-6:]),
                ("unknown state", patched(run, first + 5, b"\2")),
                ("a name like a link", run[:16] + b"\0\0\0\1\0\0\0\5dsn:x\0"),
                ("a control character", run[:16] + b"\0\0\0\1\0\0\0\1\x1b\0"),
                ("an empty name", run[:16] + b"\0\0\0\1" + bytes(4) + run[first + 5 : first + 73]),
                ("a bad scheme", patched(run, first + 6 + 16 + 32 + 8, b"\0")),
                ("an unknown kind", patched(run, first + 6 + 16 + 32 + 8 + 2, b"\2")),
            ),
            *broken(
                "slot", slot,
                ("a newer version", patched(slot, 0, b"\2")),
                ("41 runs", b"\1\x29" + 41 * slot[2:]),
                ("a run without names", slot[:-4] + bytes(4)),
            ),
        ],
    }  # fmt: skip


LISTING = Listing(
    (
        Item("a", ItemKind.DIRECTORY, 0o755, 1),
        Item("a-b", ItemKind.FILE, 0o644, -1),
        Item("a/one", ItemKind.FILE, 0o4755, 1 << 50, 10, Packed(0, 5)),
        Item("a/two", ItemKind.FILE, 0o600, 0, 1 << 41, Capability(Kind.READ, OWNER_KEY, FILE_ID)),
        Item("to", ItemKind.SYMLINK, 0o777, 0, link="a/one"),
    ),
    (Capability(Kind.READ, data("pack", 16), FileId(data("packed", 32))),),
)


def item(path: bytes, kind: bytes = b"\0", mode: bytes = b"\0\0") -> bytes:
    rest = bytes(8) if kind == b"\1" else bytes(16)
    return kind + len(path).to_bytes(4, "big") + path + mode + rest


def listed(*items: bytes) -> bytes:
    tag = b"dsn/dir/v1".ljust(16, b"\0")
    return tag + bytes(4) + len(items).to_bytes(4, "big") + b"".join(items)


def directory() -> Vectors:
    good = LISTING.encode()
    link = b"\2\0\0\0\1l\0\0" + bytes(8)
    return {
        "about": "a directory, an empty, a packed and a large file, and a symlink; one pack",
        "encoded": {"listing": {"five": good.hex(), "none": Listing(()).encode().hex()}},
        "refused": broken(
            "listing", good,
            ("another tag", patched(good, 0, b"x")),
            ("more packs than bytes", patched(good, 16, b"\xff\xff\xff\xff")),
            ("more items than bytes", patched(good, 68, b"\xff\xff\xff\xff")),
            ("an absolute path", listed(item(b"/a"))),
            ("a path that leaves", listed(item(b"../a"))),
            ("a path that leaves later", listed(item(b"a", b"\1"), item(b"a/../../b"))),
            ("a dot", listed(item(b"."))),
            ("an empty part", listed(item(b"a", b"\1"), item(b"a//b"))),
            ("an empty path", listed(item(b""))),
            ("a NUL", listed(item(b"a\0b"))),
            ("not UTF-8", listed(item(b"\xff"))),
            ("not sorted", listed(item(b"b"), item(b"a"))),
            ("a path twice", listed(item(b"a"), item(b"a"))),
            ("a parent that is not listed", listed(item(b"a/b"))),
            ("a parent that is a file", listed(item(b"a"), item(b"a/b"))),
            ("a parent that is a link", listed(link + b"\0\0\0\1/", item(b"l/b"))),
            ("a link to nowhere", listed(link + bytes(4))),
            ("a link with a NUL", listed(link + b"\0\0\0\1\0")),
            ("an unknown kind", listed(item(b"a", b"\3"))),
            ("a mode with foreign bits", listed(item(b"a", mode=b"\x10\0"))),
            ("an unknown target", listed(item(b"a")[:-1] + b"\1\2" + bytes(48))),
            ("a pack that is not there", listed(item(b"a")[:-1] + b"\1\0" + bytes(12))),
        ),
    }  # fmt: skip


def phrase() -> Vectors:
    words = format_phrase(data("root", 32)).split()
    bad = {
        "a word missing": words[:-1],
        "a word more": [*words, words[0]],
        "a mistyped word": [words[0] + "x", *words[1:]],
        "two swapped": [words[1], words[0], *words[2:]],
        "empty": [],
    }
    return {
        "about": "BIP39, English, 24 words; the first three are from the standard's own vectors",
        "phrases": [
            {"root": root.hex(), "words": format_phrase(root)}
            for root in (bytes(32), b"\x7f" * 32, b"\xff" * 32, data("root", 32))
        ],
        "refused": [
            {"decoder": "phrase", "fault": fault, "text": " ".join(text), "code": "bad_phrase"}
            for fault, text in bad.items()
        ],
    }


MAKERS: dict[str, Callable[[], Vectors]] = {
    maker.__name__: maker
    for maker in (
        layout, keys, cipher, shard, manifest, capability, catalogue, directory, phrase,
    )
}  # fmt: skip


def main() -> None:
    """Write every file anew."""
    for name, make in MAKERS.items():
        text = json.dumps(make(), indent=1, ensure_ascii=False)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
