"""Why the ledger does not take an entry: every check has a code of its own.

Spec: docs/spec/economy.md#rules.
"""

from __future__ import annotations

from dsn.errors import EntryRefused


def refuse(code: str, message: str, hint: str = "") -> EntryRefused:
    """The error to raise for ``code``."""
    return EntryRefused(message, code=code, hint=hint)
