"""Data sets: frozen dataclasses whose `load` returns the training, validation and test parts. No jax in here."""
