"""Checkpoints of a run on disk: writing, verified reading, and the command that inspects them."""
