"""Floor 3: one task each as a state machine without I/O."""
