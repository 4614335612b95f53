"""Combined forecasts: numpy's mean and median, and quantiles of mixtures by brute force."""

import numpy as np
import pytest
from scipy import optimize, stats

from jaxseq.forecasting import mixture

LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)


def test_the_centre_is_numpys_mean_or_median() -> None:
    values = np.random.default_rng(0).normal(size=(5, 3, 2))
    np.testing.assert_array_equal(mixture.centre(list(values), "mean"), values.mean(axis=0))
    np.testing.assert_array_equal(mixture.centre(list(values), "median"), np.median(values, axis=0))


def test_a_mixture_of_normal_distributions_has_the_quantiles_of_its_distribution_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = np.random.default_rng(1)
    means = 3 * source.normal(size=(4, 6, 2))
    scales = np.exp(source.normal(size=(4, 6, 2)))
    own = [stats.norm.ppf(LEVELS, mean[..., None], scale[..., None]) for mean, scale in zip(means, scales, strict=True)]
    # In several pieces.
    monkeypatch.setattr(mixture, "CELLS", 4)
    mixed = mixture.quantiles(own, LEVELS)
    for row, step, number in np.ndindex(6, 2, len(LEVELS)):

        def excess(x: float, place: tuple[int, int] = (row, step), level: float = LEVELS[number]) -> float:
            return stats.norm.cdf(x, means[:, *place], scales[:, *place]).mean() - level

        assert mixed[row, step, number] == pytest.approx(optimize.brentq(excess, -60, 60), abs=1e-6)


def test_a_mixture_of_heavy_tails_has_nearly_the_quantiles_of_pooled_draws() -> None:
    source = np.random.default_rng(2)
    members = [stats.t(4, -1, 0.5), stats.t(4, 0, 1.0), stats.t(4, 1.5, 2.0)]
    own = [np.asarray(member.ppf(LEVELS))[None, None] for member in members]
    pooled = np.concatenate([member.rvs(400_000, random_state=source) for member in members])
    expected = np.quantile(pooled, LEVELS)
    np.testing.assert_allclose(mixture.quantiles(own, LEVELS)[0, 0], expected, atol=0.05)


def test_equal_members_are_their_mixture_and_points_mix_as_steps() -> None:
    own = np.sort(np.random.default_rng(3).normal(size=(4, 3, len(LEVELS))), axis=-1)
    np.testing.assert_allclose(mixture.quantiles([own, own], LEVELS), own, atol=1e-9)
    # All of a series at zero but one of three members, which is at ten.
    points = [np.full((1, 1, len(LEVELS)), value) for value in (0.0, 0.0, 10.0)]
    np.testing.assert_allclose(mixture.quantiles(points, LEVELS)[0, 0], [0, 0, 0, 0, 10, 10, 10], atol=1e-9)
