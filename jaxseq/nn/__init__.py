"""Flax layers and models around the recurrence, their output heads and their objectives."""
