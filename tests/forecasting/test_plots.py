"""Pictures: they show the numbers that they were given."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from pairwise import slow_except

from jaxseq.common import figures
from jaxseq.common.errors import UsageError
from jaxseq.data.aapl import Prices
from jaxseq.data.waves import Waves
from jaxseq.forecasting import diagnostics, plots, predictions
from jaxseq.forecasting.coverage import STRETCH, Coverage
from jaxseq.train.plots import loss_figure

ROWS = [{"epoch": n, "train_loss": 1 / n, "valid_mse": 2 / n} for n in (1, 2, 3)]
NAMES = ("naive (last value)", "drift", "LSTM (epoch 3)")

pytestmark = pytest.mark.usefixtures("drawn")


def test_a_png_has_the_pixels_of_savefig():
    def content(save):
        figure = plots.forecast(bounded(frame(), 80), "USD", "title")
        buffer = io.BytesIO()
        save(figure, buffer)
        return imread(io.BytesIO(buffer.getvalue()))

    drawn = content(lambda figure, buffer: buffer.write(figures.drawn(figure, "png")))
    np.testing.assert_array_equal(drawn, content(lambda figure, buffer: figure.savefig(buffer, dpi=figures.DPI)))


def curve(axes: Axes, label: str) -> np.ndarray:
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return np.asarray(line.get_ydata(), float)


def band(axes: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    """The low and the high end at each x of what is shaded between two curves."""
    (found,) = [shade for shade in axes.collections if shade.get_label() == label]
    assert isinstance(found, PolyCollection)
    x, y = np.asarray(found.get_paths()[0].vertices).T
    ends = [(y[x == at].min(), y[x == at].max()) for at in np.unique(x)]
    return np.array(ends)[:, 0], np.array(ends)[:, 1]


def span(axes: Axes) -> list[float]:
    """The two ends of the only horizontal band."""
    (found,) = [patch for patch in axes.patches if (patch.get_label() or "").startswith(("±", "95 %"))]
    box = found.get_extents().transformed(axes.transData.inverted())
    return [box.y0, box.y1]


def words(axes: Axes) -> str:
    return " ".join(text.get_text() for text in axes.texts)


def frame(n: int = 60, horizon: int = 1, dates: bool = True) -> pd.DataFrame:
    random = np.random.default_rng(0)
    time = pd.date_range("2020-01-01", periods=n) if dates else np.arange(n)
    values = {name: random.normal(size=n * horizon) for name in ("actual", "forecast", "naive")}
    steps = {"step": np.tile(np.arange(1, horizon + 1), n)} if horizon > 1 else {}
    return pd.DataFrame({"date" if dates else "row": np.repeat(time, horizon), **steps, **values})


def bounded(given: pd.DataFrame, *levels: int) -> pd.DataFrame:
    ends = {f"low_{level}%": given["forecast"] - level / 20 for level in levels}
    return given.assign(**ends, **{f"high_{level}%": given["forecast"] + level / 10 for level in levels})


def of_several(given: pd.DataFrame, *names: str) -> pd.DataFrame:
    """The frame once for each series, ten higher each time."""
    numbers = ["actual", "forecast", *(["naive"] if "naive" in given else [])]
    moved = [given.assign(series=name, **(given[numbers] + 10 * i)) for i, name in enumerate(names)]
    return pd.concat(moved, ignore_index=True)


def scores(horizon: int = 1, reference: int = 1) -> pd.DataFrame:
    roles = ["baseline", "baseline", "model"]
    roles[reference] = "reference"
    rows = [
        {"forecast": name, "role": role, "step": step, "rmse": 1 + number + (0 if step == "all" else int(step) / 8)}
        for number, (name, role) in enumerate(zip(NAMES, roles, strict=True))
        for step in ("all", *range(1, horizon + 1))
    ]
    return pd.DataFrame(rows)


def covered(horizon: int, *levels: float) -> list[Coverage]:
    steps = (None, *range(1, horizon + 1))
    return [Coverage(level, step, level - 0.01 * (step or 0), 1.0, 1.0) for level in levels for step in steps]


def errors(given: pd.DataFrame, *levels: float, unit: str = "USD", title: str = "title") -> Figure:
    horizon = int(given["step"].max()) if "step" in given else 1
    return diagnostics.errors(scores(horizon), given, covered(horizon, *levels), unit, title)


def residual_frame(values: np.ndarray) -> pd.DataFrame:
    time = pd.date_range("2020-01-01", periods=len(values))
    return pd.DataFrame({"date": time, "actual": values + 5.0, "forecast": 5.0, "naive": 5.0})


def heights(axes: Axes) -> np.ndarray:
    return np.array([bar.get_height() for bar in axes.containers[0]])


def beyond(n: int, start: str = "2020-03-01", dates: bool = True) -> pd.DataFrame:
    """A forecast of n steps that follows `frame`'s 60 rows."""
    time = pd.date_range(start, periods=n) if dates else np.arange(60, 60 + n)
    return pd.DataFrame({"date" if dates else "row": time, "step": np.arange(n) + 1, "forecast": np.arange(n) + 0.5})


