"""The command that trains a run, and its experiments."""
