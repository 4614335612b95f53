"""A small table of sales, and the words of a quick run on it."""

from pathlib import Path

import numpy as np
import pandas as pd

TABLE = ["--data.window", "8", "--model.hidden", "2", "--epochs", "1", "--batch", "64"]


def sales(path: Path, *names: str) -> Path:
    """Write a table of 120 days, of one series, or of one for each name."""
    days = pd.date_range("2021-01-01", periods=120)
    random = np.random.default_rng(0)
    frames = []
    for name in names or ("only",):
        values = 50 + 10 * np.sin(2 * np.pi * np.arange(120) / 7) + random.normal(size=120)
        frames.append(pd.DataFrame({"date": days, "store": name, "sales": values}))
    table = pd.concat(frames)
    if not names:
        table = table.drop(columns="store")
    table.to_csv(path, index=False)
    return path