def test_the_loss_curves_are_the_rows_with_the_chosen_epoch_and_the_naive_line() -> None:
    (axes,) = loss_figure(ROWS, "valid_mse", 2, 0.7, "title").axes
    np.testing.assert_allclose(curve(axes, "training"), [1, 1 / 2, 1 / 3])
    np.testing.assert_allclose(curve(axes, "validation"), [2, 1, 2 / 3])
    np.testing.assert_allclose(curve(axes, "chosen: epoch 2"), [1])
    np.testing.assert_allclose(curve(axes, "validation, naive (last value)"), [0.7, 0.7])
    assert axes.get_yscale() == "log" and axes.get_title(loc="left") == "title"
    (unused,) = [patch for patch in axes.patches if patch.get_label() == "after epoch 2: not used"]
    assert (unused.get_x(), unused.get_x() + unused.get_width()) == (2, 3)
    (last_chosen,) = loss_figure(ROWS, "valid_mse", 3, 0.7, "title").axes
    assert not last_chosen.patches, "nothing comes after the last epoch"


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
    assert "USD" in whole.get_ylabel() and ("dates" in zoom.get_title(loc="left")) == dates


def before(training: int, validation: int) -> pd.DataFrame:
    """Values of a training and a validation part; each ends two days before the next part, the last one `frame`."""
    parts = []
    end = frame()["date"].iloc[0]
    for name, rows in (("validation", validation), ("training", training)):
        dates = pd.date_range(end=end - pd.Timedelta(days=3), periods=rows)
        parts.insert(0, pd.DataFrame({"date": dates, "part": name, "actual": np.arange(rows) + 0.5}))
        end = dates[0]
    return pd.concat(parts, ignore_index=True)


def test_the_parts_before_the_test_part_are_drawn_apart_with_the_gaps_between_them() -> None:
    given, earlier = frame(), before(200, 40)
    whole = plots.forecast(given, "USD", "title", earlier).axes[0]
    training, validation = whole.get_lines()[:2]
    drawn = earlier.tail(90)  # half as many again as the 60 test rows
    for line, name in ((training, "training"), (validation, "validation")):
        np.testing.assert_array_equal(line.get_ydata(), drawn.loc[drawn["part"] == name, "actual"])
    assert [text.get_text() for text in whole.texts] == ["training", "validation", "test"]
    gaps = [patch.get_window_extent().transformed(whole.transData.inverted()) for patch in whole.patches]
    assert [round(gap.x1 - gap.x0) for gap in gaps] == [3, 3]
    np.testing.assert_array_equal(curve(whole, "actual"), given["actual"])


def test_a_part_too_narrow_for_its_name_is_drawn_without_it() -> None:
    whole = plots.forecast(frame(), "USD", "title", before(200, 5)).axes[0]
    assert [text.get_text() for text in whole.texts] == ["training", "test"]


