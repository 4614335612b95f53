"""The user's own series: a table in a file, and a ticker from a price service on this machine."""

import dataclasses
import datetime
import functools
import itertools
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from fake_yahoo import FakeYahoo, trading_days
from hypothesis import given, settings

from jaxseq.common.errors import UsageError
from jaxseq.data import table, ticker
from jaxseq.data.laid_out import batch
from jaxseq.data.table import Table
from jaxseq.data.tables import read
from jaxseq.data.ticker import Ticker
from jaxseq.data.yahoo import client
from jaxseq.data.yahoo.client import DownloadError

numbers = itertools.count()
DAYS = np.datetime64("2023-01-01") + np.arange(100).astype("timedelta64[D]")
A, B = (100 + np.cumsum(np.random.default_rng(seed).standard_normal(100)) for seed in (0, 1))


@pytest.fixture(autouse=True)
def nothing_is_remembered():
    table._read_panel.cache_clear()
    ticker._quotes.cache_clear()


@pytest.fixture
def sales(tmp_path):
    """Two shops in one file, a day's rows beside each other, with a price and a holiday."""
    path = tmp_path / "sales.csv"
    rows = [
        f"{d},{n},{v:.6f},{v / 10:.6f},{i % 7 == 6:d}"
        for i, d in enumerate(DAYS)
        for n, v in (("A", A[i]), ("B", B[i]))
    ]
    path.write_text("\n".join(["date,shop,sales,price,holiday", *rows]) + "\n")
    return str(path)


@pytest.fixture
def alone(tmp_path):
    path = tmp_path / "alone.csv"
    path.write_text("date,value\n" + "".join(f"{day},{value:.6f}\n" for day, value in zip(DAYS, A, strict=True)))
    return str(path)


def test_a_table_of_one_series_is_cut_into_windows_with_its_dates(alone):
    recipe = Table(path=alone, window=5)
    windows, scaling, background = recipe.load(2)
    assert recipe.name == alone
    whole = np.concatenate([windows.train.inputs[0], windows.train.targets[:, 0], windows.train.targets[-1, 1:]])
    np.testing.assert_allclose(whole, A[:70], atol=1e-6)
    assert [str(part.times[0]) for part in windows] == ["2023-01-06", "2023-03-12", "2023-03-27"]
    np.testing.assert_allclose(scaling.scale, [np.diff(A[:70]).std()], rtol=1e-6)
    assert (background.names, background.period) == (("value",), 7)
    np.testing.assert_allclose(background.training[0], A[:70], atol=1e-6)
    assert background.notes


def test_each_series_of_a_table_is_split_and_scaled_by_itself(sales):
    recipe = Table(path=sales, column="sales", series="shop", window=5)
    windows, scaling, background = recipe.load(1)
    assert background.names == ("A", "B")
    np.testing.assert_allclose(scaling.scale, [np.diff(v[:70]).std() for v in (A, B)], rtol=1e-6)
    for number, values in enumerate((A, B)):
        rows = windows.test.series == number
        np.testing.assert_allclose(windows.test.targets[rows, 0], values[85:], atol=1e-6)
        np.testing.assert_allclose(windows.test.inputs[rows, -1], values[84:-1], atol=1e-6)


