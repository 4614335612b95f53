"""A user's own table: what was written comes back exactly, and what is wrong is told in one line with its row."""

import codecs
import contextlib
import gzip
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from jaxseq.common.errors import UsageError
from jaxseq.data import tables
from jaxseq.data.aapl import FILE, Prices
from jaxseq.data.frequency import continue_
from jaxseq.data.tables import delimited, formats
from jaxseq.data.tables.read import Options, Table

DAYS = "".join(f"2020-01-{day:02},{day}.5\n" for day in range(1, 10))
SALES = "date,sales\n" + DAYS  # the value of 2020-01-05 stands in row 6
STORES = "store,date,sales,price\n" + "".join(
    f"{store},2020-01-{day:02},{number}{day},{day % 3}\n"
    for day in range(1, 9)
    for number, store in enumerate(["south", "north", "NA"])
    if day > 2 * number
)


def read(path, *columns, **options):
    """The table of a file, read with these options."""
    return tables.read.read(path, Options(*columns, **options))


def write(folder, content, name="sales.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path, message, **options):
    """One line that begins with the path and the message."""
    with pytest.raises(UsageError) as caught:
        read(path, **options)
    text = str(caught.value)
    assert text.isprintable() and text.startswith(f"{path}: {message}"), text


def days(found, number=0):
    return found.series[number].times.astype(str).tolist()


# What is read


def test_a_plain_table_is_read_and_what_was_chosen_is_noted(tmp_path):
    found = read(write(tmp_path, SALES))
    assert days(found) == [f"2020-01-0{day}" for day in range(1, 10)]
    np.testing.assert_array_equal(found.series[0].values, np.arange(1, 10) + 0.5)
    assert found.series[0].values.dtype == np.float64 and found.series[0].times.dtype == np.dtype("datetime64[D]")
    assert found.names == ("sales",) and found.covariates[0].shape == (9, 0)
    assert found.frequency.name == "D" and found.frequency.period == 7
    assert found.notes == (
        "'sales' is forecast, as the only column that can be",
        "'date' holds the dates, by its name",
        "daily (D), seasonal period 7",
    )


def test_many_series_of_unequal_length_are_told_apart_by_name_and_named_by_first_appearance(tmp_path):
    found = read(write(tmp_path, STORES), column="sales", series="store", covariates=("price",))
    assert found.names == ("south", "north", "NA")  # a name, not a missing value
    assert [len(series.values) for series in found.series] == [8, 6, 4]
    np.testing.assert_array_equal(found.series[1].values, [13, 14, 15, 16, 17, 18])
    assert days(found, 2) == [f"2020-01-0{day}" for day in range(5, 9)]
    np.testing.assert_array_equal(found.covariates[2], np.array([[5, 6, 7, 8]]).T % 3)
    assert "3 series by 'store', of 4 to 8 rows" in found.notes


def test_the_rows_of_a_series_may_stand_anywhere_as_long_as_their_order_is_right(tmp_path):
    header, *rows = STORES.splitlines()
    by_store = "\n".join([header, *sorted(rows, key=lambda row: row.split(",")[0])])
    options = {"column": "sales", "series": "store", "covariates": ("price",)}
    mixed, sorted_ = (read(write(tmp_path, text), **options) for text in (STORES, by_store))
    assert sorted_.names == ("NA", "north", "south")
    for number, name in enumerate(sorted_.names):
        other = mixed.names.index(name)
        np.testing.assert_array_equal(sorted_.series[number].times, mixed.series[other].times)
        np.testing.assert_array_equal(sorted_.series[number].values, mixed.series[other].values)
        np.testing.assert_array_equal(sorted_.covariates[number], mixed.covariates[other])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", SALES),
        ("a.CSV", SALES.replace("\n", "\r\n")),
        ("a.csv", SALES.replace("\n", "\r")),
        ("a.csv", SALES[:-1]),
        ("a.csv", SALES.replace("\n", "\n\n").replace("sales\n", "sales\n  \n")),
        ("a.csv", "\ufeff" + SALES),
        ("a.csv", '\ufeff"date","sales"\n' + re.sub("[^,\n]+", r'"\g<0>"', DAYS)),
        ("a.csv", SALES.replace(",", ", ")),
        ("a.csv", SALES.replace(",", ' , "').replace("\n", '"\n')),
        ("a.csv", SALES.replace(",", ";")),
        ("a.csv", SALES.replace(",", ";").replace(".", ",")),
        ("a.txt", SALES.replace(",", "\t")),
        ("a.tsv", SALES.replace(",", "\t")),
        ("a.csv.gz", gzip.compress(SALES.encode(), mtime=0)),
        ("a.tsv.gz", gzip.compress(SALES.replace(",", "\t").encode(), mtime=0)),
        ("a.csv", ",date,sales\n" + "".join(f"{row},{line}\n" for row, line in enumerate(DAYS.splitlines()))),
    ],
)
def test_the_same_table_may_be_written_in_many_ways(tmp_path, name, content):
    found = read(write(tmp_path, content, name))
    assert days(found) == [f"2020-01-0{day}" for day in range(1, 10)]
    np.testing.assert_array_equal(found.series[0].values, np.arange(1, 10) + 0.5)


def test_the_separator_is_the_one_that_makes_the_rows_equally_long(tmp_path):
    content = "date;sales, net\n2020-01-01;1,5\n2020-01-02;2,5\n2020-01-03;3,5\n"
    found = read(write(tmp_path, content))
    assert found.names == ("sales, net",) and found.series[0].values.tolist() == [1.5, 2.5, 3.5]
    assert found.notes[0] == "columns are separated by semicolons"
    content = 'date,"a;b"\n2020-01-01,1\n2020-01-02,2\n2020-01-03,3\n'
    assert read(write(tmp_path, content)).names == ("a;b",)


def test_a_decimal_comma_and_a_decimal_point_do_not_mix(tmp_path):
    content = SALES.replace(",", ";").replace(".", ",")
    refused(write(tmp_path, content.replace("5,5", "5.5")), "row 6, column 'sales': '5.5' is not a number")
    content = SALES.replace(",", ";")
    refused(
        write(tmp_path, content.replace("5.5", "5,5")), "row 6, column 'sales': '5,5' is not a number; write a decimal"
    )
    refused(write(tmp_path, content.replace("5.5", "five")), "row 6, column 'sales': 'five' is not a number")


def test_without_dates_the_rows_of_each_series_are_counted(tmp_path):
    found = read(write(tmp_path, "store,sales\na,1\nb,2\na,3\nb,4\na,5\n"), series="store")
    assert [series.times.tolist() for series in found.series] == [[0, 1, 2], [0, 1]]
    assert found.frequency.name == "1" and found.frequency.period == 1
    assert "rows are counted from 0 in the place of dates" in found.notes
    irregular = write(tmp_path, SALES.replace("2020-01-05,5.5\n", ""))
    assert read(irregular, time="rows").series[0].times.tolist() == list(range(8))


