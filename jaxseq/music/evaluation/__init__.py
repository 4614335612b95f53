"""Scores, baselines and measures of music."""
