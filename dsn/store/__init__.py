"""Floor 6: what is on disk."""
