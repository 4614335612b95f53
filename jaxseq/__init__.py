"""Recurrent sequence models as pure functions in JAX."""

__version__ = "0.2.0"
