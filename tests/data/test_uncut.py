"""Windows that are cut when they are read are those that are kept as arrays."""

import numpy as np
import pytest

from jaxseq.data import scaling, uncut
from jaxseq.data.frequency import describe
from jaxseq.data.laid_out import batch
from jaxseq.data.panel import Panel
from jaxseq.data.uncut import UncutWindows
from jaxseq.data.windows import Series, Windows
from jaxseq.forecasting import baselines, predictions


def panel(missing: bool = False) -> Panel:
    """Three series of different lengths, with a covariate."""
    draw = np.random.default_rng(5)
    series = []
    masks = []
    beside = []
    for length in (60, 75, 90):
        dates = np.datetime64("2020-01-01") + np.arange(length)
        series.append(Series(dates, 50 + draw.standard_normal(length).cumsum()))
        masks.append(draw.uniform(size=(length, 2)) < 0.1)
        beside.append(draw.standard_normal((length, 1)))
    return Panel(
        names=("a", "b", "c"),
        series=tuple(series),
        frequency=describe("D"),
        covariates=tuple(beside),
        missing=tuple(masks) if missing else (),
    )


@pytest.mark.parametrize("missing", [False, True])
def test_uncut_windows_have_the_rows_of_arrays(missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    given = panel(missing)
    whole = given.load("change", 8, 3).windows.train
    monkeypatch.setattr(uncut, "MOST_NUMBERS", 100)
    train = given.load("change", 8, 3).windows.train
    assert isinstance(whole, Windows) and isinstance(train, UncutWindows)

    for name in Windows._fields:
        np.testing.assert_array_equal(getattr(train, name), getattr(whole, name))
    draw = np.random.default_rng(0)
    for rows in (slice(3, 60), np.sort(draw.permutation(len(whole.inputs))[:40]), np.zeros(0, int), whole.series == 1):
        for some, expected in zip(train.take(rows), whole.take(rows), strict=True):
            np.testing.assert_array_equal(some, expected)
    assert [len(piece.inputs) for piece in train.pieces(50)] == [len(piece.inputs) for piece in whole.pieces(50)]


@pytest.mark.parametrize(("target", "every_step"), [("change", True), ("log-return", False), ("level", False)])
def test_rows_and_baselines_of_uncut_windows_are_those_of_arrays(
    target: str, every_step: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = panel()
    kept = given.load(target, 8, 3)
    monkeypatch.setattr(uncut, "MOST_NUMBERS", 100)
    cut_later = given.load(target, 8, 3)
    for made, expected in zip(
        batch(cut_later.windows.train, cut_later.scaling, every_step),
        batch(kept.windows.train, kept.scaling, every_step),
        strict=True,
    ):
        np.testing.assert_array_equal(made, expected)
    made = baselines.forecast_all(cut_later, cut_later.windows.valid)
    for name, expected in baselines.forecast_all(kept, kept.windows.valid).items():
        np.testing.assert_array_equal(made[name], expected, err_msg=name)
    before = predictions.before_test(cut_later.windows)
    assert before is not None and before.equals(predictions.before_test(kept.windows))


def test_rows_in_pieces_are_those_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given = panel(missing=True)
    dataset = given.load("change", 8, 3)
    whole = batch(dataset.windows.train, dataset.scaling, every_step=True)
    monkeypatch.setattr(scaling, "LAID_OUT", 100)
    for made, expected in zip(batch(dataset.windows.train, dataset.scaling, every_step=True), whole, strict=True):
        np.testing.assert_array_equal(made, expected)
        # An aligned array is taken by a CPU device without a copy.
        assert made.ctypes.data % 64 == 0
