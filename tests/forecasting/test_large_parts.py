"""Parts whose windows are cut when they are read are judged as parts of arrays are, bit for bit."""

import numpy as np
import pandas as pd
import pytest

from jaxseq.data import scaling, uncut
from jaxseq.data.dataset import Dataset
from jaxseq.data.frequency import describe
from jaxseq.data.panel import Panel
from jaxseq.data.uncut import UncutWindows
from jaxseq.data.windows import Series, Windows
from jaxseq.forecasting import evaluate, intervals, quantities
from jaxseq.forecasting.evaluate import Entry, Judgement
from jaxseq.forecasting.intervals import Forecast
from jaxseq.nn import heads


def panel(series: int, missing: bool) -> Panel:
    """Noisy series of different lengths with a season of seven days."""
    draw = np.random.default_rng(3)
    of_panel = []
    masks = []
    for number in range(series):
        dates = np.datetime64("2020-01-01") + np.arange(150 + 10 * number)
        season = 10 * np.sin(2 * np.pi * np.arange(len(dates)) / 7)
        of_panel.append(Series(dates, 60 + season + draw.standard_normal(len(dates))))
        masks.append(draw.uniform(size=(len(dates), 1)) < 0.1)
    return Panel(
        names=tuple(f"series {number}" for number in range(series)),
        series=tuple(of_panel),
        frequency=describe("D"),
        missing=tuple(masks) if missing else (),
    )


def judged(dataset: Dataset, head: str) -> Judgement:
    """Judge the seasonal naive forecast with noise, or drawn probabilities of rises."""
    draw = np.random.default_rng(1)
    quantity = quantities.of(heads.named(head))
    forecasts = []
    for part in (dataset.windows.valid, dataset.windows.test):
        numbers = draw.uniform(0.3, 0.7, (len(part.origins), part.horizon))
        if quantity.IS_VALUE:
            numbers = dataset.scaling.scaled(part.values_ago(7 - np.arange(part.horizon)) + numbers, part)
        forecasts.append(Forecast(numbers))
    valid, test = forecasts
    entry = Entry(test, quantity.calibrate(dataset, valid))
    return quantity.judge("m", dataset, entry, members=evaluate.NO_MEMBERS, seed=0, loss=quantity.loss("mse"))


@pytest.mark.parametrize(
    ("target", "head", "series", "missing"),
    [
        ("season", "point", 3, False),
        ("change", "point", 1, True),
        ("log-return", "point", 3, True),
        ("change", "direction", 3, True),
    ],
)
def test_judgements_of_parts_that_are_cut_later_are_those_of_arrays(
    target: str, head: str, series: int, missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = panel(series, missing)
    kept = given.load(target, 14, 3)
    monkeypatch.setattr(uncut, "MOST_NUMBERS", 0)
    cut_later = given.load(target, 14, 3)
    assert isinstance(kept.windows.test, Windows)
    assert isinstance(cut_later.windows.valid, UncutWindows) and isinstance(cut_later.windows.test, UncutWindows)

    # In several pieces; those of the training part decide in which order least squares adds up.
    monkeypatch.setattr(scaling, "LAID_OUT", 2000)
    monkeypatch.setattr(intervals, "READ_AT_ONCE", 40)
    expected = judged(kept, head)
    made = judged(cut_later, head)

    pd.testing.assert_frame_equal(made.scores, expected.scores, check_exact=True)
    pd.testing.assert_frame_equal(made.predictions, expected.predictions, check_exact=True)
    assert (made.verdict, made.remarks, made.notes) == (expected.verdict, expected.remarks, expected.notes)
    assert (made.coverage, made.spread) == (expected.coverage, expected.spread)
