"""Parts by numbers of rows or by dates: the same rule for all series, each with its own rows; and strided test windows."""

import dataclasses

import numpy as np
import pytest

from jaxseq.common.errors import UsageError
from jaxseq.data.aapl import Prices
from jaxseq.data.folds import folds
from jaxseq.data.frequency import describe
from jaxseq.data.panel import Panel
from jaxseq.data.split import SHARES, Split
from jaxseq.data.windows import Series

DAILY = describe("D")


def daily(first: str, n: int, seed: int = 0) -> Series:
    times = np.datetime64(first) + np.arange(n).astype("timedelta64[D]")
    return Series(times, 100 + np.cumsum(np.random.default_rng(seed).standard_normal(n)))


def panel(split: Split, *series: Series, **options) -> Panel:
    names = tuple("abcdef"[: len(series)])
    return Panel(names, series, DAILY, split=split, **options)


def test_rows_at_the_end_are_the_same_number_in_every_series():
    data = panel(Split(test_rows=20, valid_rows=10), daily("2020-01-01", 100), daily("2020-03-01", 60, 1))
    windows, _, background = data.load("change", 5, 2)
    for number, n in enumerate((100, 60)):
        for part, (first, last) in zip(windows, ((5, n - 30), (n - 30, n - 20), (n - 20, n)), strict=True):
            origins = part.origins[part.series == number]
            assert (origins.min(), origins.max()) == (first, last - 2)
    assert background.training_rows == (70, 30)
    note = "the last 20 rows of each series are for the test, 10 before them for validation"
    assert note in background.notes


def test_a_validation_part_that_is_not_given_is_as_long_as_the_test_part():
    times = daily("2020-01-01", 100).times
    assert Split(test_rows=20).first_rows(times) == (60, 80)
    assert Split(test_from="2020-03-31").first_rows(times) == (80, 90)
    assert SHARES.first_rows(times) == (70, 85)


def test_a_date_gives_each_series_the_rows_that_it_has_from_then_on():
    split = Split(test_from="2020-05-01", valid_from="2020-04-01")
    series = (daily("2020-01-01", 150), daily("2020-02-01", 100, 1), daily("2020-03-01", 90, 2))
    windows, _, background = panel(split, *series).load("level", 5, 3)
    for number, of_number in enumerate(series):
        rows = windows.test.series == number
        assert windows.test.times[rows][0] == np.datetime64("2020-05-01")
        assert windows.test.times[rows][-1] == of_number.times[-3]
        assert windows.valid.times[windows.valid.series == number][0] == np.datetime64("2020-04-01")
        assert series[number].times[background.training_rows[number] - 1] == np.datetime64("2020-03-31")
    rule = "rows from 2020-05-01 on are for the test, rows from 2020-04-01 on for validation"
    assert background.notes[-1] == f"{rule} (10 to 29 test rows)"


@pytest.mark.parametrize(
    ("text", "row"),
    [("2020-02-10", 40), ("20200210", 40), ("2020-02", 31), ("202002", 31), ("2020Q1", 0), ("2020-W07", 40)],
)
def test_dates_are_read_as_those_of_a_table(text, row):
    times = daily("2020-01-01", 60).times
    if not row:
        with pytest.raises(UsageError, match=r"it begins at 2020-01-01, so that no row is before .* 2020Q1"):
            Split(test_from=text).first_rows(times)
        return
    assert Split(test_from=text, valid_from="2020-01-21").first_rows(times)[1] == row


def test_a_day_is_the_first_hour_of_it_and_rows_without_dates_are_numbered():
    hours = np.datetime64("2020-01-01T00", "s") + np.arange(0, 480, 2).astype("timedelta64[h]")
    assert Split(test_from="2020-01-11", valid_from="2020-01-10T12:00").first_rows(hours) == (114, 120)
    assert Split(test_from="80", valid_from="60").first_rows(np.arange(100)) == (60, 80)


def test_the_folds_of_a_backtest_cut_the_rows_of_the_test_part_into_blocks():
    data = panel(Split(test_rows=24, valid_rows=8), daily("2020-01-01", 100))
    datasets = [data.load("level", 5, 2, 3, fold) for fold in (1, 2, 3)]
    blocks = [(dataset.windows.test.origins[0], dataset.windows.test.origins[-1] + 2) for dataset in datasets]
    assert blocks == [(76, 84), (84, 92), (92, 100)]
    assert [dataset.background.training_rows for dataset in datasets] == [(68,), (76,), (84,)]
    assert folds(100, 3, 5, 2, starts=(68, 76))[1].valid == (76, 84)


def test_one_of_every_so_many_test_windows_is_judged_from_the_first_one_on():
    series = (daily("2020-01-01", 100), daily("2020-01-01", 90, 1))
    every = panel(Split(test_rows=30), *series).load("change", 5, 2)
    strided = panel(Split(test_rows=30, stride=7), *series).load("change", 5, 2)
    for number in (0, 1):
        all_origins = every.windows.test.origins[every.windows.test.series == number]
        origins = strided.windows.test.origins[strided.windows.test.series == number]
        np.testing.assert_array_equal(origins, all_origins[::7])
    np.testing.assert_array_equal(strided.windows.valid.inputs, every.windows.valid.inputs)
    assert strided.background.test_stride == 7
    assert "one of every 7 windows of the test part is judged, 10 windows" in strided.background.notes


