"""Checkpoints: the operator's signed word on how long the log is, and what stands at its end.

The text is a signed note that any tool for transparency logs reads. The ledger's state root and
epoch ride on it as extension lines, so one signature covers them all.

Spec: docs/spec/economy.md#log-checkpoints-cosignatures, C2SP tlog-checkpoint and signed-note.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import sha256
from typing import Final, Self

from dsn.core.codec import U64_MAX
from dsn.core.hashing import HASH_BYTES
from dsn.core.keys import PUBLIC_KEY_BYTES, verify_signature
from dsn.errors import InvalidProof, InvalidSignature, MalformedMessage, UsageError
from dsn.ids import NetworkId, format_base32
from dsn.ledger.binding import LedgerRoot
from dsn.ledger.log import EMPTY_ROOT, MAX_LOG_SIZE, TreeHead, verify_consistency_proof
from dsn.ledger.settlement import Address, SettlementKey
from dsn.ledger.typed import Domain, sign_typed, verify_typed

MAX_NOTE_BYTES: Final = 32 * 1024
MAX_SIGNATURES: Final = 100
"""Lines under one note, as many as Go's reader takes."""
MAX_NAME_CHARS: Final = 255
_KEY_ID_BYTES: Final = 4
_DASH: Final = "\N{EM DASH} "
_SETTLEMENT: Final = b"\xffdsn/eip712/v1"
"""The signature type of a settlement key: an identifier of our own after the reserved byte."""


class KeyKind(Enum):
    """What an Ed25519 key's line under a note means, by the signature type of the standard."""

    OPERATOR = b"\x01"
    WITNESS = b"\x04"


@dataclass(frozen=True, slots=True)
class NoteKey:
    """An Ed25519 key that signs notes under a ``name``, which for an operator is the origin."""

    kind: KeyKind
    name: str
    public: bytes

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: ``bad_note_key``.
        """
        if not _is_name(self.name) or len(self.public) != PUBLIC_KEY_BYTES:
            raise UsageError(
                f"a note key of {len(self.public)} bytes named {self.name[:80]!r}; "
                f"{PUBLIC_KEY_BYTES} bytes and a name of visible ASCII without + needed",
                code="bad_note_key",
            )

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell a reader which line to check; they prove nothing."""
        return _key_id(self.name, self.kind.value + self.public)


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One line under a note; what ``signature`` holds depends on the key."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is signed: the log ``origin`` has ``size`` leaves under ``root``.

    After the last of them the ledger's cells have ``state_root`` and its epoch is ``epoch``.
    """

    origin: str
    size: int
    root: bytes
    state_root: bytes
    epoch: int

    @property
    def head(self) -> TreeHead:
        """Size and root."""
        return TreeHead(self.size, self.root)

    @property
    def ledger_root(self) -> LedgerRoot:
        """The same statement for a chain; the origin is in the typed data's domain."""
        return LedgerRoot(self.size, self.root, self.state_root, self.epoch)

    @property
    def body(self) -> str:
        """The text that keys sign, with its last newline."""
        root, state_root = _base64(self.root), _base64(self.state_root)
        return f"{self.origin}\n{self.size}\n{root}\nstate {state_root}\nepoch {self.epoch}\n"


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint and the lines under it; no line counts before its key was asked."""

    checkpoint: Checkpoint
    signatures: tuple[NoteSignature, ...] = ()

    def signature_of(self, key: NoteKey) -> bytes | None:
        """What stands in the line by ``key``, unchecked; nothing if there is no such line."""
        return self._find(key.name, key.key_id)

    def signed(self, line: NoteSignature) -> Self:
        """With ``line`` too, in place of an earlier one by the same key."""
        others = (s for s in self.signatures if (s.name, s.key_id) != (line.name, line.key_id))
        return replace(self, signatures=(*others, line))

    def _find(self, name: str, key_id: bytes) -> bytes | None:
        lines = (s.signature for s in self.signatures if (s.name, s.key_id) == (name, key_id))
        return next(lines, None)

    def root_signature(self, signer: Address, name: str = "") -> bytes | None:
        """What stands in the line by the settlement key ``signer``, unchecked.

        ``name`` is the witness's whose key it is; the operator's goes by the origin.
        """
        name = name or self.checkpoint.origin
        return self._find(name, _root_key_id(name, signer))


def log_origin(network: NetworkId) -> str:
    """The first line of every checkpoint of a network's ledger."""
    return f"dsn.ledger/{format_base32(network)}"


def format_note_key(key: NoteKey) -> str:
    """``name+id+key``, the standard's text of a key (vkey)."""
    return f"{key.name}+{key.key_id.hex()}+{_base64(key.kind.value + key.public)}"


