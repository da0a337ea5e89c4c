"""Floor 9: parse, print; no rule."""
