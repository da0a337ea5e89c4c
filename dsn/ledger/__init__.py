"""Floor 2: what parties sign to each other."""