def test_covariates_of_a_table_stand_beside_its_values(sales):
    recipe = Table(path=sales, column="sales", series="shop", covariates="price, holiday", window=5)
    windows, scaling, _ = recipe.load(1)
    part = windows.train
    np.testing.assert_allclose(part.covariates[..., 0], part.inputs / 10, atol=1e-6)
    np.testing.assert_array_equal(part.covariates[:2, :, 1], [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(part.covariates[2:4, :, 1], [[0, 0, 0, 0, 1], [0, 0, 0, 1, 0]])
    rows = np.concatenate([np.stack([v[:70] / 10, np.arange(70) % 7 == 6], 1) for v in (A, B)])
    scaled = (part.covariates - rows.mean(axis=0)) / rows.std(axis=0)
    np.testing.assert_allclose(batch(part, scaling).x[..., 1:], scaled, atol=1e-5)


def test_folds_and_kinds_of_a_table_are_those_that_are_asked_for(alone):
    recipe = Table(path=alone, window=5, folds=3, fold=2, target="level")
    windows, scaling, _ = recipe.load(1)
    assert [str(part.times[0]) for part in windows] == ["2023-01-06", "2023-03-17", "2023-04-01"]
    assert scaling.kind == "level"
    np.testing.assert_allclose(scaling.shift, [A[:75].min()], atol=1e-6)
    assert Table(path=alone, window=5, period=30).load(1).background.period == 30


def test_missing_values_stop_unless_it_is_said_what_to_do(alone, tmp_path):
    path = tmp_path / "gap.csv"
    lines = Path(alone).read_text().splitlines()
    lines[11] = f"{DAYS[10]},"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UsageError, match=r"gap\.csv: .*row 12"):
        Table(path=str(path), window=5).load(1)
    filled = Table(path=str(path), window=5, missing="fill").load(1).background
    assert filled.series[0].values[10] == pytest.approx(A[9], abs=1e-6)
    assert np.flatnonzero(np.isnan(filled.training[0])).tolist() == [10]
    assert np.flatnonzero(filled.missing[0]).tolist() == [10]
    assert "missing values: 1 of 70 in training, 0 of 15 in validation, 0 of 15 in test" in filled.notes
    dropped = Table(path=str(path), window=5, missing="drop").panel().series[0]
    np.testing.assert_allclose(dropped.values, np.delete(A, 10), atol=1e-6)


def test_a_longer_gap_is_filled_where_that_is_allowed(alone):
    lines = Path(alone).read_text().splitlines()
    lines[5:12] = [f"{day}," for day in DAYS[4:11]]
    Path(alone).write_text("\n".join(lines) + "\n")
    with pytest.raises(UsageError) as raised:
        Table(path=alone, window=5, missing="fill").load(1)
    assert (raised.value.got, raised.value.needed) == (7, "at most 5")
    dataset = Table(path=alone, window=5, missing="fill", longest_gap=7).load(1)
    values = dataset.background.series[0].values
    np.testing.assert_allclose(values[3:12], [A[3]] * 8 + [A[11]], atol=1e-6)


def test_a_table_is_read_once_for_one_recipe_and_again_where_the_file_has_changed(alone, monkeypatch):
    read_file, calls = read.read, []
    monkeypatch.setattr(read, "read", lambda *words: calls.append(words) or read_file(*words))
    recipe = Table(path=alone, window=5)
    assert recipe.load(1) and dataclasses.replace(recipe, folds=2, fold=2).load(1)
    assert len(calls) == 1
    Path(alone).write_text(Path(alone).read_text().replace(f"{A[-1]:.6f}", "1.5"))
    assert recipe.panel().series[0].values[-1] == 1.5


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Table, r"^which file\? say --data\.path sales\.csv$"),
        (functools.partial(Table, path="nowhere.csv"), r"^nowhere\.csv: "),
        (functools.partial(Table, path="sales.doc"), r"^sales\.doc"),
    ],
)
def test_a_file_that_there_is_not_is_refused_by_its_name(recipe, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        recipe().load(1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [Table, Ticker])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window": 1}, "window: too small; got 1, needed at least 2"),
        ({"folds": 0}, "folds: too small; got 0, needed at least 1"),
        ({"folds": 2, "fold": 3}, "fold is 3; there are 2"),
    ],
)
def test_a_field_that_cannot_be_is_refused(make, fields, message):
    name = {Table: "mine.csv", Ticker: "MSFT"}[make]
    with pytest.raises(UsageError, match=f"^{name}: {message}$"):
        make(**{Table: {"path": name}, Ticker: {"ticker": name}}[make], **fields)


def test_a_part_too_short_for_a_window_is_refused_with_the_series_and_both_numbers(sales):
    with pytest.raises(
        UsageError, match=r"sales\.csv: 2 of 2 series are too short: A \(100 rows\), B .* has 70 of 100 rows; window 70"
    ):
        Table(path=sales, column="sales", series="shop", window=70).load(1)


