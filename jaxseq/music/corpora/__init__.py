"""Chorales and piano rolls to train on, read from their published files."""
