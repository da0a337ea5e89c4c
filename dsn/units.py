"""Sizes that formats fix, each with its reason, and figures as people read them."""

from __future__ import annotations

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

LEAF_BYTES = 1_024
"""A leaf: small proofs, and cheap to judge on a chain."""
SYMBOL_BYTES = 65_536
"""A symbol: one AEAD box, so a byte range maps to one symbol on one node."""
TAG_BYTES = 16
"""AES-256-GCM's tag."""
SYMBOL_PLAIN_BYTES = SYMBOL_BYTES - TAG_BYTES
"""Plaintext of a whole symbol: 65,520 bytes."""
FRAME_BYTES = MIB
"""A data frame on the wire: 1,024 leaves, a whole subtree."""
GROUP_LEAVES = 64
"""Leaves under one kept hash of a stored shard (0.1 % of the data)."""
INLINE_BYTES = 4 * KIB
"""Files up to this size live inside their manifest."""
SMALL_SHARD_BYTES = 64 * KIB
"""Shards up to this size travel as one message and live in append-only segments."""
PAGE_SEGMENTS = 256
"""Segments a placement page."""


def leaf_count(length_bytes: int) -> int:
    """Leaves of a shard of ``length_bytes`` (the last one zero-padded)."""
    return -(-length_bytes // LEAF_BYTES)


def format_size(size_bytes: int) -> str:
    """``1.5 MiB``: three significant digits, binary units."""
    value, unit = float(size_bytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024 or unit == "PiB":
            break
        value /= 1024
    digits = f"{value:.3g}" if value < 999.5 else f"{value:.0f}"
    return f"{size_bytes} B" if unit == "B" else f"{digits} {unit}"