@pytest.fixture
def service(tmp_path, monkeypatch):
    """The price service; nothing else can be reached, and the cache is this test's."""
    service = FakeYahoo(tmp_path)
    days, random = trading_days("2023-01-02", 120), np.random.default_rng(2)
    service.rows = [
        day._replace(close=c, adj_close=0.97 * c) for day, c in zip(days, random.uniform(9, 99, 120), strict=True)
    ]
    session = service.session()
    monkeypatch.setattr(client, "_own_session", lambda: session)
    monkeypatch.setenv("JAXSEQ_CACHE", str(tmp_path / "cache"))
    yield service
    service.close()
    assert service.strangers == []


@pytest.fixture
def recipe():
    """Of a ticker of its own, since yfinance remembers time zones for as long as the process lives."""
    return Ticker(ticker=f"OWN{next(numbers)}", start="2023-01-02", end="2023-06-01", window=5)


def test_the_prices_of_a_ticker_are_those_that_the_service_sends(service, recipe):
    sent = [row for row in service.rows if row.date < datetime.date(2023, 6, 1)]
    for column in ("adj_close", "close"):
        panel = dataclasses.replace(recipe, column=column).panel()
        assert panel.names == (recipe.name,) == (recipe.ticker,)
        assert panel.series[0].values.tolist() == [getattr(row, column) for row in sent]
        assert panel.series[0].times.tolist() == [row.date for row in sent]
    background = recipe.load(1).background
    assert background.period == 5
    assert background.training[0].tolist() == [row.adj_close for row in sent][: int(0.7 * len(sent))]
    day = datetime.datetime.now(datetime.UTC).date()
    assert background.notes[0] == f"{recipe.ticker}: {len(sent)} days to 2023-05-31, USD, fetched on {day}"


def test_a_ticker_is_asked_for_once_and_then_read_from_the_cache_without_the_service(service, recipe):
    windows = recipe.load(1).windows
    asked = len(service.asked)
    assert asked and recipe.load(2).scaling.kind == "change"
    assert len(service.asked) == asked
    ticker._quotes.cache_clear()
    service.close()
    for part, again in zip(windows, recipe.load(1).windows, strict=True):
        np.testing.assert_array_equal(part.inputs, again.inputs)


def test_windows_and_scaling_of_a_ticker_are_of_its_parts(service, recipe):
    values = recipe.panel().series[0].values
    first = int(0.7 * len(values))
    parts = recipe.load(2).windows
    np.testing.assert_array_equal(parts.valid.inputs[0], values[first - 5 : first])
    np.testing.assert_array_equal(parts.test.targets[-1], values[-2:])
    kind = dataclasses.replace(recipe, target="log-return")
    assert kind.load(2).scaling.scale == (np.diff(np.log(values[:first])).std(),)


def test_a_ticker_that_the_service_does_not_know_is_a_mistake_in_one_line(service, recipe):
    service.answers = ["404"]
    with pytest.raises(DownloadError, match=f"^{recipe.ticker} from 2023-01-02 .*Yahoo knows no such ticker") as caught:
        recipe.load(1)
    assert caught.value.cause == "unknown-ticker" and isinstance(caught.value, UsageError)
    assert "\n" not in str(caught.value)


def test_without_the_service_an_old_download_is_used_unless_a_fresh_one_is_asked_for(service, recipe):
    recipe.load(1)
    ticker._quotes.cache_clear()
    service.close()
    assert recipe.load(1)
    with pytest.raises(DownloadError, match=r"Yahoo cannot be reached.*the download of .* is still in "):
        dataclasses.replace(recipe, refresh=True).load(1)


# Missing values


