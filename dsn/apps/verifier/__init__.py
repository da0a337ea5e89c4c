"""A verifier: it looks at what nodes prove, and signs what it found."""
