"""Baselines, errors, intervals and verdicts of forecasts."""
