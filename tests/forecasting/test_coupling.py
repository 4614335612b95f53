"""Sample paths through quantiles: each step's distribution is the forecast's, the ranks are the template's."""

import numpy as np
from scipy import stats

from jaxseq.forecasting import coupling

LEVELS = np.array([0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975])


def test_paths_have_the_quantiles_of_a_normal_distribution_and_the_ranks_of_the_template() -> None:
    generator = np.random.default_rng(0)
    walks = np.cumsum(generator.normal(size=(2000, 2, 3)), axis=-1)
    means = np.array([[0.0, 1, 2], [10, 20, 30]])
    scales = np.array([[1.0, 2, 3], [0.1, 0.2, 0.3]])
    quantiles = stats.norm.ppf(LEVELS, means[..., None], scales[..., None])
    paths = coupling.coupled(walks, quantiles, LEVELS, generator)

    np.testing.assert_array_equal(paths.argsort(axis=0), walks.argsort(axis=0))
    for row, step in np.ndindex(2, 3):
        drawn = stats.norm(means[row, step], scales[row, step])
        # One value in each of 2,000 equal parts: far nearer than independent draws.
        assert stats.kstest(paths[:, row, step], drawn.cdf).statistic < 1 / 1000


def test_whole_rows_of_errors_keep_the_correlation_between_steps() -> None:
    generator = np.random.default_rng(1)
    errors = generator.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=300)
    template = coupling.drawn_errors(errors, 5000, 1, generator)
    rows = {tuple(row) for row in errors}
    assert {tuple(row) for row in template[:, 0]} <= rows
    quantiles = stats.norm.ppf(LEVELS, np.zeros((1, 2, 1)), 5.0)
    paths = coupling.coupled(template, quantiles, LEVELS, generator)[:, 0]
    expected = stats.spearmanr(errors[:, 0], errors[:, 1]).statistic
    assert abs(stats.spearmanr(paths[:, 0], paths[:, 1]).statistic - expected) < 0.03


def test_equal_values_of_a_template_are_parted_by_chance() -> None:
    generator = np.random.default_rng(2)
    quantiles = np.tile(np.arange(7.0), (1, 2, 1))
    paths = coupling.coupled(np.zeros((1000, 1, 2)), quantiles, LEVELS, generator)[:, 0]
    assert len(np.unique(paths[:, 0])) == 1000
    assert abs(np.corrcoef(paths.T)[0, 1]) < 0.1
