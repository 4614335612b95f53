"""Rows that came after the end of a series: where they stand, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxseq.common.errors import UsageError
from jaxseq.data import later
from jaxseq.data.later import Later
from jaxseq.data.table import Table
from jaxseq.data.tables import read

DAYS = pd.date_range("2021-01-01", periods=30)
LEVELS = {"east": 1.0, "north": 10.0}


def table(days: pd.DatetimeIndex, *names: str) -> pd.DataFrame:
    """Return rows of some series; a value is the series' level times the day of the year."""
    frames = [
        pd.DataFrame({"date": days, "store": name, "y": LEVELS.get(name, 5.0) * (days.day_of_year + 0.5)})
        for name in names
    ]
    return pd.concat(frames, ignore_index=True)


@pytest.fixture
def data(tmp_path: Path) -> Table:
    """Two series of 20 and 18 days."""
    rows = pd.concat([table(DAYS[:20], "east"), table(DAYS[:18], "north")])
    rows.to_csv(tmp_path / "known.csv", index=False)
    return Table(path=str(tmp_path / "known.csv"), column="y", series="store")


def follow(data: Table, rows: pd.DataFrame, horizon: int = 3, missing: str = "error", **options: object) -> Later:
    path = Path(data.path).with_name("later.csv")
    rows.to_csv(path, index=False)
    return later.follow(data.panel(), read.read_rows(path, data.read_options), horizon, missing, **options)


def test_rows_stand_at_their_steps_after_the_end_of_each_series(data: Table) -> None:
    rows = pd.concat([table(DAYS[18:21], "north"), table(DAYS[20:22], "east")])
    came = follow(data, rows)
    np.testing.assert_allclose(came.actual, [[21.5, 22.5, np.nan], [195, 205, 215]])
    assert came.times.astype("datetime64[D]").astype(str).tolist() == [
        ["2021-01-21", "2021-01-22", "2021-01-23"],
        ["2021-01-19", "2021-01-20", "2021-01-21"],
    ]
    (note,) = came.notes
    assert "1 of 2 series with 2 of the 3 values" in note and "'east'" in note


def test_rows_of_the_training_may_stand_before_them_and_rows_beyond_are_not_judged(data: Table) -> None:
    alone = follow(data, table(DAYS[20:23], "east"))
    whole = follow(data, table(DAYS[:27], "east"))
    np.testing.assert_array_equal(alone.actual, whole.actual)
    assert "4 rows beyond the horizon of 3" in whole.notes[-1]
    assert "1 of 2 series without a later value: series 'north'" in alone.notes[0]


def refusal(data: Table, rows: pd.DataFrame, missing: str = "error") -> UsageError:
    with pytest.raises(UsageError) as error:
        follow(data, rows, missing=missing)
    assert "later.csv" in str(error.value) and "\n" not in str(error.value)
    return error.value


def test_what_does_not_follow_is_refused_with_row_and_series(data: Table) -> None:
    unknown = refusal(data, table(DAYS[20:23], "east", "nort"))
    assert "row 5" in str(unknown.where) and unknown.got == "nort" and "'north'" in str(unknown.needed)

    changed = table(DAYS[:23], "east")
    changed.loc[4, "y"] *= 1000
    other_unit = refusal(data, changed)
    assert "row 6" in str(other_unit.where) and "'east'" in str(other_unit.where)
    assert (other_unit.got, other_unit.needed) == (5500, "5.5")

    gap = refusal(data, table(DAYS[21:23], "east"))
    assert "row 2" in gap.rule and "'east'" in gap.rule and "2021-01-20" in gap.rule
    hole = table(DAYS[[20, 22]], "east")
    assert "row 3" in refusal(data, hole).rule
    off_grid = table(DAYS[20:22] + pd.Timedelta("6h"), "east")
    assert "row 2" in refusal(data, off_grid, missing="fill").rule

    nothing = refusal(data, table(DAYS[:20], "east"))
    assert "2021-01-20" in str(nothing.got) and "2021-01-19" in str(nothing.needed)
    twice = pd.concat([table(DAYS[20:22], "east"), table(DAYS[20:22], "east")])
    assert "row 4" in refusal(data, twice).rule
    numbered = table(DAYS[20:22], "east").assign(date=[20, 21])
    assert (refusal(data, numbered).got, refusal(data, numbered).needed) == ("numbers", "dates")


def test_missing_values_are_refused_unknown_or_skipped_as_in_the_training(data: Table) -> None:
    rows = table(DAYS[20:24], "east")
    rows.loc[1, "y"] = np.nan
    refused = refusal(data, rows)
    assert "row 3" in str(refused.where) and "'east'" in str(refused.where)
    np.testing.assert_array_equal(follow(data, rows, missing="fill").actual[0], [21.5, np.nan, 23.5])
    np.testing.assert_array_equal(follow(data, rows, missing="drop").actual[0], [21.5, 23.5, 24.5])
    # A time that is absent is a missing value.
    np.testing.assert_array_equal(follow(data, rows.drop(1), missing="fill").actual[0], [21.5, np.nan, 23.5])
    rows.loc[1, "y"] = np.inf
    assert refusal(data, rows, missing="fill").got == np.inf


def test_a_series_that_was_left_out_is_no_unknown_one_and_another_level_is_noted(data: Table) -> None:
    rows = pd.concat([table(DAYS[20:23], "east"), table(DAYS[20:23], "tiny")])
    assert np.isfinite(follow(data, rows, left_out={"tiny"}).actual[0]).all()
    far = table(DAYS[20:23], "east").assign(y=1e6)
    assert "perhaps in another unit" in follow(data, far).notes[-1]


def test_rows_without_times_follow_the_end_or_begin_again(tmp_path: Path) -> None:
    values = np.sin(np.arange(20)) + 3
    pd.DataFrame({"y": values[:15]}).to_csv(tmp_path / "known.csv", index=False)
    data = Table(path=str(tmp_path / "known.csv"))
    alone = follow(data, pd.DataFrame({"y": values[15:]}))
    again = follow(data, pd.DataFrame({"y": values}))
    np.testing.assert_array_equal(alone.actual, [values[15:18]])
    np.testing.assert_array_equal(again.actual, alone.actual)
    assert alone.times.tolist() == [[15, 16, 17]] == again.times.tolist()


def test_holidays_are_no_gaps_on_business_days(tmp_path: Path) -> None:
    days = pd.bdate_range("2021-03-01", periods=40)
    rows = pd.DataFrame({"date": days, "y": np.arange(40.0)})
    rows[:30].to_csv(tmp_path / "known.csv", index=False)
    came = follow(Table(path=str(tmp_path / "known.csv")), rows[31:])
    assert came.actual.tolist() == [[31, 32, 33]]
    assert came.times.astype("datetime64[D]").tolist()[0] == [day.date() for day in days[31:34]]


def test_later_rows_of_a_wide_table_stand_in_the_columns_of_their_series(tmp_path: Path) -> None:
    rows = pd.DataFrame({"date": DAYS, "a": np.arange(30.0), "b": np.arange(30.0) ** 2})
    rows[:20].to_csv(tmp_path / "known.csv", index=False)
    data = Table(path=str(tmp_path / "known.csv"), column="*")
    came = follow(data, rows[20:])
    assert came.actual.tolist() == [[20, 21, 22], [400, 441, 484]]
    rows.loc[21, "b"] = np.nan
    assert "'b'" in str(refusal(data, rows[20:]).where)
