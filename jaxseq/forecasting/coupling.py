"""Sample paths through the quantiles of each step, in the dependence between steps that a template of paths has.

At each step the values of a path have the distribution of the forecast; that a high value follows a high one is taken
from the template: paths that a model has drawn (Schefzik et al. 2013, Stat. Sci. 28, ensemble copula coupling), or errors
of past forecasts (Clark et al. 2004, J. Hydrometeor. 5, the Schaake shuffle).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri


def drawn_errors(
    errors: Float[np.ndarray, "m k"], paths: int, windows: int, generator: np.random.Generator
) -> Float[np.ndarray, "p n k"]:
    """Draw whole rows of errors, with replacement: the template of paths that nobody has drawn."""
    return errors[generator.integers(len(errors), size=(paths, windows))]


def coupled(
    template: Float[np.ndarray, "p n k"],
    quantiles: Float[np.ndarray, "n k q"],
    levels: Float[np.ndarray, " q"],
    generator: np.random.Generator,
) -> Float[np.ndarray, "p n k"]:
    """Return paths in the ranks of a template, by step and window, with the quantiles of the forecast.

    Between the quantiles, and beyond them, the values are linear in those of a normal distribution.
    """
    count = len(template)
    # One probability in each of `count` equal parts.
    shares = (_ranks(template, generator) + generator.random(template.shape)) / count
    pieces = np.clip(np.searchsorted(levels, shares) - 1, 0, len(levels) - 2)
    deviates = ndtri(levels)
    by_path = np.moveaxis(pieces, 0, -1)
    start = np.moveaxis(np.take_along_axis(quantiles, by_path, axis=-1), -1, 0)
    end = np.moveaxis(np.take_along_axis(quantiles, by_path + 1, axis=-1), -1, 0)
    along = (ndtri(shares) - deviates[pieces]) / np.diff(deviates)[pieces]
    return start + along * (end - start)


def _ranks(template: Float[np.ndarray, "p n k"], generator: np.random.Generator) -> Int[np.ndarray, "p n k"]:
    """Return the ranks of the paths, from 0, by window and step; those of equal values are drawn."""
    order = np.lexsort((generator.random(template.shape), template), axis=0)
    ranks = np.empty_like(order)
    numbers = np.arange(len(template)).reshape(-1, 1, 1)
    np.put_along_axis(ranks, order, np.broadcast_to(numbers, order.shape), axis=0)
    return ranks
