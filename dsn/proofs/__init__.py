"""Floor 1: what is challenged, how an answer looks, and who judges it."""
