"""Floor 2: signed records and the network they belong to."""
