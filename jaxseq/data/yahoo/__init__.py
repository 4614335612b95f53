"""yahoo."""
