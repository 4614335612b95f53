"""Covariates that are known ahead: what the calendar says, and which rows a forecast may read."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from jaxseq.common.errors import UsageError
from jaxseq.data import calendar, later
from jaxseq.data.frequency import continue_, describe
from jaxseq.data.table import Table
from jaxseq.data.tables import read

HOURS = np.datetime64("2024-02-28T00") + np.arange(72).astype("timedelta64[h]")
HOURLY = describe("h")


def dated(times, values=None):
    """A frame of one series with dates."""
    if values is None:
        values = np.random.default_rng(0).normal(size=len(times))
    return pd.DataFrame({"date": times, "y": values})


def daily(count=60, **fields):
    return Table.from_frame(dated(pd.date_range("2024-01-01", periods=count)), window=5, **fields)


def test_the_calendar_is_that_of_pandas():
    columns = calendar.columns(("hour", "weekday", "month"), HOURS, HOURLY)
    dates = pd.DatetimeIndex(HOURS)
    angle = np.arctan2(columns[:, 0], columns[:, 1]) / (2 * np.pi) * 24
    np.testing.assert_allclose(angle % 24, dates.hour, atol=1e-9)
    np.testing.assert_array_equal(columns[:, 2:9].argmax(axis=1), dates.day_of_week)
    np.testing.assert_array_equal(columns[:, 2:9].sum(axis=1), 1)
    np.testing.assert_allclose(columns[:, 9], np.sin(2 * np.pi * (dates.month - 1) / 12))


def test_a_season_has_a_place_that_no_beginning_of_the_rows_changes():
    columns = calendar.columns(("season",), HOURS, HOURLY)
    assert columns.shape == (72, 4)
    np.testing.assert_allclose(columns[:48, :2], columns[24:, :2], atol=1e-9)
    np.testing.assert_array_equal(calendar.columns(("season",), HOURS[7:], HOURLY), columns[7:])
    assert len(np.unique(columns.round(6), axis=0)) == 72


@pytest.fixture
def holidays(monkeypatch):
    """A package of one country, whose holidays are the 1st of each month."""

    def country_holidays(country, subdiv, years):
        if country != "XY":
            raise NotImplementedError
        return {f"{year}-{month:02}-01": "first" for year in years for month in range(1, 13)}

    monkeypatch.setitem(sys.modules, "holidays", SimpleNamespace(country_holidays=country_holidays))
    calendar._holidays.cache_clear()
    yield
    calendar._holidays.cache_clear()


def test_holidays_are_those_of_the_package(holidays):
    columns = calendar.columns(("holidays:XY",), HOURS, HOURLY)
    np.testing.assert_array_equal(columns[:, 0], pd.DatetimeIndex(HOURS).day == 1)
    with pytest.raises(UsageError, match=r"a country that is not known.*holidays:ZZ"):
        calendar.columns(("holidays:ZZ",), HOURS, HOURLY)


def test_holidays_without_the_package_are_refused_with_the_way_to_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "holidays", None)
    calendar._holidays.cache_clear()
    with pytest.raises(UsageError, match=r'holidays is not installed.*pip install "jaxseq\[calendar\]"'):
        daily(calendar="holidays:US").panel()


def test_the_real_package_knows_independence_day():
    pytest.importorskip("holidays")
    calendar._holidays.cache_clear()
    days = np.array(["2023-07-03", "2023-07-04", "2023-12-25"], "datetime64[D]")
    assert calendar.columns(("holidays:US",), days, describe("D"))[:, 0].tolist() == [0, 1, 1]
    assert calendar.columns(("holidays:DE-BY",), days, describe("D"))[:, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ("hours", "no entry of a calendar.*hours.*hour, weekday, month, season, or holidays: and a country"),
        ("holidays:", "no entry of a calendar"),
        ("month,month", "the same entry twice"),
        ("hour", r"rows that are daily \(D\) do not tell it.*hour"),
    ],
)
def test_entries_that_say_nothing_are_refused(entries, words):
    with pytest.raises(UsageError, match=words):
        daily(calendar=entries).panel()


@pytest.mark.parametrize(
    ("frequency", "entry"), [("W-MON", "weekday"), ("MS", "holidays:US"), ("YS-JAN", "month"), ("YS-JAN", "season")]
)
def test_rows_too_far_apart_for_an_entry_are_refused(frequency, entry):
    times = continue_(np.datetime64("2000-01-01"), describe(frequency), 30)
    with pytest.raises(UsageError, match=entry):
        Table.from_frame(dated(times), window=5, calendar=entry).panel()


def test_rows_without_dates_are_refused():
    with pytest.raises(UsageError, match=r"its rows have no dates.*--data.calendar weekday.*--data.time"):
        Table.from_frame(pd.DataFrame({"y": np.arange(40.0) % 7}), window=5, calendar="weekday").panel()


def test_each_window_has_the_calendar_of_its_own_rows_and_of_those_of_its_targets():
    recipe = daily(calendar="weekday")
    for part in recipe.load(3).windows:
        rows = part.times.astype("datetime64[D]")[:, None] + np.arange(-5, 3)
        expected = pd.DatetimeIndex(rows.ravel()).day_of_week.to_numpy().reshape(rows.shape)
        np.testing.assert_array_equal(part.known.argmax(axis=2), expected)


def test_beyond_the_end_the_calendar_goes_on_in_the_frequency_of_the_rows():
    panel = Table.from_frame(dated(pd.bdate_range("2024-01-01", periods=60)), window=5, calendar="weekday").panel()
    last = panel.last_windows(5, 4)
    # The last of 60 business days from a Monday on is a Friday.
    assert last.known[0].argmax(axis=1).tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    from_row = panel.windows_from(0, 58, 5, 3)
    assert from_row.known[-1].argmax(axis=1).tolist() == [4, 0, 1, 2, 3, 4, 0, 1]


def test_what_is_known_ahead_is_read_one_row_ahead_and_beyond_the_window_alone():
    recipe = daily(calendar="weekday,month")
    windows, scaling, _ = recipe.load(3)
    part = windows.train
    x = scaling.inputs(part)
    assert x.shape == (len(part.inputs), 5 + 2, scaling.features) and scaling.features == 1 + 7 + 2
    plain, plain_scaling, _ = daily().load(3)
    np.testing.assert_array_equal(x[:, :5, :1], plain_scaling.inputs(plain.train))
    assert not x[:, 5:, 0].any()
    monday = x[..., 1] > 0
    weekday = part.known.argmax(axis=2)
    np.testing.assert_array_equal(monday, weekday[:, 1:] == 0)


def test_series_that_are_chosen_keep_their_calendar():
    frames = [dated(pd.date_range(first, periods=40)).assign(shop=first) for first in ("2024-01-01", "2024-01-03")]
    panel = Table.from_frame(pd.concat(frames), column="y", series="shop", window=5, calendar="weekday").panel()
    np.testing.assert_array_equal(panel.select([1]).last_windows(5, 2).known, panel.last_windows(5, 2).known[1:])


# Columns of the table -------------------------------------------------------------------------------------------------

DRAWN = np.random.default_rng(3).normal(0, 0.1, 80)
"""Noise of a tenth of the changes."""
SHOPS = {"a": 1.5, "b": -2.0}
"""A static value of each of two shops."""


def sales(rows=40, beyond=4):
    """Two shops with a price that is known `beyond` their last values, and an area."""
    draw = np.random.default_rng(1)
    frames = []
    for shop, area in SHOPS.items():
        frame = dated(pd.date_range("2024-01-01", periods=rows + beyond), draw.normal(size=rows + beyond))
        frame.loc[rows:, "y"] = np.nan
        frames.append(frame.assign(shop=shop, price=draw.normal(size=rows + beyond), area=area))
    return pd.concat(frames, ignore_index=True)


FIELDS = {"column": "y", "series": "shop", "window": 5, "future": "price", "static": "area"}


def written(frame, tmp_path, **fields):
    frame.to_csv(tmp_path / "sales.csv", index=False)
    return Table(path=str(tmp_path / "sales.csv"), **(FIELDS | fields))


def test_rows_beyond_the_last_value_are_known_ahead_and_no_part_of_the_series(tmp_path):
    frame = sales()
    panel = written(frame, tmp_path, calendar="weekday").panel()
    assert [len(series.values) for series in panel.series] == [40, 40]
    last = panel.last_windows(5, 4)
    np.testing.assert_array_equal(last.known[1, :, 7], frame["price"][44 + 35 :])
    np.testing.assert_array_equal(last.known[:, :, 8], np.repeat([[1.5], [-2.0]], 9, axis=1))
    # The 40th day from a Monday on is a Friday.
    assert last.known[0, :, :7].argmax(axis=1).tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1]
    part = panel.load("change", 5, 2).windows.train
    np.testing.assert_array_equal(part.known[3, :, 7], frame["price"][3:10])
    assert any("price; validation and test read their true values" in note for note in panel.notes)


def test_wide_tables_share_what_is_known_ahead(tmp_path):
    frame = sales().query("shop == 'a'").rename(columns={"y": "north"}).drop(columns=["shop", "area"])
    frame["south"] = frame["north"].shift(-3)
    panel = written(frame, tmp_path, column="north,south", series=None, static="").panel()
    assert [len(series.values) for series in panel.series] == [40, 37]
    last = panel.last_windows(5, 4)
    np.testing.assert_array_equal(last.known[0, :, 0], frame["price"][35:44])
    np.testing.assert_array_equal(last.known[1, :, 0], frame["price"][32:41])


@pytest.mark.parametrize("missing", ["drop", "fill"])
def test_missing_values_before_the_end_are_treated_as_ever(missing, tmp_path):
    frame = sales()
    frame.loc[10, "y"] = np.nan
    panel = written(frame, tmp_path, missing=missing).panel()
    assert len(panel.series[0].values) == (39 if missing == "drop" else 40)
    np.testing.assert_array_equal(panel.last_windows(5, 4).known[0, 5:, 0], frame["price"][40:44])
    assert all(mask.shape[1] == 1 for mask in panel.missing)


def drop(frame):
    return frame.drop(index=41)


def late(frame):
    frame.loc[41:43, "date"] += pd.Timedelta(days=1)
    return frame


def twice(frame):
    return pd.concat([frame[:42], frame[41:]])


def empty(frame):
    frame.loc[42, "price"] = np.nan
    return frame


def moved(frame):
    frame.loc[60, "area"] = 7
    return frame


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop, r"sales.csv: row 43, column 'date' \(2024-02-12.*comes 2 days after 2024-02-10.*instead of 1 day"),
        (late, r"sales.csv: row 43, column 'date' \(2024-02-12.*comes 2 days after"),
        (twice, r"sales.csv: row 44, column 'date', series 'a'.*2024-02-11.* is in row 43 too"),
        (empty, r"sales.csv: row 44, column 'price', series 'a'.*needs each covariate that is known ahead.*got nan"),
        (moved, r"sales.csv: row 62, column 'area', series 'b'.*one value.*got 7.*needed -2, as in row 46"),
    ],
)
def test_rows_that_do_not_fit_are_refused_with_their_place(change, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        written(change(sales()), tmp_path).panel()


def test_an_absent_time_beyond_the_end_is_refused_where_others_are_filled(tmp_path):
    with pytest.raises(UsageError, match=r"row 43, column 'date', series 'a' \(2024-02-12.*instead of 1 day"):
        written(drop(sales()), tmp_path, missing="fill").panel()


def test_a_forecast_beyond_what_is_known_names_the_last_row_and_the_times_that_lack(tmp_path):
    panel = written(sales(), tmp_path).panel()
    with pytest.raises(UsageError, match=r"row 45, column 'price', series 'a'.*2024-02-14.* to 2024-02-15"):
        panel.last_windows(5, 6)
    assert panel.windows_from(0, 30, 5, 6).origins.tolist() == list(range(30, 39))


def test_a_static_column_of_a_single_series_is_refused():
    with pytest.raises(UsageError, match=r"--data.static.*area.*--data.series"):
        Table.from_frame(sales()[:44], **(FIELDS | {"series": None})).panel()


# A table of its own for what is known ahead ---------------------------------------------------------------------------


def plan_of(panel, frame, tmp_path, **options):
    frame.to_csv(tmp_path / "plan.csv", index=False)
    recipe = Table(**FIELDS)
    return later.with_plan(panel, read.read_plan(tmp_path / "plan.csv", recipe.read_options), **options)


def test_a_table_of_plans_is_the_rows_beyond_the_end_of_another(tmp_path):
    frame = sales()
    whole = written(frame, tmp_path).panel()
    beyond = frame["y"].isna()
    without = written(frame[~beyond], tmp_path).panel()
    planned = plan_of(without, frame[beyond].drop(columns=["y", "area"]), tmp_path)
    np.testing.assert_array_equal(planned.last_windows(5, 4).known, whole.last_windows(5, 4).known)
    overlapping = plan_of(without, frame, tmp_path, may_overlap=True)
    np.testing.assert_array_equal(overlapping.last_windows(5, 4).known, whole.last_windows(5, 4).known)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda plan: plan.assign(date=plan["date"] - pd.Timedelta(days=1)),
            r"plan.csv: row 2, column 'date', series 'a'.*already",
        ),
        (
            lambda plan: plan.assign(date=plan["date"] + pd.Timedelta(days=1)),
            r"plan.csv: row 2, column 'date', series 'a'.*2 days",
        ),
        (
            lambda plan: plan.assign(date=plan["date"].iloc[0] + 7 * (plan["date"] - plan["date"].iloc[0])),
            r"plan.csv: row 3, column 'date', series 'a'.*7 days.*instead of 1 day",
        ),
        (lambda plan: plan[:4].assign(shop="c"), r"plan.csv: row 2, column 'shop'.*no series of this name"),
        (lambda plan: plan.assign(price=np.inf), r"plan.csv: row 2, column 'price', series 'a'.*got inf"),
        (lambda plan: plan.drop(columns="price"), r"plan.csv: there is no column 'price'"),
    ],
    ids=["overlapping", "late", "weekly", "unknown", "infinite", "without"],
)
def test_plans_that_do_not_go_on_from_the_end_are_refused(change, words, tmp_path):
    frame = sales()
    beyond = frame["y"].isna()
    without = written(frame[~beyond], tmp_path).panel()
    with pytest.raises(UsageError, match=words):
        plan_of(without, change(frame[beyond]), tmp_path)


def test_plans_for_a_run_without_such_columns_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"plan.csv.*no --data.future.*--data.path FILE"):
        read.read_plan(tmp_path / "plan.csv", daily().read_options)


# The target in disguise -----------------------------------------------------------------------------------------------


def leak_notes(recipe, horizon=3):
    return [note for note in recipe.load(horizon).background.notes if note.startswith("leak")]


def walk(**columns):
    """A random walk, whose neighbours are alike, with columns that are made of it."""
    values = 100 + np.cumsum(np.random.default_rng(2).normal(size=80))
    frame = dated(pd.date_range("2024-01-01", periods=80), values)
    return frame.assign(**{name: make(frame["y"]) for name, make in columns.items()})


@pytest.mark.parametrize(("shift", "place"), [(1, "1 time step later"), (3, "3 time steps later")])
def test_a_past_covariate_that_is_a_later_value_is_said_with_correlation_and_shift(shift, place):
    frame = walk(later=lambda y: (5 - 2 * y.shift(-shift)).ffill(), past=lambda y: y.shift(shift).bfill())
    (note,) = leak_notes(Table.from_frame(frame, column="y", covariates="later,past", window=5))
    assert f"'later' is nearly the value {place}" in note and "correlate -1.0000" in note


def test_what_is_known_ahead_is_a_leak_in_its_own_row_where_a_past_covariate_is_none():
    frame = walk(same=lambda y: y / 7)
    assert not leak_notes(Table.from_frame(frame, column="y", covariates="same", window=5))
    (note,) = leak_notes(Table.from_frame(frame, column="y", future="same", window=5, calendar="weekday"))
    assert "'same' is nearly the value of the same row" in note and "correlate +1.0000" in note


def test_a_leak_beyond_the_horizon_or_with_noise_is_none():
    frame = walk(later=lambda y: y.shift(-4).ffill(), noisy=lambda y: y.shift(-1).ffill() + DRAWN)
    assert not leak_notes(Table.from_frame(frame, column="y", covariates="later,noisy", window=5))