def parse_note_key(text: str) -> NoteKey:
    """Read what ``format_note_key`` wrote, and nothing else.

    Args:
        text: Untrusted.

    Raises:
        UsageError: ``bad_note_key``.
    """
    try:
        name, _, encoded = text.split("+", 2)
        raw = base64.b64decode(encoded, validate=True)
        key = NoteKey(KeyKind(raw[:1]), name, raw[1:])
    except ValueError as error:
        raise UsageError(f"{text[:80]!r} is no note key", code="bad_note_key") from error
    if format_note_key(key) != text:
        raise UsageError(f"{text[:80]!r} is mistyped: not its own id", code="bad_note_key")
    return key


def format_checkpoint(signed: SignedCheckpoint) -> bytes:
    """The note: body, blank line, signature lines."""
    lines = [
        f"{_DASH}{each.name} {_base64(each.key_id + each.signature)}\n"
        for each in signed.signatures
    ]
    return (signed.checkpoint.body + "\n" + "".join(lines)).encode("utf-8")


def parse_checkpoint(raw: bytes) -> SignedCheckpoint:
    """Read what ``format_checkpoint`` wrote, and nothing else; no signature is checked.

    Args:
        raw: Untrusted.

    Raises:
        MalformedMessage: It is no checkpoint of a ledger, has no line, more than
            ``MAX_SIGNATURES``, two by one key, or another spelling.
    """
    if len(raw) > MAX_NOTE_BYTES:
        raise _malformed(f"{len(raw)} bytes, at most {MAX_NOTE_BYTES} allowed", raw)
    try:
        body, _, lines = raw.decode("utf-8").rpartition("\n\n")
        signatures = tuple(map(_parse_line, lines.splitlines()))
        signed = SignedCheckpoint(_parse_body(body), signatures)
    except ValueError as error:
        raise _malformed("not a ledger's text, or not signature lines", raw) from error
    if not 0 < len(signed.signatures) <= MAX_SIGNATURES:
        raise _malformed(f"{len(signed.signatures)} lines, 1 to {MAX_SIGNATURES} allowed", raw)
    if len({(s.name, s.key_id) for s in signed.signatures}) < len(signed.signatures):
        raise _malformed("two lines by one key", raw)
    if format_checkpoint(signed) != raw:
        raise _malformed("another spelling of what it says", raw)
    return signed


def sign_checkpoint(
    checkpoint: Checkpoint, operator: NoteKey, sign: Callable[[bytes], bytes]
) -> NoteSignature:
    """The operator's line; ``sign`` uses its Ed25519 key."""
    assert operator.kind is KeyKind.OPERATOR
    return NoteSignature(operator.name, operator.key_id, sign(checkpoint.body.encode("utf-8")))


def verify_checkpoint(signed: SignedCheckpoint, operator: NoteKey) -> None:
    """Check that the operator signed this checkpoint (untrusted), for its own log.

    Raises:
        InvalidProof: ``other_log``: of another origin than the operator's.
        InvalidSignature: ``unsigned_checkpoint``: no line by it; ``invalid_signature``.
    """
    assert operator.kind is KeyKind.OPERATOR
    body, signature = signed.checkpoint.body, signed.signature_of(operator)
    if signed.checkpoint.origin != operator.name:
        raise _other_log(signed.checkpoint.origin, operator.name)
    if signature is None:
        raise unsigned(operator.name)
    verify_signature(operator.public, body.encode("utf-8"), signature)


def sign_root(
    checkpoint: Checkpoint, domain: Domain, key: SettlementKey, name: str = ""
) -> NoteSignature:
    """A line for a chain: typed data that says the same, by a settlement key.

    Args:
        checkpoint: What the key's owner signs, or cosigns, with its Ed25519 key too.
        domain: The network's.
        key: The operator's, or a witness's.
        name: The witness's; the operator's line goes by the origin.
    """
    return root_line(checkpoint, key.address, sign_typed(checkpoint.ledger_root, domain, key), name)


def root_line(
    checkpoint: Checkpoint, signer: Address, signature: bytes, name: str = ""
) -> NoteSignature:
    """As ``sign_root``, of a ``signature`` that somebody gave; it is not checked."""
    name = name or checkpoint.origin
    return NoteSignature(name, _root_key_id(name, signer), signature)


