"""Frequencies, held to those of pandas, and dates that are written as text."""

import json
import re
import warnings

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given

from jaxseq.common.errors import UsageError
from jaxseq.data.aapl import Prices
from jaxseq.data.dates import INTEGER, ISO, ZONED, coarsest, forms, microseconds, parse
from jaxseq.data.frequency import MAX_CLOSED, Frequency, continue_, describe, guess, irregular, missing_days, regular

ALIASES = [
    "D",
    "B",
    "W-MON",
    "W-SUN",
    "2W-FRI",
    "4W-WED",
    "2D",
    "10D",
    "MS",
    "ME",
    "BMS",
    "BME",
    "2MS",
    "5ME",
    "QS-JAN",
    "QS-FEB",
    "QE-DEC",
    "QE-NOV",
    "BQE-DEC",
    "BQS-MAR",
    "2QS-JAN",
    "YS-JAN",
    "YS-MAY",
    "YE-DEC",
    "YE-JUN",
    "BYE-DEC",
    "2YE-DEC",
    "h",
    "2h",
    "5h",
    "36h",
    "min",
    "15min",
    "90min",
    "s",
    "30s",
    "100ms",
    "250us",
]


def dates(alias, n, start="2019-01-01"):
    return pd.date_range(start, periods=n, freq=alias)


def pandas_says(index):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer releases are going to return an offset
        found = pd.infer_freq(index)
    return getattr(found, "freqstr", found)


def infer(times):
    """The frequency of all times; raises `UsageError` at the first row that does not follow it."""
    frequency = guess(times)
    wrong = np.flatnonzero(~regular(times, frequency))
    if len(wrong):
        row = wrong[0]
        raise UsageError(irregular(times[:row], times[row], frequency, f"row {row + 1}"))
    return frequency


def days(*texts):
    return np.array(texts, "datetime64[D]")


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("start", ["2019-01-01", "2004-02-29 00:00", "1995-06-30 17:30"])
def test_a_regular_range_has_the_frequency_that_pandas_infers(alias, start):
    index = dates(alias, 40, start)
    ours, theirs = infer(coarsest(index.to_numpy())).name, pandas_says(index)
    assert ours.split("-")[0] == theirs.split("-")[0]  # releases differ in the anchor of a quarter: January is October
    assert pd.date_range(index[0], periods=40, freq=ours).equals(index)


@given(
    alias=st.sampled_from(ALIASES),
    n=st.integers(9, 60),
    start=st.datetimes(pd.Timestamp(1800, 1, 1), pd.Timestamp(2150, 1, 1)),
)
def test_dates_go_on_as_a_longer_range_does(alias, n, start):
    index = dates(alias, n + 7, pd.Timestamp(start).floor("s"))
    assume(pandas_says(index[:n]) == pandas_says(index))  # a few quarters may all end on a business day
    times = coarsest(index[:n].to_numpy())
    future = continue_(times[-1], infer(times), 7)
    np.testing.assert_array_equal(future, index[n:].to_numpy())
    assert future.dtype == coarsest(future).dtype or future.dtype == times.dtype


def test_apples_trading_days_are_business_days_with_holidays():
    times = Prices().series().times
    assert pandas_says(pd.DatetimeIndex(times)) is None
    frequency = infer(times)
    assert frequency == Frequency("B", 5, "daily on business days")
    weekdays = pd.bdate_range(times[0], times[-1])
    assert missing_days(times, frequency) == len(weekdays.difference(pd.DatetimeIndex(times))) == len(weekdays) - 3270
    assert np.all(regular(times, frequency))


def test_two_series_in_one_array_are_each_regular_and_the_step_between_them_is_none():
    times = np.append(days("2020-01-01", "2020-01-02", "2020-01-03"), days("2019-05-06", "2019-05-07", "2019-05-09"))
    starts = np.array([True, False, False, True, False, False])
    np.testing.assert_array_equal(regular(times, describe("D"), starts), [1, 1, 1, 1, 1, 0])
    np.testing.assert_array_equal(regular(times, describe("B"), starts), [1, 1, 1, 1, 1, 1])
    assert missing_days(times, describe("B"), starts) == 1
    assert missing_days(times, describe("D"), starts) == 0


def test_a_first_date_that_the_frequency_does_not_have_is_irregular_too():
    assert not np.any(regular(days("2020-01-04"), describe("B")))  # a Saturday
    assert not np.any(regular(days("2020-01-02"), describe("MS")))
    assert not np.any(regular(days("2020-01-07"), describe("W-MON")))
    assert np.all(regular(days("2020-01-06"), describe("W-MON")))