def test_the_first_series_before_its_test_part_is_read_off_the_windows() -> None:
    windows = Prices().load(1).windows
    given = predictions.before_test(windows)
    assert given is not None
    # Half as many as the test part has, and once more.
    count = 3 * len(windows.test.times) // 2
    valid = len(windows.valid.times)
    assert given["part"].value_counts().to_dict() == {"training": count - valid, "validation": valid}
    before_it = np.concatenate([windows.train.targets[:, 0], windows.valid.targets[:, 0]])
    np.testing.assert_array_equal(given["actual"], before_it[-count:])
    assert given["date"].is_monotonic_increasing and given["date"].iloc[-1] < pd.Timestamp(windows.test.times[0])
    assert predictions.before_test(Waves().load(1).windows) is None


def test_of_more_rows_than_a_figure_can_show_some_at_equal_distances_are_drawn_as_the_title_says(monkeypatch) -> None:
    monkeypatch.setattr(plots, "MOST_POINTS", 25)
    given = frame(100)
    whole, zoom, *_ = plots.forecast(given, "", "title").axes
    step = -(-len(given) // 25)
    assert len(given) > 2 * plots.ZOOM and f"one of every {step} of {len(given)} rows" in whole.get_title(loc="left")
    np.testing.assert_array_equal(curve(whole, "actual"), given["actual"][::step])
    np.testing.assert_array_equal(curve(zoom, "actual"), given["actual"].tail(plots.ZOOM))


def test_of_several_steps_the_first_is_drawn() -> None:
    given = frame(horizon=3)
    whole = plots.forecast(given, "", "title").axes[0]
    np.testing.assert_array_equal(curve(whole, "forecast"), given["forecast"][given["step"] == 1])


def test_a_forecast_that_only_copies_is_a_flat_band() -> None:
    given = frame().assign(forecast=lambda table: table["naive"])
    changes = plots.forecast(given, "", "title").axes[2]
    (points,) = [line for line in changes.get_lines() if line.get_marker() == "."]
    np.testing.assert_array_equal(points.get_ydata(), np.zeros(60))


def test_the_interval_lies_behind_the_curves_of_both_time_panels() -> None:
    given = bounded(frame(), 50, 80)
    for axes, rows in zip(plots.forecast(given, "USD", "title").axes, (given, given.tail(plots.ZOOM)), strict=False):
        low, high = band(axes, "80 % interval")
        np.testing.assert_allclose(low, rows["low_80%"])
        np.testing.assert_allclose(high, rows["high_80%"])
        assert all(shade.get_zorder() < line.get_zorder() for shade in axes.collections for line in axes.get_lines())


def test_rows_that_are_not_in_time_have_an_interval_each() -> None:
    given = bounded(frame(dates=False), 80)
    (found,) = plots.forecast(given, "", "title").axes[0].collections
    assert isinstance(found, LineCollection) and found.get_label() == "80 % interval"
    rows = given[["row", "low_80%", "row", "high_80%"]].to_numpy().reshape(-1, 2, 2)
    np.testing.assert_allclose(found.get_segments(), rows)


@pytest.mark.parametrize("levels", [(), (50, 95)])
def test_no_band_is_drawn_without_an_80_percent_interval(levels: tuple[int, ...]) -> None:
    assert not any(axes.collections for axes in plots.forecast(bounded(frame(), *levels), "", "title").axes)


def test_of_several_series_the_first_is_drawn_and_the_title_says_so() -> None:
    given = of_several(frame(horizon=3), "north", "south")
    whole, zoom, changes = plots.forecast(given, "", "title").axes
    first = given[(given["series"] == "north") & (given["step"] == 1)]
    np.testing.assert_array_equal(curve(whole, "actual"), first["actual"])
    np.testing.assert_array_equal(curve(zoom, "actual"), first["actual"][-plots.ZOOM :])
    (points,) = [line for line in changes.get_lines() if line.get_marker() == "."]
    assert len(points.get_xdata()) == 60
    assert whole.get_title(loc="left") == "title\nnorth, the first of 2 series; the first of 3 steps"


def test_of_a_single_forecast_all_steps_are_drawn() -> None:
    given = of_several(frame(horizon=3).head(3), "north", "south")
    whole, zoom, _ = plots.forecast(given, "", "title").axes
    north = given[given["series"] == "north"]
    np.testing.assert_array_equal(curve(whole, "actual"), north["actual"])
    np.testing.assert_array_equal(curve(zoom, "actual"), north["actual"])
    assert whole.get_title(loc="left") == "title\nnorth, the first of 2 series; all 3 steps of its one forecast"


def test_a_single_series_and_step_need_no_word_in_the_title() -> None:
    whole = plots.forecast(frame().assign(series="north"), "", "title").axes[0]
    assert whole.get_title(loc="left") == "title"


def test_one_step_has_a_bar_for_each_forecast_with_the_naive_one_on_top_and_the_model_bold() -> None:
    bars = errors(frame(), 0.8).axes[0]
    named = [NAMES[0], f"{NAMES[1]}\n(reference)", NAMES[2]]
    assert [label.get_text() for label in bars.get_yticklabels()] == named and bars.yaxis_inverted()
    np.testing.assert_allclose([bar.get_width() for bar in bars.containers[0]], [1.125, 2.125, 3.125])
    assert words(bars) == "1.125 2.125 3.125" and bars.get_xlabel() == "RMSE, USD"
    assert [label.get_fontweight() for label in bars.get_yticklabels()] == ["normal", "normal", "bold"]
    colors = [to_hex(bar.get_facecolor()) for bar in bars.containers[0]]
    assert colors == [diagnostics.BASELINE, diagnostics.REFERENCE, figures.FORECAST]


def test_several_steps_have_a_line_for_each_forecast_with_the_model_thickest() -> None:
    lines = errors(frame(horizon=4), 0.8).axes[0]
    named = [NAMES[0], f"{NAMES[1]} (reference)", NAMES[2]]
    assert [line.get_label() for line in lines.get_lines()] == named
    assert [line.get_color() for line in lines.get_lines()].index(diagnostics.REFERENCE) == 1
    for number, name in enumerate(named):
        np.testing.assert_allclose(curve(lines, name), 1 + number + np.arange(1, 5) / 8)
    *others, model = (line.get_linewidth() for line in lines.get_lines())
    assert model > max(others) and lines.get_ylabel() == "RMSE, USD"


def test_errors_of_a_panel_are_scaled_by_each_series() -> None:
    of_panel = scores(3).assign(rmsse=lambda table: 10 * table["rmse"])
    predicted = frame(horizon=3).assign(series="a")
    lines = diagnostics.errors(of_panel, predicted, [], "USD", "title").axes[0]
    assert lines.get_ylabel() == "RMSSE"
    expected = of_panel.loc[(of_panel["forecast"] == NAMES[0]) & (of_panel["step"] != "all"), "rmsse"]
    np.testing.assert_allclose(lines.get_lines()[0].get_ydata(), expected)
    # Of a single series the unit says more.
    assert diagnostics.errors(of_panel, frame(horizon=3), [], "USD", "title").axes[0].get_ylabel() == "RMSE, USD"


def test_scores_that_were_read_from_a_file_are_drawn_alike() -> None:
    lines = diagnostics.errors(scores(3).astype({"step": str}), frame(horizon=3), [], "", "title").axes[0]
    np.testing.assert_array_equal(lines.get_lines()[0].get_xdata(), [1, 2, 3])
    assert lines.get_ylabel() == "RMSE"


def test_the_autocorrelation_of_residuals_is_what_was_worked_by_hand() -> None:
    axes = errors(residual_frame(np.array([1.0, 2, 3, 4, 5, 6, 7, 8]))).axes[1]  # deviations ±3.5, ±2.5, ±1.5, ±0.5
    np.testing.assert_allclose(heights(axes), [26.25 / 42, 11.5 / 42])
    np.testing.assert_allclose(span(axes), [-1.96 / np.sqrt(8), 1.96 / np.sqrt(8)])


def test_the_autocorrelation_of_residuals_is_that_of_statsmodels_at_up_to_20_lags() -> None:
    acf = pytest.importorskip("statsmodels.tsa.stattools").acf
    given = frame(n=200, horizon=2)
    first = given[given["step"] == 1]
    expected = acf(first["actual"] - first["forecast"], nlags=20, fft=False)[1:]
    np.testing.assert_allclose(heights(errors(given).axes[1]), expected)


def test_the_autocorrelation_of_several_series_is_taken_within_each_and_averaged() -> None:
    random = np.random.default_rng(0)
    one, other = (residual_frame(random.normal(size=40) + level) for level in (0, 100))
    alone = [heights(errors(part).axes[1]) for part in (one, other)]
    short, flat = residual_frame(random.normal(size=9)), residual_frame(np.full(40, 0.1))
    parts = {"a": one, "b": other, "c": short, "d": flat}
    axes = errors(pd.concat([part.assign(series=name) for name, part in parts.items()])).axes[1]
    np.testing.assert_allclose(heights(axes), np.mean(alone, axis=0))
    assert axes.containers[0].get_label() == "mean of 2 of 4 series"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (frame(dates=False), "not in time"),
        (frame(n=3), "3 rows; at least 4 are needed"),
        (residual_frame(np.full(40, 0.1)), "constant"),
    ],
)
def test_where_there_is_no_autocorrelation_the_panel_says_why(given: pd.DataFrame, said: str) -> None:
    axes = errors(given).axes[1]
    assert said in words(axes) and not axes.patches and not axes.containers


