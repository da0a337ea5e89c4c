"""The operating system's randomness."""

from __future__ import annotations

import os


def system_entropy(size: int) -> bytes:
    """``size`` bytes nobody can guess."""
    return os.urandom(size)