@pytest.mark.parametrize(
    ("alias", "period", "words"),
    [
        ("D", 7, "daily"),
        ("2D", 1, "every 2 days"),
        ("B", 5, "daily on business days"),
        ("W-SUN", 52, "weekly on Sundays"),
        ("2W-MON", 26, "every 2 weeks on Mondays"),
        ("3W-MON", 1, "every 3 weeks on Mondays"),
        ("MS", 12, "monthly, on the first day"),
        ("BME", 12, "monthly, on the last business day"),
        ("6ME", 2, "every 6 months, on the last day"),
        ("QE-DEC", 4, "quarterly, on the last day"),
        ("2QS-JAN", 2, "every 2 quarters, on the first day"),
        ("YS-JAN", 1, "yearly, on the first day"),
        ("2YE-DEC", 1, "every 2 years, on the last day"),
        ("h", 24, "hourly"),
        ("5h", 1, "every 5 hours"),
        ("min", 1440, "every minute"),
        ("15min", 96, "every 15 minutes"),
        ("s", 3600, "every second"),
        ("100ms", 1, "every 100 milliseconds"),
        ("1", 1, "in steps of 1"),
        ("10", 1, "in steps of 10"),
    ],
)
def test_a_frequency_has_its_season_and_its_words(alias, period, words):
    assert describe(alias) == Frequency(alias, period, words)
    assert str(describe(alias)) == (words if alias.isdigit() else f"{words} ({alias})")


def test_a_frequency_survives_json():
    assert Frequency(**json.loads(json.dumps(describe("W-SUN")._asdict()))) == describe("W-SUN")


@pytest.mark.parametrize(
    "alias", ["", "X", "W", "W-XXX", "W-JAN", "QE", "QE-MON", "MS-JAN", "2B", "0D", "D-MON", "-1", "1.5", "ME2"]
)
def test_what_is_no_alias_is_refused(alias):
    with pytest.raises(UsageError, match=f"^frequency {alias!r} is unknown; it is an alias of pandas"):
        describe(alias)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (
            days("2020-01-01", "2020-01-02", "2020-01-03", "2020-01-06", "2020-01-07", "2020-01-11"),
            "row 4 (2020-01-06) comes 3 days after 2020-01-03 instead of 1 day: the others go on daily (D)",
        ),
        (
            days("2020-01-31", "2020-02-29", "2020-03-31", "2020-05-31", "2020-06-30"),
            "row 4 (2020-05-31) comes 61 days after 2020-03-31 instead of 30 days: the others go on monthly, on the",
        ),
        (
            days("2020-01-01", "2020-02-01", "2020-03-02", "2020-04-01", "2020-05-01", "2020-06-01"),
            "row 3 (2020-03-02) comes 30 days after 2020-02-01 instead of 29 days: the others go on monthly",
        ),
        (
            days("2020-01-03", "2020-01-10", "2020-01-16", "2020-01-24", "2020-01-31", "2020-02-07"),
            "row 3 (2020-01-16) comes 6 days after 2020-01-10 instead of 7 days: the others go on weekly",
        ),
        (
            np.array(["2020-01-01T00", "2020-01-01T01", "2020-01-01T03", "2020-01-01T04"], "datetime64[s]"),
            "row 3 (2020-01-01T03:00:00) comes 2 hours after 2020-01-01T01:00:00 instead of 1 hour: the others go",
        ),
        (
            np.array(
                ["2020-01-01T00:00", "2020-01-01T00:15", "2020-01-01T00:29", "2020-01-01T00:45", "2020-01-01T01:00"],
                "M8[s]",
            ),
            "row 3 (2020-01-01T00:29:00) comes 14 minutes after 2020-01-01T00:15:00 instead of 15 minutes",
        ),
        (np.array([0, 1, 2, 4, 5]), "row 4 (4) comes 2 after 2 instead of 1: the others go on in steps of 1"),
        (
            days("2020-01-05", "2020-02-01", "2020-03-01", "2020-04-01", "2020-05-01"),
            "row 1 (2020-01-05) is out of step: the others go on monthly, on the first day (MS)",
        ),
        (days("2020-01-01", "2020-01-03"), "2 dates are too few to tell their frequency; at least 3 are needed"),
    ],
)
def test_times_without_a_frequency_are_refused_at_the_first_row_with_both_gaps(times, message):
    with pytest.raises(UsageError, match="^" + re.escape(message)) as caught:
        infer(times)
    assert "\n" not in str(caught.value)