def test_integers_may_stand_for_dates(tmp_path):
    found = read(write(tmp_path, "year,v\n1990,1\n1995,2\n2000,3\n"), time="year")
    assert found.series[0].times.tolist() == [1990, 1995, 2000] and found.frequency.name == "5"
    assert read(write(tmp_path, "ds,v\n20200131,1\n20200229,2\n20200331,3\n")).frequency.name == "ME"


def test_a_column_is_found_by_any_name_that_dates_go_by(tmp_path):
    for name in ("DATE", "Time", "timestamp", "ds", " Datetime "):
        assert read(write(tmp_path, SALES.replace("date", name))).frequency.name == "D"
    refused(
        write(tmp_path, "date,time,v\n2020-01-01,1,2\n"),
        "'date' and 'time' may both hold the dates; say which with --data.time",
    )


def test_a_column_called_rows_is_a_column(tmp_path):
    assert read(write(tmp_path, SALES.replace("date", "rows")), time="rows").frequency.name == "D"


def test_a_number_with_three_decimals_may_be_a_thousand_and_is_refused(tmp_path):
    values = ["995", "998", "1.001", "1.004"]
    content = "date;y\n" + "".join(f"{day:02}.01.2010;{value}\n" for day, value in enumerate(values, 17))
    refused(
        write(tmp_path, content),
        "row 4, column 'y': '1.001' is 1001 with a point for thousands or 1.001 with a decimal point",
    )
    refused(
        write(tmp_path, content.replace(".001", ",001").replace(".004", ",004")), "row 4, column 'y': '1,001' is 1001"
    )
    for other in ("0.998", "998.5", "1.0010"):
        table = read(write(tmp_path, content.replace("998", other)))
        assert table.series[0].values.tolist() == [995, float(other), 1.001, 1.004]


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ("y;z\n1,001;a\n1,004;b\n2,125;c\n", [1.001, 1.004, 2.125]),  # a decimal comma in every row
        ("y;z\n1001;a\n998;b\n2125;c\n", [1001, 998, 2125]),
        ("y,z\n1.001,a\n998,b\n2.125,c\n", [1.001, 998, 2.125]),
    ],
)
def test_numbers_whose_decimal_mark_is_clear_are_read(tmp_path, content, values):
    assert read(write(tmp_path, content), column="y").series[0].values.tolist() == values


def test_a_table_without_a_header_is_refused_and_loses_no_row(tmp_path):
    content = "".join(f"2024-01-{day:02},{1000 + 1.5 * day}\n" for day in range(1, 10))
    refused(
        write(tmp_path, content),
        "row 1: '2024-01-01', '1001.5' look like values, not like the names of columns; add a header, such as date,value1",
    )
    refused(write(tmp_path, "1,5\n2,5\n"), "row 1: '1', '5' look like values")
    assert read(write(tmp_path, "region,2024\na,1\nb,2\n"), column="2024").series[0].values.tolist() == [1, 2]


def test_columns_may_be_separated_by_vertical_bars(tmp_path):
    table = read(write(tmp_path, SALES.replace(",", "|")))
    assert table.series[0].values.tolist() == (np.arange(1, 10) + 0.5).tolist()
    assert table.notes[0] == "columns are separated by vertical bars"


MONTHS = ["2020-11-01", "2020-12-01", "2021-01-01"]
MONDAYS = ["2020-01-27", "2020-02-03", "2020-02-10", "2020-02-17"]
MONDAYS_OF_53_WEEKS = ["2020-12-28", "2021-01-04", "2021-01-11"]
HOURS = ["2020-01-01T00:00:00", "2020-01-01T01:00:00", "2020-01-01T02:00:00"]
NEW_YEAR = ["2020-01-01", "2020-01-02", "2020-01-03"]
QUARTERS = ["2020-01-01", "2020-04-01", "2020-07-01"]


@pytest.mark.parametrize(
    ("name", "texts", "times", "frequency", "note"),
    [
        ("date", ["202011", "202012", "202101"], MONTHS, "MS", "months are written"),
        ("month", ["202011", "202012", "202101"], MONTHS, "MS", "months are written"),
        ("month", ["2020-11", "2020-12", "2021-01"], MONTHS, "MS", "'month' holds"),
        ("Monat", ["2020-11", "2020-12", "2021-01"], MONTHS, "MS", "'Monat' holds"),
        ("week", ["2020-W05", "2020-W06", "2020-W07", "2020-W08"], MONDAYS, "W-MON", "dated by its Monday"),
        ("week", ["2020W05", "2020W06", "2020W07", "2020W08"], MONDAYS, "W-MON", "dated by its Monday"),
        ("week", ["2020-W53", "2021-W01", "2021-W02"], MONDAYS_OF_53_WEEKS, "W-MON", "Monday"),
        ("unix", ["1577836800", "1577840400", "1577844000"], HOURS, "h", "seconds since 1970"),
        ("timestamp", ["1577836800000", "1577923200000", "1578009600000"], NEW_YEAR, "D", "milliseconds since 1970"),
        ("quarter", ["2020Q1", "2020Q2", "2020Q3"], QUARTERS, "QS-JAN", "'quarter' holds"),
    ],
)
def test_times_in_other_notations_are_found_and_read(tmp_path, name, texts, times, frequency, note):
    content = f"{name},v\n" + "".join(f"{text},{number}.5\n" for number, text in enumerate(texts))
    table = read(write(tmp_path, content))
    assert days(table) == times
    assert table.frequency.name == frequency
    assert any(note in line for line in table.notes)


def test_numbers_that_only_may_be_dates_are_not_taken_for_them(tmp_path):
    for name, first in (("people", 1577836800), ("people", 202001), ("year", 2001), ("month", 1)):
        content = f"{name},v\n" + "".join(f"{first + number},{number}.5\n" for number in range(5))
        table = read(write(tmp_path, content), column="v")
        assert table.series[0].times.tolist() == [0, 1, 2, 3, 4]


def test_dates_that_are_out_of_order_or_in_two_columns_are_no_time_axis(tmp_path):
    content = "born,v\n1990-05-01,1\n1980-01-02,2\n1985-03-04,3\n"
    assert read(write(tmp_path, content)).series[0].times.tolist() == [0, 1, 2]
    content = "from,until,v\n2020-01-01,2020-02-01,1\n2020-01-02,2020-02-02,2\n2020-01-03,2020-02-03,3\n"
    table = read(write(tmp_path, content))
    assert table.series[0].times.tolist() == [0, 1, 2]
    assert any("'from' and 'until' may both hold them, say which with --data.time" in note for note in table.notes)


def test_a_day_of_the_month_is_a_frequency(tmp_path):
    months = [f"2019-{month:02}-15" for month in range(1, 13)]
    table = read(write(tmp_path, "date,y\n" + "".join(f"{month},{number}.5\n" for number, month in enumerate(months))))
    assert days(table) == months
    assert (table.frequency.name, table.frequency.period) == ("M-15", 12)
    assert continue_(table.series[0].times[-1], table.frequency, 3).astype(str).tolist() == [
        "2020-01-15",
        "2020-02-15",
        "2020-03-15",
    ]


STOCK = "store,item,date,sold\n" + "".join(
    f"{store},{item},2020-01-{day:02},{number}{day}\n"
    for number, (store, item) in enumerate([("north", "tea"), ("north", "rye"), ("south", "tea"), ("south", "rye")])
    for day in range(1, 7)
)


