"""Compose chorales with a trained run, judge them beside Bach's, and write them into a folder."""
