"""Data sets of series, and their windows, splits and scaling."""
