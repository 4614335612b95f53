"""A file with a series in each column is read as the file with the same rows below each other."""

import re

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from jaxseq.common.errors import UsageError
from jaxseq.data import tables
from jaxseq.data.table import Table
from jaxseq.data.tables import formats
from jaxseq.data.tables.read import Options

DAYS = pd.date_range("2020-01-01", periods=12, name="day")


def wide_frame(seed: int = 0, columns: tuple[str, ...] = ("north", "south", "east")) -> pd.DataFrame:
    """Series that begin and end on days of their own, the first of them on all days."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({name: random.normal(size=12).round(3) for name in columns}, index=DAYS)
    for name in columns[1:]:
        first, last = sorted(random.choice(13, 2, replace=False))
        frame.loc[DAYS[: min(first, 8)], name] = np.nan
        frame.loc[DAYS[max(last, min(first, 8) + 4) :], name] = np.nan
    return frame


def long_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of each series from its first value to its last one, below each other."""
    parts = []
    for name in frame:
        known = frame.index[frame[name].notna()]
        values = frame.loc[known[0] : known[-1], name]
        parts.append(pd.DataFrame({"day": values.index, "name": name, "value": values.to_numpy()}))
    return pd.concat(parts, ignore_index=True)


def read(path, *columns, **options):
    return tables.read.read(path, Options(*columns, **options))


def check_equal(table, other):
    assert (table.names, table.frequency, table.floor) == (other.names, other.frequency, other.floor)
    for series, of_other in zip(table.series, other.series, strict=True):
        np.testing.assert_array_equal(series.times, of_other.times)
        assert series.values.tobytes() == of_other.values.tobytes()
    for part in ("covariates", "missing"):
        for array, of_other in zip(getattr(table, part), getattr(other, part), strict=True):
            np.testing.assert_array_equal(array, of_other)


def refused(path, **options):
    with pytest.raises(UsageError) as caught:
        read(path, **options)
    text = str(caught.value)
    assert text.isprintable() and text.startswith(f"{path}: "), text
    return text.removeprefix(f"{path}: ")


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), column=st.sampled_from(["*", "north,south,east", "north, south,east"]))
def test_a_wide_file_is_read_as_the_long_one(seed, column, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wide")
    frame = wide_frame(seed)
    frame.to_csv(folder / "wide.csv")
    long_frame(frame).to_csv(folder / "long.csv", index=False)
    wide = read(folder / "wide.csv", column)
    check_equal(wide, read(folder / "long.csv", "value", series="name"))
    assert wide.notes[1].startswith("3 series, one in each column, of ")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_gaps_within_a_series_are_filled_and_its_covariates_are_those_of_all(suffix, tmp_path):
    frame = wide_frame(3)
    frame.iloc[[5, 6], 0] = np.nan
    frame["price"] = np.arange(12.0)
    frame.loc[DAYS[4], "price"] = np.nan
    names = ["north", "south", "east"]
    long = long_frame(frame[names]).merge(frame["price"], left_on="day", right_index=True, how="left")
    if suffix == "csv":
        frame.to_csv(tmp_path / "wide.csv")
        long.to_csv(tmp_path / "long.csv", index=False)
    else:
        frame.reset_index().to_parquet(tmp_path / "wide.parquet")
        long.to_parquet(tmp_path / "long.parquet")
    options = {"covariates": ("price",), "missing": "fill"}
    wide = read(tmp_path / f"wide.{suffix}", "*", **options)
    check_equal(wide, read(tmp_path / f"long.{suffix}", "value", series="name", **options))
    assert wide.missing[0][:, 0].sum() == 2 and wide.names == tuple(names)


def test_a_frame_in_memory_is_read_as_the_wide_file(tmp_path):
    frame = wide_frame(1)
    frame.to_csv(tmp_path / "wide.csv")
    wide = Table.from_frame(frame, column="*").panel()
    file = Table(path=str(tmp_path / "wide.csv"), column="*").panel()
    assert (wide.names, wide.frequency, wide.notes) == (file.names, file.frequency, file.notes)
    for series, of_file in zip(wide.series, file.series, strict=True):
        np.testing.assert_array_equal(series.times, of_file.times)
        np.testing.assert_array_equal(series.values, of_file.values)


def test_dates_of_an_index_without_a_name_are_the_first_column(tmp_path):
    frame = wide_frame(2)
    frame.index.name = None
    frame.to_csv(tmp_path / "wide.csv")
    table = read(tmp_path / "wide.csv", "*")
    assert table.notes[0] == "the first column holds the dates, by its contents" and table.names[0] == "north"
    assert str(table.series[0].times[0]) == "2020-01-01"
    # One of counted rows is no series, and no time either.
    frame.reset_index(drop=True).to_csv(tmp_path / "counted.csv")
    counted = read(tmp_path / "counted.csv", "*")
    assert counted.names == table.names and counted.series[0].times.tolist() == list(range(12))
    for series, dated in zip(counted.series, table.series, strict=True):
        assert series.times[0] == (dated.times[0] - np.datetime64("2020-01-01")).astype(int), (
            "rows are those of the file"
        )


def test_columns_beside_the_series_are_left_out_and_a_name_with_a_comma_is_one_column(tmp_path):
    frame = wide_frame(0, ("a", "b", "c"))
    frame["note"] = "x"
    frame.to_csv(tmp_path / "wide.csv")
    assert read(tmp_path / "wide.csv", "c,a").names == ("c", "a")
    assert "row 2, column 'note': 'x' is not a number" in refused(tmp_path / "wide.csv", column="*")
    # Of both, only the first series has a value in each row.
    frame["a"].to_frame("a,b").to_csv(tmp_path / "comma.csv")
    frame["a"].to_frame("*").assign(b=1).to_csv(tmp_path / "star.csv")
    assert read(tmp_path / "comma.csv", "a,b").names == ("a,b",)
    assert read(tmp_path / "star.csv", "*").names == ("*",)


def test_one_column_is_a_series_that_begins_with_its_first_value(tmp_path):
    (tmp_path / "one.csv").write_text("day,v\n2020-01-01,\n2020-01-02,5\n2020-01-03,6\n2020-01-04,4\n")
    table = read(tmp_path / "one.csv", "*")
    assert table.names == ("v",) and table.series[0].values.tolist() == [5, 6, 4]
    assert "1 of 1 series begin after the first row" in table.notes[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": "north,souht"}, "there is no column 'souht'; did you mean 'south'?"),
        ({"column": "north,south,north"}, "column 'north' is asked for 2 times; each has one role"),
        ({"column": "north,day", "time": "day"}, "column 'day' is asked for 2 times"),
        (
            {"column": "*", "series": "east"},
            "a series in each column (--data.column *) has no column of names as well (--data.series east)",
        ),
        (
            {"column": "*", "covariates": ("north", "south", "east")},
            "no column is left for a series; the columns are 'day'",
        ),
        ({}, "3 columns may hold the values, say with --data.column which one does, or '*' if each is a series; the"),
    ],
)
def test_a_choice_of_columns_that_cannot_be_is_refused(options, message, tmp_path):
    wide_frame().to_csv(tmp_path / "wide.csv")
    assert refused(tmp_path / "wide.csv", **options).startswith(message)