def test_strided_windows_without_a_known_target_are_left_out_and_counted():
    missing = np.zeros((100, 1), bool)
    missing[[75, 82]] = True
    data = panel(Split(test_rows=30, stride=5), daily("2020-01-01", 100), missing=(missing,))
    windows, _, background = data.load("change", 5, 1)
    assert windows.test.origins.tolist() == [70, 80, 85, 90, 95]
    assert background.notes[-1].endswith("1 of 6 in test")


@pytest.mark.parametrize(
    ("options", "where", "got", "needed"),
    [
        ({"test_rows": 0}, "--data.test-rows", 0, "at least 1"),
        ({"test_rows": 9, "valid_rows": -1}, "--data.valid-rows", -1, "at least 1"),
        ({"test_stride": 0}, "--data.test-stride", 0, "at least 1"),
        (
            {"test_rows": 9, "test_from": "2012-01-01"},
            "--data.test-rows 9",
            "--data.test-from 2012-01-01",
            "one kind alone",
        ),
        ({"test_from": "2012", "valid_rows": 5}, "--data.valid-rows 5", "--data.test-from 2012", "one kind alone"),
        (
            {"test_from": "soon"},
            "--data.test-from",
            "soon",
            "a date such as 2023-01-31, or a number where times are integers",
        ),
        (
            {"test_from": "2012-01-01", "valid_from": "2012-01-01"},
            "--data.valid-from",
            "2012-01-01",
            "before --data.test-from 2012-01-01",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused_with_both_values(options, where, got, needed):
    with pytest.raises(UsageError) as error:
        Prices(**options)
    assert (error.value.where, error.value.got, error.value.needed) == (where, got, needed)


@pytest.mark.parametrize(
    ("options", "where", "needed"),
    [
        ({"valid_rows": 9}, "--data.valid-rows 9", "--data.test-rows as well"),
        ({"valid_from": "2012-01-01"}, "--data.valid-from 2012-01-01", "--data.test-from as well"),
    ],
)
def test_a_validation_part_alone_is_refused(options, where, needed):
    with pytest.raises(UsageError) as error:
        Prices(**options)
    assert (error.value.where, error.value.needed) == (where, needed)


@pytest.mark.parametrize(
    ("options", "where", "got", "needed"),
    [
        ({"test_rows": 10}, "--data.test-rows", 10, "at least 48"),
        ({"test_rows": 100, "folds": 3}, "--data.test-rows", 100, "at least 144, for 3 folds"),
        ({"test_rows": 100, "valid_rows": 40}, "--data.valid-rows", 40, "at least 48"),
    ],
)
def test_fewer_rows_than_the_horizon_are_refused_before_anything_is_read(options, where, got, needed, monkeypatch):
    monkeypatch.setattr(Prices, "panel", lambda self: pytest.fail("read"))
    with pytest.raises(UsageError) as error:
        Prices(**options).load(48)
    assert (error.value.where, error.value.got, error.value.needed) == (where, got, needed)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (
            Split(test_rows=60, valid_rows=40),
            "there are 100 rows; --data.test-rows 60 and 40 for validation leave none for",
        ),
        (
            Split(test_rows=48, valid_rows=48),
            "the training part has 4 of 100 rows; window 5 and horizon 2 need at least 7",
        ),
        (Split(test_from="2020-04-10"), "it ends at 2020-04-09, before --data.test-from 2020-04-10"),
        (Split(test_from="2020-04-09"), "the test part has 1 of 100 rows; horizon 2 needs at least 2"),
        (
            Split(test_from="2019-12-31"),
            "it begins at 2020-01-01, so that no row is before --data.test-from 2019-12-31",
        ),
        (
            Split(test_from="2020-02-01"),
            "69 of 100 rows are from --data.test-from 2020-02-01 on; as many for validation",
        ),
        (Split(test_from="50"), "its times are dates, 2020-01-01 to 2020-04-09; --data.test-from is 50"),
    ],
)
def test_a_series_without_rows_of_a_part_is_refused_by_its_name_or_left_out(split, message):
    short = daily("2020-01-01", 100)
    with pytest.raises(UsageError) as error:
        panel(split, short).load("change", 5, 2)
    assert str(error.value).startswith(f"series 'a': {message}") and "\n" not in str(error.value)
    long = daily("2019-01-01", 900, 1)
    if "its times" in message:
        return
    data = panel(split, short, long, drops=True)
    if split.test_from:
        data = dataclasses.replace(data, split=split._replace(valid_from="2019-11-01"))
    background = data.load("change", 5, 2).background
    if split.test_from == "2020-02-01":
        assert background.names == ("b",) and "series 'a': it begins" in " ".join(background.notes)
        return
    assert background.names == ("b",) and "left out: 1 of 2 series" in background.notes[0]


def test_several_series_that_end_before_the_test_part_are_named_with_their_dates():
    early = [daily("2020-01-01", n, n) for n in (50, 60)]
    with pytest.raises(UsageError) as error:
        panel(Split(test_from="2020-03-20"), *early, daily("2020-01-01", 150)).load("change", 5, 2)
    assert str(error.value).startswith(
        "2 of 3 series are without rows of all parts: a (2020-01-01 to 2020-02-19), b (2020-01-01 to 2020-02-29); the "
        "first: series 'a': it ends at 2020-02-19, before --data.test-from 2020-03-20"
    )
    assert str(error.value).endswith("--data.unusable drop leaves such series out")
