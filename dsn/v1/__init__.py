"""Floor 4: generated protobuf code, nothing else."""
