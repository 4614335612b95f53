"""How a model sees a series: no value of its future, and the way back."""

import dataclasses
import json
import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from jaxseq.common.errors import UsageError
from jaxseq.data.dataset import Background, Dataset
from jaxseq.data.fitting import fit_scaling
from jaxseq.data.laid_out import batch
from jaxseq.data.scaling import Scaling
from jaxseq.data.transforms import TRANSFORMS
from jaxseq.data.uncut import WindowSplits
from jaxseq.data.windows import Series, cut, lay_out
from jaxseq.forecasting import baselines

KINDS = ("change", "log-return", "level")
every_kind = pytest.mark.parametrize("kind", KINDS)
N, WINDOW = 30, 6


def walk(n, seed=0):
    steps = np.random.default_rng(seed).standard_normal(n)
    return 100 * np.exp(np.cumsum(0.01 * steps))


def rows(inputs, targets=None, series=None):
    """Windows with these values, without covariates."""
    inputs = np.asarray(inputs, np.float64)
    n = len(inputs)
    targets = np.ones((n, 1)) if targets is None else np.asarray(targets, np.float64)
    return lay_out(inputs, targets, series=np.asarray(series or [0] * n))


def windows_of(values, horizon, beside=None):
    """Every window of a series."""
    return cut(Series(np.arange(len(values)), values), WINDOW, horizon, 0, len(values), covariates=beside)


def scaling_of(kind, covariates=0):
    """One that is not fitted to what it is then used on."""
    shifts = tuple(np.arange(1.0, covariates + 1))
    return Scaling(kind, (70.0 if kind == "level" else 0.0,), (0.7,), shifts, tuple(2 * shift for shift in shifts))


@every_kind
@given(last=st.integers(WINDOW - 1, N - 3), horizon=st.integers(1, 3), seed=st.integers(0, 99))
def test_no_input_of_a_window_depends_on_a_value_after_its_last_step(kind, last, horizon, seed):
    random = np.random.default_rng(seed)
    values, beside = random.uniform(1, 9, N), random.normal(size=(N, 2))
    other, other_beside = values.copy(), beside.copy()
    other[last + 1 :] = random.uniform(1, 9, N - last - 1)
    other_beside[last + 1 :] = random.normal(size=(N - last - 1, 2))
    scaling, ends = scaling_of(kind, 2), WINDOW - 1 + np.arange(N - WINDOW - horizon + 1)
    x, changed = (scaling.inputs(windows_of(v, horizon, c)) for v, c in ((values, beside), (other, other_beside)))
    np.testing.assert_array_equal(x[ends <= last], changed[ends <= last])
    assert (x[ends == last + 1, -1] != changed[ends == last + 1, -1]).all()  # and the value after it, on the one after


@every_kind
@given(step=st.integers(0, WINDOW - 2), horizon=st.integers(1, 3), seed=st.integers(0, 99))
def test_with_targets_at_every_step_no_input_depends_on_a_value_that_is_asked_for_after_it(kind, step, horizon, seed):
    values = np.random.default_rng(seed).uniform(1, 9, WINDOW + horizon)
    other = values.copy()
    other[step + 1] += 1
    (x, y), (changed_x, changed_y) = (batch(windows_of(v, horizon), scaling_of(kind), True) for v in (values, other))
    np.testing.assert_array_equal(x[:, : step + 1], changed_x[:, : step + 1])
    assert (x[:, step + 1] != changed_x[:, step + 1]).all()
    asked = np.array([at < step + 1 <= at + horizon for at in range(WINDOW)])  # after which the value is asked for
    asked[step + 1] |= kind != "level"  # the last value, which the targets are relative to
    np.testing.assert_array_equal((y != changed_y).any(axis=2)[0], asked)


@every_kind
@pytest.mark.parametrize("horizon", [1, 4])
def test_targets_at_every_step_are_those_of_the_window_that_ends_there(kind, horizon):
    values, scaling = walk(N), scaling_of(kind)
    part = windows_of(values, horizon)
    every = scaling.targets_at_every_step(part)
    assert every.shape == (len(part.inputs), WINDOW, horizon)
    np.testing.assert_array_equal(every[:, -1], scaling.targets(part))
    whole = np.concatenate([part.inputs, part.targets], axis=1)
    for step in range(WINDOW):
        shorter = rows(whole[:, : step + 1], whole[:, step + 1 : step + 1 + horizon])
        np.testing.assert_array_equal(every[:, step], scaling.targets(shorter))


