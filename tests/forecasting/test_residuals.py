"""Residuals in groups, against pandas; places in a season; and the choice of the worst forecasts."""

import numpy as np
import pandas as pd
import pytest

from jaxseq.common.markdown import escaped
from jaxseq.data import frequency
from jaxseq.data.windows import Windows, lay_out
from jaxseq.forecasting import residuals, worst
from jaxseq.forecasting.losses import Scales
from jaxseq.forecasting.predictions import Judged


def judged_panel(series: int = 4, windows: int = 6, horizon: int = 3) -> tuple[Judged, Windows]:
    draw = np.random.default_rng(0)
    number = np.repeat(np.arange(series), windows)
    shape = (series * windows, horizon)
    actual = draw.normal(size=shape)
    actual[draw.random(shape) < 0.2] = np.nan
    forecast = draw.normal(size=shape) * (1 + number[:, None])
    ends = {0.8: (forecast - 1, forecast + 1)}
    origins = np.tile(np.arange(windows), series) + 8
    part = lay_out(np.zeros((len(number), 8)), actual, series=number, origins=origins)
    return Judged(actual, forecast, draw.normal(size=shape), ends), part


@pytest.mark.parametrize("scaled", [False, True])
def test_residuals_are_those_of_a_grouping_by_pandas(scaled: bool) -> None:
    judged, part = judged_panel()
    scales = Scales(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 3.0, 5.0, 7.0])) if scaled else None
    season = residuals.Places(np.arange(72).reshape(24, 3) % 5, tuple("abcde"))
    table = residuals.table(judged, part, ("w", "x", "y", "z"), scales, season)

    series = np.repeat(part.series, 3)
    absolute = scales.absolute[series] if scales else 1.0
    squared = scales.squared[series] if scales else 1.0
    residual = (judged.actual - judged.forecast).ravel()
    frame = pd.DataFrame(
        {
            "series": np.array(["w", "x", "y", "z"])[series],
            "step": np.tile(["1", "2", "3"], 24),
            "season": np.array(list("abcde"))[season.number.ravel()],
            "bias": residual / absolute,
            "mae": np.abs(residual) / absolute,
            "square": residual**2 / squared,
            "low_80%": residual < -1,
            "high_80%": residual > 1,
        }
    ).dropna()
    for kind in ("series", "step", "season"):
        rows = table[table["by"] == kind].set_index("group")
        means = frame.groupby(kind)[["bias", "mae", "square", "low_80%", "high_80%"]].mean()
        absolute_name, squared_name = ("mase", "rmsse") if scaled else ("mae", "rmse")
        np.testing.assert_allclose(rows["bias"], means["bias"])
        np.testing.assert_allclose(rows[absolute_name], means["mae"])
        np.testing.assert_allclose(rows[squared_name], np.sqrt(means["square"]))
        np.testing.assert_allclose(rows["low_80%"], means["low_80%"])
        np.testing.assert_allclose(rows["high_80%"], means["high_80%"])
        assert rows["count"].tolist() == frame.groupby(kind).size().tolist()
    assert table["by"].iloc[0] == "all" and table["count"].iloc[0] == len(frame)


@pytest.mark.parametrize(
    ("name", "start", "unit", "expected"),
    [
        ("h", "2024-01-01T05", "h", ["05:00", "06:00"]),
        ("D", "2024-01-02", "D", ["Tuesday", "Wednesday"]),
        ("MS", "2024-03-01", "M", ["March", "April"]),
    ],
)
def test_a_place_in_the_season_has_the_name_of_its_time(name: str, start: str, unit: str, expected: list[str]) -> None:
    times = (np.datetime64(start, unit) + np.arange(2)).astype("datetime64[s]")[None]
    places = residuals.places(times, frequency.describe(name))
    assert places is not None
    assert [places.names[number] for number in places.number[0]] == expected


@pytest.mark.parametrize(("seconds", "period"), [(90, 960), (30, 2880)])
def test_times_of_day_with_seconds_are_numbered(seconds: int, period: int) -> None:
    times = (np.datetime64("2024-01-01", "s") + seconds * np.arange(2 * period))[None]
    places = residuals.places(times, frequency.describe(f"{seconds}s")._replace(period=period))
    assert places is not None and places.names == tuple(str(number + 1) for number in range(period))
    assert sorted(set(places.number[0].tolist())) == list(range(period))