@given(
    alias=st.sampled_from(["D", "W-TUE", "MS", "QE-DEC", "YE-DEC", "h", "15min", "s"]),
    n=st.integers(8, 40),
    data=st.data(),
)
def test_the_row_after_the_one_that_is_left_out_is_the_irregular_one(alias, n, data):
    gone = data.draw(st.integers(1, n - 2))
    times = coarsest(dates(alias, n).to_numpy())
    with pytest.raises(
        UsageError, match=rf"^row {gone + 1} \({times[gone + 1]}\) comes .* after {times[gone - 1]} instead of"
    ):
        infer(np.delete(times, gone))


def test_business_days_may_lack_some_but_not_many_and_not_many_in_a_row():
    times = pd.bdate_range("2020-01-01", periods=400).to_numpy().astype("datetime64[D]")
    closed = np.delete(times, slice(100, 100 + MAX_CLOSED))
    assert infer(closed).name == "B" and missing_days(closed, describe("B")) == MAX_CLOSED
    with pytest.raises(
        UsageError, match=r"^row 101 .* comes 16 days after .* instead of 1 day: .* business days \(B\)$"
    ):
        infer(np.delete(times, slice(100, 101 + MAX_CLOSED)))
    assert infer(np.delete(times, np.arange(5, 400, 10))).name == "B"  # 10 % are missing
    with pytest.raises(UsageError, match=r"the others go on daily \(D\)"):
        infer(np.delete(times, np.arange(5, 400, 8)))
    with pytest.raises(UsageError, match=r"^row 6 \(2020-01-12\) comes 2 days after 2020-01-10 instead of 3 days"):
        infer(np.insert(np.delete(times, 8), 8, days("2020-01-12"))[3:])  # a Sunday


def test_the_time_of_day_stays_the_same_from_one_business_day_to_the_next():
    times = pd.date_range("2020-01-01 16:00", periods=30, freq="B").to_numpy().astype("datetime64[s]")
    assert infer(times).name == "B" and str(continue_(times[-1], describe("B"), 1)[0]) == "2020-02-12T16:00:00"
    times[20] += np.timedelta64(1, "h")
    with pytest.raises(UsageError, match=r"^row 21 .* comes 1.04167 days after .* instead of 1 day"):
        infer(times)


def test_the_frequency_of_most_rows_is_guessed_where_not_all_have_one():
    times = pd.date_range("2020-01-31", periods=40, freq="ME").to_numpy().astype("datetime64[D]")
    times[[7, 20]] -= np.timedelta64(3, "D")
    assert guess(times).name == "ME"
    assert guess(np.array([1, 11, 21, 22])).name == "10"
    assert guess(np.array([5])).name == "1"


def test_where_first_days_are_business_days_too_the_first_day_is_meant():
    index = pd.DatetimeIndex(["2020-04-01", "2020-05-01", "2020-06-01", "2020-07-01"])
    assert infer(index.to_numpy()).name == pandas_says(index) == "MS"


def test_hours_with_a_month_left_out_are_still_hours():
    times = np.delete(pd.date_range("2020-01-01", periods=4000, freq="h").to_numpy(), slice(745, 1745))
    with pytest.raises(
        UsageError, match=r"^row 746 .* comes 41.7083 days after 2020-02-01T00:00:00.* instead of 1 hour"
    ):
        infer(coarsest(times))


def test_integers_go_on_by_their_step():
    assert infer(np.array([1990, 1995, 2000])).name == "5"
    np.testing.assert_array_equal(continue_(np.int64(2000), describe("5"), 3), [2005, 2010, 2015])


def test_no_step_gives_no_date_and_a_finer_frequency_gives_finer_dates():
    assert len(continue_(np.datetime64("2020-01-01"), describe("D"), 0)) == 0
    assert continue_(np.datetime64("2020-01-01"), describe("MS"), 2).dtype == np.dtype("datetime64[D]")
    np.testing.assert_array_equal(
        continue_(np.datetime64("2020-01-01"), describe("6h"), 2), np.array(["2020-01-01T06", "2020-01-01T12"], "M8[s]")
    )


def test_an_end_between_two_dates_goes_on_with_the_next():
    assert continue_(np.datetime64("2020-01-04"), describe("B"), 2).astype(str).tolist() == ["2020-01-06", "2020-01-07"]
    assert continue_(np.datetime64("2020-01-04"), describe("ME"), 1).astype(str).tolist() == ["2020-01-31"]


def test_dates_beyond_the_last_one_are_refused():
    with pytest.raises(
        UsageError,
        match=r"^9998-01-01: 400000 steps daily reach beyond the last possible date, the end of the year 9998$",
    ):
        continue_(np.datetime64("9998-01-01"), describe("D"), 400_000)