@every_kind
def test_what_is_asked_one_step_ahead_is_the_next_input(kind):
    part, scaling = windows_of(walk(N), 2), scaling_of(kind)
    np.testing.assert_array_equal(scaling.targets(part)[:-1, 0], scaling.inputs(part)[1:, -1, 0])


def test_each_kind_scales_as_its_formula_says():
    part = rows([[2.0, 4.0, 3.0]], [[6.0, 1.5]])
    for scaling, x, y in [
        (Scaling("change", (0.0,), (0.5,)), [0, 4, -2], [6, -3]),
        (Scaling("log-return", (0.0,), (0.1,)), [0, 10 * np.log(2), 10 * np.log(0.75)], 10 * np.log([2, 0.5])),
        (Scaling("level", (1.0,), (5.0,)), [0.2, 0.6, 0.4], [1.0, 0.1]),
    ]:
        np.testing.assert_allclose(scaling.inputs(part)[0, :, 0], x, rtol=1e-14)
        np.testing.assert_allclose(scaling.targets(part), [y], rtol=1e-14)


def test_every_row_is_scaled_by_the_numbers_of_its_own_series():
    part = rows([[2.0, 4.0], [2.0, 4.0], [2.0, 4.0]], [[6.0], [6.0], [6.0]], series=[1, 0, 1])
    level = Scaling("level", (0.0, 1.0), (2.0, 5.0))
    np.testing.assert_allclose(level.inputs(part)[..., 0], [[0.2, 0.6], [1, 2], [0.2, 0.6]])
    np.testing.assert_allclose(level.targets(part), [[1], [3], [1]])
    np.testing.assert_allclose(level.targets_at_every_step(part)[..., 0], [[0.6, 1], [2, 3], [0.6, 1]])
    np.testing.assert_allclose(level.invert(np.ones((3, 1)), part), [[6], [2], [6]])


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize(
    ("series", "where"),
    [([0, -1], "series[1]"), ([2, 0], "series[0]"), ([0.0, 1.0], "series"), ([True, False], "series")],
)
def test_a_row_of_no_series_is_refused(series, where):
    scaling = Scaling("level", (10.0, 1000.0), (1.0, 100.0))
    with pytest.raises(UsageError) as error:
        scaling.inputs(rows([[11.0, 13.0]] * 2, series=series))
    assert error.value.where == where


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64"])
def test_numbers_of_series_may_have_any_integer_dtype(dtype):
    scaling = Scaling("level", tuple(np.arange(200.0)), (1.0,) * 200)
    numbers = np.array([0, 100, 127])
    part = rows([[0.0]] * 3)._replace(series=numbers.astype(dtype))
    np.testing.assert_array_equal(scaling.inputs(part)[:, 0, 0], -numbers)


@every_kind
@given(data=st.data())
def test_inverting_a_target_gives_it_back_also_with_an_axis_before_the_rows(kind, data):
    price = st.floats(0.01, 1e4)
    row = st.lists(price, min_size=5, max_size=5)
    values = np.array(data.draw(st.lists(row, min_size=1, max_size=5)))
    numbers = data.draw(st.lists(st.integers(0, 1), min_size=len(values), max_size=len(values)))
    part = rows(values[:, :2], values[:, 2:], numbers)
    scale = st.floats(1e-3, 1e3)
    scaling = Scaling(kind, (3.0, -1.0) if kind == "level" else (0.0, 0.0), (data.draw(scale), data.draw(scale)))
    y = scaling.targets(part)
    np.testing.assert_allclose(scaling.invert(y, part), part.targets, rtol=1e-9, atol=1e-9)
    stacked = np.stack([y, 0.5 * y, np.zeros_like(y)])
    assert scaling.invert(stacked, part).shape == stacked.shape
    each = [scaling.invert(one, part) for one in stacked]
    np.testing.assert_array_equal(scaling.invert(stacked, part), each)


@every_kind
@given(horizon=st.integers(1, 5), seed=st.integers(0, 99))
def test_one_step_targets_along_a_path_add_up_to_the_targets_of_the_path(kind, horizon, seed):
    values = np.random.default_rng(seed).uniform(1, 9, WINDOW + horizon + 3)
    part, scaling = windows_of(values, horizon), scaling_of(kind)
    whole = np.concatenate([part.inputs, part.targets], axis=1)
    ahead = [rows(whole[:, k : WINDOW + k], whole[:, WINDOW + k, None]) for k in range(horizon)]
    steps = np.concatenate([scaling.targets(one) for one in ahead], axis=1)
    np.testing.assert_allclose(scaling.add_up(steps), scaling.targets(part), rtol=1e-9, atol=1e-9)
    paths = np.stack([steps, -2 * steps])
    np.testing.assert_array_equal(scaling.add_up(paths), [scaling.add_up(path) for path in paths])


