"""A user's table, CSV or Parquet, as series in time."""