def panel_with_missing(folder, values, prices, treatment):
    """The windows of two series with a covariate; NaN is a missing value."""
    path = folder / "missing.csv"
    rows = ["date,shop,sales,price"]
    for shop, (own_values, own_prices) in enumerate(zip(values, prices, strict=True)):
        rows += [
            f"{DAYS[row]},shop {shop},{value},{price}"
            for row, (value, price) in enumerate(zip(own_values, own_prices, strict=True))
        ]
    path.write_text("\n".join(rows) + "\n")
    data = Table(
        path=str(path),
        column="sales",
        series="shop",
        covariates="price",
        missing=treatment,
        longest_gap=60,
        window=4,
        target="level",
    )
    return data.load(2)


@given(
    treatment=st.sampled_from(["fill", "drop"]),
    seed=st.integers(0, 2**32 - 1),
    changed=st.integers(1, 59),
)
@settings(max_examples=20)
def test_no_input_of_a_window_depends_on_a_value_after_its_origin(tmp_path_factory, treatment, seed, changed):
    folder = tmp_path_factory.getbasetemp()
    random = np.random.default_rng(seed)
    values, prices = random.normal(size=(2, 2, 60))
    for numbers in (values, prices):
        numbers[:, 1:][random.random((2, 59)) < 0.2] = np.nan
    before = panel_with_missing(folder, values, prices, treatment).windows

    # From one row on, everything in the second series changes.
    for numbers in (values, prices):
        later = numbers[1, changed:]
        new = random.normal(size=later.shape)
        if treatment == "fill":
            new[random.random(later.shape) < 0.2] = np.nan
        else:
            # Another dropped row would shift the parts.
            new[np.isnan(later)] = np.nan
        numbers[1, changed:] = new
    after = panel_with_missing(folder, values, prices, treatment).windows

    rows_after = {(shop, day): row for row, (shop, day) in enumerate(zip(*places(after), strict=True))}
    compared = 0
    for row, (shop, day) in enumerate(zip(*places(before), strict=True)):
        # All inputs are of days before that of the first target.
        is_past = shop == 0 or day <= DAYS[changed]
        if is_past and (shop, day) in rows_after:
            compared += 1
            for name in ("inputs", "covariates", "filled"):
                old_row = np.concatenate([getattr(part, name) for part in before])[row]
                new_row = np.concatenate([getattr(part, name) for part in after])[rows_after[shop, day]]
                np.testing.assert_array_equal(old_row, new_row)
    assert compared


def places(windows):
    """The series and the first target's day of all windows."""
    return [np.concatenate([getattr(part, name) for part in windows]) for name in ("series", "times")]


def test_inputs_are_filled_and_missing_targets_are_unknown(alone):
    lines = Path(alone).read_text().splitlines()
    missing = [10, 11, 12, 40, 80, 99]
    for row in missing:
        lines[1 + row] = f"{DAYS[row]},"
    Path(alone).write_text("\n".join(lines) + "\n")
    data = Table(path=alone, window=5, missing="fill")
    windows, scaling, background = data.load(2)

    known = np.where(np.isin(np.arange(100), missing), np.nan, A)
    filled = pd.Series(known).ffill().to_numpy()
    for part in windows:
        for row, origin in enumerate(part.origins):
            np.testing.assert_allclose(part.inputs[row], filled[origin - 5 : origin], atol=1e-6)
            np.testing.assert_allclose(part.targets[row], known[origin : origin + 2], atol=1e-6)
            np.testing.assert_array_equal(part.filled[row, :, 0], np.isin(np.arange(origin - 5, origin), missing))
    # The windows whose two targets are both missing are left out.
    assert {10, 11}.isdisjoint(windows.train.origins)
    assert {9, 12}.issubset(windows.train.origins)
    np.testing.assert_allclose(scaling.scale, np.nanstd(np.diff(known[:70])), rtol=1e-6)
    assert scaling.masks == (0,)
    assert batch(windows.train, scaling).x.shape[2] == 2
    assert "missing values: 4 of 70 in training, 1 of 15 in validation, 1 of 15 in test" in background.notes
    unknown = "targets without weight, because they are missing: 8 of 128 in training, 2 of 28 in validation"
    assert any(note.startswith(unknown) for note in background.notes)
    np.testing.assert_array_equal(data.panel().last_windows(5, 2).filled[0, :, 0], [0, 0, 0, 0, 1])


