"""A large table of predictions is Parquet, with every digit and every name of the CSV file."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxseq.common.errors import UsageError
from jaxseq.data.windows import lay_out
from jaxseq.forecasting import predictions

pytest.importorskip("pyarrow")


def table() -> pd.DataFrame:
    """Three windows of three series with names that a reader might take for numbers or missing values."""
    draw = np.random.default_rng(0)
    targets = draw.standard_normal((3, 2))
    targets[0, 1] = np.nan
    part = lay_out(draw.standard_normal((3, 4)), targets, series=np.array([0, 2, 1]))
    days = np.datetime64("2020-01-01") + np.arange(6).reshape(3, 2)
    forecast = draw.standard_normal((3, 2))
    return predictions.frame(
        part, ("01", "NA", "=1+1"), {"forecast": forecast}, {0.8: (forecast - 1, forecast + 1)}, days
    )


def test_a_table_of_either_size_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "predictions.csv"
    small = table()
    predictions.write(path, small)
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.csv"]
    from_csv = predictions.read(path)

    monkeypatch.setattr(predictions, "LARGE", 3)
    predictions.write(path, table())
    # The other one would be of an earlier judgement.
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.parquet"]
    from_parquet = predictions.read(path)
    assert list(from_parquet) == list(from_csv)
    for name in list(from_csv)[1:]:
        written, read_back = from_parquet[name].to_numpy(), from_csv[name].to_numpy()
        np.testing.assert_array_equal(written, read_back)
    assert from_parquet["series"].astype(str).tolist() == ["01", "01", "=1+1", "=1+1", "NA", "NA"]


def test_a_table_that_cannot_be_written_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "predictions.csv"
    predictions.write(path, table())
    monkeypatch.setattr(predictions, "LARGE", 3)
    (tmp_path / "predictions.parquet").mkdir()
    with pytest.raises(UsageError, match="cannot write"):
        predictions.write(path, table())
    assert path.is_file() and len(list(tmp_path.iterdir())) == 2