def test_two_columns_name_a_series_together(tmp_path):
    header, *lines = STOCK.splitlines()
    by_date = "\n".join([header, *sorted(lines, key=lambda line: line.split(",")[2])])
    for content in (STOCK, by_date):
        table = read(write(tmp_path, content), column="sold", series="store, item")
        assert table.names == ("north/tea", "north/rye", "south/tea", "south/rye")
        assert table.series[3].values.tolist() == [31, 32, 33, 34, 35, 36]
        assert "4 series by 'store' and 'item', of 6 rows" in table.notes
        assert table.keys == (
            ("store", "item"),
            (("north", "tea"), ("north", "rye"), ("south", "tea"), ("south", "rye")),
        )
        for options in ({}, {"series": "store"}):
            with pytest.raises(UsageError, match=r"told apart by 'store' and 'item'; say --data.series store,item$"):
                read(tmp_path / "sales.csv", column="sold", **options)
    content = "a,b,v\nx/y,z,1\nx,y/z,2\n"
    with pytest.raises(UsageError) as caught:
        read(write(tmp_path, content), column="v", series="a,b")
    assert caught.value.where.endswith("row 3, column 'a'") and caught.value.rule.startswith(
        "two series are both called 'x/y/z'"
    )
    assert caught.value.got == "'x' and 'y/z'" and caught.value.needed.endswith("that of row 2")
    refused(write(tmp_path, content), "there is no column 'c'", column="v", series="a,c")


def test_a_name_of_a_file_as_a_column_is_that_of_an_asterisk_that_a_shell_replaced(tmp_path, monkeypatch):
    path = write(tmp_path, SALES)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"no column 'sales.csv'; .*in quotation marks, '\*'"):
        read(path, column="sales.csv")


def test_names_may_have_spaces_accents_quotation_marks_and_line_breaks(tmp_path):
    names = ["Umsatz in €", 'he said "no"', "two\nlines", "売上"]
    for name in names:
        frame = pd.DataFrame(
            {"date": pd.date_range("2020-01-01", periods=3), "naïve, store": name, name: [1.0, 2.0, 3.0]}
        )
        frame.to_csv(tmp_path / "a.csv", index=False)
        found = read(tmp_path / "a.csv", column=name, series="naïve, store")
        assert found.names == (name,) and found.series[0].values.tolist() == [1, 2, 3]


def test_true_and_false_are_one_and_zero(tmp_path):
    content = "date,v,holiday\n2020-01-01,1,True\n2020-01-02,2,False\n2020-01-03,3,True\n"
    found = read(write(tmp_path, content), covariates=("holiday",))
    assert found.covariates[0].tolist() == [[1], [0], [1]]
    content = content.replace("False", "")
    found = read(write(tmp_path, content), column="v", covariates=("holiday",), missing="drop")
    assert found.covariates[0].tolist() == [[1], [1]]


def test_a_whole_number_of_any_length_is_read(tmp_path):
    numbers = ["1" + "0" * 40, "18446744073709551615", "-7"]
    for others in ([], ["0.5"]):  # with it, pandas gives texts and not whole numbers
        path = write(tmp_path, "\n".join(["v", *numbers, *others]))
        assert read(path).series[0].values.tolist() == [1e40, 2.0**64, -7, *map(float, others)]
        path = write(tmp_path, "\n".join(["v", *numbers, *others, "1" + "0" * 400]))
        refused(path, f"row {len(others) + 5}, column 'v': inf is the first of 1 missing or infinite")


@pytest.mark.parametrize(
    ("texts", "times", "note"),
    [
        (
            [f"2020-10-25 {hour:02}:00:00+02:00" for hour in range(4)],
            ["2020-10-25T00:00:00", "2020-10-25T01:00:00", "2020-10-25T02:00:00", "2020-10-25T03:00:00"],
            "times are kept as written, +2 hours from UTC",
        ),
        (
            ["2020-10-25 01:00+02:00", "2020-10-25 02:00+02:00", "2020-10-25 02:00+01:00", "2020-10-25 03:00+01:00"],
            ["2020-10-24T23:00:00", "2020-10-25T00:00:00", "2020-10-25T01:00:00", "2020-10-25T02:00:00"],
            "times are turned to UTC, because their offset from it changes",
        ),
        (
            ["2020-10-24 00:00:00+02:00", "2020-10-25 00:00:00+02:00", "2020-10-26 00:00:00+01:00"],
            ["2020-10-24", "2020-10-25", "2020-10-26"],
            "days are kept as written, though their offset from UTC changes",
        ),
    ],
)
def test_a_time_zone_leaves_days_and_hours_regular(tmp_path, texts, times, note):
    content = "time,v\n" + "".join(f"{text},1\n" for text in texts)
    found = read(write(tmp_path, content))
    assert days(found) == times and note in found.notes


def test_the_seasonal_period_is_the_users_if_he_gives_one(tmp_path):
    found = read(write(tmp_path, SALES), period=3)
    assert found.frequency.period == 3 and "daily (D), seasonal period 3 as asked for" in found.notes


def test_the_shares_of_the_package_are_business_days_with_holidays():
    found = read(FILE, column="adj_close", covariates=("close",))
    expected = Prices().series()
    np.testing.assert_array_equal(found.series[0].times, expected.times)
    np.testing.assert_array_equal(found.series[0].values, expected.values)
    np.testing.assert_array_equal(found.covariates[0][:, 0], Prices(column="close").series().values)
    weekdays = np.busday_count(expected.times[0], expected.times[-1]) + 1
    assert found.notes[-2:] == (
        "daily on business days (B), seasonal period 5",
        f"{weekdays - 3270} business days without a row, taken for holidays",
    )


ALIASES = ["D", "B", "W-TUE", "MS", "ME", "BME", "QS-JAN", "QE-DEC", "YS-JAN", "YE-DEC", "h", "15min", "s", "100ms"]
NAMES = st.text("ab é,\"\n'9_", min_size=1, max_size=8).map(str.strip).filter(bool)
VALUES = st.floats(-1e100, 1e100) | st.sampled_from([0.1, 1 / 3, 5e-324, 1e22, 123456789.12345679, -0.0])


@st.composite
def frames(draw):
    """A long table of series with one frequency, its rows in any order that keeps each series in its own."""
    alias, columns = draw(st.sampled_from(ALIASES)), draw(st.lists(NAMES, min_size=5, max_size=5, unique=True))
    series = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        n = draw(st.integers(9, 15))
        dates = pd.date_range(f"2019-0{draw(st.integers(1, 9))}-17", periods=n, freq=alias)
        values = draw(st.lists(st.tuples(VALUES, VALUES), min_size=n, max_size=n))
        series.append([(date, name, *row) for date, row in zip(dates, values, strict=True)])
    turns = draw(st.permutations([number for number, rows in enumerate(series) for _ in rows]))
    rows = [iter(part) for part in series]
    mixed = [next(rows[number]) for number in turns]
    return alias, columns, pd.DataFrame([(*row, "text") for row in mixed], columns=columns)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "semicolon", "tsv", "parquet"])