def test_a_mask_that_training_never_saw_is_no_input(alone):
    lines = Path(alone).read_text().splitlines()
    lines[91] = f"{DAYS[90]},"
    Path(alone).write_text("\n".join(lines) + "\n")
    dataset = Table(path=alone, window=5, missing="fill").load(1)
    assert dataset.scaling.masks == ()
    assert batch(dataset.windows.test, dataset.scaling).x.shape[2] == 1
    assert 90 not in dataset.windows.test.origins


def test_targets_after_every_step_are_no_filled_values(alone):
    lines = Path(alone).read_text().splitlines()
    lines[11] = f"{DAYS[10]},"
    Path(alone).write_text("\n".join(lines) + "\n")
    windows, scaling, _ = Table(path=alone, window=5, missing="fill", target="level").load(2)
    y = scaling.targets_at_every_step(windows.train)
    target_rows = windows.train.origins[:, None, None] - 5 + 1 + np.arange(5)[:, None] + np.arange(2)
    np.testing.assert_array_equal(np.isnan(y), target_rows == 10)
    np.testing.assert_allclose(
        y[target_rows != 10], (A[target_rows[target_rows != 10]] - scaling.shift) / scaling.scale, atol=1e-6
    )


def test_a_part_of_missing_targets_alone_is_refused(alone):
    lines = Path(alone).read_text().splitlines()
    lines[86:] = [f"{day}," for day in DAYS[85:]]
    Path(alone).write_text("\n".join(lines) + "\n")
    with pytest.raises(UsageError, match="all targets of the test part are missing"):
        Table(path=alone, window=5, missing="fill", longest_gap=50).load(1)


def test_the_floor_of_a_table_is_in_its_background(alone, tmp_path):
    assert Table(path=alone, window=5).load(1).background.floor is None
    assert Table(path=alone, window=5, floor=-5.0).load(1).background.floor == -5
    counts = tmp_path / "counts.csv"
    counts.write_text("date,sold\n" + "".join(f"{day},{row % 7}\n" for row, day in enumerate(DAYS)))
    assert Table(path=str(counts), window=5).load(1).background.floor == 0


def test_an_hour_that_a_clock_change_skips_is_filled(tmp_path):
    path = tmp_path / "hours.csv"
    hours = pd.date_range("2020-03-28 00:00", periods=60, freq="h").delete(26)
    path.write_text("time,v\n" + "".join(f"{hour},{row % 5 + 0.5}\n" for row, hour in enumerate(hours)))
    panel = Table(path=str(path), window=5, missing="fill").panel()
    assert np.flatnonzero(panel.missing[0][:, 0]).tolist() == [26]
    assert len(panel.series[0].values) == 60


def test_a_table_leaves_series_out_only_where_that_is_asked_for(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("date,y\n" + "".join(f"2020-01-{day:02},{day**2}\n" for day in range(1, 30)))
    assert not Table(path=str(path)).panel().drops
    assert Table(path=str(path), unusable="drop").panel().drops


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("date,y\n" + "".join(f"{2020 + n // 12}{n % 12 + 1:02},{n}\n" for n in range(40)), "MS"),
        ("date,y\n" + "".join(f"{2019 + n // 12}-{n % 12 + 1:02}-15,{n}.0\n" for n in range(37)), "M-15"),
        ("date|y\n" + "".join(f"2024-01-{n + 1:02}|{1000 + 1.5 * n}\n" for n in range(30)), "D"),
    ],
    ids=["months without a dash", "the 15th of a month", "bars"],
)
def test_a_straight_line_is_a_series_like_any_other(tmp_path, text, name):
    (tmp_path / "t.csv").write_text(text)
    data = Table(path=str(tmp_path / "t.csv"), window=5)
    assert data.panel().frequency.name == name
    dataset = data.load(1)
    assert dataset.scaling.scale[0] in (1.0, 1.5)
    windows = dataset.windows
    np.testing.assert_array_equal(dataset.scaling.targets(windows.test), 1)
