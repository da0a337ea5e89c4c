"""Changes of bytes and of JSON, drawn from a seed, so that any failure can be made again."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

_DIGITS = "0123456789abcdef"


def mutated(rng: Random, raw: bytes) -> bytes:
    """``raw`` after one to three flips, insertions, deletions, cuts, repeats or moves."""
    changed = bytearray(raw)
    for _ in range(rng.randint(1, 3)):
        at, size = rng.randrange(len(changed) + 1), rng.choice((1, 1, 8, 32, 40, 100))
        match rng.choice(("flip", "flip", "set", "insert", "delete", "cut", "repeat", "move")):
            case "flip" if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case "set":
                changed[at : at + size] = rng.randbytes(size)
            case "insert":
                changed[at:at] = rng.randbytes(size)
            case "delete":
                del changed[at : at + size]
            case "cut" if rng.random() < 0.1:
                del changed[at:]
            case "repeat":
                changed[at:at] = changed[at : at + size]
            case "move":
                part = changed[at : at + size]
                del changed[at : at + size]
                to = rng.randrange(len(changed) + 1)
                changed[to:to] = part
    return bytes(changed)


def mutated_json(rng: Random, raw: bytes) -> bytes:
    """The canonical text of ``raw``'s tree with one value changed, moved, repeated or gone."""
    tree = copy.deepcopy(json.loads(raw))
    places = list(_places(tree))
    holder, key = rng.choice(places)
    match rng.choice(("change", "change", "change", "remove", "swap", "replace", "repeat")):
        case "change":
            holder[key] = _changed(rng, holder[key])
        case "remove":
            del holder[key]
        case "swap":
            other, name = rng.choice(places)
            holder[key], other[name] = other[name], holder[key]
        case "replace":
            holder[key] = rng.choice((None, "", "0", "00", [], {}, [[]], "=" * 4, 0, 1.5, True))
        case "repeat" if isinstance(holder, list):
            holder.insert(rng.randrange(len(holder) + 1), holder[key])
    try:
        return json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()
    except ValueError:  # a swap put a value into itself
        return raw


def _places(tree: Any) -> Any:
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in inner:
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _changed(rng: Random, value: Any) -> Any:
    if not isinstance(value, str):
        return str(value)
    at, digit = rng.randrange(len(value) + 1), rng.choice(_DIGITS)
    match rng.randrange(4):
        case 0:
            return value[:at] + digit + value[at + 1 :]
        case 1:
            return value[:at] + digit + value[at:]
        case 2:
            return value[:-1]
        case _:
            return value[2:]