@given(made=frames())
def test_a_table_that_pandas_wrote_comes_back_exactly(tmp_path_factory, kind, made):
    _, (time_, series, column, covariate, _), frame = made
    path = tmp_path_factory.getbasetemp() / f"written.{kind.replace('semicolon', 'csv')}"
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        marks = {"semicolon": {"sep": ";", "decimal": ","}, "tsv": {"sep": "\t"}}
        frame.to_csv(path, index=False, **marks.get(kind, {}))
    found = read(path, column, time_, series, (covariate,))
    assert list(found.names) == list(frame[series].unique())
    step = pd.tseries.frequencies.to_offset(found.frequency.name)
    for name, (times, values), others in zip(found.names, found.series, found.covariates, strict=True):
        part = frame[frame[series] == name]
        np.testing.assert_array_equal(times, part[time_].to_numpy())
        np.testing.assert_array_equal(values, part[column].to_numpy())
        np.testing.assert_array_equal(others, part[[covariate]].to_numpy())
        assert pd.date_range(times[0], periods=len(times), freq=step).equals(pd.DatetimeIndex(part[time_]))


def test_blocks_and_pieces_do_not_show(tmp_path, monkeypatch):
    content = (
        "\ufeff"
        + STORES.replace("south", '"so""uth\n\r\nof é"').replace("\n2", "\n\n \n2").replace("price\n", "price\n\n\n")
    ).encode()
    path = write(tmp_path, content)
    options = {"column": "sales", "series": "store", "covariates": ("price",)}
    whole = read(path, **options)
    assert whole.names[0] == 'so"uth\n\r\nof é'
    for block, chunk in [(4, 1), (7, 2), (64, 5)]:
        monkeypatch.setattr(delimited, "_BLOCK", block)
        monkeypatch.setattr(formats, "CHUNK", chunk)
        assert repr(read(path, **options)) == repr(whole)


# Missing values


def test_a_missing_value_is_an_error_unless_asked_otherwise(tmp_path):
    for text in ("", "NA", "nan", "NULL", ".", "inf", "-Infinity", "1e999"):
        path = write(tmp_path, SALES.replace("5.5", text).replace("8.5", " NA "))
        value = {"inf": "inf", "-Infinity": "-inf", "1e999": "inf"}.get(text, "nan")
        refused(
            path, f"row 6, column 'sales': {value} is the first of 2 missing or infinite among 9 values; correct them"
        )


def test_rows_with_a_missing_value_are_dropped_and_the_frequency_stays(tmp_path):
    path = write(tmp_path, SALES.replace("5.5", "").replace("6.5", "inf").replace(",1.5", ","))
    found = read(path, missing="drop")
    assert found.series[0].values.tolist() == [2.5, 3.5, 4.5, 7.5, 8.5, 9.5]
    assert days(found)[2:4] == ["2020-01-04", "2020-01-07"] and found.frequency.name == "D"
    assert found.notes[-1] == "3 rows with missing or infinite values dropped, the first in row 2, column 'sales'"


def test_a_series_of_which_nothing_is_left_is_refused(tmp_path):
    path = write(tmp_path, "store,v\na,1\nb,\na,2\nb,\n")
    refused(path, "row 3, column 'v': series 'b' has no row left", series="store", missing="drop")
    refused(write(tmp_path, "v\n.\n.\n"), "row 2, column 'v': the table has no row left", missing="drop")


def test_a_missing_value_becomes_the_last_known_one_in_every_column(tmp_path):
    lines = ["date,v,price"] + [f"2020-01-{day:02},{day**2},{day}" for day in range(1, 13)]
    lines[3:6] = ["2020-01-03,,3", "2020-01-04,NA,", "2020-01-05,,5"]
    table = read(write(tmp_path, "\n".join(lines)), column="v", covariates=("price",), missing="fill")
    assert table.series[0].values[:7].tolist() == [1, 4, 4, 4, 4, 36, 49]
    assert table.covariates[0][:, 0].tolist() == [1, 2, 3, 3, *range(5, 13)]
    assert table.missing[0][:, 0].nonzero()[0].tolist() == [2, 3, 4]
    assert table.missing[0][:, 1].nonzero()[0].tolist() == [3]
    assert table.notes[-2] == "4 missing values filled with the last known one, the first in row 4, column 'v'"


def test_without_missing_values_filling_changes_nothing(tmp_path):
    path = write(tmp_path, STORES)
    options = {"column": "sales", "series": "store", "covariates": ("price",)}
    assert repr(read(path, **options, missing="fill")) == repr(read(path, **options))
    assert read(path, **options, missing="fill").missing == ()


def test_rows_before_the_first_known_value_are_left_out_and_the_last_ones_are_filled(tmp_path):
    table = read(write(tmp_path, SALES.replace(",1.5", ",").replace(",9.5", ",NA")), missing="fill")
    assert days(table) == [f"2020-01-0{day}" for day in range(2, 10)]
    assert table.series[0].values.tolist() == [2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 8.5]
    assert "1 row before the first known value of a series left out" in table.notes
    # The value that was left out has not been filled.
    assert "1 missing value filled with the last known one, the first in row 10, column 'sales'" in table.notes
    alone = read(write(tmp_path, SALES.replace(",1.5", ",")), missing="fill")
    assert not any("filled with" in note for note in alone.notes)


def test_a_value_is_not_filled_from_another_series(tmp_path):
    path = write(tmp_path, "store,v\na,1\na,2\na,\nb,\nb,4\nb,5\n")
    table = read(path, series="store", missing="fill")
    assert [series.values.tolist() for series in table.series] == [[1, 2, 2], [4, 5]]
    path = write(tmp_path, "store,v\na,1\na,2\nb,\nb,\n")
    refused(path, "series 'b' has no row with a known value", series="store", missing="fill")


def test_a_gap_longer_than_five_is_not_filled_unless_that_is_allowed(tmp_path):
    content = "v\n1.5\n" + "NA\n" * 5 + "7\n"
    assert read(write(tmp_path, content), missing="fill").series[0].values.tolist() == [1.5] * 6 + [7]
    path = write(tmp_path, content.replace("7", "NA\n8"))
    with pytest.raises(UsageError) as raised:
        read(path, missing="fill")
    assert (raised.value.got, raised.value.needed) == (6, "at most 5")
    assert read(path, missing="fill", longest_gap=6).series[0].values.tolist() == [1.5] * 7 + [8]


def test_an_infinite_value_is_not_filled(tmp_path):
    refused(
        write(tmp_path, SALES.replace("5.5", "inf")),
        "row 6, column 'sales': inf is infinite, not missing",
        missing="fill",
    )


def test_interpolation_is_refused_because_it_knows_the_next_value(tmp_path):
    with pytest.raises(UsageError, match="puts the future into the past") as raised:
        read(write(tmp_path, SALES), missing="interpolate")
    assert (raised.value.where, raised.value.got) == ("--data.missing", "interpolate")
    assert str(raised.value.needed).startswith("fill")