def test_dates_are_as_coarse_as_is_exact():
    texts = ["2020-01-01T00:00:00.000000", "2020-01-01T00:00:01", "2020-01-01T00:00:01.5"]
    units = [coarsest(np.array(texts[: n + 1], "datetime64[us]")).dtype.str for n in range(3)]
    assert units == ["<M8[D]", "<M8[s]", "<M8[us]"]


def read(text):
    """The times that one text may be."""
    found = [parse(pd.Index([text], dtype=object), form) for form in forms(text)]
    assert all(dates.read[0] for dates in found)
    return [
        dates.times[0].item() if dates.times.dtype.kind == "i" else str(coarsest(dates.times)[0]) for dates in found
    ]


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("2020-02-03", ["2020-02-03"]),
        ("2020-2-3", ["2020-02-03"]),
        ("2020/02/03", ["2020-02-03"]),
        ("2020-02", ["2020-02-01"]),
        ("2020-02-03T04:05", ["2020-02-03T04:05:00"]),
        ("2020-02-03 04:05:06.5", ["2020-02-03T04:05:06.500000"]),
        ("2020-02-03 04:05:06+01:00", ["2020-02-03T04:05:06"]),
        ("2020-02-03T04:05:06Z", ["2020-02-03T04:05:06"]),
        ("2020-02-03T04-05", ["2020-02-03T04:00:00"]),
        ("20200203", ["2020-02-03", 20200203, "2020-02-03"]),
        ("20201303", [20201303]),
        ("1999", [1999, "1999-01-01"]),
        ("-3", [-3]),
        ("2020Q3", ["2020-07-01"]),
        ("2020-Q4", ["2020-10-01"]),
        ("13/02/2020", ["2020-02-13"]),
        ("02/13/2020", ["2020-02-13"]),
        ("02/03/2020", ["2020-03-02", "2020-02-03"]),
        ("2.3.2020 14:05", ["2020-03-02T14:05:00", "2020-02-03T14:05:00"]),
        ("02/13/2020 2:05 PM", ["2020-02-13T14:05:00"]),
        ("13-Feb-2020", ["2020-02-13"]),
        ("Feb-2020", ["2020-02-01"]),
        ("13 February 2020", ["2020-02-13"]),
        ("February 13, 2020", ["2020-02-13"]),
    ],
)
def test_a_date_is_read_in_every_form_that_it_may_have(text, times):
    assert read(text) == times


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10:45",
        "Monday",
        "Feb 3",
        "01/02/03",
        "2020-13-01",
        "2020-02-30",
        "2020-W60",
        "2020Q5",
        "now",
        "today",
        "1e5",
        "3.5",
        "nan",
        "NaT",
        "9999999999999999999",
        "0000-01-01",
        "9999-12-31",
        "12345-01-01",
        "2020-02-03T04:05:06+01+01:00",
        "2020-02-03T04:05:06+99:00",
        "2020-02-03 04:05:06.123456789",
        "2020-02-03T",
    ],
)
def test_what_is_no_whole_date_is_none(text):
    assert forms(text) == ()


def test_each_text_of_several_is_read_by_itself():
    texts = pd.Index(["2020-01-01", "", "2020-01-02T00:00+01:00", "today", "2020-01-04"], dtype=object)
    found = parse(texts, ISO)
    assert found.read.tolist() == [True, False, False, False, True] and found.offset is None
    assert found.times[[0, 4]].astype("datetime64[D]").astype(str).tolist() == ["2020-01-01", "2020-01-04"]
    assert parse(pd.Index(["7", "seven", "8.0"], dtype=object), INTEGER).read.tolist() == [True, False, False]


def test_an_offset_is_what_the_clock_is_ahead_of_utc():
    texts = pd.Index(
        ["2020-01-01 10:00+01:00", "2020-01-01 10:00-0530", "2020-01-01 10:00Z", "2020-01-01 10:00"], dtype=object
    )
    found = parse(texts, ZONED)
    assert found.read.tolist() == [True, True, True, False]
    assert (found.offset[:3] / np.timedelta64(1, "h")).tolist() == [1, -5.5, 0]
    assert set(found.times[:3].astype(str)) == {"2020-01-01T10:00:00.000000"}
    assert found.take(np.array([1, 1])).offset.tolist() == [found.offset[1], found.offset[1]]


def test_microseconds_are_exact_or_not_a_time():
    times = np.array(["2020-01-01T00:00:00.000001", "2020-01-01T00:00:00.0000015"], "datetime64[ns]")
    assert np.isnat(microseconds(times)).tolist() == [False, True]
    assert np.isnat(
        microseconds(np.array(["0001-12-31", "0002-01-01", "9998-12-31", "9999-01-01"], "M8[D]"))
    ).tolist() == [
        True,
        False,
        False,
        True,
    ]
