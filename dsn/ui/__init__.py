"""Floor 9: draw; no rule."""
