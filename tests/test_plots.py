"""Pictures: they show the numbers that they were given."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from jaxseq import plots
from jaxseq.errors import UsageError

ROWS = [{"epoch": n, "train_loss": 1 / n, "valid_mse": 2 / n} for n in (1, 2, 3)]


def curve(axes: Axes, label: str) -> np.ndarray:
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return np.asarray(line.get_ydata(), float)


def frame(n: int = 60, horizon: int = 1, dates: bool = True) -> pd.DataFrame:
    random = np.random.default_rng(0)
    time = pd.date_range("2020-01-01", periods=n) if dates else np.arange(n)
    values = {name: random.normal(size=n * horizon) for name in ("actual", "forecast", "naive")}
    steps = {"step": np.tile(np.arange(1, horizon + 1), n)} if horizon > 1 else {}
    return pd.DataFrame({"date" if dates else "row": np.repeat(time, horizon), **steps, **values})


def test_the_loss_curves_are_the_rows_with_the_chosen_epoch_and_the_naive_line() -> None:
    (axes,) = plots.loss(ROWS, "valid_mse", 2, 0.7, "title").axes
    np.testing.assert_allclose(curve(axes, "training"), [1, 1 / 2, 1 / 3])
    np.testing.assert_allclose(curve(axes, "validation"), [2, 1, 2 / 3])
    np.testing.assert_allclose(curve(axes, "best epoch: 2"), [1])
    np.testing.assert_allclose(curve(axes, "validation, naive (last value)"), [0.7, 0.7])
    assert axes.get_yscale() == "log" and axes.get_title(loc="left") == "title"


@pytest.mark.parametrize("dates", [True, False])
def test_the_forecast_is_shown_whole_zoomed_and_as_change_against_change(dates: bool) -> None:
    given = frame(dates=dates)
    whole, zoom, changes = plots.forecast(given, "USD", "title").axes
    for label, column in (("naive (last value)", "naive"), ("forecast", "forecast"), ("actual", "actual")):
        np.testing.assert_array_equal(curve(whole, label), given[column])
        np.testing.assert_array_equal(curve(zoom, label), given[column][-plots.ZOOM :])
    (points,) = [line for line in changes.get_lines() if line.get_marker() == "."]
    np.testing.assert_allclose(points.get_xdata(), given["actual"] - given["naive"])
    np.testing.assert_allclose(points.get_ydata(), given["forecast"] - given["naive"])
    assert "USD" in whole.get_ylabel() and ("days" in zoom.get_title(loc="left")) == dates


def test_of_several_steps_the_first_is_drawn() -> None:
    given = frame(horizon=3)
    whole = plots.forecast(given, "", "title").axes[0]
    np.testing.assert_array_equal(curve(whole, "forecast"), given["forecast"][given["step"] == 1])


def test_a_forecast_that_only_copies_is_a_flat_band() -> None:
    given = frame().assign(forecast=lambda table: table["naive"])
    changes = plots.forecast(given, "", "title").axes[2]
    (points,) = [line for line in changes.get_lines() if line.get_marker() == "."]
    np.testing.assert_array_equal(points.get_ydata(), np.zeros(60))


def test_a_picture_is_a_png_or_one_line_says_why_not(tmp_path: Path) -> None:
    figure = plots.loss(ROWS, "valid_mse", 2, 0.7, "title")
    plots.save(figure, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(UsageError, match=r"cannot write .*nowhere.*loss\.png: No such file"):
        plots.save(figure, tmp_path / "nowhere" / "loss.png")
