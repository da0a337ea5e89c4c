"""Getting in: where a process finds its first contacts, and how others find it."""
