"""Floor 0: native speed behind small functions, with a portable fallback each."""