@pytest.mark.parametrize(
    ("alias", "period"), [("D", 7), ("h", 24), ("MS", 12), ("ME", 12), ("QE-DEC", 4), ("W-TUE", 52), ("15min", 96)]
)
def test_absent_times_are_missing_values(tmp_path, alias, period):
    dates = pd.date_range("2019-01-01", periods=40, freq=alias)
    frame = pd.DataFrame({"date": dates, "v": np.arange(40) + 0.5})
    present = frame.drop(index=[7, 20, 21, 22])
    present.to_csv(tmp_path / "holes.csv", index=False)
    with pytest.raises(UsageError, match="instead of"):
        read(tmp_path / "holes.csv")

    table = read(tmp_path / "holes.csv", missing="fill")
    assert pd.DatetimeIndex(table.series[0].times).equals(dates.as_unit(pd.DatetimeIndex(table.series[0].times).unit))
    assert table.missing[0][:, 0].nonzero()[0].tolist() == [7, 20, 21, 22]
    assert table.series[0].values[[7, 20, 21, 22, 23]].tolist() == [6.5, 19.5, 19.5, 19.5, 23.5]
    assert table.frequency.period == period
    assert "4 absent times added as missing values, the first before row 9" in table.notes
    with pytest.raises(UsageError) as raised:
        read(tmp_path / "holes.csv", missing="fill", longest_gap=2)
    assert (raised.value.got, raised.value.needed) == (3, "at most 2")


def test_absent_times_of_several_series_are_added_to_each(tmp_path):
    content = STORES.replace("south,2020-01-04,04,1\n", "").replace("north,2020-01-07,17,1\n", "")
    table = read(write(tmp_path, content), column="sales", series="store", covariates=("price",), missing="fill")
    assert [len(series.values) for series in table.series] == [8, 6, 4]
    assert [missing[:, 0].nonzero()[0].tolist() for missing in table.missing] == [[3], [4], []]
    assert days(table) == [f"2020-01-0{day}" for day in range(1, 9)]
    assert table.covariates[0][3] == table.covariates[0][2]


@pytest.mark.parametrize(
    ("hours", "message"),
    [
        (["2020-03-29 00:00", "2020-03-29 01:00", "2020-03-29 03:00"], "comes 2 hours after"),
        (["2020-10-25 01:00", "2020-10-25 02:00", "2020-10-25 02:00"], "is in row 6 too"),
        (
            ["2020-10-25 02:00", "2020-10-25 02:30", "2020-10-25 02:00"],
            "2020-10-25T02:00:00 follows 2020-10-25T02:30:00",
        ),
    ],
)
def test_local_hours_across_a_clock_change_are_refused_as_such(tmp_path, hours, message):
    before = [str(hour) for hour in pd.date_range(end=hours[0], periods=4, freq="h", inclusive="left")]
    path = write(tmp_path, "time,v\n" + "".join(f"{hour},1\n" for hour in [*before, *hours]))
    with pytest.raises(UsageError, match=r"clock change \(daylight saving time\): write times in UTC") as raised:
        read(path)
    assert message in str(raised.value)


def test_another_absent_hour_is_no_clock_change(tmp_path):
    hours = pd.date_range("2020-03-29 00:00", periods=9, freq="h").delete(6)
    path = write(tmp_path, "time,v\n" + "".join(f"{hour},1\n" for hour in hours))
    with pytest.raises(UsageError) as raised:
        read(path)
    assert "clock" not in str(raised.value)


@pytest.mark.parametrize(
    ("values", "floor"),
    [("0 3 0 1", 0), ("2 3", 0), ("0 3.5", None), ("-1 0 2", None), ("0 NA 2", 0), ("1e17 3e17", None)],
)
def test_the_floor_of_non_negative_integers_is_zero(tmp_path, values, floor):
    table = read(write(tmp_path, "\n".join(["v", *values.split()])), missing="fill")
    assert table.floor == floor
    assert any("non-negative integers" in note for note in table.notes) == (floor is not None)


def test_a_floor_is_the_one_that_is_given(tmp_path):
    path = write(tmp_path, "v\n3\n1\n2\n")
    assert read(path, floor=-4.0).floor == -4
    with pytest.raises(UsageError) as raised:
        read(path, floor=2.0)
    assert (raised.value.got, raised.value.needed) == (2.0, "at most 1.0")


def test_a_blank_line_is_skipped_but_in_a_single_column_it_is_a_missing_value(tmp_path):
    assert len(read(write(tmp_path, SALES.replace("2020-01-05", "\n \n2020-01-05"))).series[0].values) == 9
    path = write(tmp_path, "v\n1\n\n3\n\n\n")
    refused(path, "row 3, column 'v': nan is the first of 1 missing or infinite among 3 values")
    assert read(path, missing="fill").series[0].values.tolist() == [1, 1, 3]


