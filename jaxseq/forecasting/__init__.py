"""What a forecast is measured by: baselines, errors, and what a test set allows to be said. No jax in here."""
