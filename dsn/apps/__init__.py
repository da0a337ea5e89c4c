"""Floor 8: wire one role together."""
