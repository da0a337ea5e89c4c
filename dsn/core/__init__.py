"""Floor 1: the data path as values and rules, from a file down to its leaves."""