# Seasons and windows ------------------------------------------------------------------------------------------------------


SEASONAL = Scaling("season", (0.0,), (0.7,), lag=3)


def test_a_seasonal_target_of_zero_is_the_seasonal_naive_forecast():
    part = windows_of(walk(N), 8)
    background = Background(("y",), 3, (Series(np.arange(N), walk(N)),), (N,))
    dataset = Dataset(WindowSplits(part, part, part), SEASONAL, background)
    naive = baselines.forecast_all(dataset, part)
    y = np.zeros((len(part.inputs), 8))
    np.testing.assert_allclose(SEASONAL.invert(y, part), naive["seasonal naive (3)"], rtol=1e-14)


def test_a_seasonal_input_is_the_change_over_a_season_beside_the_course_of_the_window():
    x = SEASONAL.inputs(rows([[1.0, 2.0, 4.0, 8.0, 16.0]]))[0]
    np.testing.assert_allclose(x[:, 0], np.array([0, 0, 0, 7, 14]) / 0.7, rtol=1e-14)
    np.testing.assert_allclose(x[:, 1], np.array([-15, -14, -12, -8, 0]) / 0.7, rtol=1e-14)
    assert SEASONAL.features == 2


def test_a_seasonal_scale_is_the_spread_of_the_changes_over_a_season():
    values = walk(40)
    found = fit_scaling("season", [values], lag=5)
    assert (found.lag, found.shift) == (5, (0.0,))
    assert found.scale[0] == pytest.approx((values[5:] - values[:-5]).std(), rel=1e-12)


@pytest.mark.parametrize(("kind", "lag"), [("season", 3), ("change", 1), ("log-return", 1), ("level", 1)])
def test_a_window_by_itself_has_the_same_numbers_in_any_unit(kind, lag):
    scaling = Scaling(kind, (0.0,), (1e-9,), lag=lag, by_window=True)
    part, larger = (windows_of(unit * walk(N), 2) for unit in (1, 1000))
    np.testing.assert_allclose(scaling.inputs(larger), scaling.inputs(part), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scaling.targets(larger), scaling.targets(part), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scaling.invert(scaling.targets(part), part), part.targets, rtol=1e-12)
    other = part._replace(targets=part.targets + 5)
    np.testing.assert_array_equal(scaling.inputs(other), scaling.inputs(part))


def test_a_still_window_has_a_tenth_of_the_scale_of_its_series():
    scaling = Scaling("season", (0.0, 0.0), (2.0, 4.0), lag=2, by_window=True)
    part = rows(np.full((2, 5), 7.0), np.full((2, 1), 8.0), series=[0, 1])
    np.testing.assert_allclose(scaling.targets(part)[:, 0], [1 / 0.2, 1 / 0.4])


def test_the_first_steps_of_a_window_are_not_scaled_by_what_comes_later():
    for scaling in (SEASONAL, Scaling("level", (0.0,), (1.0,), by_window=True)):
        with pytest.raises(UsageError, match="do not know"):
            scaling.targets_at_every_step(windows_of(walk(N), 2))


def test_a_count_has_no_scale_of_its_window():
    with pytest.raises(UsageError, match="count has no scale of its window"):
        Scaling("count", (0.0,), (1.0,), by_window=True)


def test_a_model_reads_the_logarithm_of_a_count_and_forecasts_the_count():
    scaling = fit_scaling("count", [np.array([0.0, 3.0, 1.0, 0.0, 7.0, np.nan, 2.0])])
    part = rows([[1.0, 0.0, 4.0]], [[2.0, 5.0]])
    np.testing.assert_allclose(scaling.inputs(part)[0, :, 0], np.log([2, 1, 5]), rtol=1e-14)
    np.testing.assert_array_equal(scaling.targets(part), part.targets)
    np.testing.assert_array_equal(scaling.invert(part.targets, part), part.targets)
    # The first target is the next value, whose input is this.
    following = TRANSFORMS["count"].as_input(part.targets[:, :1])
    np.testing.assert_array_equal(following[0], scaling.inputs(rows([[0.0, 4.0, 2.0]]))[0, -1])


@pytest.mark.parametrize("value", [-1.0, 0.5, 2.0**25])
def test_what_is_no_count_is_refused_with_its_place(value):
    counts = np.array([0.0, 3.0, value, 1.0])
    for fails in (
        lambda: fit_scaling("count", [counts]),
        lambda: Scaling("count", (0.0,), (1.0,)).inputs(rows([counts])),
    ):
        with pytest.raises(UsageError, match=r"whole number from 0 to 16,777,216; 1 of 4 .* \(") as caught:
            fails()
        assert f"({value:g})" in str(caught.value)