def test_measured_coverage_is_drawn_against_nominal_with_the_binomial_band() -> None:
    axes = errors(frame(n=10, horizon=2), 0.5, 0.8, 0.95).axes[2]
    (points,) = [line for line in axes.get_lines() if line.get_label() == "measured"]
    np.testing.assert_allclose(points.get_xydata(), [[50, 50], [80, 80], [95, 95]])
    (diagonal,) = [line for line in axes.get_lines() if line.get_label() == "nominal"]
    np.testing.assert_array_equal(diagonal.get_xydata(), [[0, 0], [100, 100]])
    low, high = band(axes, "95 % binomial, n = 10")
    nominal = np.linspace(0.1, 99.9, 500)
    for level, ends in ((50, (20, 80)), (80, (50, 100))):  # a table of the binomial distribution with n = 10
        near = np.argmin(np.abs(nominal - level))
        np.testing.assert_allclose((low[near], high[near]), ends)


def test_the_coverage_by_step_is_that_of_the_80_percent_interval() -> None:
    axes = errors(frame(n=10, horizon=3), 0.5, 0.8, 0.95).axes[3]
    np.testing.assert_allclose(curve(axes, "measured"), [79, 78, 77])
    np.testing.assert_allclose(curve(axes, "nominal"), [80, 80])
    np.testing.assert_allclose(span(axes), [50, 100])
    assert "80%" in axes.get_title(loc="left")


