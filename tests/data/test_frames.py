"""A table in memory is read as the CSV of the same table, bit for bit, whichever library holds it."""

import copy
import dataclasses
import datetime
import pickle
import typing

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings

from jaxseq.common.errors import UsageError
from jaxseq.data.table import Table, TableFields
from jaxseq.data.tables import formats

DAYS = pd.date_range("2021-01-01", periods=40)
NUMBERS = np.random.default_rng(0).normal(size=80)
SALES = pd.DataFrame(
    {
        "date": DAYS.append(DAYS),
        "store": ["east"] * 40 + ["north"] * 40,
        "sales": np.where(np.arange(80) % 11 == 5, np.nan, NUMBERS),
        "open": np.arange(80) % 7 > 0,
        "guests": pd.array([None if number == 3 else number for number in range(80)], dtype="Int64"),
    }
)
FIELDS = {"column": "sales", "series": "store", "covariates": "open,guests", "missing": "fill", "window": 4}


def polars_of(frame):
    return pytest.importorskip("polars").from_pandas(frame)


LIBRARIES = {
    "pandas": lambda frame: frame,
    "pandas' own missing values": lambda frame: frame.convert_dtypes(),
    "pandas on Arrow": lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
    "polars": polars_of,
    "Arrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
}
every_library = pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)


def check_equal(panel, other):
    """All that is trained on is the same, bit for bit; rows in notes are counted from elsewhere."""
    assert (panel.names, panel.frequency, panel.floor) == (other.names, other.frequency, other.floor)
    assert len(panel.notes) == len(other.notes)
    for series, of_other in zip(panel.series, other.series, strict=True):
        assert series.times.dtype == of_other.times.dtype
        np.testing.assert_array_equal(series.times, of_other.times)
        assert series.values.tobytes() == of_other.values.tobytes()
    for part in ("covariates", "missing"):
        for array, of_other in zip(getattr(panel, part), getattr(other, part), strict=True):
            assert array.tobytes() == of_other.tobytes()


@every_library
def test_a_frame_is_read_as_its_csv(library, tmp_path):
    path = tmp_path / "sales.csv"
    SALES.to_csv(path, index=False)
    table = Table.from_frame(library(SALES), **FIELDS)
    check_equal(table.panel(), Table(path=str(path), **FIELDS).panel())
    # Whichever library holds them: equal contents are equal tables.
    assert table == Table.from_frame(SALES, **FIELDS)


@pytest.mark.parametrize("keys", [["date"], ["store", "date"]])
def test_an_index_with_names_is_a_column_as_in_a_csv(keys, tmp_path):
    path = tmp_path / "sales.csv"
    indexed = SALES.set_index(keys)
    indexed.to_csv(path)
    check_equal(Table.from_frame(indexed, **FIELDS).panel(), Table(path=str(path), **FIELDS).panel())


@every_library
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_times_keep_their_zone(library, zone, tmp_path):
    path = tmp_path / "hours.csv"
    hours = pd.date_range("2021-01-01 05:00", periods=40, freq="h", tz=zone)
    frame = pd.DataFrame({"hour": hours, "load": NUMBERS[:40]})
    frame.to_csv(path, index=False)
    check_equal(Table.from_frame(library(frame), window=4).panel(), Table(path=str(path), window=4).panel())


def test_a_series_has_its_index_as_dates():
    series = pd.Series(NUMBERS[:40], index=DAYS)
    panel = Table.from_frame(series, window=4).panel()
    assert panel.names == ("value",)
    np.testing.assert_array_equal(panel.series[0].times, DAYS.to_numpy().astype("datetime64[D]"))
    # An index without a name that holds no dates, such as what is left after a selection, says nothing of time.
    counted = Table.from_frame(series.rename("sales").reset_index(drop=True)[7:], window=4).panel()
    assert counted.names == ("sales",) and counted.series[0].times[0] == 0


columns = st.sampled_from(
    [
        st.floats(-1e90, 1e90),
        st.floats(allow_nan=True, allow_infinity=True),
        st.integers(-(2**63), 2**63 - 1),
        st.booleans(),
        st.none() | st.integers(-9, 9),
        st.sampled_from(["1", " 2.5", "1e3", "NA", "", "1,5", "x"]),
        st.decimals(-100, 100, allow_nan=False, places=3),
    ]
).flatmap(lambda values: st.lists(values, min_size=12, max_size=12))
times = st.sampled_from(
    [
        list(pd.date_range("2024-02-25", periods=12)),
        list(pd.date_range("2024-02-25", periods=12, freq="15min")),
        list(pd.period_range("2024-01", periods=12, freq="M")),
        [datetime.date(2024, 1, 1) + datetime.timedelta(7 * week) for week in range(12)],
        list(range(100, 124, 2)),
        [f"2024-W{week:02}" for week in range(1, 13)],
        [f"{day:02}.03.2024" for day in range(1, 13)],
        [202401 + month for month in range(12)],
        [1.5] * 12,
    ]
)


