"""Golden vectors: JSON files in which every byte string is hexadecimal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[1] / "vectors"


def load(name: str) -> Any:
    """The vectors of ``name``.json."""
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))


def hexed(value: Any) -> Any:
    """``value`` with all bytes as hexadecimal text, ready for JSON."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: hexed(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [hexed(each) for each in value]
    return value


def save(name: str, value: Any) -> None:
    """Write the vectors of ``name``.json."""
    text = json.dumps(hexed(value), indent=1, ensure_ascii=False)
    (VECTORS / f"{name}.json").write_text(text + "\n", "utf-8")
