"""Daily prices from Yahoo Finance, and their cache."""
