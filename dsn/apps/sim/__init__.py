"""Whole networks in one thread: production machines on a virtual clock."""
