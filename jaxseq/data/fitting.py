"""Scalings fitted to the training rows of series, and a check of what they are to scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np
from jaxtyping import Float

from jaxseq.common.errors import UsageError
from jaxseq.data import powers
from jaxseq.data.scaling import ScaleOptions, Scaling
from jaxseq.data.transforms import ROUNDING, TRANSFORMS, check_readable
from jaxseq.data.windows import Series, called, summarise_failures

MIN_SPREAD = 1e-100
"""Smallest range of the training rows: squares of smaller values come near the smallest numbers of float64."""
MAX_REACH = 1e15
"""Largest distance of a value, in scales: squares of larger ones come near the largest numbers of float32."""


def fit_scaling(
    kind: str,
    training: Sequence[Float[np.ndarray, "_"]],
    names: Sequence[str] = ("value",),
    covariates: Sequence[Float[np.ndarray, "_ c"]] = (),
    **options: Unpack[ScaleOptions],
) -> Scaling:
    """Fit the scaling of each series' training rows, as its transform does: see `jaxseq.data.transforms`.

    `covariates` are those of the same rows; the options are those of the `Scaling`. Missing values are NaN, and
    nothing is fitted to them. Raises `UsageError`, which names the series, for fewer than three known rows, for values
    that do not vary or by less than `MIN_SPREAD`, and for those that the transform refuses.
    """
    lag = options.get("lag", 1)
    power = options.get("power", powers.NONE)
    fitted = []
    failures = []
    for values, name in zip(training, names, strict=True):
        try:
            fitted.append(_fit(kind, values, called(name), lag, power))
        except UsageError as error:
            failures.append((name, error))
    if failures:
        raise UsageError(summarise_failures("without a scale", failures, len(names)))

    shift, scale, exponents = (tuple(numbers) for numbers in zip(*fitted, strict=True))
    scaling = Scaling(kind, shift, scale, **options)
    if scaling.scale_input:
        scaling = replace(scaling, scale_centre=float(np.exp(np.log(scale).mean())))
    if power != powers.NONE:
        scaling = replace(scaling, exponents=exponents)
    if not covariates or not covariates[0].shape[1]:
        return scaling

    rows = np.concatenate(covariates)
    # Where nothing is missing, these are `mean` and `std` bit for bit.
    deviation = np.nanstd(rows, axis=0)
    mean = np.nanmean(rows, axis=0)
    # A constant covariate has no spread to divide by.
    deviation = np.where(deviation > ROUNDING * np.nanmax(np.abs(rows), axis=0), deviation, 1)
    covariate_shift = tuple(map(float, mean))
    covariate_scale = tuple(map(float, deviation))
    return replace(scaling, covariate_shift=covariate_shift, covariate_scale=covariate_scale)


def _fit(kind: str, values: Float[np.ndarray, " n"], name: str, lag: int, power: str) -> tuple[float, float, float]:
    """Return shift, scale and exponent of one series; without a power, the exponent is 1."""
    count = np.count_nonzero(np.isfinite(values))
    if count < 3:
        raise UsageError(f"{name}: a scaling needs at least 3 training rows; there are {count}")

    low = float(np.nanmin(values))
    high = float(np.nanmax(values))
    if low == high:
        raise UsageError(f"{name}: the {count} training rows are constant ({low:g}): nothing can be learnt")
    if high - low < MIN_SPREAD:
        raise UsageError(
            f"{name}: the {count} training rows differ by {high - low:g}, less than {MIN_SPREAD:g}: their squares "
            "vanish; take another unit"
        )
    transform = TRANSFORMS[kind]
    check_readable(transform, values, f"{name}: ")
    if power == powers.NONE:
        return (*transform.fit(values, name, lag), 1.0)

    powers.check_positive(values, power, f"{name}: ")
    exponent = powers.fit(power, values, None if kind == "level" else lag)
    shift, scale = transform.fit(powers.bend(values[None], np.array([[exponent]]))[0], name, lag)
    # Values that are far from 0 may have one logarithm in float64.
    if not scale > 0:
        raise UsageError(f"{name}: the training rows differ by rounding alone with transform {power}")
    return shift, scale, exponent


def check_reach(scaling: Scaling, series: Sequence[Series], names: Sequence[str]) -> None:
    """Raise `UsageError`, which names series and time, for a value of any part that the scaling cannot take.

    That is a value more than `MAX_REACH` scales away from the first (or from the smallest training row, for "level"),
    and for one that the transform refuses. Nothing is fitted to the values outside the training rows.
    """
    for number, (times, values) in enumerate(series):
        name = called(names[number])
        check_readable(scaling.transform, values, f"{name}: ", times)
        if scaling.power != powers.NONE:
            powers.check_positive(values, scaling.power, f"{name}: ", times)
        if scaling.transform.bounded:
            continue

        # A series of changes starts anywhere; its first value is as good an origin as any.
        numbers = scaling.bent(values[None], np.array([number]))[0]
        origin = numbers[0]
        if not scaling.transform.adds_up:
            origin = scaling.shift[number]
        reach = np.abs(numbers - origin) / scaling.scale[number]
        too_far = reach > MAX_REACH
        if np.any(too_far):
            row = int(np.argmax(too_far))
            raise UsageError(
                f"{name}: {values[row]:g} at {times[row]} lies {reach[row]:.0e} times the spread of the training rows "
                f"away, at most {MAX_REACH:.0e} can be calculated with; correct it"
            )
