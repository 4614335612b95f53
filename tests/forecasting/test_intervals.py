"""Intervals: sizes by hand, margins that cover on series of every kind, levels that follow what arrives."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import simulated

from jaxseq.common.errors import UsageError
from jaxseq.data.scaling import Scaling
from jaxseq.data.windows import Series, lay_out
from jaxseq.forecasting import adaptive, calibration, intervals, sizes
from jaxseq.forecasting.calibration import calibrate
from jaxseq.forecasting.coverage import coverage_table, spread
from jaxseq.forecasting.intervals import Forecast, Intervals, bounds, fit
from jaxseq.forecasting.metrics import crps_gaussian, crps_quantiles
from jaxseq.forecasting.part import Part

LEVEL = Scaling("level", (0.0,), (1.0,))
QUANTILES = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)


def in_time(values, window=3, scaling=LEVEL):
    """Every window of a series, one step ahead, with the series."""
    values = np.asarray(values, float)
    whole = np.lib.stride_tricks.sliding_window_view(values, window + 1)
    windows = lay_out(whole[:, :window], whole[:, window:], origins=np.arange(window, len(values)))
    return Part(windows, scaling, (Series(np.arange(len(values)), values),))


# Sizes.


def test_volatility_is_the_weighted_mean_of_the_squared_changes_before_the_forecast():
    values = 100 + np.cumsum(np.random.default_rng(0).standard_normal(60))
    part = in_time(values)
    found = part.volatility
    for row, origin in enumerate(part.windows.origins):
        changes = np.diff(values[:origin])[::-1]
        weights = 0.94 ** np.arange(len(changes))
        assert found[row] == pytest.approx(np.sqrt(np.sum(weights * changes**2) / weights.sum()))


def test_a_change_next_to_an_unknown_value_has_no_weight():
    values = 100 + np.cumsum(np.random.default_rng(1).standard_normal(80))
    values[[20, 33, 34]] = np.nan
    part = in_time(values)
    found = part.volatility
    for row, origin in enumerate(part.windows.origins):
        changes = np.diff(values[:origin])
        changes = changes[~np.isnan(changes)][::-1]
        weights = 0.94 ** np.arange(len(changes))
        assert found[row] == pytest.approx(np.sqrt(np.sum(weights * changes**2) / weights.sum()))


@pytest.mark.parametrize("at_once", [1, 100, 2**20])
def test_the_volatility_of_a_series_is_its_own_whatever_stands_beside_it(monkeypatch, at_once):
    monkeypatch.setattr(sizes, "VALUES_AT_ONCE", at_once)
    rng = np.random.default_rng(3)
    walks = [100 + np.cumsum(size * rng.standard_normal(length)) for length, size in ((40, 1), (25, 9), (60, 3))]
    walks[1][7] = np.nan
    alone = [in_time(walk, scaling=Scaling("change", (0.0,), (2.0,))) for walk in walks]
    # Rows of all series, mixed.
    order = rng.permutation(sum(len(part.windows.origins) for part in alone))
    together = lay_out(
        *(np.concatenate([getattr(part.windows, name) for part in alone])[order] for name in ("inputs", "targets")),
        origins=np.concatenate([part.windows.origins for part in alone])[order],
        series=np.repeat(np.arange(3), [len(part.windows.origins) for part in alone])[order],
    )
    scaling = Scaling("change", (0.0,) * 3, (2.0,) * 3)
    found = Part(together, scaling, tuple(part.series[0] for part in alone)).volatility
    np.testing.assert_allclose(found, np.concatenate([part.volatility for part in alone])[order], rtol=1e-12)


def test_volatility_does_not_know_what_comes_after_the_origin():
    values = 100 + np.cumsum(np.random.default_rng(2).standard_normal(60))
    later = values.copy()
    later[40:] *= 3
    before = in_time(values).windows.origins <= 40
    np.testing.assert_array_equal(in_time(values).volatility[before], in_time(later).volatility[before])


def test_without_a_history_the_volatility_is_that_of_the_window():
    values = 100 + np.cumsum(np.random.default_rng(3).standard_normal(30))
    part = in_time(values, window=30 - 1)
    changes = np.diff(values[:-1])
    weights = 0.94 ** np.arange(len(changes))[::-1]
    expected = np.sqrt(np.sum(weights * changes**2) / weights.sum())
    assert replace(part, series=()).volatility == pytest.approx([expected])
    assert part.volatility == pytest.approx([expected])


def test_volatility_of_log_returns_is_relative_and_that_of_changes_is_in_scales_of_the_series():
    values = np.exp(np.cumsum(0.1 * np.random.default_rng(4).standard_normal(40)))
    relative = in_time(values, scaling=Scaling("log-return", (0.0,), (0.1,))).volatility
    np.testing.assert_allclose(relative, in_time(np.log(values)).volatility / 0.1, rtol=1e-9)
    scaled = in_time(values, scaling=Scaling("change", (0.0,), (4.0,))).volatility
    np.testing.assert_allclose(scaled, in_time(values).volatility / 4, rtol=1e-12)


def test_the_last_value_is_a_size_in_scales_of_the_series_and_log_returns_have_none():
    part = in_time([3.0, 5.0, -8.0, 1.0], scaling=Scaling("change", (0.0,), (2.0,)))
    assert part.last_value == pytest.approx([4.0])
    log = Scaling("log-return", (0.0,), (2.0,))
    assert Part(part.windows, log).last_value == pytest.approx([1.0])


def test_the_size_of_a_series_is_its_mean_absolute_error_drawn_towards_all():
    errors = np.array([[1.0, -3.0], [np.nan, 4.0], [10.0, 10.0], [np.nan, np.nan]])
    windows = lay_out(np.zeros((4, 2)), np.zeros((4, 2)), series=np.array([0, 0, 1, 1]))
    overall = (2 + 4 + 10) / 3
    expected = [(2 + 4 + overall) / 3, (10 + overall) / 2, overall]
    assert sizes.mean_absolute_errors(errors, windows, 3) == pytest.approx(expected)


# Fit and bounds.


def rows(n, seed=0, k=1, spread=1.0):
    """Rows that are not in time, whose targets are noise about 0."""
    random = np.random.default_rng(seed)
    return Part(lay_out(random.normal(size=(n, 4)), spread * random.normal(size=(n, k))), LEVEL)


def zero(part):
    return Forecast(np.zeros_like(part.windows.targets))


def test_split_margins_are_those_worked_by_hand():
    targets = np.array([[3.0, -1, 4, -2, 6, 9, -8, 5, 7]]).T
    part = Part(lay_out(np.zeros((9, 2)), targets), LEVEL)
    fitted = fit("split", zero(part), part)
    assert (fitted.levels, fitted.sizes) == ((0.5, 0.8), ((5.0,), (8.0,)))  # the 5th and 8th of 9; 95 % needs 19


def test_margins_are_of_scores_that_were_divided_by_the_size_and_are_multiplied_by_that_of_a_new_row():
    part = in_time(100 * np.exp(np.cumsum(0.02 * np.random.default_rng(5).standard_normal(300))))
    forecast = simulated.naive(part)
    fitted = fit("scaled", forecast, part)
    last = part.windows.inputs[:, -1:]
    ratio = np.sort(np.abs(part.windows.targets - last) / last, axis=0)
    assert fitted.sizes[1][0] == pytest.approx(ratio[int(np.ceil(0.8 * (len(ratio) + 1))) - 1, 0])
    low, high = bounds(forecast, fitted, part)[0.8]
    np.testing.assert_allclose(high - last, fitted.sizes[1][0] * last, rtol=1e-9)
    np.testing.assert_allclose(last - low, fitted.sizes[1][0] * last, rtol=1e-9)


def test_unknown_targets_have_no_part_in_the_margins():
    part = rows(80, k=2)
    holes = part.windows.targets.copy()
    holes[::3, 0] = np.nan
    with_holes = replace(part, windows=part.windows._replace(targets=holes))
    fitted = fit("split", zero(part), with_holes)
    known = ~np.isnan(holes[:, 0])
    expected = fit("split", Forecast(np.zeros((known.sum(), 2))), Part(_take(part.windows, known), LEVEL))
    assert [margins[0] for margins in fitted.sizes] == [margins[0] for margins in expected.sizes]
    assert [margins[1] for margins in fitted.sizes] == [margins[1] for margins in fit("split", zero(part), part).sizes]


def _take(windows, rows):
    return windows._replace(**{name: getattr(windows, name)[rows] for name in windows._fields})


def test_a_series_at_rest_keeps_an_interval_of_some_width():
    values = 100 + np.cumsum(np.random.default_rng(6).standard_normal(400))
    part = in_time(values)
    fitted = fit("volatility", simulated.naive(part), part)
    still = in_time(np.full(300, 7.0))
    low, high = bounds(Forecast(np.full((297, 1), 7.0)), fitted, still)[0.95]
    assert np.all(high - low > 0) and np.all(high - low < 0.1)


@pytest.mark.parametrize("claimed", [0.2, 1.0, 6.0])
@pytest.mark.parametrize(
    ("kind", "maker"),
    [("split", simulated.stationary), ("volatility", simulated.garch), ("adaptive", simulated.garch)],
)
def test_the_quantiles_of_a_distribution_cover_after_their_margins_however_wrong_their_width(claimed, kind, maker):
    valid, test = simulated.parts(maker(6000, 0))

    def forecast(part):
        centre = simulated.naive(part).centre
        width = claimed * np.ones(len(centre))
        # A width that does not move as the series does cannot be mended by margins that do.
        if kind == "volatility":
            width = claimed * part.volatility
        return Forecast(centre, centre[..., None] + width[:, None, None] * scipy.stats.norm.ppf(QUANTILES), QUANTILES)

    fitted = fit(kind, forecast(valid), valid, "volatility")
    for row in coverage_table(test.windows.targets, bounds(forecast(test), fitted, test)):
        assert row.measured == pytest.approx(row.level, abs=0.05)


def test_a_margin_that_closes_an_interval_leaves_the_point_in_its_middle():
    part = rows(3)
    still = np.zeros((3, 1))
    forecast = Forecast(still, still[..., None] + np.linspace(-1, 1, 7), QUANTILES)
    ends = bounds(forecast, Intervals("split", (0.5, 0.8, 0.95), ((-9.0,), (-0.2,), (0.5,))), part)
    np.testing.assert_array_equal(ends[0.5], np.zeros((2, 3, 1)))
    np.testing.assert_allclose(ends[0.8], [[[-2 / 3 + 0.2]] * 3, [[2 / 3 - 0.2]] * 3], atol=1e-12)
    np.testing.assert_allclose(ends[0.95], [[[-1.5]] * 3, [[1.5]] * 3], atol=1e-12)


def test_intervals_of_a_higher_level_contain_those_of_a_lower_one():
    ends = bounds(zero(rows(3)), Intervals("split", (0.5, 0.8), ((2.0,), (1.0,))), rows(3))
    np.testing.assert_array_equal(ends[0.5], ends[0.8])


def test_bounds_are_in_the_units_of_the_series():
    part = in_time(np.exp(np.cumsum(0.1 * np.random.default_rng(7).standard_normal(30))))
    log = replace(part, scaling=Scaling("log-return", (0.0,), (0.1,)))
    centre = log.scaling.targets(log.windows)
    low, high = bounds(Forecast(centre), Intervals("split", (0.5,), ((0.3,),)), log)[0.5]
    np.testing.assert_allclose(low, part.windows.targets * np.exp(-0.03), rtol=1e-9)
    np.testing.assert_allclose(high, part.windows.targets * np.exp(0.03), rtol=1e-9)


def test_no_end_lies_below_the_floor():
    part = rows(50)
    fitted = fit("split", zero(part), part)._replace(floor=0.0)
    for low, high in bounds(zero(part), fitted, part).values():
        assert np.all(low == 0) and np.all(high > 0)


def test_margins_of_the_last_step_hold_for_those_beyond_it():
    fitted = Intervals("split", (0.5, 0.8), ((1.0, 2.0), (3.0, 4.0)))
    assert intervals.extend(fitted, 4).sizes == ((1, 2, 2, 2), (3, 4, 4, 4))
    assert intervals.extend(fitted, 1).sizes == ((1,), (3,))


def test_series_are_known_by_their_names_and_a_new_one_has_the_median_size():
    fitted = Intervals("scaled", (0.5,), ((1.0,),), size="scaled", series=(1.0, 5.0, 2.0), until=("3", "4", "5"))
    moved = intervals.for_series(fitted, ("a", "b", "c"), ("c", "new", "a"))
    assert moved.series == (2.0, 2.0, 1.0) and moved.until == ("5", "", "3")
    other = intervals.for_series(fitted, ("a", "b", "c"), ("c", "b", "a"), new=("c", "a"))
    assert other.series == (2.0, 5.0, 2.0) and other.until == ("", "4", ""), "the same name, but another series"
    constant = Intervals("split", (0.5,), ((1.0,),))
    assert intervals.for_series(constant, ("a",), ("b", "c")).series == ()


def test_the_quantiles_of_intervals_score_as_the_distribution_that_they_are_of():
    part = rows(20_000)
    spread_of_target = {level: scipy.stats.norm.interval(level) for level in intervals.LEVELS}
    ends = {level: tuple(np.full((20_000, 1), end) for end in pair) for level, pair in spread_of_target.items()}
    quantiles, levels = intervals.quantiles(np.zeros((20_000, 1)), ends)
    np.testing.assert_allclose(levels, QUANTILES)
    actual = part.windows.targets
    exact = crps_gaussian(actual, np.zeros_like(actual), np.ones_like(actual))
    # Seven quantiles miss little of the integral.
    assert crps_quantiles(actual, quantiles, levels) == pytest.approx(exact, rel=0.03)


# The choice.


def test_the_kind_is_chosen_by_the_later_half_of_validation_without_a_look_at_the_test_part():
    valid, _ = simulated.parts(simulated.garch(6000, 1))
    found = calibrate("auto", simulated.naive(valid), valid)
    assert found.intervals.size == "volatility" and "volatility" in found.notes[0]
    earlier, later = calibration.halves(valid.windows)
    assert valid.windows.origins[earlier].max() + 1 <= valid.windows.origins[later].min()
    assert abs(earlier.sum() - later.sum()) <= 2


def test_rows_with_targets_in_both_halves_are_in_neither():
    valid, _ = simulated.parts(simulated.stationary(400, 0), simulated.stationary(300, 1), horizon=5)
    earlier, later = calibration.halves(valid.windows)
    for number in (0, 1):
        of_series = valid.windows.series == number
        last_target = valid.windows.origins[earlier & of_series].max() + 5 - 1
        assert last_target < valid.windows.origins[later & of_series].min()
    assert not np.any(earlier & later)


def test_a_kind_that_does_not_fit_is_split_and_noted():
    part = in_time(np.random.default_rng(8).standard_normal(200))
    found = calibrate("scaled", simulated.naive(part), part)
    assert found.intervals.kind == "split" and found.notes[0].startswith("scaled intervals do not fit")
    not_in_time = rows(60)
    found = calibrate("adaptive", zero(not_in_time), not_in_time)
    assert found.intervals.kind == "split" and found.notes[0].startswith("adaptive intervals need rows in time")


@pytest.mark.parametrize(("count", "missing"), [(19, ""), (18, "95%"), (4, "95%"), (3, "80%, 95%")])
def test_levels_that_the_rows_are_too_few_for_are_left_out_and_named(count, missing):
    found = calibrate("split", zero(rows(count)), rows(count))
    expected = (f"no {missing} intervals: {count} validation rows are too few for them",) if missing else ()
    assert found.notes == expected


def test_a_forecast_that_is_not_finite_is_refused():
    part = rows(50)
    broken = zero(part)
    broken.centre[4] = np.inf
    with pytest.raises(UsageError, match="1 of 50 calibration residuals are not finite, the first in row 5"):
        calibrate("auto", broken, part)


# Adaptive intervals.


def walked(scores, horizon=1, origins=None, statistics=None):
    """Margins of one level, 80 %, of scores "n k"."""
    scores = np.asarray(scores, float).reshape(-1, horizon)
    if origins is None:
        origins = np.arange(len(scores)) + 7
    windows = lay_out(np.zeros((len(scores), 2)), np.zeros_like(scores), origins=origins)
    if statistics is None:
        statistics = np.arange(1, 201) / 200
    table = np.broadcast_to(statistics, (1, horizon, len(statistics)))
    return adaptive.walk(scores[..., None], windows=windows, levels=(0.8,), order_statistics=table)[..., 0]


def by_hand(scores, delay, unknown=()):
    """Equation 2 of Gibbs and Candès, value by value, each known `delay` rows later."""
    statistics = np.arange(1, 201) / 200
    alpha = 0.2
    margins = []
    for row in range(len(scores)):
        arrived = row - delay
        if arrived >= 0 and arrived not in unknown:
            alpha = min(max(alpha + 0.01 * (0.2 - (scores[arrived] > margins[arrived])), 0), 1)
        rank = int(np.ceil(round(201 * (1 - alpha), 9)))
        margins.append(statistics[min(max(rank, 1), 200) - 1])
    return margins


@pytest.mark.parametrize("paths", [adaptive.MOST_PATHS, 0])
def test_the_levels_move_as_worked_by_hand_and_a_step_is_known_only_when_its_time_has_come(paths, monkeypatch):
    monkeypatch.setattr(adaptive, "MOST_PATHS", paths)
    scores = np.random.default_rng(9).random((90, 3))
    found = walked(scores, 3)
    for step in range(3):
        np.testing.assert_allclose(found[:, step], by_hand(scores[:, step], step + 1))


@pytest.mark.parametrize("paths", [adaptive.MOST_PATHS, 0])
def test_an_unknown_value_changes_nothing_and_a_missing_row_takes_its_time(paths, monkeypatch):
    monkeypatch.setattr(adaptive, "MOST_PATHS", paths)
    scores = np.random.default_rng(10).random(60)
    holes = scores.copy()
    holes[[4, 30]] = np.nan
    np.testing.assert_allclose(walked(holes)[:, 0], by_hand(scores, 1, unknown=(4, 30)))
    rest = np.delete(np.arange(60), [4, 30])
    np.testing.assert_allclose(walked(scores[rest], origins=rest)[:, 0], np.asarray(by_hand(scores, 1, (4, 30)))[rest])


def test_margins_know_nothing_of_later_values():
    scores = np.random.default_rng(11).random((80, 2))
    later = scores.copy()
    later[50:] = 9
    np.testing.assert_array_equal(walked(scores, 2)[:51], walked(later, 2)[:51])
    # The second step of row 49 is known two rows later.
    later = scores.copy()
    later[49, 1] = 9
    np.testing.assert_array_equal(walked(scores, 2)[:51], walked(later, 2)[:51])


def test_every_series_has_levels_of_its_own():
    random = np.random.default_rng(12)
    first, second = random.random(50), 3 * random.random(70)
    windows = lay_out(
        np.zeros((120, 2)),
        np.zeros((120, 1)),
        series=np.repeat([0, 1], [50, 70]),
        origins=np.concatenate([np.arange(50) + 9, np.arange(70) + 30]),
    )
    table = np.broadcast_to(np.arange(1, 201) / 200, (1, 1, 200))
    both = np.concatenate([first, second])[:, None, None]
    found = adaptive.walk(both, windows=windows, levels=(0.8,), order_statistics=table)[:, 0, 0]
    np.testing.assert_array_equal(found, np.concatenate([walked(first)[:, 0], walked(second)[:, 0]]))


def test_few_scores_are_kept_as_order_statistics_and_so_are_many():
    assert adaptive.thin(np.array([3.0, np.nan, 1.0, 2.0]))[::100] == (1.0, 3.0)
    many = np.random.default_rng(13).random(20_000)
    np.testing.assert_allclose(adaptive.thin(many), np.arange(1, 201) / 201, atol=0.015)


# Coverage on series of every kind. The forecast is the last value: nothing is trained.

MAKERS = [simulated.stationary, simulated.trending, simulated.garch, simulated.shifting]
DRAWS = 20
every_maker = pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)


def distances(maker, kind, size="volatility", n=16_000):
    """Largest distance of the test part's coverage from nominal, over the levels, of each draw.

    A quarter of the `n` values is the validation part and a quarter the test part: with 4,000 rows each, chance alone
    moves the coverage of the 50 % intervals by 1.1 points (a standard deviation).
    """
    largest = []
    for seed in range(DRAWS):
        valid, test = simulated.parts(maker(n, seed))
        fitted = fit(kind, simulated.naive(valid), valid, size)
        table = coverage_table(test.windows.targets, bounds(simulated.naive(test), fitted, test))
        largest.append(max(abs(row.measured - row.level) for row in table if row.step is None))
    return np.array(largest)


@pytest.mark.slow
@every_maker
def test_adaptive_intervals_cover_within_three_points_in_every_draw(maker):
    assert distances(maker, "adaptive", n=4000).max() <= 0.03


@pytest.mark.slow
@every_maker
def test_volatility_intervals_cover_within_three_points(maker):
    assert np.mean(distances(maker, "volatility") <= 0.03) >= 0.9


@pytest.mark.slow
def test_split_intervals_cover_stationary_series_and_no_others():
    assert np.mean(distances(simulated.stationary, "split") <= 0.03) >= 0.9
    for maker in (simulated.trending, simulated.garch, simulated.shifting):
        assert np.mean(distances(maker, "split", n=4000) <= 0.03) <= 0.4


@pytest.mark.slow
def test_scaled_intervals_cover_a_series_whose_steps_grow_with_its_level():
    assert np.mean(distances(simulated.trending, "scaled", n=12_000) <= 0.03) >= 0.9


@pytest.mark.slow
@every_maker
def test_the_chosen_intervals_cover_within_three_points_on_average(maker):
    shares = []
    for seed in range(DRAWS):
        valid, test = simulated.parts(maker(4000, seed))
        chosen = calibrate("auto", simulated.naive(valid), valid).intervals
        table = coverage_table(test.windows.targets, bounds(simulated.naive(test), chosen, test))
        shares.append([row.measured for row in table if row.step is None])
    np.testing.assert_allclose(np.mean(shares, axis=0), intervals.LEVELS, atol=0.03)


def test_in_a_panel_of_different_spreads_every_series_is_covered_and_not_only_their_mean():
    random = np.random.default_rng(14)
    # The scaling sees changes of the training rows; the spread of each series changes after them.
    growth = [0.3, 0.5, 1.0, 1.0, 2.0, 3.0]
    paths = [100 + np.cumsum(random.standard_normal(1500) * np.where(np.arange(1500) < 750, 1, by)) for by in growth]
    valid, test = simulated.parts(*paths)
    for kind, least, most in (("split", 0.0, 0.35), ("scaled", 0.42, 1.0), ("adaptive", 0.45, 1.0)):
        fitted = fit(kind, simulated.naive(valid), valid, "scaled")
        (half, *_) = spread(test.windows, bounds(simulated.naive(test), fitted, test), in_time=True)
        assert half.by_series is not None and least <= half.by_series[0] <= most
    chosen = calibrate("auto", simulated.naive(valid), valid).intervals
    assert chosen.size == "scaled"
