"""Trained forecasters for other programs."""
