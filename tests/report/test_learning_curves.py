"""Epochs to a target, flatness and roughness of training curves, a number for each seed."""

import numpy as np
import pytest
from scipy import stats

from jaxseq.report.learning_curves import ends, epochs_to_reach, flattened, last_losses, roughness, until_first_end

FALLING = np.array([[5.0, 3.0, 2.0, 4.0, 1.0], [9.0, 8.0, 7.0, 6.0, 5.0]])


def wild(seeds=4, epochs=30):
    return np.random.default_rng(3).uniform(0.5, 1.5, (seeds, epochs))


def test_the_first_epoch_at_or_below_the_target_counts_from_one():
    assert epochs_to_reach(FALLING, 5.0).epochs.tolist() == [1, 5]
    assert epochs_to_reach(FALLING, 2.0).epochs[0] == 3  # though it rises above it again
    assert epochs_to_reach(FALLING, 1.5).epochs[0] == 5


def test_a_seed_that_never_reached_it_counts_as_one_epoch_more_than_there_were():
    found = epochs_to_reach(FALLING, 3.5)
    assert found.epochs[0] == 2 and np.isnan(found.epochs[1])
    assert (found.seeds, found.last.tolist(), found.censored().tolist()) == (1, [5, 5], [2, 6])
    none = epochs_to_reach(FALLING, 0.5)
    assert (none.seeds, none.censored().tolist()) == (0, [6, 6])


def test_a_row_that_stopped_sooner_is_censored_at_the_end_of_the_other() -> None:
    stopped = np.array([[5.0, 4.0, np.nan, np.nan, np.nan], [5.0, 1.0, np.nan, np.nan, np.nan]])
    ours, other = epochs_to_reach(stopped, 2.0), epochs_to_reach(FALLING, 2.0)
    assert ours.censored().tolist() == [3, 2]
    # The first seed did not reach it in 2 epochs; the other row did in its third of 5, which is no later than ours.
    assert ours.censored(other.last).tolist() == [6, 2]
    assert other.censored(ours.last).tolist() == [3, 6]


def test_each_seed_may_have_a_target_of_its_own():
    assert epochs_to_reach(FALLING, np.array([2.0, 7.0])).epochs.tolist() == [3, 3]


def test_a_constant_share_of_fall_is_the_slope_over_the_mean():
    line = 10.0 - 0.1 * np.arange(50)  # the last ten are 6.0 to 5.1
    assert flattened(line[None]) == pytest.approx([-0.1 / 5.55], rel=1e-12)
    assert flattened(np.full((2, 10), 3.0)).tolist() == [0, 0]


def test_the_slope_is_that_of_scipy_over_the_last_share():
    losses = wild()
    for last, steps in ((0.2, 6), (0.5, 15), (1.0, 30)):
        tails = losses[:, -steps:]
        expected = [stats.linregress(np.arange(steps), tail).slope / tail.mean() for tail in tails]
        assert flattened(losses, last) == pytest.approx(expected, rel=1e-9)


def test_flatness_and_roughness_have_no_unit():
    for measure in (flattened, roughness):
        assert measure(1e-6 * wild()) == pytest.approx(measure(wild()), rel=1e-9)
        assert measure((1e3 * wild()).astype(np.float32)).dtype == np.float64


def test_roughness_is_what_was_worked_by_hand():
    losses = np.array([[99.0, 0.0, 4.0, 2.0, 3.0, 3.0]])  # second half 2, 3, 3: changes 1 and 0, mean 8 / 3
    assert roughness(losses) == pytest.approx([np.sqrt(0.5) / (8 / 3)], rel=1e-12)
    odd = np.array([[99.0, 0.0, 4.0, 2.0, 3.0]])  # second half 4, 2, 3: changes -2 and 1
    assert roughness(odd) == pytest.approx([np.sqrt(4.5) / 3], rel=1e-12)


def test_a_steady_fall_is_smooth_and_a_jagged_one_is_not():
    steady = 10.0 - 0.1 * np.arange(40)
    assert roughness(steady[None]) == pytest.approx([0], abs=1e-12)
    assert roughness((steady + 0.5 * (-1.0) ** np.arange(40))[None])[0] > 0.1


def test_losses_that_have_become_zero_are_flat_and_smooth():
    gone = np.concatenate([np.ones((1, 10)), np.zeros((1, 40))], axis=1)
    assert flattened(gone).tolist() == roughness(gone).tolist() == [0]


def test_curves_that_are_too_short_for_a_measure_have_none():
    assert np.isnan(flattened(FALLING[:, :1])).all() and flattened(FALLING[:, :1]).shape == (2,)
    assert flattened(FALLING[:, :2]) == pytest.approx([-2 / 4, -1 / 8.5])  # two epochs are the least
    assert np.isnan(roughness(wild(epochs=4))).all() and np.isfinite(roughness(wild(epochs=5))).all()
    assert epochs_to_reach(FALLING[:, :1], 5.0).censored().tolist() == [1, 2]


@pytest.mark.parametrize("measure", [flattened, roughness, lambda losses: epochs_to_reach(losses, 1.0)])
def test_curves_that_are_none_are_refused(measure):
    for bad, shown in ((np.nan, "nan"), (np.inf, "inf"), (-0.5, r"-0\.5")):
        losses = FALLING.copy()
        losses[1, 2] = bad
        with pytest.raises(ValueError, match=f"loss of seed 2 of 2, epoch 3, is {shown}; expected 0 or more"):
            measure(losses)
    for shape in ((0, 5), (2, 0)):
        with pytest.raises(ValueError, match="expected at least 1 seed and 1 epoch"):
            measure(np.zeros(shape))


def test_targets_and_shares_that_are_none_are_refused():
    for target in (np.nan, np.ones(3)):
        with pytest.raises(ValueError, match="expected a finite number, or one for each of 2 seeds"):
            epochs_to_reach(FALLING, target)
    for last in (0.0, 1.1, np.nan):
        with pytest.raises(ValueError, match="expected a share above 0 and at most 1"):
            flattened(FALLING, last)


def test_a_seed_that_stopped_earlier_is_measured_up_to_its_end():
    losses = wild(epochs=30)
    losses[1, 20:] = np.nan
    for measure in (flattened, roughness):
        assert measure(losses)[1] == measure(losses[1:2, :20])[0]
        assert np.delete(measure(losses), 1) == pytest.approx(np.delete(measure(losses[:, :30]), 1))
    assert ends(losses).tolist() == [30, 20, 30, 30]
    assert last_losses(losses)[1] == losses[1, 19]
    assert until_first_end(losses).shape == (4, 20)
    assert epochs_to_reach(losses, 0.0).censored().tolist() == [31, 21, 31, 31]
