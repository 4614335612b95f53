"""Comparisons of two rows of runs that share their seeds: is one less than the other, are they alike?

A claim holds, does not hold, or is not decided. The interval is over seeds: it speaks of further trainings on the same
data and the same split, not of other data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float
from scipy.special import stdtr, stdtrit

from jaxseq.forecasting.bootstrap import Interval

Verdict: TypeAlias = Literal["HOLDS", "DOES NOT HOLD", "NOT DECIDED"]
HOLDS: Final = "HOLDS"
DOES_NOT_HOLD: Final = "DOES NOT HOLD"
NOT_DECIDED: Final = "NOT DECIDED"

LEVEL = 0.95
"""Of the interval that a `Paired` carries."""


class Paired(NamedTuple):
    """The differences a - b of two rows over the same seeds; NaN where a single seed gives none."""

    n: int
    """Pairs."""
    mean: float
    """Mean difference, in the measure's unit."""
    low: float
    """Lower end of the 95 % interval of Student's t."""
    high: float
    """Upper end of it."""
    effect: float
    """Cohen's d_z; NaN, too, where all pairs differ by the same."""
    p: float
    """Two-sided, of the paired t test: below 0.05 exactly where the interval leaves 0 out."""


def paired(a: Float[np.ndarray, " _"], b: Float[np.ndarray, " _"]) -> Paired:
    """Compare two rows seed by seed, a - b, by the paired t test: Student (1908), Biometrika 6(1).

    Pairs that all differ by the same have no spread: their interval is the point itself, and p is 0, or 1 where they
    are equal. A single pair has no interval, no p-value, and so no verdict. Cohen's d_z: Lakens (2013), Frontiers in
    Psychology 4:863. Raises `ValueError` with both shapes unless they are one and the same "s", and for a value that is
    not finite.
    """
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"{a.shape} and {b.shape} must be pairs, one of each for every seed")
    finite = np.isfinite(a) & np.isfinite(b)
    if not np.all(finite):
        first = int(np.argmin(finite))
        raise ValueError(f"pair {first + 1} of {len(a)} is {a[first]} and {b[first]}; expected finite numbers")

    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    n = len(differences)
    mean = float(np.mean(differences))
    if n == 1:
        return Paired(n, mean, low=math.nan, high=math.nan, effect=math.nan, p=math.nan)

    deviation = float(np.std(differences, ddof=1))
    # A spread this small is rounding: the pairs all differ by the same.
    if deviation <= 1e-12 * np.max(np.abs(differences)):
        return Paired(n, mean, low=mean, high=mean, effect=math.nan, p=float(mean == 0))

    half_width = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * deviation / math.sqrt(n)
    effect = mean / deviation
    p = 2 * float(stdtr(n - 1, -abs(effect) * math.sqrt(n)))
    return Paired(n, mean, mean - half_width, mean + half_width, effect, p=p)


def interval(comparison: Paired, level: float) -> Interval:
    """Student's t interval at another level, from the one at 95 %; NaN where there is none."""
    if comparison.n < 2:
        return Interval(math.nan, math.nan)
    degrees = comparison.n - 1
    ratio = float(stdtrit(degrees, (1 + level) / 2) / stdtrit(degrees, (1 + LEVEL) / 2))
    half_width = ratio * (comparison.high - comparison.low) / 2
    return Interval(comparison.mean - half_width, comparison.mean + half_width)


def less(comparison: Paired) -> Verdict:
    """Decide whether a is less than b: yes if the whole 95 % interval of a - b is below 0, no if none of it is.

    Each of the two answers is wrong at most once in 40 times, if the differences are normal.
    """
    if comparison.high < 0:
        return HOLDS
    if comparison.low >= 0:
        return DOES_NOT_HOLD
    return NOT_DECIDED


def alike(comparison: Paired, margin: float) -> Verdict:
    """Decide whether a and b are alike, that is, less than `margin` apart (in the measure's unit).

    Yes if the 90 % interval of a - b lies within ±margin, which is two one-sided tests at 5 % each (Schuirmann 1987,
    Journal of Pharmacokinetics and Biopharmaceutics 15(6)); no if the 95 % interval lies wholly beyond it on one side.
    A difference that was not found decides nothing: few seeds find none. The margin must be chosen before looking.
    Raises `ValueError` unless it is finite and above 0.
    """
    if not 0 < margin < math.inf:
        raise ValueError(f"margin is {margin}; it must be a finite number above 0")
    low, high = interval(comparison, 0.90)
    if -margin < low and high < margin:
        return HOLDS
    if comparison.low >= margin or comparison.high <= -margin:
        return DOES_NOT_HOLD
    return NOT_DECIDED


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Combine the verdicts on the parts of a claim: it holds if all do, it does not hold if any does not.

    That all hold needs no correction for their number. It is an intersection-union test (Berger 1982, Technometrics
    24(4)): a false claim has a false part, and to be taken as true that one part must pass its own test, which happens
    no more often than at that test's level, however many others pass. A correction would only hide what is true. The
    other answer has no such protection: each part is a chance to fail by accident, so a claim of m true parts of `less`
    is denied at most m times in 40. Claims are judged one by one: there is no correction over them either. Raises
    `ValueError` for no part.
    """
    if not verdicts:
        raise ValueError("0 verdicts; a claim has at least 1 part")
    if DOES_NOT_HOLD in verdicts:
        return DOES_NOT_HOLD
    if all(verdict == HOLDS for verdict in verdicts):
        return HOLDS
    return NOT_DECIDED
