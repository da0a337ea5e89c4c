"""The ledger's log: a Merkle tree in RFC 6962's shape that only grows.

A log never lies in memory: whoever appends keeps a ``Frontier``, and a store keeps the roots of
complete subtrees, which never change. Everything else follows from those.

Spec: docs/spec/economy.md#log-checkpoints-cosignatures, RFC 6962 section 2.1, RFC 9162 section 2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple

from dsn.core.hashing import HASH_BYTES
from dsn.errors import InvalidProof, MalformedMessage
from dsn.ledger.settlement import SETTLEMENT_SIGNATURE_BYTES

EMPTY_ROOT: Final = sha256().digest()
MAX_LOG_SIZE: Final = (1 << 63) - 1
"""Leaves; verifiers in other languages count in a signed 64-bit word."""
MAX_ENTRY_BYTES: Final = 32 * 1024

_LEAF, _NODE = b"\x00", b"\x01"
_SIGNED_BYTES = SETTLEMENT_SIGNATURE_BYTES + HASH_BYTES


@dataclass(frozen=True, slots=True)
class LogLeaf:
    """What one leaf says: an ``entry``, its signature, and the ledger's state root after it."""

    entry: bytes
    signature: bytes
    state_root: bytes

    def encode(self) -> bytes:
        """The bytes that ``leaf_hash`` takes; both last fields have a fixed size."""
        assert 0 < len(self.entry) <= MAX_ENTRY_BYTES
        assert (len(self.signature), len(self.state_root)) == (
            SETTLEMENT_SIGNATURE_BYTES,
            HASH_BYTES,
        )
        return self.entry + self.signature + self.state_root

    @classmethod
    def decode(cls, raw: bytes) -> LogLeaf:
        """Read what ``encode`` wrote.

        Args:
            raw: Untrusted; the entry in it is not looked at.

        Raises:
            MalformedMessage: Too short for an entry of 1 byte, or too long for one of 32 KiB.
        """
        size = len(raw) - _SIGNED_BYTES
        if not 0 < size <= MAX_ENTRY_BYTES:
            raise MalformedMessage(
                f"log leaf: {len(raw)} bytes, {_SIGNED_BYTES + 1} to "
                f"{_SIGNED_BYTES + MAX_ENTRY_BYTES} allowed",
                evidence=raw[:4096],
            )
        return cls(raw[:size], raw[size:-HASH_BYTES], raw[-HASH_BYTES:])


class TreeHead(NamedTuple):
    """A log of ``size`` leaves has this ``root``."""

    size: int
    root: bytes


class Subtree(NamedTuple):
    """The complete subtree over leaves ``[number << level, (number + 1) << level)``."""

    level: int
    number: int


Hashes = Callable[[Subtree], bytes]
"""Gives the root of a complete subtree of a log."""