def changed(frame: pd.DataFrame, row: int, name: str, value: object) -> pd.DataFrame:
    frame = frame.astype(object)
    frame.iloc[row, list(frame).index(name)] = value
    return frame


@pytest.mark.parametrize(
    ("row", "name", "value", "message"),
    [
        (5, "south", "x", "row 7, column 'south': 'x' is not a number"),
        (5, "south", np.nan, "row 7, column 'south': nan is the first of 1 missing or infinite among 24 values"),
        (0, "south", "inf", "row 2, column 'south': inf is the first of 1 missing"),
        (3, "north", 1e200, "row 5, column 'north': 1e+200 is beyond 1e+100"),
    ],
)
def test_a_bad_cell_of_a_wide_file_is_named_by_its_row_and_column(row, name, value, message, tmp_path):
    frame = pd.DataFrame({"north": np.arange(12.0), "south": np.arange(12.0) ** 2}, index=DAYS)
    changed(frame, row, name, value).to_csv(tmp_path / "wide.csv")
    assert refused(tmp_path / "wide.csv", column="*").startswith(message)


def test_a_gap_that_is_too_long_and_a_column_without_a_value_are_named(tmp_path):
    frame = pd.DataFrame({"north": np.arange(12.0), "south": np.arange(12.0) ** 2}, index=DAYS)
    frame.iloc[2:9, 1] = np.nan
    frame.to_csv(tmp_path / "gap.csv")
    assert refused(tmp_path / "gap.csv", column="*", missing="fill").startswith(
        "row 9, column 'south': too many missing"
    )
    frame["east"] = np.nan
    frame.to_csv(tmp_path / "empty.csv")
    assert refused(tmp_path / "empty.csv", column="*").startswith(
        "column 'east' has no value in any row, as 1 of 3 columns of series; leave it out"
    )


def test_rows_out_of_order_are_told_without_a_column_of_names(tmp_path):
    frame = pd.DataFrame({"north": np.arange(12.0), "south": np.arange(12.0) ** 2, "kind": 1}, index=DAYS)
    frame.iloc[::-1].to_csv(tmp_path / "wide.csv")
    message = refused(tmp_path / "wide.csv", column="north,south", time="day")
    assert re.match(
        r"row 3, column 'day': 2020-01-11 follows 2020-01-12 in row 2: times must increase, sort the rows$", message
    )


def test_more_values_than_are_read_and_a_name_that_is_too_long_are_refused(tmp_path, monkeypatch):
    frame = wide_frame()
    frame.rename(columns={"east": "e" * 300}).to_csv(tmp_path / "name.csv")
    assert "the name of the series has 300 letters; 200 at most" in refused(tmp_path / "name.csv", column="*")
    frame.to_csv(tmp_path / "wide.csv")
    monkeypatch.setattr(formats, "MAX_CELLS", 107)
    assert refused(tmp_path / "wide.csv", column="*").startswith("12 rows of 3 columns are 108 values")
