"""A value is compared with the last one, with that of one season before, or with those of two."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxseq.data import seasons
from jaxseq.data.earlier import Earlier
from jaxseq.data.fitting import fit_scaling
from jaxseq.data.scaling import Scaling
from jaxseq.data.uncut import join_series, windows_of
from jaxseq.data.windows import Series, cut

VALUES = np.random.default_rng(0).standard_normal(200).cumsum()


def plain(values, earlier, origin, step):
    """The forecast of one step beyond `origin` values, written out."""
    lag, longer, share = earlier
    seasons_ago = lag * (step // lag + 1)
    place = origin + step
    forecast = values[place - seasons_ago]
    if longer:
        place -= longer * (step // longer + 1)
        seasons_ago = lag * (step % longer // lag + 1)
        forecast += share * (values[place] - values[place - seasons_ago])
    return forecast


@pytest.mark.parametrize("earlier", [Earlier(), Earlier(5), Earlier(3, 7, 0.5), Earlier(4, 12, 1.0)])
def test_the_steps_of_a_horizon_are_compared_with_the_latest_values_of_their_seasons(earlier):
    origin = 60
    found = earlier.ahead(lambda ages: VALUES[origin - ages], 20)
    assert_allclose(found, [plain(VALUES, earlier, origin, step) for step in range(20)], rtol=1e-13)


@pytest.mark.parametrize("earlier", [Earlier(), Earlier(5), Earlier(3, 7, 0.5), Earlier(4, 12, 1.0)])
def test_inside_a_window_a_value_is_compared_as_the_first_step_of_a_horizon_is(earlier):
    window = VALUES[None, :40]
    found = earlier.inside(window)
    assert found.shape == window.shape
    later = range(earlier.reach, 40)
    assert_allclose(found[0, earlier.reach :], [plain(VALUES, earlier, place, 0) for place in later], rtol=1e-13)
    assert_array_equal(found[:, : earlier.lag], window[:, : earlier.lag])
    # A window may be no longer than that.
    assert earlier.inside(window[:, : earlier.reach]).shape == (1, earlier.reach)


def test_it_is_a_double_seasonal_difference_with_the_whole_share():
    level, day, week = 5.0, np.tile(np.arange(4.0), 30), np.repeat(np.tile([1.0, -1.0, 3.0], 10), 4)
    values = level + day + week
    earlier = Earlier(4, 12, 1.0)
    assert_allclose(earlier.ahead(lambda ages: values[60 - ages], 30), values[60:90])


def test_a_share_gives_the_same_numbers_in_every_namespace_of_arrays():
    earlier = Earlier(3, 7, 0.25)
    window = VALUES[None, :40]
    with jax.enable_x64(True):
        compiled = jax.jit(lambda values: (earlier.inside(values), earlier.ahead(lambda ages: values[:, -ages], 9)))
        inside, ahead = compiled(window)
        assert_array_equal(np.asarray(inside), earlier.inside(window))
        assert_array_equal(np.asarray(ahead), earlier.ahead(lambda ages: window[:, -ages], 9))


def test_targets_of_two_seasons_are_zero_for_their_own_forecast_and_inverted():
    windows = cut(Series(np.arange(200), VALUES), 30, 20, 0, 200)
    scaling = fit_scaling("seasons", [VALUES], lag=3, longer=7, share=0.5, by_window=True)
    targets = scaling.targets(windows)
    assert_allclose(scaling.invert(targets, windows), windows.targets, rtol=1e-12)
    forecast = scaling.earlier.ahead(windows.values_ago, 20)
    assert_array_equal(scaling.invert(np.zeros_like(targets), windows), forecast)
    assert isinstance(scaling, Scaling) and scaling.options["longer"] == 7


@pytest.mark.parametrize("ages", [[0], [1, 31], [-1]])
def test_a_value_that_a_window_does_not_have_is_refused(ages):
    series = Series(np.arange(200), VALUES)
    windows = cut(series, 30, 2, 0, 200)
    uncut = windows_of(join_series([series], [], [], []), [(0, 200)], steps=30, horizon=2)
    for part in (windows, uncut):
        with pytest.raises(ValueError, match="time steps ago, of a window of 30"):
            part.values_ago(np.array(ages))


def test_the_error_of_a_naive_forecast_from_two_seasons_is_that_of_its_steps():
    earlier = Earlier(3, 7, 0.5)
    errors = []
    for step in range(9):
        # From the first value on that has all the earlier ones.
        first = max(3 * (step // 3 + 1), 7 * (step // 7 + 1) + 3 * (step % 7 // 3 + 1))
        of_step = [abs(VALUES[place] - plain(VALUES, earlier, place - step, step)) for place in range(first, 200)]
        errors.append(np.mean(of_step))
    assert seasons._naive_error(VALUES, earlier, 9) == pytest.approx(np.mean(errors), rel=1e-12)
    assert seasons.pairs([3, 7, 12], 15) == [
        Earlier(lag, longer, share) for lag, longer in [(3, 7), (3, 12)] for share in seasons.SHARES
    ]
