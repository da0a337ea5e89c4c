"""Floor 6: clock, entropy, process and log."""
