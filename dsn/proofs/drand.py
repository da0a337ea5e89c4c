"""drand: a value for each round that a league of others signs together, when its time has come.

Before a round is due nobody knows its signature, not even all signers but a few; afterwards there
is one and no other, and anybody checks it by the chain's key. The scheme is quicknet's,
``bls-unchained-g1-rfc9380``: BLS on BLS12-381, signatures in G1 (48 bytes), the key in G2 (96).

Spec: docs/spec/proofs.md#drand; https://docs.drand.love/docs/cryptography.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from dsn.core import tags
from dsn.core.hashing import sha256, tagged
from dsn.errors import ConfigError, InvalidProof
from dsn.ids import NetworkId

KEY_BYTES: Final = 96
ROUND_SIGNATURE_BYTES: Final = 48
ROUND_BYTES: Final = 8
EVIDENCE_BYTES: Final = ROUND_BYTES + ROUND_SIGNATURE_BYTES
_SUITE: Final = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
_ROUND: Final = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class DrandChain:
    """A chain of rounds: round 1 was due at ``genesis_s`` (Unix), each next ``period_s`` later."""

    key: bytes
    genesis_s: int
    period_s: int

    def due_ms(self, number: int) -> int:
        """When round ``number``, from 1, is signed; Unix milliseconds."""
        return 1_000 * (self.genesis_s + (number - 1) * self.period_s)

    def after(self, now_ms: int) -> int:
        """The first round that is due later than ``now_ms``."""
        return max(1, (now_ms - 1_000 * self.genesis_s) // (1_000 * self.period_s) + 2)


QUICKNET: Final = DrandChain(
    bytes.fromhex(
        "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3a"
        "c6a5776a2d1064510d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5"
        "a6e9c76a4bc09e76eae8991ef5ece45a"
    ),
    genesis_s=1_692_803_367,
    period_s=3,
)
"""The League of Entropy's chain of a round every three seconds."""


def salt_for(number: int, entropy: bytes) -> bytes:
    """A witness's salt that names a round: its number, and 24 random bytes."""
    return _ROUND.pack(number) + entropy


def fixed_round(salts: Sequence[bytes]) -> int:
    """The round that the salts of a shut fix: the middle one of those they name, the lower of two.

    So a minority of witnesses can neither have an old round taken, nor one of the far future.
    """
    rounds = sorted(int.from_bytes(salt[:ROUND_BYTES], "big") for salt in salts)
    return rounds[(len(rounds) - 1) // 2]


def drand_evidence(number: int, signature: bytes) -> bytes:
    """What shows an epoch's value: the round's number and signature."""
    return _ROUND.pack(number) + signature


def drand_value(network: NetworkId, epoch: int, evidence: bytes) -> bytes:
    """The value of ``epoch`` that follows from ``evidence``; two networks never share one."""
    return tagged(tags.DRAND, network, _ROUND.pack(epoch), evidence)


def verify_drand(
    network: NetworkId, epoch: int, value: bytes, evidence: bytes, *, key: bytes, number: int
) -> None:
    """Check that ``value`` is the one that round ``number`` gives to ``epoch``.

    Args:
        network: The network.
        epoch: Whose value it is.
        value: Untrusted.
        evidence: Untrusted.
        key: The chain's, pinned in the network file.
        number: The round that the shut of the epoch before fixed.

    Raises:
        InvalidProof: ``bad_beacon``.
        ConfigError: ``missing_extra``.

    Cost: about 3 ms.
    """
    fault = _fault(value, evidence, drand_value(network, epoch, evidence), key, number)
    if fault:
        raise InvalidProof(
            f"the beacon of epoch {epoch}: {fault}",
            code="bad_beacon",
            evidence=evidence[: 2 * EVIDENCE_BYTES],
        )


def _fault(value: bytes, evidence: bytes, due: bytes, key: bytes, number: int) -> str:
    if len(evidence) != EVIDENCE_BYTES:
        return f"evidence of {len(evidence)} bytes, {EVIDENCE_BYTES} needed"
    if (given := _ROUND.unpack_from(evidence)[0]) != number:
        return f"round {given}, {number} was fixed at the shut"
    if value != due:
        return "the value is not the one of its evidence"
    return "" if is_signed(key, number, evidence[ROUND_BYTES:]) else "the round is not signed"


def is_signed(key: bytes, number: int, signature: bytes) -> bool:
    """Whether ``signature`` (untrusted) is the one of round ``number`` under ``key``.

    Raises:
        ConfigError: ``missing_extra``.
    """
    bls = _library()
    try:
        signed = bls.G1Point.from_compressed_bytes(signature)
        public = bls.G2Point.from_compressed_bytes(key)
    except ValueError:  # no point of the group
        return False
    if signed.to_compressed_bytes() != signature or signed == bls.G1Point.identity():
        return False
    message = bls.G1Point.hash_to_curve(sha256(_ROUND.pack(number)), _SUITE)
    return bool(bls.GT.pairing_check([signed, -message], [bls.G2Point(), public]))


def _library() -> Any:
    try:
        import py_arkworks_bls12381
    except ImportError as error:
        raise ConfigError(
            "this network's beacon is drand, whose signatures need a library",
            code="missing_extra",
            hint="pip install 'dsn[drand]'",
        ) from error
    return py_arkworks_bls12381