# What is refused


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("5.5", "five", "row 6, column 'sales': 'five' is not a number"),
        ("5.5", "1_000", "row 6, column 'sales': '1_000' is not a number"),
        (
            "5.5",
            '"1,000"',
            "row 6, column 'sales': '1,000' is not a number; write a decimal point and no mark for thousands",
        ),
        ("5.5", '"5\n5"', r"row 6, column 'sales': '5\n5' is not a number"),
        ("2020-01-05", '"5\tx"', r"row 6, column 'date': '5\tx' is not a time"),
        ("5.5", "x" * 99, f"row 6, column 'sales': '{'x' * 58}… is not a number"),
        ("5.5", "1e300", "row 6, column 'sales': 1e+300 is beyond 1e+100 in magnitude"),
        ("5.5", "-1.1e100", "row 6, column 'sales': -1.1e+100 is beyond 1e+100 in magnitude"),
        ("5.5", "5.5,6", "row 6: 3 fields, but the header has 2"),
        (",5.5", "", "row 6: 1 field, but the header has 2"),
        (
            "-05",
            "-04",
            "row 6, column 'date': 2020-01-04 is in row 5 too: keep one of them, or name the column that tells",
        ),
        (
            "-05",
            "-03",
            "row 6, column 'date': 2020-01-03 follows 2020-01-04 in row 5: times must increase, sort the rows, or name",
        ),
        ("2020-01-05", "", "row 6, column 'date': there is no date; every row needs one"),
        ("2020-01-05", "5 Jan", "row 6, column 'date': '5 Jan' is not a time in the form of the first row (ISO 8601)"),
        ("2020-01-05", "2020-01-32", "row 6, column 'date': '2020-01-32' is not a time"),
        ("2020-01-05", "today", "row 6, column 'date': 'today' is not a time"),
        ("2020-01-01", "soon", "row 2, column 'date': 'soon' is not a date, such as 2020-01-31, or an integer"),
        (
            "2020-01-05,5.5\n",
            "",
            "row 6, column 'date' (2020-01-06) comes 2 days after 2020-01-04 instead of 1 day: the others go on daily (D); "
            "add or correct rows, fill absent ones with --data.missing fill, or count rows in place of dates with "
            "--data.time rows",
        ),
        ("5.5", '5.5"', "row 6: the quotation mark that opens here is never closed"),
        ("5.5", '"5".5', "row 6: a quotation mark within a field"),
        ("5.5", '"5.5', "row 6: the quotation mark that opens here is never closed"),
        ("date", "sales", "row 1: column 'sales' is there 2 times; names must differ"),
        ("date,sales\n", "\ndate,sales\n", "row 1 is blank; the names of the columns must stand there"),
        (DAYS, "", "there is only a header; at least one row must follow it"),
        (DAYS, "\n  \n", "there is only a header"),
        (SALES, "", "the file is empty (0 bytes)"),
        (DAYS, "2020-01-01,1\n2020-01-02,2\n", "2 dates are too few to tell their frequency; at least 3 are needed"),
        ("5.5", "\x00", "row 6: byte 83 of the file is NUL; save the file as text in UTF-8"),
        ("5.5", "x" * 200_000, "row 6: 200,012 bytes, a row may have at most 100,000"),
    ],
)
def test_a_fault_is_told_with_its_row(tmp_path, old, new, message):
    refused(write(tmp_path, SALES.replace(old, new, 1)), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            SALES.replace("5.5", "é").encode("latin-1"),
            "row 6: byte 83 of the file is 0xe9, which is not UTF-8; save the file as",
        ),
        (SALES.encode() + b"\xc3", "row 11: byte 147 of the file is 0xc3, which is not UTF-8"),
        (SALES.encode("utf-16"), "row 1: the file begins like one in UTF-16; save it as text in UTF-8"),
        (codecs.BOM_UTF16_BE + SALES.encode("utf-16-be"), "row 1: the file begins like one in UTF-16"),
        (SALES.encode("utf-16-le"), "row 1: byte 2 of the file is NUL"),
        (bytes(range(32, 256)) * 9, "row 1: byte 97 of the file is 0x80, which is not UTF-8"),
        (gzip.compress(SALES.encode(), mtime=0), "row 1: byte 2 of the file is 0x8b, which is not UTF-8"),
        (b"x" * 200_001, "row 1: more than 100,000 bytes, the most that a row may have"),
        (b'a\n"' + b"x\n" * 99_999, "row 2: the quotation mark that opens here is never closed"),
    ],
)
def test_what_is_no_table_is_told_from_one(tmp_path, content, message, monkeypatch):
    refused(write(tmp_path, content), message)
    if len(content) < 10_000:
        monkeypatch.setattr(delimited, "_BLOCK", 1)
        refused(tmp_path / "sales.csv", message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"column": "sails"},
            "there is no column 'sails'; did you mean 'sales'? the columns are 'store', 'date', 'sales', 'price'",
        ),
        ({"time": "when"}, "there is no column 'when'; the columns are 'store'"),
        ({"series": "stores"}, "there is no column 'stores'; did you mean 'store'?"),
        ({"column": "sales", "covariates": ("price", "")}, "there is no column ''; the columns are"),
        ({"column": "sales", "covariates": ("sales",)}, "column 'sales' is asked for 2 times; each has one role"),
        ({"series": "store"}, "2 columns may hold the values, say with --data.column which one does; the columns are"),
        (
            {"column": "sales"},
            "row 5, column 'date': 2020-01-03 is in row 4 too: the rows are of several series, told apart by 'store'; say "
            "--data.series store",
        ),
        ({"column": "sales", "period": 0}, "period: too small; got 0, needed at least 1"),
        ({"column": "sales", "longest_gap": 0}, "longest_gap: too small; got 0, needed at least 1"),
        (
            {"column": "sales", "missing": "guess"},
            "missing: unknown; got 'guess', needed one of error, drop, fill",
        ),
    ],
)
def test_a_wrong_choice_is_told_with_the_right_ones(tmp_path, options, message):
    refused(write(tmp_path, STORES), message, **options)


def test_a_text_among_numbers_does_not_make_another_column_the_one_to_forecast(tmp_path):
    content = STORES.replace("price", "text").replace(",2\n", ",x\n")
    refused(write(tmp_path, content), "2 columns may hold the values", series="store")
    assert (
        read(write(tmp_path, re.sub(r",\d\n", ",x\n", content)), series="store")
        .notes[0]
        .startswith("'sales' is forecast")
    )


def test_of_many_columns_twenty_are_listed(tmp_path):
    path = write(tmp_path, ",".join(f"c{number}" for number in range(30)) + "\n" + ",".join(["1"] * 30) + "\n")
    refused(path, "there is no column 'z'; the columns are 'c0', 'c1', ", column="z")
    with pytest.raises(UsageError, match=r"'c19' and 10 more$"):
        read(path, column="z")


@pytest.mark.parametrize("mark", ["/", "-", "."])
def test_day_and_month_are_told_apart_by_a_day_above_twelve_or_not_at_all(tmp_path, mark):
    def dated(months):
        rows = [f"{month:02}{mark}05{mark}2020,{month}\n" for month in months]
        return write(tmp_path, "date,v\n" + "".join(rows))

    refused(
        dated(range(1, 13)), "row 2, column 'date': this is 2020-05-01 or 2020-01-05, and no row tells day from month"
    )
    found = read(dated(range(1, 14)))
    assert days(found)[0] == "2020-05-01" and found.frequency.name == "D"
    refused(dated([1, 2, 20, 40]), "row 5, column 'date': '40", time="date")


def test_the_form_of_the_dates_may_be_settled_in_a_later_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "CHUNK", 2)
    rows = "".join(f"{day:02}/01/2020,{day}\n" for day in range(1, 14))
    assert read(write(tmp_path, "date,v\n" + rows)).frequency.name == "D"


def test_of_all_the_series_out_of_step_with_the_longest_the_first_row_is_told(tmp_path):
    for first, second in [("NA", "north"), ("north", "NA")]:
        content = STORES.replace(f"{first},2020-01-07", f"{first},2020-01-09").replace(
            f"{first},2020-01-08", f"{first},2020-01-10"
        )
        path = write(tmp_path, content.replace(f"{second},2020-01-08", f"{second},2020-01-11"))
        row = content[: content.index("01-09")].count("\n") + 1
        message = "comes 3 days after 2020-01-06 instead of 1 day: the others go on daily (D)"
        refused(path, f"row {row}, column 'date' (2020-01-09) {message}", column="sales", series="store")
    path = write(tmp_path, "s,date,v\nb,2020-02-02,1\na,2020-01-01,2\na,2020-02-01,3\na,2020-03-01,4\n")
    message = "row 2, column 'date' (2020-02-02) is out of step: the others go on monthly, on the first day (MS)"
    refused(path, message, series="s")


def test_where_most_rows_are_out_of_step_their_number_is_told_and_not_that_the_others_go_on(tmp_path):
    days = np.datetime64("2020-01-01") + np.cumsum([0, 3, 4, 1, 3, 2, 5, 7, 6])
    path = write(tmp_path, "date,v\n" + "".join(f"{day},1\n" for day in days))
    message = "row 4, column 'date' (2020-01-08) comes 4 days after 2020-01-04 instead of 3 days: only 3 of 9 rows go"
    refused(path, message)


def test_series_of_one_length_are_noted_with_one_number(tmp_path):
    path = write(tmp_path, "s,v\na,1\na,2\nb,3\nb,4\n")
    assert "2 series by 's', of 2 rows" in read(path, series="s").notes


