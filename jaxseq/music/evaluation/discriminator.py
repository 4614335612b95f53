"""How well a logistic regression on measures of pieces tells one set of pieces from another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize

FOLDS = 10
REPEATS = 4
"""Folds of the cross-validation, and the number of times that the pieces are dealt to them anew."""
FEWEST = 8
"""Smallest number of pieces of each set."""
PENALTY = 1.0
"""Factor of half the squared weights, added to the summed loss; the intercept is free."""
MOST_NAMED = 3
"""Number of measures that are named as the ones that tell the sets apart."""


class Discrimination(NamedTuple):
    """How well two sets of pieces are told apart; NaN and no measures for fewer than `FEWEST` pieces of either.

    auc        chance that a piece of the first set, held out, looks more like the first set than one of the second does:
               0.5 if they cannot be told apart, 1 if always
    error      standard error of `auc` over pieces
    strongest  measures with the largest weights of all pieces' regression, and these: change of the log-odds of the first
               set by a standard deviation
    """

    auc: float
    error: float
    strongest: tuple[tuple[str, float], ...]


class Regression(NamedTuple):
    """A logistic regression on standardised features."""

    intercept: float
    weights: Float[np.ndarray, "f"]


class _Scale(NamedTuple):
    """Mean and standard deviation of features, of the values that are not NaN."""

    mean: Float[np.ndarray, "f"]
    deviation: Float[np.ndarray, "f"]


def discriminate(
    first: Float[np.ndarray, "n f"],
    second: Float[np.ndarray, "m f"],
    names: Sequence[str],
    seed: int = 0,
) -> Discrimination:
    """Tell two sets of pieces apart by their features, a row for each piece; NaN is the mean of the others.

    Each piece is scored by a regression that has not seen it: `FOLDS` folds with equal shares of both sets, dealt
    `REPEATS` times. The area under the curve is of the pairs within a fold, whose scores are comparable, averaged. Its
    standard error is that of Hanley & McNeil (1982), "The meaning and use of the area under a receiver operating
    characteristic (ROC) curve", Radiology 143: of the pieces, not of the regressions.
    """
    smaller = min(len(first), len(second))
    if smaller < FEWEST:
        return Discrimination(math.nan, math.nan, ())

    features = np.concatenate([first, second])
    is_first = np.arange(len(features)) < len(first)
    rng = np.random.default_rng(seed)
    areas = []
    pairs = []
    for _ in range(REPEATS):
        for held_out in _folds(is_first, min(FOLDS, smaller), rng):
            train = features[~held_out]
            scale = _scale(train)
            regression = fit(_standardised(train, scale), is_first[~held_out])
            scores = _standardised(features[held_out], scale) @ regression.weights
            truth = is_first[held_out]
            areas.append(area_under_curve(scores[truth], scores[~truth]))
            pairs.append(np.count_nonzero(truth) * np.count_nonzero(~truth))

    auc = float(np.average(areas, weights=pairs))
    weights = fit(_standardised(features, _scale(features)), is_first).weights
    strongest = np.argsort(-np.abs(weights), kind="stable")[:MOST_NAMED]
    named = tuple((names[number], float(weights[number])) for number in strongest)
    return Discrimination(auc, standard_error(auc, len(first), len(second)), named)


def fit(features: Float[np.ndarray, "n f"], is_first: Bool[np.ndarray, "n"]) -> Regression:
    """Fit the log-odds of the first set as a linear function of the features, by penalised maximum likelihood."""
    sign = np.where(is_first, 1.0, -1.0)

    def loss(parameters: Float[np.ndarray, "f1"]) -> tuple[float, Float[np.ndarray, "f1"]]:
        weights = parameters[1:]
        margin = sign * (parameters[0] + features @ weights)
        # log(1 + e^-margin), which does not overflow.
        value = np.logaddexp(0, -margin).sum() + PENALTY / 2 * weights @ weights
        by_piece = -sign * np.exp(-np.logaddexp(0, margin))
        gradient = np.concatenate([[by_piece.sum()], features.T @ by_piece + PENALTY * weights])
        return float(value), gradient

    start = np.zeros(features.shape[1] + 1)
    fitted = minimize(loss, start, jac=True, method="L-BFGS-B")
    return Regression(float(fitted.x[0]), fitted.x[1:])


def area_under_curve(first: Float[np.ndarray, "n"], second: Float[np.ndarray, "m"]) -> float:
    """Return the share of pairs in which the first set's score is the larger one; ties count half."""
    difference = first[:, None] - second
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def standard_error(auc: float, first: int, second: int) -> float:
    """Compute the standard error of an area under the curve of `first` and `second` pieces (Hanley & McNeil 1982)."""
    two_of_first = auc / (2 - auc)
    two_of_second = 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc)
    variance += (first - 1) * (two_of_first - auc**2)
    variance += (second - 1) * (two_of_second - auc**2)
    # Rounding may leave a little less than nothing where all pairs are in order.
    return math.sqrt(max(variance, 0.0) / (first * second))


def _folds(
    is_first: Bool[np.ndarray, "n"],
    count: int,
    rng: np.random.Generator,
) -> Iterator[Bool[np.ndarray, "n"]]:
    """Deal the pieces of each set evenly, and yield which are held out."""
    fold: Int[np.ndarray, "n"] = np.zeros(len(is_first), np.int64)
    for members in (np.flatnonzero(is_first), np.flatnonzero(~is_first)):
        fold[rng.permutation(members)] = np.arange(len(members)) % count
    for number in range(count):
        yield fold == number


def _scale(features: Float[np.ndarray, "n f"]) -> _Scale:
    measured = ~np.isnan(features)
    counts = np.maximum(measured.sum(axis=0), 1)
    mean = np.where(measured, features, 0).sum(axis=0) / counts
    squares = np.where(measured, (features - mean) ** 2, 0)
    deviation = np.sqrt(squares.sum(axis=0) / counts)
    # A feature that is the same everywhere tells nothing; divided by 1 it is 0.
    return _Scale(mean, np.where(deviation > 0, deviation, 1.0))


def _standardised(features: Float[np.ndarray, "n f"], scale: _Scale) -> Float[np.ndarray, "n f"]:
    standardised = (features - scale.mean) / scale.deviation
    # A value that is not there is taken to be the mean.
    return np.where(np.isnan(standardised), 0.0, standardised)