class _Range(NamedTuple):
    """Leaves ``[start, end)``, all that stand under one node of the tree."""

    start: int
    end: int

    def halves(self) -> tuple[_Range, _Range]:
        """Both sides: the left one has the largest power of two below the range's size."""
        middle = self.start + (1 << (self.end - self.start - 1).bit_length() - 1)
        return _Range(self.start, middle), _Range(middle, self.end)


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of a leaf's bytes."""
    return sha256(_LEAF + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of the node over two sides."""
    return sha256(_NODE + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that appending needs: the roots of the complete subtrees of ``size`` leaves.

    ``peaks`` come largest first, one for every bit that is set in ``size``: at most 63.
    """

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    @classmethod
    def at(cls, hashes: Hashes, size: int) -> Frontier:
        """The frontier as it stood at ``size`` leaves, now or earlier."""
        return cls(size, tuple(map(hashes, _complete(_Range(0, size)))))

    @property
    def head(self) -> TreeHead:
        """Size and root."""
        return TreeHead(self.size, _over(self.peaks))

    def extend(self, leaf_hashes: Iterable[bytes]) -> tuple[Frontier, dict[Subtree, bytes]]:
        """Append leaves by their hashes.

        Returns:
            The new frontier, and the root of every subtree that became complete, leaves included:
            what a store keeps.

        Cost: one hash a leaf.
        """
        size, peaks, completed = self.size, list(self.peaks), dict[Subtree, bytes]()
        for digest in leaf_hashes:
            level, number = 0, size
            completed[Subtree(level, number)] = digest
            while number & 1:
                digest = node_hash(peaks.pop(), digest)
                level, number = level + 1, number >> 1
                completed[Subtree(level, number)] = digest
            peaks.append(digest)
            size += 1
        return Frontier(size, tuple(peaks)), completed


def build_inclusion_proof(hashes: Hashes, index: int, size: int) -> list[bytes]:
    """The siblings of leaf ``index``, bottom up, in the tree over the first ``size`` leaves."""
    assert 0 <= index < size
    return [_root(hashes, part) for part in _siblings(index, size)]


def verify_inclusion_proof(head: TreeHead, index: int, leaf: bytes, path: Sequence[bytes]) -> None:
    """Check that the leaf with hash ``leaf`` is number ``index`` of the log at ``head``.

    Args:
        head: Trusted, from a checkpoint.
        index: Untrusted.
        leaf: The leaf's hash, from ``leaf_hash``.
        path: Siblings, bottom up; untrusted. Their number and sides follow from ``index`` and
            the size, so a path cannot choose them.

    Raises:
        InvalidProof: ``index`` (beyond the log), ``short``, ``trailing``, or ``not_in_log``.
        MalformedMessage: A sibling that is no hash.
    """
    if not 0 <= index < head.size:
        raise InvalidProof(f"leaf {index} of a log of {head.size} leaves", code="index")
    parts, digest = _siblings(index, head.size), leaf
    _check_path(path, len(parts))
    for part, sibling in zip(parts, path, strict=True):
        left = part.end <= index
        digest = node_hash(sibling, digest) if left else node_hash(digest, sibling)
    if digest != head.root:
        raise InvalidProof(
            f"leaf {index} is not in the log of {head.size} leaves", code="not_in_log"
        )


def build_consistency_proof(hashes: Hashes, old_size: int, new_size: int) -> list[bytes]:
    """What shows that the first ``old_size`` of ``new_size`` leaves are what they were."""
    assert 0 <= old_size <= new_size
    if old_size in (0, new_size):
        return []
    return build_prefix_proof(hashes, old_size, new_size)[_is_one_subtree(old_size) :]


def verify_consistency_proof(old: TreeHead, new: TreeHead, path: Sequence[bytes]) -> None:
    """Check that the log at ``new`` begins with the log at ``old``.

    Args:
        old: What was trusted before.
        new: Untrusted, with a size of at most ``MAX_LOG_SIZE``.
        path: Untrusted.

    Raises:
        InvalidProof: ``log_shrunk``, ``short``, ``trailing``, or ``log_forked``.
        MalformedMessage: Something in ``path`` that is no hash.
    """
    if new.size < old.size:
        raise InvalidProof(
            f"the log shrank from {old.size} leaves to {new.size}", code="log_shrunk"
        )
    if old.size in (0, new.size):
        _check_path(path, 0)
        forked = old.root != (new.root if old.size == new.size else EMPTY_ROOT)
    else:
        whole = [old.root, *path] if _is_one_subtree(old.size) else path
        forked = fold_prefix_proof(whole, old.size, new.size) != (old.root, new.root)
    if forked:
        raise InvalidProof(
            f"the log of {new.size} leaves does not begin with that of {old.size}",
            code="log_forked",
        )


def build_prefix_proof(hashes: Hashes, old_size: int, new_size: int) -> list[bytes]:
    """A consistency proof that brings everything it starts from.

    It says which root the first ``old_size`` leaves have whatever anyone signed, so it also
    convicts; see ``dsn.ledger.evidence``. Needs ``0 < old_size <= new_size``.
    """
    return [_root(hashes, part) for part in _shared(old_size, new_size)]


def fold_prefix_proof(path: Sequence[bytes], old_size: int, new_size: int) -> tuple[bytes, bytes]:
    """The roots at both sizes that ``path`` (untrusted) stands for.

    Once the second is known to be right, so is the first: another would be a collision.

    Raises:
        InvalidProof: ``short`` or ``trailing``.
        MalformedMessage: Something in ``path`` that is no hash.
    """
    parts = _shared(old_size, new_size)
    _check_path(path, len(parts))
    older = newer = path[0]
    for part, digest in zip(parts[1:], path[1:], strict=True):
        if part.end <= old_size:
            older, newer = node_hash(digest, older), node_hash(digest, newer)
        else:
            newer = node_hash(newer, digest)
    return older, newer


def _siblings(index: int, size: int) -> list[_Range]:
    """The ranges beside the way from leaf ``index`` to the root, bottom up."""
    own, beside = _Range(0, size), list[_Range]()
    while own.end - own.start > 1:
        left, right = own.halves()
        own, sibling = (left, right) if index < left.end else (right, left)
        beside.append(sibling)
    return beside[::-1]


def _shared(old_size: int, new_size: int) -> list[_Range]:
    """The largest node that ends with the old tree, then the ranges beside its way up."""
    assert 0 < old_size <= new_size
    own, beside = _Range(0, new_size), list[_Range]()
    while own.end != old_size:
        left, right = own.halves()
        own, sibling = (left, right) if old_size <= left.end else (right, left)
        beside.append(sibling)
    return [own, *beside[::-1]]


def _is_one_subtree(size: int) -> bool:
    """Whether a tree of ``size`` leaves is complete, and thus a node of every larger one."""
    return size & (size - 1) == 0


def _complete(part: _Range) -> Iterator[Subtree]:
    """The complete subtrees under a node, largest first."""
    start, end = part
    while start < end:
        level = (end - start).bit_length() - 1
        yield Subtree(level, start >> level)
        start += 1 << level


def _over(peaks: Sequence[bytes]) -> bytes:
    """The root over complete subtrees, largest first."""
    if not peaks:
        return EMPTY_ROOT
    digest = peaks[-1]
    for peak in peaks[-2::-1]:
        digest = node_hash(peak, digest)
    return digest


def _root(hashes: Hashes, part: _Range) -> bytes:
    return _over([hashes(each) for each in _complete(part)])


def _check_path(path: Sequence[bytes], needed: int) -> None:
    if len(path) != needed:
        code = "short" if len(path) < needed else "trailing"
        raise InvalidProof(f"a path of {len(path)} hashes, {needed} needed", code=code)
    if any(len(each) != HASH_BYTES for each in path):
        raise MalformedMessage(f"a path's hashes are {HASH_BYTES} bytes each")
