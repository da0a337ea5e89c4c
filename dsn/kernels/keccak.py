"""Keccak-256 as EVM chains use it, by the quicker of two libraries; hashlib has only SHA-3.

What is signed is short, so the time goes to the call: a sixth with safe-pysha3.

Spec: docs/spec/economy.md#typed-data.
"""

from __future__ import annotations

try:
    from eth_hash.backends.pysha3 import keccak256
except ImportError:
    from eth_hash.backends.pycryptodome import keccak256

__all__ = ["keccak256"]
