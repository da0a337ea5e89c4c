"""The ledger's operator: entries into the log, the log out to people, and every line checked."""
