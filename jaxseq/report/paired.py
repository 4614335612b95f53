"""Is one row of runs less than another that shares its seeds, or alike? It holds, it does not, or it is not decided.

The interval is over seeds: it speaks of further trainings on the same data and the same split, not of other data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float
from scipy.special import stdtr, stdtrit

from jaxseq.common.errors import UsageError
from jaxseq.forecasting.significance import Interval

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
    """a - b, seed by seed, "s" each, by `significance.paired_difference`.

    Pairs that all differ by the same have no spread: their interval is the point itself and p is 0, or 1 where they are
    equal. A single pair has no interval, no p-value, and so no verdict. Paired t test: Student (1908), Biometrika 6(1).
    Raises `ValueError` with both shapes unless they are one and the same "s", and for a value that is not finite.
    """
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"{a.shape} and {b.shape} must be pairs, one of each for every seed")
    if not np.all(finite := np.isfinite(a) & np.isfinite(b)):
        first = int(np.argmin(finite))
        raise ValueError(f"pair {first + 1} of {len(a)} is {a[first]} and {b[first]}; expected finite numbers")
    found = paired_difference(a, b, LEVEL)
    n, mean = found.pairs, found.mean
    if n > 1 and math.isnan(found.effect):
        return Paired(n, mean, mean, mean, math.nan, float(mean == 0))
    p = 2 * float(stdtr(n - 1, -abs(found.effect) * math.sqrt(n))) if n > 1 else math.nan
    return Paired(n, mean, found.low, found.high, found.effect, p)


def interval(found: Paired, level: float) -> Interval:
    """The interval of Student's t at another level, from the one at 95 %; NaN where there is none."""
    if found.n < 2:
        return Interval(math.nan, math.nan)
    wider = stdtrit(found.n - 1, (1 + level) / 2) / stdtrit(found.n - 1, (1 + LEVEL) / 2)
    half = float(wider) * (found.high - found.low) / 2
    return Interval(found.mean - half, found.mean + half)


def less(found: Paired) -> Verdict:
    """Is a less than b? Yes where the whole 95 % interval of a - b is below 0, no where it is nowhere below.

    Each of the two answers is wrong at most once in 40 times, if the differences are normal.
    """
    if found.high < 0:
        return HOLDS
    return DOES_NOT_HOLD if found.low >= 0 else NOT_DECIDED


def alike(found: Paired, margin: float) -> Verdict:
    """Are a and b alike, that is, less than `margin` apart (in the measure's unit)?

    Yes where the 90 % interval of a - b lies within ±margin, which is two one-sided tests at 5 % each (Schuirmann 1987,
    Journal of Pharmacokinetics and Biopharmaceutics 15(6)); no where the 95 % interval lies wholly beyond it on one side.
    That no difference was found is neither: few seeds find none. The margin is what one would call alike before having
    looked. Raises `ValueError` unless it is finite and above 0.
    """
    if not 0 < margin < math.inf:
        raise ValueError(f"margin is {margin}; it must be a finite number above 0")
    low, high = interval(found, 0.90)
    if -margin < low and high < margin:
        return HOLDS
    return DOES_NOT_HOLD if found.low >= margin or found.high <= -margin else NOT_DECIDED


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of a claim of several parts: it holds if all do, it does not if any does not.

    That all hold needs no correction for their number. It is an intersection-union test (Berger 1982, Technometrics
    24(4)): a claim that is false has a part that is false, and to be taken as true that one part must pass its own test,
    which happens no more often than at that test's level, however many others pass. A correction would only hide what is
    true. The other answer has no such shelter: each part is a chance to fail by accident, so a claim of m true parts of
    `less` is denied at most m times in 40. Claims are judged one by one: there is no correction over them either.
    Raises `ValueError` for no part.
    """
    if not verdicts:
        raise ValueError("0 verdicts; a claim has at least 1 part")
    if DOES_NOT_HOLD in verdicts:
        return DOES_NOT_HOLD
    return HOLDS if all(verdict == HOLDS for verdict in verdicts) else NOT_DECIDED


class PairedDifference(NamedTuple):
    """a - b, pair by pair: see `paired_difference`."""

    mean: float
    """Mean difference, in the measure's unit."""
    low: float
    """Lower end of Student's t interval of that mean; NaN for a single pair."""
    high: float
    """Upper end of it."""
    effect: float
    """Cohen's d_z, mean over standard deviation of the differences; NaN for a single pair or where they are equal."""
    wilcoxon_p: float
    """Two-sided p-value of Wilcoxon's signed ranks; 1 where no pair differs."""
    pairs: int


def paired_difference(a: Float[np.ndarray, " _"], b: Float[np.ndarray, " _"], level: float = 0.95) -> PairedDifference:
    """Two models' measures over the same seeds or folds, "s" each: how far apart are they, and is it more than chance?

    The interval takes the pairs to be independent: true of seeds; folds share training rows, so theirs is too narrow.
    Cohen's d_z: Lakens (2013), Frontiers in Psychology 4:863. Signed ranks: Wilcoxon (1945), as in scipy;
    below 6 pairs no p-value can be under 5 %. Raises `ValueError` with both shapes where they differ, `UsageError` for
    no pair, a value that is not finite, or a level not between 0 and 1.
    """
    if a.shape != b.shape:
        raise ValueError(f"{a.shape} and {b.shape} must be pairs, one of each for every seed or fold")
    if not len(a) or not 0 < level < 1:
        raise UsageError(f"{len(a)} pairs at level {level}; at least 1 is needed, at a level between 0 and 1")
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    if not np.all(np.isfinite(difference)):
        raise UsageError(f"pair {int(np.argmin(np.isfinite(difference))) + 1} of {len(a)} is not finite")
    n, mean = len(difference), float(np.mean(difference))
    sd = float(np.std(difference, ddof=1)) if n > 1 else math.nan
    half = float(stdtrit(n - 1, (1 + level) / 2)) * sd / math.sqrt(n)
    effect = mean / sd if sd > 1e-12 * np.max(np.abs(difference)) else math.nan  # else they differ by rounding alone
    return PairedDifference(mean, mean - half, mean + half, effect, _wilcoxon(difference), n)


def _wilcoxon(difference: Float[np.ndarray, " s"]) -> float:
    from scipy.stats import wilcoxon  # here: scipy.stats takes most of a second to import

    return float(wilcoxon(difference).pvalue) if np.any(difference) else 1.0
