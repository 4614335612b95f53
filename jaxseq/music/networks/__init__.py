"""Flax networks of chorales and piano rolls, and their inputs and objectives."""