@pytest.mark.parametrize("kind", ["change", "log-return"])
def test_a_prediction_of_zero_is_the_naive_forecast_and_height_does_not_matter(kind):
    values = walk(60)
    scaling, part = fit_scaling(kind, [values]), windows_of(values, 2)
    naive = np.repeat(part.inputs[:, -1:], 2, axis=1)
    np.testing.assert_array_equal(scaling.invert(np.zeros_like(naive), part), naive)
    other = windows_of(values + 500 if kind == "change" else values * 7, 2)
    np.testing.assert_allclose(scaling.inputs(other), scaling.inputs(part), atol=1e-8)
    np.testing.assert_allclose(scaling.targets(other), scaling.targets(part), atol=1e-8)


def test_scales_are_what_they_are_defined_as():
    values = np.array([2.0, 4.0, 3.0, 6.0])
    assert fit_scaling("level", [values]) == Scaling("level", (2.0,), (4.0,))
    changes = np.array([2.0, -1.0, 3.0])
    found = fit_scaling("change", [values])
    assert found.scale == pytest.approx([np.sqrt(np.mean((changes - 4 / 3) ** 2))], rel=1e-14)
    assert found.shift == (0.0,)
    logs = np.log([2.0, 0.75, 2.0])
    found = fit_scaling("log-return", [values])
    assert found.scale == pytest.approx([np.sqrt(np.mean((logs - logs.mean()) ** 2))], rel=1e-14)


def test_scales_are_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.preprocessing")
    values, beside = walk(80), np.random.default_rng(1).normal(3, 2, size=(80, 2))
    level, change = (fit_scaling(kind, [values], covariates=[beside]) for kind in ("level", "change"))
    least = sklearn.MinMaxScaler().fit(values[:, None])
    np.testing.assert_allclose((level.shift, level.scale), (least.data_min_, least.data_range_), rtol=1e-14)
    steps = sklearn.StandardScaler().fit(np.diff(values)[:, None])
    np.testing.assert_allclose(change.scale, steps.scale_, rtol=1e-12)
    part = windows_of(values, 1, beside)
    theirs = sklearn.StandardScaler().fit(beside).transform(beside)
    np.testing.assert_allclose(change.inputs(part)[..., 1:], windows_of(values, 1, theirs).covariates, atol=1e-12)


def test_each_series_has_its_own_scale_and_covariates_have_one_for_all():
    one, other = walk(40), 1000 * walk(50, seed=1)
    beside = [np.full((40, 1), 2.0), np.full((50, 1), 4.0)]
    found = fit_scaling("change", [one, other], ("one", "other"), beside)
    alone = [fit_scaling("change", [values]) for values in (one, other)]
    assert found.scale == (*alone[0].scale, *alone[1].scale)
    assert found.scale[1] > 100 * found.scale[0]
    assert found.covariate_shift == pytest.approx([(40 * 2 + 50 * 4) / 90])
    assert found.covariate_scale == pytest.approx([2 * np.sqrt(40 * 50) / 90])


@pytest.mark.parametrize("constant", [0.0, 3.0, 0.1, -1e6 / 3])
def test_a_constant_covariate_is_given_as_nothing_and_as_little_where_it_moves(constant):
    values, beside = walk(35), np.full((35, 1), constant)
    scaling = fit_scaling("change", [values], covariates=[beside])
    assert np.abs(scaling.inputs(windows_of(values, 1, beside))[..., 1]).max() < 1e-6
    assert np.abs(scaling.inputs(windows_of(values, 1, beside + 1))[..., 1]).max() < 10


def test_a_scaling_survives_json():
    scaling = fit_scaling("log-return", [walk(50), walk(60, 1)], ("a", "b"), [np.eye(50, 2), np.eye(60, 2)])
    saved = json.loads(json.dumps(dataclasses.asdict(scaling)))
    again = Scaling(**{name: tuple(v) if isinstance(v, list) else v for name, v in saved.items()})
    assert again == scaling and hash(again) == hash(scaling)