def test_without_an_80_percent_interval_the_widest_stands_for_it() -> None:
    axes = errors(frame(horizon=3), 0.5, 0.95, 0.9).axes[3]
    np.testing.assert_allclose(curve(axes, "measured"), [94, 93, 92])
    assert "95%" in axes.get_title(loc="left")


def test_one_step_has_the_histogram_of_its_residuals_in_their_unit() -> None:
    given = frame(n=100)
    axes, residuals = errors(given).axes[3], given["actual"] - given["forecast"]
    np.testing.assert_array_equal(heights(axes), np.histogram(residuals, bins=10)[0])
    mean = axes.get_lines()[1]
    np.testing.assert_allclose(mean.get_xdata(), [residuals.mean()] * 2)
    assert str(mean.get_label()).endswith(" USD") and axes.get_xlabel() == "actual - forecast, USD"


@pytest.mark.parametrize(("horizon", "panels"), [(1, [2, 4, 5]), (3, [2, 3, 4, 5])])
def test_panels_of_coverage_say_that_there_are_no_intervals(horizon: int, panels: list[int]) -> None:
    axes = errors(frame(horizon=horizon)).axes
    assert [number for number in range(6) if "no intervals" in words(axes[number])] == panels
    axes = errors(of_several(frame(horizon=horizon), "a", "b")).axes
    assert "no intervals" in words(axes[5])


