"""Rows that are gathered from their series are those that are laid out, bit for bit, in numpy and on a device."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.common.arrays import Batch
from jaxseq.data import gathered, seasons, uncut
from jaxseq.data.covariates import Known
from jaxseq.data.frequency import describe
from jaxseq.data.gathered import Gathered
from jaxseq.data.laid_out import batch
from jaxseq.data.panel import Panel
from jaxseq.data.targets import Options
from jaxseq.data.uncut import UncutWindows
from jaxseq.data.windows import Series
from jaxseq.train import devices, feed
from jaxseq.train.minibatch import Selection

WINDOW = 9
HORIZON = 3


def panel(missing: bool, period: int = 1) -> Panel:
    """Three series of different lengths, with a past covariate and one that is known ahead."""
    draw = np.random.default_rng(5)
    series = []
    masks = []
    beside = []
    ahead = []
    for length in (60, 75, 90):
        dates = np.datetime64("2020-01-01") + np.arange(length)
        series.append(Series(dates, 50 + draw.standard_normal(length).cumsum()))
        masks.append(draw.uniform(size=(length, 2)) < 0.2)
        beside.append(draw.standard_normal((length, 1)))
        ahead.append(draw.standard_normal((length, 1)))
    return Panel(
        names=("a", "b", "c"),
        series=tuple(series),
        frequency=describe("D")._replace(period=period),
        covariates=tuple(beside),
        known=Known(future=("price",), columns=tuple(ahead), ends=("", "", "")),
        missing=tuple(masks) if missing else (),
    )


def _taken(rows: Gathered, order: np.ndarray) -> Batch:
    """Return rows as a training step takes them."""
    made = feed.feed_of(rows).take(Selection(jnp.asarray(order), jnp.ones(len(order))))
    return Batch(made.x, made.y)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize(
    ("options", "every_step"),
    [
        ({"kind": "change"}, False),
        ({"kind": "change"}, True),
        ({"kind": "change", "scale": "window", "scale_input": True}, False),
        ({"kind": "level"}, True),
        ({"kind": "level", "scale": "window-median"}, False),
        ({"kind": "season"}, False),
        ({"kind": "season", "scale": "series"}, False),
        ({"kind": "seasons"}, False),
    ],
)
def test_gathered_rows_are_those_that_are_laid_out(
    options: Mapping[str, Any], every_step: bool, missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uncut, "MOST_NUMBERS", 0)
    period = 4 if options["kind"].startswith("season") else 1
    monkeypatch.setitem(seasons.LONGER_SEASON, 4, 5)
    dataset = panel(missing, period).load(Options(**options), WINDOW, HORIZON)
    windows = dataset.windows.train
    assert isinstance(windows, UncutWindows) and gathered.can_gather(dataset.scaling)

    windows = windows.known_until(2)
    laid_out = batch(windows, dataset.scaling, every_step, 2)
    rows = gathered.gathered(windows, dataset.scaling, every_step, 2)

    order = np.random.default_rng(0).permutation(rows.count)
    on_device = jax.jit(_taken)(feed.on_devices(devices.make(), [rows])[0], order)
    for made, expected in [
        (gathered.take(rows, slice(None)), laid_out),
        (gathered.take(rows, order), gathered.take(laid_out, order)),
        (on_device, gathered.take(laid_out, order)),
        (gathered.first_row(rows), gathered.first_row(laid_out)),
        (gathered.take(rows.choose(order), slice(2, 5)), gathered.take(laid_out, order[2:5])),
    ]:
        for array, others in zip(made, expected, strict=True):
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, others)
    assert feed.fingerprint([rows]) == feed.fingerprint([laid_out])