def test_places_of_numbered_rows_are_counted_and_a_frequency_without_season_has_none() -> None:
    numbered = frequency.describe("1")
    assert residuals.places(np.arange(4)[None], numbered) is None
    places = residuals.places(np.arange(4)[None], numbered._replace(period=3))
    assert places is not None and places.number.tolist() == [[0, 1, 2, 0]] and places.names == ("1", "2", "3")


def test_a_report_shows_the_worst_series_first_and_says_how_many_it_leaves_out() -> None:
    judged, part = judged_panel(series=30)
    names = tuple(f"series|{number}" for number in range(30))
    text = residuals.markdown(residuals.table(judged, part, names), "MWh")
    first, by_step = text.split("**By step of the horizon**")
    assert "(24 rows, the worst of 30)" in first and "MAE, MWh" in first
    assert first.count("| series\\|") == 24
    ratios = [float(line.split("|")[-2]) for line in first.splitlines() if line.startswith("| series\\")]
    assert ratios == sorted(ratios, reverse=True)
    assert len(by_step.strip().splitlines()) == 5


@pytest.mark.parametrize("name", ["![a](b)", "[a](/x)", "[a](../../secret)"])
def test_names_of_series_are_text_in_a_report(name: str) -> None:
    judged, part = judged_panel(series=2)
    text = residuals.markdown(residuals.table(judged, part, (name, "b")), f"{name}|")
    assert f"| {escaped(name)} |" in text and escaped(f"MAE, {name}|") in text


def test_the_worst_series_are_those_with_the_largest_error_beside_the_reference() -> None:
    judged, part = judged_panel(series=14)
    chosen = worst.worst(judged, part)
    ratios = residuals.ratios(judged, part.series)
    assert [int(part.series[item.rows[0]]) for item in chosen] == list(ratios)[:10]
    assert [item.ratio for item in chosen] == sorted((item.ratio for item in chosen), reverse=True)


def test_the_worst_windows_of_one_series_share_no_target() -> None:
    judged, part = judged_panel(series=1, windows=60)
    chosen = worst.worst(judged, part)
    origins = sorted(int(part.origins[item.rows[0]]) for item in chosen)
    assert len(chosen) == 10 and min(np.diff(origins)) >= 3
    error = np.nansum(np.abs(judged.actual - judged.forecast) - np.abs(judged.actual - judged.reference), axis=1)
    assert chosen[0].rows.tolist() == [int(np.argmax(error))]


def test_forecasts_of_a_single_step_are_drawn_as_a_stretch() -> None:
    judged, part = judged_panel(series=2, windows=50, horizon=1)
    for item in worst.worst(judged, part):
        assert len(item.rows) == worst.STRETCH and len(set(part.series[item.rows])) == 1
    scene = worst.Scene(judged, part, names=("a", "b"), series=(), times=part.origins[:, None], unit="MWh")
    figure = worst.figure(worst.worst(judged, part), scene, "title")
    assert len(figure.axes) == 2 and "of the reference's error" in figure.axes[0].get_title(loc="left")


@pytest.mark.parametrize("horizon", [1, 3])
def test_windows_that_are_series_of_their_own_exclude_none_but_themselves(horizon: int) -> None:
    judged, part = judged_panel(series=1, windows=60, horizon=horizon)
    part = part._replace(origins=np.full(60, 8))
    chosen = worst.worst(judged, part)
    error = np.nansum(np.abs(judged.actual - judged.forecast) - np.abs(judged.actual - judged.reference), axis=1)
    assert [item.rows.tolist() for item in chosen] == [[row] for row in np.argsort(-error, kind="stable")[:10]]


def test_a_single_step_is_drawn_from_the_value_before_it() -> None:
    judged, part = judged_panel(series=1, windows=60, horizon=1)
    part = part._replace(origins=np.full(60, 8))
    scene = worst.Scene(judged, part, names=("a",), series=(), times=np.arange(60)[:, None])
    axes = worst.figure(worst.worst(judged, part), scene, "title").axes
    assert [line.get_xdata().tolist() for line in axes[0].get_lines()[:2]] == [[-1, 0], [-1, 0]]