def test_the_pit_histogram_is_the_share_of_values_between_two_quantiles() -> None:
    values = np.array([-9.0, -0.75, -0.25, 0.0, 0.25, 0.25, 0.75, 9.0])
    given = residual_frame(values).assign(**{"low_50%": 4.5, "high_50%": 5.5, "low_80%": 4.0, "high_80%": 6.0})
    edges, shares = diagnostics.pit_shares(given)
    np.testing.assert_allclose(edges, [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1])
    np.testing.assert_allclose(shares, np.array([1, 1, 1, 3, 1, 1]) / 8)
    axes = errors(given).axes[4]
    np.testing.assert_allclose(heights(axes), shares / np.diff(edges))


def test_the_pit_of_values_from_the_distribution_itself_is_flat() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    given = residual_frame(np.random.default_rng(0).standard_normal(20_000))
    for level in (50, 80, 95):
        half = scipy_stats.norm.interval(level / 100)[1]
        given = given.assign(**{f"low_{level}%": 5 - half, f"high_{level}%": 5 + half})
    edges, shares = diagnostics.pit_shares(given)
    np.testing.assert_allclose(shares, np.diff(edges), atol=0.01)


def test_the_coverage_over_time_is_the_rolling_mean_of_what_was_covered() -> None:
    given = bounded(frame(n=100), 80)
    axes = errors(given, 0.8).axes[5]
    inside = given["actual"].between(given["low_80%"], given["high_80%"])
    np.testing.assert_allclose(curve(axes, "80 % intervals"), 100 * inside.rolling(STRETCH).mean()[STRETCH - 1 :])
    assert f"fewer than {STRETCH} forecasts" in words(errors(bounded(frame(n=59), 80), 0.8).axes[5])


@pytest.mark.parametrize("n", [STRETCH, 190, 950, 1600])
def test_coverage_over_any_range_of_dates_has_two_to_six_ticks_and_no_warning(n) -> None:
    ticks = errors(bounded(frame(n=n), 80), 0.8).axes[5].xaxis.get_majorticklocs()
    assert 2 <= len(ticks) <= 6


def test_the_coverage_over_time_of_several_steps_is_that_of_their_windows() -> None:
    given = bounded(frame(n=80, horizon=3), 80)
    inside = given["actual"].between(given["low_80%"], given["high_80%"]).to_numpy().reshape(80, 3).mean(axis=1)
    expected = np.convolve(inside, np.ones(STRETCH) / STRETCH, "valid")
    np.testing.assert_allclose(curve(errors(given, 0.8).axes[5], "80 % intervals"), 100 * expected)


def test_the_coverage_of_several_series_is_shown_from_the_worst_to_the_best() -> None:
    given = bounded(of_several(frame(n=30), "a", "b", "c"), 80)
    inside = given["actual"].between(given["low_80%"], given["high_80%"])
    expected = np.sort(inside.groupby(given["series"]).mean())
    np.testing.assert_allclose(curve(errors(given, 0.8).axes[5], "80 % intervals"), 100 * expected)


def test_unknown_values_are_drawn_nowhere() -> None:
    given = bounded(frame(n=100), 80)
    rest = given.drop(index=[3, 50])
    with_holes = given.assign(actual=given["actual"].where(~given.index.isin([3, 50])))
    for number in (3, 4):
        np.testing.assert_allclose(
            heights(errors(with_holes, 0.8).axes[number]), heights(errors(rest, 0.8).axes[number])
        )


def test_the_fan_is_the_end_of_the_history_and_the_forecast_from_the_last_value() -> None:
    history, given = frame(), bounded(beyond(5), 50, 80, 95)
    (axes,) = plots.fan(history, given, "USD", "title").axes
    last = history["actual"].iloc[-1]
    np.testing.assert_array_equal(curve(axes, "actual"), history["actual"].tail(plots.ZOOM))
    np.testing.assert_array_equal(curve(axes, "forecast"), [last, *given["forecast"]])
    (known,) = [line for line in axes.get_lines() if line.get_label() == "last known value"]
    assert set(known.get_xdata()) == {history["date"].iloc[-1]}
    for level in (50, 80, 95):
        low, high = band(axes, f"{level} % interval")
        np.testing.assert_allclose(low, [last, *given[f"low_{level}%"]])
        np.testing.assert_allclose(high, [last, *given[f"high_{level}%"]])
    assert axes.get_ylabel() == "USD"