def test_a_time_without_an_offset_among_those_with_one_is_refused(tmp_path):
    for first, second in [("10:00+01:00", "11:00"), ("10:00", "11:00+01:00")]:
        path = write(tmp_path, f"time,v\n2020-01-01 {first},1\n2020-01-01 {second},2\n")
        refused(
            path, f"row 3, column 'time': '2020-01-01 {second}' is not a time in the form of the first row (ISO 8601"
        )


def test_a_series_needs_a_name_in_every_row(tmp_path):
    path = write(tmp_path, STORES.replace("north", " "))
    refused(
        path, "row 5, column 'store': the name of the series is empty, in 6 rows in all", column="sales", series="store"
    )


TEXTS = st.text('ab ,;"\n\r\té', max_size=6)


@given(rows=st.lists(TEXTS, min_size=1, max_size=12), header=TEXTS, data=st.data())
def test_the_row_is_the_line_of_an_editor_whatever_stands_within_quotation_marks(tmp_path_factory, rows, header, data):
    bad, blank = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.sets(st.integers(0, len(rows))))
    lines = ['"{}",v'.format("x" + header.replace('"', '""'))]
    for number, text in enumerate(rows):
        lines += [""] * (number in blank)
        lines.append('"{}",{}'.format(text.replace('"', '""'), "bad" if number == bad else number))
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    before = end.join([*lines[: next(i for i, line in enumerate(lines) if line.endswith(",bad"))], ""])
    row = 1 + len(re.findall("\r\n|\r|\n", before))  # as many line ends as an editor counts
    path = write(tmp_path_factory.getbasetemp(), end.join(lines), "lines.csv")
    refused(path, f"row {row}, column 'v': 'bad' is not a number", column="v", time="rows")


# Files


def test_what_is_no_file_is_refused(tmp_path):
    refused(tmp_path, "is a directory; name a file")
    refused(tmp_path / "gone.csv", "No such file or directory")
    refused(Path(os.devnull), "is no regular file; name a file")
    refused(
        write(tmp_path, "a,b\n1,2\n", "a.xlsx"), "the suffix '.xlsx' is unknown; it must be one of .csv, .tsv, .txt"
    )
    refused(write(tmp_path, "a,b\n1,2\n", "csv"), "the suffix '' is unknown")
    refused(write(tmp_path, b"", "a.parquet"), "the file is empty (0 bytes)")
    with pytest.raises(UsageError, match=r"^a\\x00b\\n\.csv: embedded null byte$"):
        read("a\0b\n.csv")


@contextlib.contextmanager
def nobody():
    """Somebody who may not read everything, where the tests are run by somebody who may."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no permissions of this kind")
def test_a_file_that_may_not_be_read_is_refused():
    folder = Path(tempfile.mkdtemp())  # which, unlike `tmp_path`, anybody may enter
    folder.chmod(0o755)
    path = write(folder, SALES)
    path.chmod(0)
    with nobody():
        refused(path, "Permission denied")
    shutil.rmtree(folder)


def test_a_file_over_two_gibibytes_is_refused_unread(tmp_path, monkeypatch):
    path = write(tmp_path, SALES)
    os.truncate(path, 3 * 2**30)  # takes no room on the disk
    monkeypatch.setattr(tables.read, "open_text", lambda *_: pytest.fail("it was read"))
    refused(path, "the file has 3 GiB, at most 2 GiB are read; split it")


def test_a_small_file_that_unpacks_to_a_large_one_is_refused_before_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MAX_BYTES", 1_000_000)
    content = gzip.compress(b"v\n" + b"1\n" * 10_000_000)[:-12]  # what reads on finds it damaged
    assert len(content) < 100_000
    path = write(tmp_path, content, "bomb.csv.gz")
    refused(path, "the file unpacks to more than 1,000,000 bytes, the most that is read")


def test_a_table_with_too_many_rows_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MAX_ROWS", 9)
    assert len(read(write(tmp_path, SALES)).series[0].values) == 9
    refused(write(tmp_path, SALES + "2020-01-10,1\n"), "there are more than 9 rows, which is the most that is read")


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-12], lambda content: content[:40] + b"?" + content[41:], lambda _: b"PK"]
)
def test_a_damaged_gzip_file_is_refused(tmp_path, damage):
    refused(write(tmp_path, damage(gzip.compress(SALES.encode())), "a.csv.gz"), "the gzip file is damaged: ")


def test_an_empty_gzip_file_is_refused(tmp_path):
    refused(write(tmp_path, gzip.compress(b""), "a.csv.gz"), "the file is empty (0 bytes)")


@pytest.mark.parametrize(
    "later", [SALES.replace("2020-01-09,9.5\n", ""), SALES + "2020-01-10,10.5\n", SALES + "2020-01-"]
)
def test_a_file_that_changes_while_it_is_read_is_refused_with_both_sizes(tmp_path, monkeypatch, later):
    path, survey = write(tmp_path, SALES), delimited.survey_text

    def changed(*arguments):
        found = survey(*arguments)
        write(tmp_path, later)
        return found

    monkeypatch.setattr(delimited, "survey_text", changed)
    with pytest.raises(UsageError, match="changed while it was read") as raised:
        read(path)
    assert raised.value.where == str(path)
    assert raised.value.got.startswith(f"{len(later)} bytes") and raised.value.needed.startswith(f"{len(SALES)} bytes")


# Parquet


def parquet(folder, **columns):
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    writer.write_table(arrow.table(columns), folder / "a.parquet")
    return folder / "a.parquet"


def test_parquet_columns_of_every_kind_are_read(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from decimal import Decimal

    dates = pd.date_range("2020-01-31", periods=4, freq="ME")
    path = parquet(
        tmp_path,
        day=arrow.array(dates.date),
        moment=arrow.array(dates, arrow.timestamp("ns")),
        text=list(dates.strftime("%Y-%m-%d")),
        number=[20200131, 20200229, 20200331, 20200430],
        store=arrow.array(["a", "b", "a", "b"]).dictionary_encode(),
        price=arrow.array([Decimal("1.50"), Decimal("2.25"), None, Decimal("3")], arrow.decimal128(9, 2)),
        small=arrow.array([1, 2, 3, 4], arrow.int8()),
        flag=[True, None, False, True],
    )
    for time_ in ("day", "moment", "text", "number"):
        found = read(path, "small", time_)
        assert days(found) == ["2020-01-31", "2020-02-29", "2020-03-31", "2020-04-30"] and found.frequency.name == "ME"
    found = read(path, "price", "rows", "store", ("flag",), missing="drop")
    assert found.names == ("a", "b") and [series.values.tolist() for series in found.series] == [[1.5], [3]]
    assert [others.tolist() for others in found.covariates] == [[[1]], [[1]]]
    refused(
        path,
        "row 3, column 'price': nan is the first of 1 missing or infinite among 4 values",
        column="price",
        time="day",
    )
    refused(path, "row 1, column 'text': '2020-01-31' is not a number", column="text", time="day")


def test_parquet_days_of_a_place_are_kept_and_its_hours_are_turned_to_utc(tmp_path):
    local = pd.date_range("2020-10-23", periods=5, tz="Europe/Berlin")
    assert days(read(parquet(tmp_path, date=local, v=range(5)), "v"))[-1] == "2020-10-27"
    hours = pd.date_range("2020-10-24 22:00", periods=5, freq="h", tz="UTC").tz_convert("Europe/Berlin")
    found = read(parquet(tmp_path, date=hours, v=range(5)), "v")
    assert found.frequency.name == "h" and days(found)[0] == "2020-10-24T22:00:00"


def test_parquet_times_that_cannot_be_are_refused(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    for kind, message in [
        (arrow.timestamp("s"), "'71358665-06-19T13:54:08.000' is not a time in the form"),
        (arrow.timestamp("ms", "Europe/Berlin"), "'73326-09-11T20:14:45.248' is not a time in the form"),
    ]:
        path = parquet(tmp_path, date=arrow.array([2**51, 2**51 + 1, 2**51 + 2], kind), v=[1, 2, 3])
        refused(path, f"row 1, column 'date': {message}")
    path = parquet(tmp_path, date=arrow.array([0, None, 86400], arrow.timestamp("s")), v=[1, 2, 3])
    refused(path, "row 2, column 'date': there is no date; every row needs one")


def test_parquet_tables_that_cannot_be_are_refused(tmp_path, monkeypatch):
    arrow = pytest.importorskip("pyarrow")
    refused(parquet(tmp_path, v=arrow.array([], arrow.int64())), "the file has columns and no row")
    refused(parquet(tmp_path, v=[[1], [2]], w=[1, 2]), "there is no column 'v'; the columns are 'w'", column="v")
    refused(
        parquet(tmp_path, v=[1, 2], s=["a", None]), "row 2, column 's': the name of the series is empty", series="s"
    )
    monkeypatch.setattr(formats, "MAX_ROWS", 9)
    refused(parquet(tmp_path, v=range(10)), "there are 10 rows; at most 9 are read")
    monkeypatch.setattr(formats, "MAX_BYTES", 8000)
    texts = ["x" * 999 + str(number) for number in range(9)]
    refused(
        parquet(tmp_path, v=range(9), w=texts),
        "the file unpacks to 11,264 bytes; at most 8,000 bytes are read",
        column="v",
    )
    for content in (b"PAR1", b"PAR1 and more PAR1", SALES.encode()):
        refused(write(tmp_path, content, "b.parquet"), "cannot be read as Parquet: ")


def test_without_pyarrow_one_is_told_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path, b"PAR1", "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(path, 'Parquet needs pyarrow, which is not installed: pip install "jaxseq[parquet]"')


# Anything else


WORDS = re.split(" ", '" , ; a 1 . - "" é e9 date store 2020-01-01 nan inf +01:00 Z T00 1e300 2020Q1 \ufeff')
PIECES = st.sampled_from([word.encode() for word in WORDS] + [b"\t", b"\n", b"\r", b"\r\n", b" ", b"\xff", b"\0"])
SOUND = [
    SALES.encode(),
    STORES.encode(),
    ("date;store;sales\n" + "".join(f'{day:02}/01/2020;"a;\r\n""b""";{day},5\n' for day in range(1, 15))).encode(),
    ("time\tsales\r\n" + "".join(f"2020-01-01T{hour:02}:00:00+01:00\t{hour}\r\n" for hour in range(9))).encode(),
    b"sales\n1\n2\n3\n",
]