def test_a_batch_is_float32_and_its_target_is_relative_to_the_last_input():
    part = cut(Series(np.arange(30), np.arange(30.0) ** 2), 4, 2, 0, 30)
    scaling = Scaling("change", (0.0,), (2.0,))
    x, y = batch(part, scaling)
    assert x.dtype == y.dtype == np.float32
    np.testing.assert_array_equal(x[3, :, 0], [0, 3.5, 4.5, 5.5])  # 9, 16, 25, 36
    np.testing.assert_array_equal(y[3], [6.5, 14])  # 49, 64
    np.testing.assert_array_equal(batch(part, scaling, steps=1).y, y[:, :1])
    every = batch(part, scaling, every_step=True)
    np.testing.assert_array_equal(every.y[3], [[3.5, 8], [4.5, 10], [5.5, 12], [6.5, 14]])
    assert every.y.dtype == np.float32


@every_kind
def test_a_constant_series_is_refused_by_its_name(kind):
    with pytest.raises(UsageError, match=r"^series 'flat': the 20 training rows are constant \(0\.1\)"):
        fit_scaling(kind, [walk(20), np.full(20, 0.1)], ("sound", "flat"))


@pytest.mark.parametrize(
    ("kind", "values", "size"),
    [
        ("change", 0.1 * np.arange(50.0), 0.1),
        ("change", 1000 - 1.5 * np.arange(50.0), 1.5),
        ("change", np.where(np.arange(50) == 7, np.nan, np.arange(50.0)), 1.0),
        ("log-return", 1.1 ** np.arange(50), math.log(1.1)),
    ],
)
def test_a_straight_line_is_scaled_by_the_size_of_its_step(kind, values, size):
    scaling = fit_scaling(kind, [values])
    assert scaling.scale[0] == pytest.approx(size)
    known = np.arange(10.0, 50) if np.isnan(values).any() else values[10:]
    x, y = batch(windows_of(known, 4), scaling)
    np.testing.assert_allclose(np.abs(x[:, 1:]), 1, rtol=1e-5)
    np.testing.assert_allclose(np.abs(y[:, 0]), 1, rtol=1e-5)


def test_changes_that_are_all_zero_where_they_are_known_are_no_scale():
    steps = np.array([1.0, 1, np.nan, 5, 5, np.nan, 9, 9])
    with pytest.raises(UsageError, match=r"3 one-step changes .* are 0 throughout: .* use target .level"):
        fit_scaling("change", [steps])


def test_a_log_return_of_a_value_that_is_not_positive_is_refused_with_its_series_and_row():
    with pytest.raises(UsageError, match=r"^series 'low': .*2 of 4 are not, the first in row 2 \(-1\); use target"):
        fit_scaling("log-return", [walk(9), np.array([3.0, -1.0, 0.0, 2.0])], ("high", "low"))


def test_a_window_with_a_value_that_is_not_positive_has_no_log_return():
    with pytest.raises(UsageError, match=r"1 of 4 are not, the first in row 2 \(0\)"):
        Scaling("log-return", (0.0,), (1.0,)).inputs(rows([[1.0, 2.0], [0.0, 1.0]]))


@every_kind
def test_of_many_series_without_a_scale_all_are_counted_and_five_named(kind):
    flat = [np.full(20, 0.1)] * 6
    with pytest.raises(UsageError) as caught:
        fit_scaling(kind, [*flat, walk(20)], [str(number) for number in range(7)])
    said = str(caught.value)
    assert said.startswith(
        "6 of 7 series are without a scale: 0, 1, 2, 3, 4, …; the first: series '0': the 20 training"
    )
    assert "\n" not in said


@every_kind
@pytest.mark.parametrize("unit", [1e-99, 1e-103])
def test_values_whose_squares_would_vanish_are_refused_and_larger_ones_are_not(kind, unit):
    values = unit * np.linspace(10, 20, 30) ** 1.5
    if unit > 1e-100:
        assert fit_scaling(kind, [values]).scale[0] > 0
        return
    with pytest.raises(UsageError, match=r"^series 'value': the 30 training rows differ by .*e-102, less than 1e-100"):
        fit_scaling(kind, [values])


def test_another_number_of_covariates_than_in_training_is_refused_and_never_spread_over_them():
    values, beside = walk(35), np.random.default_rng(0).standard_normal((35, 2))
    scaling = fit_scaling("change", [values], covariates=[beside])
    for columns in (0, 1, 3):
        part = windows_of(values, 1, np.resize(beside, (35, columns)) if columns else None)
        given = f"{columns} covariate{'' if columns == 1 else 's'}"
        with pytest.raises(UsageError, match=f"^{given} given, where there were 2 in training$"):
            scaling.inputs(part)


def test_two_rows_are_too_few_for_a_scaling():
    with pytest.raises(UsageError, match=r"^series 'it': a scaling needs at least 3 training rows; there are 2"):
        fit_scaling("change", [np.array([1.0, 2.0])], ("it",))
