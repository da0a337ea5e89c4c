"""What may stand as a name: in a manifest, in the catalogue, in a directory's listing.

Names come from other people's links, so a name that could leave the folder it is written
to, or repaint a terminal, does not exist for us. Each function returns what is wrong, or
the empty string.
"""

from __future__ import annotations

import re

MAX_FILE_NAME_BYTES = 255
MAX_PATH_BYTES = 4_096
_RESERVED_PREFIX = "dsn:"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def text_fault(text: str, most: int) -> str:
    """Why ``text`` (untrusted) is not UTF-8 of at most ``most`` bytes."""
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return "it is not UTF-8"
    return f"it has {size} bytes, at most {most} allowed" if size > most else ""


def _control_fault(name: str) -> str:
    return "it holds a control character" if _CONTROL.search(name) else ""


def file_name_fault(name: str) -> str:
    """Why ``name`` (untrusted) cannot be a file's own name; empty is fine, it means none."""
    if "/" in name or name in (".", ".."):
        return "it is a path, not a name"
    return _control_fault(name) or text_fault(name, MAX_FILE_NAME_BYTES)


def catalogue_name_fault(name: str) -> str:
    """Why ``name`` (untrusted) cannot stand in the catalogue."""
    if not name:
        return "it is empty"
    if name.lower().startswith(_RESERVED_PREFIX):
        return "it would be taken for a link"
    return _control_fault(name) or text_fault(name, MAX_PATH_BYTES)


def path_fault(path: str) -> str:
    """Why ``path`` (untrusted) is not a relative path below a directory's top."""
    if path.startswith("/"):
        return "it is absolute"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "it has an empty, '.' or '..' part"
    return _plain_fault(path)


def link_fault(link: str) -> str:
    """Why ``link`` (untrusted) is not what a symbolic link can point to."""
    return _plain_fault(link) if link else "it points nowhere"


def _plain_fault(path: str) -> str:
    return "it holds a NUL" if "\0" in path else text_fault(path, MAX_PATH_BYTES)
