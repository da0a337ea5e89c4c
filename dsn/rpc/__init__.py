"""Floor 6: gRPC over TLS that proves the node id."""
