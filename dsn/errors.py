"""Every error a user, a peer or a script can meet, with its stable code and exit code."""

from __future__ import annotations

from typing import ClassVar


class DsnError(Exception):
    """The root of all errors that dsn raises on purpose.

    The message is lower case, names both figures with their unit where two disagree, and
    fits one line. ``hint`` says what to do next. Text is for people; programs read ``code``.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, hint: str = "", code: str = "", peer: str = "") -> None:
        """Keep ``message`` and ``hint``; ``code`` narrows the class's own code.

        Args:
            message: One line, lower case.
            hint: What the user can do, or empty.
            code: A stable code more exact than the class's, or empty.
            peer: The node id text of the peer that is involved, or empty.
        """
        super().__init__(message)
        self.hint = hint
        self.peer = peer
        self.detail_code = code or self.code

    @property
    def message(self) -> str:
        """The one line without the hint."""
        return str(self.args[0])


class UsageError(DsnError):
    """The call itself is wrong: a flag, a name, a range, a capability."""

    code = "usage"
    exit_code = 2


class ConfigError(DsnError):
    """The home, the network file or a setting does not allow the call."""

    code = "config"
    exit_code = 2


class PeerError(DsnError):
    """A peer broke the protocol; ``peer`` names it and ``evidence`` holds the bytes."""

    code = "peer"
    exit_code = 4

    def __init__(
        self, message: str, *, hint: str = "", code: str = "", peer: str = "", evidence: bytes = b""
    ) -> None:
        """Keep the offending ``evidence`` beside the message."""
        super().__init__(message, hint=hint, code=code, peer=peer)
        self.evidence = evidence


class MalformedMessage(PeerError):
    """Bytes that do not decode, or do not re-encode to themselves."""

    code = "malformed_message"


class InvalidSignature(PeerError):
    """A signature that does not verify under the key it claims."""

    code = "invalid_signature"


class InvalidProof(PeerError):
    """An opening, path or answer that fails; ``detail_code`` is the first reason."""

    code = "invalid_proof"


class DealMismatch(PeerError):
    """A revision that does not continue the newest one both sides signed."""

    code = "deal_mismatch"


class NotFound(DsnError):
    """A path, a name, a shard or a record that is not there."""

    code = "not_found"
    exit_code = 3


class LimitReached(DsnError):
    """A bound was met before anything was spent beyond it."""

    code = "limit"
    exit_code = 6


class NoSpace(LimitReached):
    """A disk is full, or would be."""

    code = "no_space"


class TooMany(LimitReached):
    """Too many calls, connections, leaves or bytes in flight; try again later."""

    code = "too_many"


class EntryRefused(DsnError):
    """A ledger entry that the rules do not allow as the ledger stands; nothing has changed."""

    code = "entry_refused"
    exit_code = 6


class ChainRefused(DsnError):
    """A contract on the chain does not allow the call; its reason is the code."""

    code = "chain_refused"
    exit_code = 6


class DataLost(DsnError):
    """Bytes that should be there are not, or are not what they were."""

    code = "data_lost"
    exit_code = 5


class ShardCorrupt(DataLost):
    """A shard's bytes do not match its commit."""

    code = "shard_corrupt"


class NotEnoughShards(DataLost):
    """Fewer than ``required`` shards of a segment could be had."""

    code = "not_enough_shards"


class TransportError(DsnError):
    """The network did not carry the call."""

    code = "transport"
    exit_code = 7


class Unreachable(TransportError):
    """Nobody answers at the address."""

    code = "unreachable"


class WrongIdentity(TransportError):
    """Somebody answers, but cannot prove the node id."""

    code = "wrong_identity"


class TimedOut(TransportError):
    """No answer in time."""

    code = "timed_out"
