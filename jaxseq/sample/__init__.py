"""The command that composes with a trained run."""
