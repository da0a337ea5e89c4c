"""A witness: it replays the ledger from its beginning, and cosigns what it found itself."""