@settings(max_examples=8)
@given(values=columns, when=times, missing=st.sampled_from(["error", "drop", "fill"]))
def test_any_frame_is_read_or_refused_as_its_csv(values, when, missing, tmp_path_factory):
    path = tmp_path_factory.mktemp("frames") / "any.csv"
    frame = pd.DataFrame({"time": when, "value": values})
    frame.to_csv(path, index=False)
    fields = {"column": "value", "time": "time", "missing": missing, "window": 4}
    try:
        panel = Table(path=str(path), **fields).panel()
    except UsageError as error:
        with pytest.raises(UsageError) as raised:
            Table.from_frame(frame, **fields).panel()
        assert type(raised.value) is type(error)
    else:
        check_equal(Table.from_frame(frame, **fields).panel(), panel)


@every_library
def test_a_fault_is_told_with_its_row_and_column(library):
    frame = SALES.assign(sales=[str(number) for number in range(80)])
    frame.loc[7, "sales"] = "seven"
    with pytest.raises(UsageError) as raised:
        Table.from_frame(library(frame), **FIELDS).panel()
    assert "row 7, column 'sales': 'seven' is not a number" in str(raised.value)


@pytest.mark.parametrize(
    ("frame", "got"),
    [
        ([1.0, 2.0], "list"),
        (NUMBERS, "ndarray"),
        (SALES[:0], 0),
        (pd.concat([SALES, SALES], axis=1), None),
    ],
)
def test_what_is_no_table_is_refused(frame, got):
    with pytest.raises(UsageError) as raised:
        Table.from_frame(frame)
    assert raised.value.where == "frame" and (got is None or raised.value.got == got)


def test_a_frame_is_refused_beyond_the_limits_of_a_file(monkeypatch):
    monkeypatch.setattr(formats, "MAX_ROWS", 79)
    with pytest.raises(UsageError) as raised:
        Table.from_frame(SALES)
    assert (raised.value.got, raised.value.needed) == (80, "at most 79")


def test_contents_are_a_copy_whose_hash_tells_any_change():
    frame = SALES.copy()
    table = Table.from_frame(frame, **FIELDS)
    before = table.panel().series[1].values.copy()
    frame.loc[45:, "sales"] = 0.0
    np.testing.assert_array_equal(table.panel().series[1].values, before)

    changed = [
        frame,
        SALES.rename(columns={"open": "shut"}),
        SALES.assign(store=["east"] * 41 + ["north"] * 39),
        SALES.assign(date=SALES["date"] + pd.Timedelta(1, "D")),
        SALES[:79],
    ]
    assert len({table.path, *(Table.from_frame(other).path for other in changed)}) == 6
    for twin in (copy.deepcopy(table), pickle.loads(pickle.dumps(table))):
        assert twin == table
        check_equal(twin.panel(), table.panel())


def test_a_hash_without_its_frame_is_refused():
    table = Table.from_frame(SALES, **FIELDS)
    with pytest.raises(UsageError, match="memory of another process") as raised:
        Table(path=str(table.path), **FIELDS).panel()
    assert raised.value.where == table.name == f"frame {table.path[6:14]}"


def test_a_column_of_lists_has_no_name():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"day": [day.date() for day in DAYS], "value": NUMBERS[:40], "pair": [[1, 2]] * 40})
    panel = Table.from_frame(frame, window=4).panel()
    assert panel.names == ("value",) and panel.frequency.name == "D"
    with pytest.raises(UsageError, match="no column 'pair'"):
        Table.from_frame(frame, column="pair").panel()


@pytest.mark.parametrize("order", ["shuffled", "twice"])
def test_a_column_of_the_type_of_dates_holds_the_dates_and_is_checked(order):
    days = DAYS.to_series().sample(frac=1, random_state=0) if order == "shuffled" else DAYS[[0, *range(39)]]
    frame = pd.DataFrame({"when": np.asarray(days), "sales": NUMBERS[:40]})
    with pytest.raises(UsageError, match="when"):
        Table.from_frame(frame, column="sales", window=4).panel()
    # Another meaning has to be said.
    assert Table.from_frame(frame, column="sales", time="rows", window=4).panel().series[0].times[0] == 0


def test_the_keywords_that_a_type_checker_knows_are_the_fields_of_a_table():
    types = typing.get_type_hints(Table)
    fields = {field.name: types[field.name] for field in dataclasses.fields(Table) if field.name != "path"}
    assert typing.get_type_hints(TableFields) == fields


def test_names_of_several_levels_are_refused():
    frame = pd.DataFrame({("sales", "east"): NUMBERS[:40]}, index=DAYS)
    with pytest.raises(UsageError, match="several levels"):
        Table.from_frame(frame, window=4)
