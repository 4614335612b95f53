"""Sweep: train every combination of values, on this machine or as jobs of a cluster."""