@st.composite
def mutated(draw):
    content = draw(st.sampled_from(SOUND))
    for _ in range(draw(st.integers(1, 4))):
        at, gone = draw(st.integers(0, len(content))), draw(st.integers(0, 4))
        content = content[:at] + draw(PIECES | st.binary(max_size=3)) + content[at + gone :]
    return content


def check_any(path, options):
    """A sound table, or a `UsageError` of one line that is not too long to read."""
    try:
        found = read(path, **options)
    except UsageError as error:
        assert str(error).isprintable() and len(str(error)) < 2000 and "pandas cannot" not in str(error), str(error)
        return
    assert isinstance(found, Table) and len(found.names) == len(found.series) == len(found.covariates) > 0
    for (times, values), others in zip(found.series, found.covariates, strict=True):
        assert len(times) == len(values) == len(others) > 0
        assert np.all(np.isfinite(values)) and np.all(times[1:] > times[:-1])


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "column": st.sampled_from(["sales", "date", "price"]),
        "time": st.sampled_from(["rows", "date", "store"]),
        "series": st.just("store"),
        "missing": st.sampled_from(["drop", "fill"]),
    },
)


@settings(max_examples=100)
@given(content=st.binary(max_size=60) | st.lists(PIECES, max_size=30).map(b"".join) | mutated(), options=OPTIONS)
def test_any_bytes_are_a_table_or_one_line_that_says_why_not(tmp_path_factory, content, options):
    check_any(write(tmp_path_factory.getbasetemp(), content, "any.csv"), options)


@settings(max_examples=100)
@given(
    edits=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=5),
    cut=st.integers(0, 8000),
)
def test_a_damaged_parquet_file_is_a_table_or_one_line_that_says_why_not(tmp_path_factory, edits, cut):
    pytest.importorskip("pyarrow")
    path = tmp_path_factory.getbasetemp() / "sound.parquet"
    if not path.exists():
        dates = pd.date_range("2020-01-01", periods=9)
        pd.DataFrame({"date": dates.astype(str), "store": "a", "sales": range(9)}).to_parquet(path)
    content = bytearray(path.read_bytes()[: cut if cut < 4000 else None])
    for at, byte in edits:
        content[at % (len(content) + 1) : at % (len(content) + 1) + 1] = bytes([byte])
    check_any(write(path.parent, bytes(content), "damaged.parquet"), {"column": "sales", "series": "store"})


# Speed


def long_table(path, series, rows):
    dates = pd.date_range("2020-01-01", periods=rows, freq="h").strftime("%Y-%m-%d %H:%M:%S")
    values = np.random.default_rng(0).standard_normal(rows).astype("U8")
    with path.open("w") as file:
        file.write("date,store,sales\n")
        for number in range(series):
            middle = f",store {number},"
            file.write("".join(f"{date}{middle}{value}\n" for date, value in zip(dates, values, strict=True)))


def test_four_hundred_series_are_read_in_a_moment(tmp_path):
    long_table(tmp_path / "long.csv", 400, 700)
    begin = time.process_time()
    found = read(tmp_path / "long.csv", series="store")
    assert len(found.series) == 400 and time.process_time() - begin < 3


@pytest.mark.slow
def test_ten_million_rows_are_read_in_a_minute_and_two_gibibytes(tmp_path):
    import subprocess

    long_table(tmp_path / "long.csv", 100, 100_000)
    code = f"""
import resource, time
from jaxseq.data.tables.read import Options, read
begin = time.process_time()
found = read({str(tmp_path / "long.csv")!r}, Options(series="store"))
print(sum(len(series.values) for series in found.series), time.process_time() - begin)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    rows, seconds, memory = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split()
    assert int(rows) == 10_000_000 and float(seconds) < 60 and int(memory) < 2 * 2**20
