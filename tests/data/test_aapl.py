"""The prices that come with the package."""

import gzip
import hashlib
import re

import numpy as np
import pytest

from jaxseq.common.arrays import Splits
from jaxseq.common.errors import UsageError
from jaxseq.data import aapl
from jaxseq.data.aapl import FILE, SHA256, Prices
from jaxseq.data.laid_out import batch


def test_the_series_is_the_one_that_is_described():
    series = Prices().series()
    assert len(series.values) == 3270
    assert [str(series.times[0]), str(series.times[-1])] == ["2000-03-01", "2013-03-01"]
    assert series.values.dtype == np.float64


def test_the_file_is_the_one_whose_hash_is_written_down():
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == SHA256
    assert SHA256 in FILE.with_name("README.md").read_text(encoding="utf-8")


def test_the_test_part_is_491_days_from_2011_03_18_and_starts_with_a_known_past():
    train, valid, test = Prices().load(1).windows
    assert [len(part.inputs) for part in (train, valid, test)] == [2239, 490, 491]
    assert str(test.times[0]) == "2011-03-18"
    assert str(valid.times[0]) == "2009-04-08"
    assert str(test.times[-1]) == "2013-03-01"
    np.testing.assert_array_equal(test.inputs[0, 1:], np.append(valid.inputs[-1, 2:], valid.targets[-1]))


def test_the_naive_forecast_of_the_test_days_is_wrong_by_1_2098_dollars():
    test = Prices().load(1).windows.test
    assert np.sqrt(np.mean((test.targets[:, 0] - test.inputs[:, -1]) ** 2)) == pytest.approx(1.2098, abs=5e-5)


def test_splits_of_the_share_break_the_traded_price_and_not_the_adjusted_one():
    for date, column, fall in [
        ("2000-06-21", "close", True),
        ("2005-02-28", "close", True),
        ("2000-06-21", "adj_close", False),
        ("2005-02-28", "adj_close", False),
        ("2000-09-29", "adj_close", True),
    ]:
        series = Prices(column=column).series()
        row = int(np.searchsorted(series.times, np.datetime64(date)))
        assert (series.values[row] < 0.6 * series.values[row - 1]) == fall


@pytest.mark.parametrize("target", ["change", "log-return", "level"])
@pytest.mark.parametrize("horizon", [1, 5])
def test_a_batch_inverts_to_the_dollars_it_came_from(target, horizon):
    dataset = Prices(target=target).load(horizon)
    scaling = dataset.scaling
    for windows in dataset.windows:
        part = batch(windows, scaling)
        assert part.x.shape == (len(windows.inputs), 50, 1) and part.y.shape == (len(windows.inputs), horizon)
        assert part.x.dtype == part.y.dtype == np.float32
        np.testing.assert_allclose(scaling.invert(part.y, windows), windows.targets, rtol=1e-5)


def test_test_prices_leave_the_training_range_and_their_changes_do_so_less():
    def batches(target):
        dataset = Prices(target=target).load(1)
        return Splits(*(batch(part, dataset.scaling) for part in dataset.windows))

    level, change = batches("level"), batches("log-return")
    assert level.train.x.min() == 0 and level.train.x.max() == 1
    assert level.test.y.min() > 1
    assert level.test.y.max() == pytest.approx(3.614, abs=1e-3)
    assert np.abs(change.test.y).max() < np.abs(change.train.y).max()


def test_the_scaling_is_that_of_the_2289_training_rows():
    values = Prices().series().values[:2289]
    for horizon in (1, 7):
        assert Prices().load(horizon).scaling.scale == (np.diff(values).std(),)
        assert Prices(target="level").load(horizon).scaling.shift == (values.min(),)


def test_what_is_read_once_cannot_be_changed_by_who_reads_it():
    for array in Prices().series():
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]
    Prices().load(1).windows.train.inputs[:] = 0
    assert Prices().load(1).windows.train.inputs.min() > 0


def test_a_damaged_file_is_refused_with_both_hashes(tmp_path):
    content = bytearray(FILE.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "aapl.csv.gz"
    damaged.write_bytes(content)
    with pytest.raises(UsageError, match=rf"{re.escape(str(damaged))}: damaged: sha256 is \w+…, {SHA256[:12]}…"):
        aapl._read(damaged, "close")
    damaged.write_bytes(gzip.compress(gzip.decompress(FILE.read_bytes()).replace(b"2011", b"2012")))
    with pytest.raises(UsageError, match="damaged"):
        aapl._read(damaged, "close")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"gone\.csv\.gz: No such file"):
        aapl._read(tmp_path / "gone.csv.gz", "close")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window": 1}, "AAPL: window: too small; got 1, needed at least 2"),
        ({"folds": 0}, "AAPL: folds: too small; got 0, needed at least 1"),
        ({"folds": 2, "fold": 3}, "AAPL: fold is 3; there are 2"),
    ],
)
def test_a_field_that_cannot_be_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        Prices(**fields)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "target",
            "price",
            "AAPL: target: unknown; got 'price', needed one of auto, change, season, seasons, log-return, level",
        ),
        ("column", "open", "AAPL: column: unknown; got 'open', needed one of adj_close, close"),
    ],
)
def test_an_unknown_choice_is_refused_with_those_that_are_known(field, value, message):
    recipe = Prices()
    object.__setattr__(recipe, field, value)  # past the type checker that only tests have
    with pytest.raises(UsageError, match=message):
        recipe.__post_init__()


def test_a_window_longer_than_the_training_part_is_refused_with_both_numbers():
    with pytest.raises(
        UsageError, match=r"^series 'AAPL': the training part has 2289 of 3270 rows; .* at least 5001: "
    ):
        Prices(window=5000).load(1)


def test_a_horizon_that_cannot_be_is_refused_with_both_numbers():
    with pytest.raises(UsageError, match=r"^series 'AAPL': horizon: too small; got 0, needed at least 1"):
        Prices().load(0)
    with pytest.raises(UsageError, match="series 'AAPL': the test part has 491 of 3270 rows; horizon 492 needs"):
        Prices().load(492)


def test_five_folds_test_the_same_491_days_each_by_a_model_of_what_was_before():
    days = [Prices(folds=5, fold=fold).load(1).windows for fold in range(1, 6)]
    np.testing.assert_array_equal(
        np.concatenate([parts.test.times for parts in days]), Prices().load(1).windows.test.times
    )
    assert all(parts.train.times[-1] < parts.valid.times[0] < parts.test.times[0] for parts in days)
    assert [len(parts.train.times) for parts in days] == sorted({len(parts.train.times) for parts in days})


def test_the_background_has_the_training_prices_and_a_week_of_five_days():
    background = Prices().load(1).background
    assert (background.names, background.period) == (("AAPL",), 5)
    np.testing.assert_array_equal(background.training[0], Prices().series().values[:2289])
