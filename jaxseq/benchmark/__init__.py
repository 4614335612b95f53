"""The benchmark: a training step of ours against other people's, and against its own matrix products."""
