"""Importance of inputs, on forecasts whose inputs are known to matter or not."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.forecasting import importance
from jaxseq.forecasting.importance import Layout, Targets
from jaxseq.forecasting.losses import IN_ORDER, Rows
from jaxseq.forecasting.rollout import Inputs

LAYOUT = Layout(window=4, values=1, past=("price", "noise"), masks=(0, 2), known=("hour", "hour", "plan"))
"""Columns 0: values; 1, 2: past covariates; 3, 4: masks of the values and of noise; 5 to 7: known ahead."""


def told(done: int, total: int) -> None:
    assert 1 <= done <= total


def drawn_inputs(rows: int = 400, ahead: int = 2) -> Inputs:
    draw = np.random.default_rng(0)
    return Inputs(draw.normal(size=(rows, 4, 8)), draw.normal(size=(rows, ahead, 3)))


def test_a_group_has_all_columns_and_steps_of_a_covariate_and_the_lags_come_after_them() -> None:
    groups = {group.name: group for group in importance.groups(LAYOUT)}
    assert list(groups) == ["price", "noise", "hour", "plan", "lag 1", "lag 2", "lag 3", "lag 4"]
    assert groups["price"].columns == (1,) and groups["noise"].columns == (2, 4)
    assert groups["hour"].columns == (5, 6) and groups["hour"].ahead == (0, 1)
    assert groups["lag 1"].columns == (0, 3) and groups["lag 1"].steps == slice(3, 4)


def test_the_columns_of_a_covariate_with_texts_are_one_group_with_their_masks() -> None:
    layout = LAYOUT._replace(past=("region", "region", "price"), masks=(1, 2, 3))
    groups = {group.name: group for group in importance.groups(layout)}
    assert groups["region"].columns == (1, 4, 2, 5) and groups["price"].columns == (3, 6)
    assert groups["hour"].columns == (7, 8) and groups["lag 1"].columns == (0,)


@pytest.mark.parametrize("window", [1, 12, 13, 24, 168, 1000])
@pytest.mark.parametrize("period", [1, 7, 24])
def test_every_lag_is_in_one_group_and_a_season_in_its_own(window: int, period: int) -> None:
    ranges = importance.lag_ranges(window, period)
    lags = [lag for first, last in ranges for lag in range(first, last + 1)]
    assert lags == list(range(1, window + 1))
    assert len(ranges) <= 14
    if 1 < period <= window:
        assert (period, period) in ranges


def test_exchanged_inputs_are_those_of_another_row_and_the_others_stay() -> None:
    inputs = drawn_inputs(rows=5)
    order = np.array([4, 3, 0, 1, 2])
    group = next(group for group in importance.groups(LAYOUT) if group.name == "hour")
    changed = importance.exchanged(inputs, group, order)

    np.testing.assert_array_equal(changed.x[..., 5:7], inputs.x[order][..., 5:7])
    np.testing.assert_array_equal(changed.ahead[..., :2], inputs.ahead[order][..., :2])
    np.testing.assert_array_equal(np.delete(changed.x, [5, 6], axis=2), np.delete(inputs.x, [5, 6], axis=2))
    np.testing.assert_array_equal(changed.ahead[..., 2], inputs.ahead[..., 2])


@pytest.mark.parametrize("kind", ["one series", "a panel"])
def test_the_interval_of_a_planted_covariate_is_above_0_and_that_of_noise_contains_it(kind: str) -> None:
    inputs = drawn_inputs()
    draw = np.random.default_rng(1)
    # The forecast reads both, as a network does that has learnt a little of the noise by heart.
    signal = 2 * inputs.x[:, -1, 1:2] + inputs.x[:, -1, :1]
    actual = signal + draw.normal(size=(400, 1))
    rows = IN_ORDER
    if kind == "a panel":
        rows = Rows(times=np.repeat(np.arange(20), 20), series=np.tile(np.arange(20), 20))
    targets = Targets(actual, rows, "squared", seed=3)

    def forecast(changed: Inputs) -> np.ndarray:
        x = np.asarray(changed.x)
        return 2 * x[:, -1, 1:2] + x[:, -1, :1] + 0.1 * x[:, -1, 2:3]

    groups = importance.groups(LAYOUT)
    measured = importance.measure(forecast, inputs, targets, groups, gradients=[0.0] * len(groups), progress=told)
    by_name = {item.group.name: item for item in measured}

    # Two independent draws of 2 x differ by a variance of 8; that of the error is 1.
    assert by_name["price"].permutation == pytest.approx(8, rel=0.2)
    assert by_name["price"].interval.low > 0 and by_name["lag 1"].interval.low > 0
    assert by_name["noise"].interval.low < 0 < by_name["noise"].interval.high
    assert by_name["lag 2"].permutation == 0
    assert [item.group.name for item in importance.ranked(measured)][:2] == ["price", "lag 1"]


def test_the_same_seed_draws_the_same_permutations() -> None:
    inputs = drawn_inputs(rows=60)
    groups = importance.groups(LAYOUT)

    def measured(seed: int) -> list[float]:
        targets = Targets(np.zeros((60, 1)), IN_ORDER, "absolute", seed)
        items = importance.measure(
            lambda changed: np.asarray(changed.x).sum(axis=1)[:, :1],
            inputs,
            targets,
            groups,
            gradients=[0.0] * 8,
            progress=told,
        )
        return [item.permutation for item in items]

    assert measured(0) == measured(0) != measured(1)


def test_the_gradient_of_a_linear_forecast_is_its_weights_times_the_spread_of_the_inputs() -> None:
    inputs = drawn_inputs(rows=50)
    weights = np.random.default_rng(2).normal(size=(4, 8, 2))
    ahead_weights = np.random.default_rng(3).normal(size=(2, 3, 2))

    def forecast(x: jnp.ndarray, ahead: jnp.ndarray) -> jnp.ndarray:
        return jnp.einsum("btd,tdk->bk", x, weights) + jnp.einsum("bvs,vsk->bk", ahead, ahead_weights)

    by_x, by_ahead = importance.absolute_gradients(forecast, jnp.asarray(inputs.x), jnp.asarray(inputs.ahead))
    groups = importance.groups(LAYOUT)
    shares = importance.gradient_shares(groups, inputs, np.asarray(by_x), np.asarray(by_ahead))

    x_share = np.abs(weights).mean(axis=2) * np.asarray(inputs.x).std(axis=0)
    ahead_share = np.abs(ahead_weights).mean(axis=2) * np.asarray(inputs.ahead).std(axis=0)
    expected = {"price": x_share[:, 1].sum(), "plan": x_share[:, 7].sum() + ahead_share[:, 2].sum()}
    expected["lag 1"] = x_share[3, [0, 3]].sum()
    for group, share in zip(groups, shares, strict=True):
        if group.name in expected:
            assert share == pytest.approx(expected[group.name], rel=1e-5)


def test_a_table_of_the_importances_escapes_names_and_leaves_unknown_intervals_out() -> None:
    group = importance.groups(LAYOUT)[0]._replace(name="![a|b](c)")
    items = [importance.Importance(group, 0.5, importance.Interval(np.nan, np.nan), 2.0)]
    text = importance.markdown(items, "MSE")
    assert "| !\\[a\\|b\\](c) | +0.5000 | – | 100.0 % |" in text
    assert importance.table(items).columns.tolist() == [
        "input",
        "kind",
        "permutation",
        "low_95%",
        "high_95%",
        "gradient",
    ]


def test_the_figure_says_why_bars_are_grey() -> None:
    group = importance.groups(LAYOUT)[0]
    unknown = importance.Importance(group, 0.5, importance.Interval(np.nan, np.nan), 2.0)
    known = unknown._replace(interval=importance.Interval(-0.1, 1.0))
    for items, words in (([unknown], "too few windows"), ([known], "reaches 0"), ([known, unknown], "there is none")):
        assert words in importance.figure(items, "MSE", "title").axes[0].get_xlabel()
