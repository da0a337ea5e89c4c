"""Floor 5: protobuf to domain values, errors to gRPC status."""