def test_narrower_intervals_are_drawn_over_wider_ones_and_darker() -> None:
    (axes,) = plots.fan(frame(), bounded(beyond(5), 50, 95, 80), "", "title").axes
    assert [str(shade.get_label())[:2] for shade in axes.collections] == ["95", "80", "50"]
    assert np.all(np.diff([shade.get_facecolor().sum() for shade in axes.collections]) < 0)


@pytest.mark.parametrize("dates", [True, False])
def test_a_fan_of_one_step_without_intervals_is_a_line_to_one_marked_point(dates: bool) -> None:
    history = frame(dates=dates)
    (axes,) = plots.fan(history, beyond(1, dates=dates), "", "title").axes
    assert not axes.collections and axes.get_ylabel() == "value"
    np.testing.assert_array_equal(curve(axes, "forecast"), [history["actual"].iloc[-1], 0.5])
    (line,) = [line for line in axes.get_lines() if line.get_label() == "forecast"]
    assert line.get_marker() == "." and line.get_markevery() == slice(1, None)


def test_more_of_the_history_is_shown_before_a_long_forecast() -> None:
    (axes,) = plots.fan(frame(), beyond(18), "", "title").axes
    assert len(curve(axes, "actual")) == 3 * 18


def test_each_series_has_a_fan_of_its_own() -> None:
    names = ("north", "south", "west")
    history, given = of_several(frame(), *names), pd.concat([beyond(4).assign(series=name) for name in names])
    figure = plots.fan(history, given, "", "title")
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(names) and figure.get_suptitle() == "title"
    for axes, name in zip(figure.axes, names, strict=True):
        past = history.loc[history["series"] == name, "actual"]
        np.testing.assert_array_equal(curve(axes, "actual"), past.tail(plots.ZOOM))
        np.testing.assert_array_equal(curve(axes, "forecast"), [past.iloc[-1], 0.5, 1.5, 2.5, 3.5])


def test_of_many_series_six_are_shown_and_the_title_says_so() -> None:
    names = [f"shop {number}" for number in range(400)]
    history, given = of_several(frame(n=5), *names), pd.concat([beyond(2).assign(series=name) for name in names])
    figure = plots.fan(history, given, "", "title")
    assert [axes.get_title(loc="left") for axes in figure.axes] == names[:6]
    assert figure.get_suptitle() == "title\nfirst 6 of 400 series"


LONG = "a table of sales " * 12 + "in $ and x_{ $"


@pytest.mark.parametrize("horizon", slow_except({3}, [1, 3]))
def test_no_legend_lies_on_the_data_and_nothing_is_cut_off(horizon: int) -> None:
    given = of_several(bounded(frame(horizon=horizon), 80), LONG, "b", "c")
    fan = plots.fan(given, bounded(given.groupby("series").tail(4), 80), "$", LONG)
    losses = loss_figure(ROWS, "valid_mse", 2, 0.7, LONG)
    shown = plots.forecast(given, "$", LONG)
    shown.axes[2].get_legend().remove()  # in the panel of changes it is meant to be
    for figure in (losses, errors(given, 0.8, unit="$", title=LONG), shown, fan):
        figure.draw_without_rendering()
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert drawn.x0 >= 0 and drawn.y0 >= 0 and drawn.x1 <= width and drawn.y1 <= height
        for legend in (*figure.legends, *filter(None, (axes.get_legend() for axes in figure.axes))):
            assert not any(legend.get_window_extent().overlaps(axes.bbox) for axes in figure.axes)


def test_a_picture_is_a_png_or_one_line_says_why_not(tmp_path: Path) -> None:
    figure = loss_figure(ROWS, "valid_mse", 2, 0.7, "title")
    figures.save(figure, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(UsageError, match=r"cannot write .*nowhere.*loss\.png: No such file"):
        figures.save(figure, tmp_path / "nowhere" / "loss.png")
