"""What roles and commands do with the chain that a network settles on."""