def cosigned_roots(
    signed: SignedCheckpoint, domain: Domain, cosigners: Collection[Address]
) -> dict[Address, bytes]:
    """What a chain needs beside the operator's word: signatures of witnesses, by address.

    Args:
        signed: Untrusted; a line that is not by whom its key id names does not count.
        domain: The network's.
        cosigners: The witnesses' settlement addresses.

    Cost: about 0.1 ms a signature.
    """
    found = dict[Address, bytes]()
    for line in signed.signatures:
        for signer in cosigners:
            if line.key_id == _root_key_id(line.name, signer):
                with suppress(InvalidSignature):
                    verify_typed(signed.checkpoint.ledger_root, domain, line.signature, signer)
                    found[signer] = line.signature
    return dict(sorted(found.items()))


def verify_root(signed: SignedCheckpoint, domain: Domain, operator: Address) -> None:
    """Check that a chain would find this checkpoint (untrusted) signed by ``operator``.

    Raises:
        InvalidSignature: ``unsigned_checkpoint``: no line by it; or as ``verify_typed``.
    """
    signature = signed.root_signature(operator)
    if signature is None:
        raise unsigned(signed.checkpoint.origin)
    verify_typed(signed.checkpoint.ledger_root, domain, signature, operator)


def verify_growth(old: Checkpoint, new: Checkpoint, path: Sequence[bytes]) -> None:
    """Check that ``new`` may follow ``old``, as a witness and every reader do.

    Args:
        old: What was trusted before.
        new: Its signatures hold; what it says is untrusted.
        path: Consistency proof, untrusted.

    Raises:
        InvalidProof: ``other_log``, ``log_shrunk``, ``log_forked``, ``short`` or ``trailing``;
            ``log_rewound``: the epoch fell while the log grew. A log may look shrunk or forked
            because somebody else served an old checkpoint or a bad path; what convicts its
            operator is in ``dsn.ledger.evidence``.
        MalformedMessage: Something in ``path`` that is no hash.
    """
    if new.origin != old.origin:
        raise _other_log(new.origin, old.origin)
    verify_consistency_proof(old.head, new.head, path)
    if new.size == old.size and new != old:
        raise InvalidProof(
            f"the log says two things of the ledger at {old.size} leaves", code="log_forked"
        )
    if new.epoch < old.epoch:
        raise InvalidProof(
            f"the log grew from {old.size} to {new.size} leaves and fell from epoch {old.epoch} "
            f"to {new.epoch}",
            code="log_rewound",
        )


def unsigned(name: str) -> InvalidSignature:
    """The error for a checkpoint without a line by ``name``."""
    return InvalidSignature(f"checkpoint: not signed by {name}", code="unsigned_checkpoint")


def _parse_body(body: str) -> Checkpoint:
    """Numbers and hashes of any spelling: the caller compares the re-encoding."""
    origin, size, root, state, epoch = body.split("\n")
    checkpoint = Checkpoint(
        origin,
        int(size),
        _hash(root),
        _hash(state.removeprefix("state ")),
        int(epoch.removeprefix("epoch ")),
    )
    ranged = 0 <= checkpoint.size <= MAX_LOG_SIZE and 0 <= checkpoint.epoch <= U64_MAX
    rooted = checkpoint.size > 0 or checkpoint.root == EMPTY_ROOT
    if not (ranged and rooted and _is_name(origin)):
        raise ValueError(body)
    return checkpoint


def _parse_line(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    raw = base64.b64decode(encoded, validate=True)
    if not _is_name(name) or len(raw) <= _KEY_ID_BYTES:
        raise ValueError(line)
    return NoteSignature(name, raw[:_KEY_ID_BYTES], raw[_KEY_ID_BYTES:])


def _hash(text: str) -> bytes:
    raw = base64.b64decode(text, validate=True)
    if len(raw) != HASH_BYTES:
        raise ValueError(text)
    return raw


def _is_name(text: str) -> bool:
    """Visible ASCII without ``+``: what is a space or a letter beyond it changes with Unicode."""
    visible = text.isascii() and text.isprintable() and not {" ", "+"} & set(text)
    return visible and 0 < len(text) <= MAX_NAME_CHARS


def _key_id(name: str, key: bytes) -> bytes:
    return sha256(name.encode("utf-8") + b"\n" + key).digest()[:_KEY_ID_BYTES]


def _root_key_id(name: str, signer: Address) -> bytes:
    """The id of a settlement key's line."""
    return _key_id(name, _SETTLEMENT + signer)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _malformed(reason: str, raw: bytes) -> MalformedMessage:
    return MalformedMessage(f"checkpoint: {reason}", evidence=raw[:4096])


def _other_log(found: str, expected: str) -> InvalidProof:
    return InvalidProof(f"a checkpoint of {found}, {expected} expected", code="other_log")
