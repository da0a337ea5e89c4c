"""The ledger as a process: it orders entries, publishes checkpoints, keeps time and proves."""
