"""The command that trains many runs, on this machine or on SLURM."""
