"""What an output means: losses and quantiles against scipy, torch and scikit-learn, and draws against their own law."""

import functools
from typing import NamedTuple

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis.extra.numpy import arrays
from problems import quickly

from jaxseq.common.errors import UsageError
from jaxseq.nn import heads

pytestmark = pytest.mark.usefixtures("compiled_quickly")

POINTS = [heads.point(loss) for loss in heads.LOSSES]
DISTRIBUTIONS = [head for head in heads.HEADS.values() if head.quantity == "value"]
REAL = [head for head in DISTRIBUTIONS if head.support == "real"]
COUNTS = [head for head in DISTRIBUTIONS if head.support == "counts"]
every_distribution = pytest.mark.parametrize("head", DISTRIBUTIONS, ids=lambda head: head.name)
every_count = pytest.mark.parametrize("head", COUNTS, ids=lambda head: head.name)
every_head = pytest.mark.parametrize("head", POINTS + DISTRIBUTIONS, ids=lambda head: head.loss.__name__)
ROWS = 40


compiled = functools.cache(quickly)


def quantiles(head, raw):
    """Those of a head, compiled for one shape."""
    rows = np.resize(raw.reshape(-1, head.width), (3 * ROWS, 1, head.width))
    found = np.asarray(compiled(head.quantiles)(rows), np.float64)
    return found[: raw.size // head.width].reshape(*raw.shape[:-1], len(head.levels))


def softplus(raw):
    return np.logaddexp(0, raw)


def outputs(head, seed=0, scale=2.0):
    """Raw numbers "n k p" and targets "n k" in which nothing is special."""
    random = np.random.default_rng(seed)
    raw = scale * random.normal(size=(ROWS, 3, head.width))
    return raw.astype(np.float32), (scale * random.normal(size=(ROWS, 3))).astype(np.float32)


class WithZeros(NamedTuple):
    """A distribution of scipy with extra zeros, by the share of the others."""

    counts: object
    share: np.ndarray

    def logpmf(self, y):
        return np.log(np.where(y == 0, 1 - self.share, 0) + self.share * self.counts.pmf(y))

    def pmf(self, y):
        return np.exp(self.logpmf(y))

    def cdf(self, y):
        return np.where(np.asarray(y) < 0, 0, 1 - self.share + self.share * self.counts.cdf(y))

    def sf(self, y):
        return self.share * self.counts.sf(y)

    def mean(self):
        return self.share * self.counts.mean()

    def ppf(self, level):
        return self.counts.ppf(np.maximum(0, (level - (1 - self.share)) / self.share)).clip(0)

    def rvs(self, random_state):
        counts = self.counts.rvs(random_state=random_state)
        return np.where(np.random.default_rng(0).random(counts.shape) < self.share, counts, 0)


class CompoundPoisson(NamedTuple):
    """A sum of gamma-distributed amounts, a Poisson number of them, of a power, mean and dispersion; by scipy."""

    power: float
    mean: np.ndarray
    dispersion: np.ndarray

    @property
    def rate(self):
        return self.mean ** (2 - self.power) / (self.dispersion * (2 - self.power))

    def over_numbers(self, of_amounts):
        shape = (2 - self.power) / (self.power - 1)
        scale = self.dispersion * (self.power - 1) * self.mean ** (self.power - 1)
        numbers = np.arange(1, 400).reshape(-1, *[1] * np.ndim(self.mean))
        weights = scipy.stats.poisson.pmf(numbers, self.rate)
        return np.sum(weights * of_amounts(scipy.stats.gamma(numbers * shape, scale=scale)), axis=0)

    def logpdf(self, y):
        positive = self.over_numbers(lambda amounts: amounts.pdf(y))
        is_known = (y > 0) & (positive > 0)
        return np.where(y > 0, np.where(is_known, np.log(np.where(is_known, positive, 1)), -np.inf), -self.rate)

    def cdf(self, y):
        return np.exp(-self.rate) + self.over_numbers(lambda amounts: amounts.cdf(y))

    def variance(self):
        return self.dispersion * self.mean**self.power


def tweedie_law(power, raw):
    raw = np.asarray(raw, np.float64)
    mean, dispersion = (np.exp(limit * np.tanh(raw[..., p] / limit)) for p, limit in enumerate((10, 5)))
    return CompoundPoisson(power, mean, dispersion)


class Mixture(NamedTuple):
    """A mixture of scipy's normal distributions."""

    weights: np.ndarray
    parts: object

    def logpdf(self, y):
        return np.log(np.sum(self.weights * self.parts.pdf(np.asarray(y)[..., None]), axis=-1))

    def cdf(self, y):
        return np.sum(self.weights * self.parts.cdf(np.asarray(y)[..., None]), axis=-1)

    def mean(self):
        return np.sum(self.weights * self.parts.mean(), axis=-1)

    def std(self):
        second_moment = np.sum(self.weights * (self.parts.var() + self.parts.mean() ** 2), axis=-1)
        return np.sqrt(second_moment - self.mean() ** 2)


def count_law(name, raw):
    mean = np.exp(16.6 * np.tanh(raw[..., 0] / 16.6))
    if name.startswith("zero-inflated-"):
        counts = count_law(name.removeprefix("zero-inflated-"), raw[..., :-1])
        return WithZeros(counts, scipy.special.expit(-raw[..., -1]))
    if name == "poisson":
        return scipy.stats.poisson(mean)
    size = np.exp(-7 * np.tanh(raw[..., 1] / 7))
    return scipy.stats.nbinom(size, size / (size + mean))


def law(head, raw):
    """scipy's distribution of a head's raw numbers, as the docstrings have it."""
    raw = np.asarray(raw, np.float64)
    if head.support == "counts":
        return count_law(head.name, raw)
    if head.name == "mixture":
        logits, locations, scales = np.split(raw, 3, axis=-1)
        return Mixture(scipy.special.softmax(logits, -1), scipy.stats.norm(locations, softplus(scales) + heads.LEAST))
    spread = softplus(raw[..., 1]) + heads.LEAST
    if head.name == "gaussian":
        return scipy.stats.norm(raw[..., 0], spread)
    return scipy.stats.t(2 + heads.LEAST + softplus(raw[..., 2]), raw[..., 0], spread)


@pytest.mark.parametrize(("loss", "theirs"), [("mse", "MSELoss"), ("mae", "L1Loss"), ("huber", "HuberLoss")])
def test_the_losses_of_a_point_are_torchs(loss, theirs):
    torch = pytest.importorskip("torch")
    raw, y = outputs(heads.point(loss))
    expected = getattr(torch.nn, theirs)(reduction="none")(torch.tensor(raw[..., 0]), torch.tensor(y))
    np.testing.assert_allclose(compiled(heads.point(loss).loss)(raw, y), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_the_gaussian_loss_is_torchs_with_its_constant():
    torch = pytest.importorskip("torch")
    raw, y = outputs(heads.GAUSSIAN)
    spread = torch.nn.functional.softplus(torch.tensor(raw[..., 1])) + heads.LEAST
    nll = torch.nn.GaussianNLLLoss(full=True, reduction="none", eps=1e-30)
    expected = nll(torch.tensor(raw[..., 0]), torch.tensor(y), spread**2)
    np.testing.assert_allclose(compiled(heads.GAUSSIAN.loss)(raw, y), expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "head", [heads.GAUSSIAN, heads.STUDENT_T, heads.MIXTURE, heads.mixture(7)], ids=lambda head: head.name
)
def test_the_loss_of_a_density_is_scipys_logarithm_of_it(head):
    raw, y = outputs(head)
    np.testing.assert_allclose(compiled(head.loss)(raw, y), -law(head, raw).logpdf(y), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("levels", [heads.LEVELS, (0.05, 0.5, 0.95), (0.01, 0.2, 0.5, 0.8, 0.99)], ids=len)
def test_the_loss_of_quantiles_is_scikit_learns_mean_over_the_levels(levels):
    metrics = pytest.importorskip("sklearn.metrics")
    head = heads.quantile(levels)
    raw, y = outputs(head)
    found, loss = quantiles(head, raw), np.asarray(compiled(head.loss)(raw, y))
    for rows in (slice(None), slice(0, 1), slice(17, 18)):
        each = [
            metrics.mean_pinball_loss(y[rows].ravel(), found[rows, :, q].ravel(), alpha=level)
            for q, level in enumerate(levels)
        ]
        assert loss[rows].mean() == pytest.approx(np.mean(each), rel=1e-5)


@pytest.mark.parametrize("head", [*REAL, heads.quantile((0.05, 0.5, 0.95))], ids=lambda head: head.name)
@given(data=st.data())
def test_quantiles_never_cross_and_the_middle_one_is_the_centre(head, data):
    raw = data.draw(
        arrays(np.float32, (8, 1, head.width), elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False))
    )
    found = quantiles(head, raw)
    assert np.isfinite(found).all()
    assert (np.diff(found, axis=-1) >= 0).all()
    if head.name != "mixture":  # whose centre is the mean
        np.testing.assert_allclose(found[..., len(head.levels) // 2], head.centre(raw), rtol=1e-6, atol=1e-3)


@every_count
@given(data=st.data())
def test_quantiles_of_counts_are_whole_numbers_that_never_cross(head, data):
    raw = data.draw(
        arrays(np.float32, (8, 1, head.width), elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False))
    )
    found = quantiles(head, raw)
    assert np.isfinite(found).all() and (found >= 0).all()
    assert (np.round(found) == found).all()
    assert (np.diff(found, axis=-1) >= 0).all()


@pytest.mark.parametrize(("scale", "tolerance"), [(1.5, 2e-3), (6.0, 2e-2)])
@every_count
def test_quantiles_of_counts_are_the_least_at_which_scipys_distribution_reaches_the_level(head, scale, tolerance):
    raw, _ = outputs(head, scale=scale)
    truth = law(head, raw[..., None, :])
    found = quantiles(head, raw)
    assert (truth.cdf(found) >= np.asarray(heads.LEVELS) - tolerance).all()
    assert (truth.cdf(found - 1) < np.asarray(heads.LEVELS) + tolerance).all()
    if scale < 2:
        assert np.mean(found == truth.ppf(heads.LEVELS)) > 0.97


@every_count
def test_the_loss_of_counts_is_scipys_and_its_mean_is_the_centre(head):
    raw, _ = outputs(head, scale=3.0)
    truth = law(head, raw)
    y = truth.rvs(random_state=1).astype(np.float32)
    np.testing.assert_allclose(compiled(head.loss)(raw, y), -truth.logpmf(y), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(head.centre(jnp.asarray(raw)), truth.mean(), rtol=2e-5)


@every_count
def test_counts_are_drawn_as_often_as_scipys_distribution_has_them(head):
    # Of one program: that of a rejection takes seconds to compile. The last rows have the largest counts.
    count = 20_000
    raw = np.empty((1, count + 50, head.width), np.float32)
    raw[:, :count] = [1.2, 0.4, -0.5][: head.width]
    raw[:, count:] = [50.0, 0.0, -50.0][: head.width]
    both, again = (np.asarray(compiled(head.draw)(raw, jax.random.key(4)))[0] for _ in range(2))
    drawn, of_largest = both[:count], both[count:]
    truth = law(head, raw[0, 0])
    largest = int(truth.ppf(0.995))
    often = np.bincount(np.minimum(drawn, largest + 1).astype(int), minlength=largest + 2)
    expected = np.append(truth.pmf(np.arange(largest + 1)), truth.sf(largest)) * drawn.size
    assert scipy.stats.chisquare(often, expected).pvalue > 0.01
    assert np.array_equal(both, again)
    assert 1e7 < np.max(of_largest) <= 2**24


def test_the_loss_of_a_poisson_distribution_is_exact_for_large_counts():
    y = np.float32([[63, 64, 65, 1e3, 1e4, 1e5]])
    for ratio in (0.9, 1.0, 1.01):
        raw = np.float32(16.6 * np.arctanh(np.log(ratio * y.astype(np.float64)) / 16.6))[..., None]
        truth = count_law("poisson", raw.astype(np.float64))
        np.testing.assert_allclose(compiled(heads.POISSON.loss)(raw, y), -truth.logpmf(y), rtol=1e-3, atol=1e-3)


def test_quantiles_stand_at_softplus_steps_from_the_median():
    raw = np.array([[[-1.0, 0.5, 2.0, 7.0, -3.0, 0.0, 1.0]]], np.float32)
    below, above = np.cumsum(softplus(raw[..., 2::-1]), -1)[..., ::-1], np.cumsum(softplus(raw[..., 4:]), -1)
    expected = np.concatenate([7 - below, [[[7]]], 7 + above], axis=-1)
    np.testing.assert_allclose(quantiles(heads.QUANTILE, raw), expected, rtol=1e-6)


def test_gaussian_quantiles_are_scipys():
    raw, _ = outputs(heads.GAUSSIAN)
    expected = law(heads.GAUSSIAN, raw[..., None, :]).ppf(heads.LEVELS)
    np.testing.assert_allclose(quantiles(heads.GAUSSIAN, raw), expected, rtol=1e-5, atol=1e-5)


every_power = pytest.mark.parametrize("power", [1.2, 1.5, 1.8])


@every_power
@pytest.mark.parametrize(("scale", "tolerance"), [(1.0, 6e-3), (1.8, 1e-2)])
def test_the_loss_of_amounts_is_the_logarithm_of_scipys_compound_distribution(power, scale, tolerance):
    raw, y = outputs(heads.tweedie(power), scale=scale)
    raw = raw - np.float32([0, 1])
    y = np.where(y < -1, 0, np.abs(y)).astype(np.float32)
    expected = -tweedie_law(power, raw).logpdf(y)
    is_known = np.isfinite(expected) & (expected < 80)  # beyond, float64 has no such density
    assert is_known.mean() > 0.85
    found = np.asarray(compiled(heads.tweedie(power).loss)(raw, y))
    np.testing.assert_allclose(found[is_known], expected[is_known], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "power", [pytest.param(1.2, marks=pytest.mark.slow), 1.5, pytest.param(1.8, marks=pytest.mark.slow)]
)
def test_amounts_have_the_mean_and_the_variance_of_their_law_and_quantiles_where_it_reaches_the_level(power):
    head = heads.tweedie(power)
    raw = np.broadcast_to(np.float32([0.5, -0.3]), (1, 20_000, 2))
    drawn = np.asarray(compiled(head.draw)(raw, jax.random.key(4)), np.float64)[0]
    truth = tweedie_law(power, raw[0, 0])
    assert drawn.mean() == pytest.approx(truth.mean, abs=4 * np.sqrt(truth.variance() / 20_000))
    assert drawn.var() == pytest.approx(truth.variance(), rel=0.1)
    assert np.mean(drawn == 0) == pytest.approx(np.exp(-truth.rate), abs=0.015)

    two = np.float32([[[0.5, -0.3], [1.5, 0.3]]])
    found = np.asarray(compiled(head.quantiles)(two))[0, 0]
    alone = np.asarray(compiled(head.quantiles)(two[:, ::-1]))[0, 1]
    np.testing.assert_allclose(alone, found, rtol=1e-5)  # whatever is forecast beside it
    assert (np.diff(found) >= 0).all() and (found >= 0).all()
    reached = np.array([truth.cdf(value) for value in found])
    is_zero = found == 0
    np.testing.assert_allclose(reached[~is_zero], np.asarray(head.levels)[~is_zero], atol=4 * np.sqrt(0.25 / 500))
    assert (reached[is_zero] >= np.asarray(head.levels)[is_zero] - 0.09).all()


def test_quantiles_of_a_mixture_are_where_scipys_distribution_reaches_the_level():
    for head in (heads.MIXTURE, heads.mixture(1)):
        raw, _ = outputs(head, scale=3.0)
        truth = law(head, raw[..., None, :])
        np.testing.assert_allclose(
            truth.cdf(quantiles(head, raw)), heads.LEVELS * np.ones_like(raw[..., :1]), atol=1e-3
        )
        np.testing.assert_allclose(head.centre(jnp.asarray(raw)), law(head, raw).mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "got", "needed"),
    [
        ("0.05,half", "0.05,half", "levels such as 0.05,0.5,0.95"),
        ("0,0.5,1", "0,0.5,1", "levels such as 0.05,0.5,0.95"),
        ("0.95,0.5,0.05", "0.95,0.5,0.05", "increasing levels"),
        ("0.1,0.9", "0.1,0.9", "0.5 and others around it"),
        ("0.5", "0.5", "0.5 and others around it"),
        ("0.05,0.5,0.9", "0.05 alone", "0.95 beside it"),
        ("0.003,0.5,0.997", "0.003, for 99.4 %", "whole percents"),
    ],
)
def test_levels_that_give_no_forecast_with_intervals_are_refused(text, got, needed):
    with pytest.raises(UsageError) as error:
        heads.levels_of(text)
    assert (error.value.where, error.value.got, error.value.needed) == ("--model.quantiles", got, needed)


def test_levels_are_read_from_a_list_and_seven_of_an_empty_one():
    assert heads.levels_of("") == heads.LEVELS
    assert heads.levels_of("0.05, 0.25,0.5,0.75,0.95") == (0.05, 0.25, 0.5, 0.75, 0.95)
    assert heads.quantile((0.05, 0.5, 0.95)) is heads.named("quantile", levels=(0.05, 0.5, 0.95))
    assert heads.mixture(5) is heads.named("mixture", components=5)


@pytest.mark.parametrize("df", [2.1, 2.5, 3, 4.5, 8, 15, 30, 60, 100])
def test_student_quantiles_are_scipys(df):
    raw = np.array([[[0.0, np.log(np.expm1(1 - heads.LEAST)), np.log(np.expm1(df - 2 - heads.LEAST))]]], np.float32)
    np.testing.assert_allclose(
        quantiles(heads.STUDENT_T, raw)[0, 0], scipy.stats.t(df).ppf(heads.LEVELS), rtol=1e-4, atol=1e-6
    )


def test_student_quantiles_stand_where_location_and_scale_put_them():
    raw, _ = outputs(heads.STUDENT_T)
    expected = law(heads.STUDENT_T, raw[..., None, :]).ppf(heads.LEVELS)
    np.testing.assert_allclose(quantiles(heads.STUDENT_T, raw), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", [heads.GAUSSIAN, heads.STUDENT_T, heads.MIXTURE], ids=lambda head: head.name)
def test_draws_are_of_the_law_that_the_quantiles_are_of(head):
    raw = np.broadcast_to(np.float32([3.0, 0.7, -0.3, 2, -1, 4, 0.5, -1, 1][: head.width]), (1, 20_000, head.width))
    drawn, again, other = (np.asarray(compiled(head.draw)(raw, jax.random.key(k)), np.float64)[0] for k in (4, 4, 5))
    truth = law(head, raw[0, 0])
    assert scipy.stats.kstest(drawn, truth.cdf).pvalue > 0.01
    assert drawn.mean() == pytest.approx(truth.mean(), abs=4 * truth.std() / np.sqrt(20_000))
    below = [np.mean(drawn <= q) for q in quantiles(head, raw[:, :1])[0, 0]]
    np.testing.assert_allclose(below, heads.LEVELS, atol=4 * np.sqrt(0.25 / 20_000))
    if head is heads.GAUSSIAN:  # the variance of the other is hardly finite
        assert drawn.std() == pytest.approx(truth.std(), rel=0.03)
    assert np.array_equal(drawn, again) and not np.array_equal(drawn, other)


@functools.cache
def gradient_of(head):
    return jax.grad(lambda raw, y: jnp.sum(head.loss(raw, y)), argnums=(0, 1))


@every_head
@pytest.mark.parametrize("size", [1.0, 50.0, 1e4])
def test_gradients_are_finite_however_large_the_raw_numbers(head, size):
    corners = np.array(np.meshgrid(*[[-size, 0.0, size]] * min(head.width, 3))).reshape(min(head.width, 3), -1).T
    raw = np.tile(corners, (1, 3))[:, None, : head.width].astype(np.float32)
    targets = (-size, 0.0, 1.5) if head.support == "real" else (0.0, 1.0, size)
    for y in targets:
        gradients = compiled(gradient_of(head))(raw, np.full(raw.shape[:2], y, np.float32))
        assert all(np.isfinite(leaf).all() for leaf in gradients)


@pytest.mark.parametrize("head", [heads.QUANTILE, heads.GAUSSIAN, heads.STUDENT_T], ids=lambda head: head.name)
def test_the_loss_is_least_at_the_law_that_the_targets_are_of(head):
    """A proper score: of sharper, wider and shifted forecasts none is better than the truth."""
    y = scipy.stats.norm(1, 2).ppf((np.arange(4000) + 0.5) / 4000).astype(np.float32)[:, None]

    def scored(shift, width):
        if head is heads.QUANTILE:
            steps = width * np.diff(2 * scipy.stats.norm.ppf(heads.LEVELS))
            raw = np.log(np.expm1(np.insert(steps, 3, 1.0)))
            raw[3] = 1 + shift
        else:
            raw = np.array([1 + shift, np.log(np.expm1(2 * width)), 100.0][: head.width])
        rows = np.broadcast_to(raw.astype(np.float32), (4000, 1, head.width))
        return float(np.mean(compiled(head.loss)(rows, y)))

    best = scored(0, 1)
    assert all(scored(*way) > best for way in ((0.3, 1), (-0.3, 1), (0, 1.3), (0, 0.7)))


def test_a_head_is_one_object_for_one_name_so_that_it_is_compiled_once():
    for name in heads.HEADS:
        assert heads.named(name) is heads.named(name) is heads.HEADS[name]
    for loss in heads.LOSSES:
        assert heads.named("point", loss) is heads.named("point", loss) is heads.point(loss)
        assert heads.named("point", loss).quantiles is heads.named("point", loss).draw is None
    assert len({hash(head) for head in [*POINTS, *heads.HEADS.values()]}) == len(heads.LOSSES) + len(heads.HEADS)


def test_an_unknown_head_or_loss_is_refused_with_those_that_are_known():
    with pytest.raises(UsageError) as error:
        heads.named("laplace")
    fields = error.value.where, error.value.got, error.value.needed
    assert fields == ("head", "laplace", f"one of point, {', '.join(heads.HEADS)}")

    with pytest.raises(UsageError) as error:
        heads.named("point", "log")
    fields = error.value.where, error.value.got, error.value.needed
    assert fields == ("loss", "log", "one of mse, mae, huber")


@every_head
def test_a_target_of_another_shape_is_refused_and_not_broadcast(head, unannotated):
    raw, y = outputs(head)
    for wrong in (y[:, :1], y[:1], y[..., None]):
        with pytest.raises(AssertionError, match="shape"):
            head.loss(raw, wrong)
