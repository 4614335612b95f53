"""Heads: a model's raw outputs as a point forecast or as a distribution of each step of the horizon.

A head reads p = `width` raw numbers for each step, the last axis of "... k p", and defines their loss, their centre,
their quantiles and draws from them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

from jaxseq.common.errors import UsageError
from jaxseq.nn.heads.base import LEAST, LEVELS, Head, Loss
from jaxseq.nn.heads.counts import NEGATIVE_BINOMIAL, POISSON, ZERO_INFLATED_NEGATIVE_BINOMIAL, ZERO_INFLATED_POISSON
from jaxseq.nn.heads.densities import COMPONENTS, GAUSSIAN, MIXTURE, MOST_COMPONENTS, STUDENT_T, mixture
from jaxseq.nn.heads.direction import DIRECTION
from jaxseq.nn.heads.points import LOSSES, point
from jaxseq.nn.heads.quantiles import QUANTILE, levels_of, quantile
from jaxseq.nn.heads.tweedie import POWER, TWEEDIE, tweedie

__all__ = [
    "COMPONENTS",
    "DIRECTION",
    "GAUSSIAN",
    "HEADS",
    "LEAST",
    "LEVELS",
    "LOSSES",
    "MIXTURE",
    "MOST_COMPONENTS",
    "NEGATIVE_BINOMIAL",
    "POISSON",
    "POWER",
    "QUANTILE",
    "STUDENT_T",
    "TWEEDIE",
    "ZERO_INFLATED_NEGATIVE_BINOMIAL",
    "ZERO_INFLATED_POISSON",
    "Head",
    "HeadName",
    "Loss",
    "LossName",
    "levels_of",
    "mixture",
    "named",
    "point",
    "quantile",
    "tweedie",
]

HEADS: MappingProxyType[str, Head] = MappingProxyType(
    {
        head.name: head
        for head in (
            QUANTILE,
            GAUSSIAN,
            STUDENT_T,
            MIXTURE,
            NEGATIVE_BINOMIAL,
            POISSON,
            ZERO_INFLATED_POISSON,
            ZERO_INFLATED_NEGATIVE_BINOMIAL,
            TWEEDIE,
            DIRECTION,
        )
    }
)
"""Heads that give a distribution or a probability, by name."""

if TYPE_CHECKING:
    LossName: TypeAlias = str
    HeadName: TypeAlias = str
else:  # A type checker reads no list of names that is computed; the command line, its help and `config.json` do.
    LossName = Literal[tuple(LOSSES)]
    HeadName = Literal[("point", *HEADS)]


def named(
    name: str,
    loss: str = "mse",
    levels: tuple[float, ...] = LEVELS,
    components: int = COMPONENTS,
    power: float = POWER,
) -> Head:
    """Return the head of a name, "point" included.

    `loss` is used by the point forecast alone, `levels` by the quantiles, `components` by the mixture, `power` by the
    Tweedie distribution. Raises `UsageError`
    for an unknown head or loss.
    """
    if name == "point":
        return point(loss)
    if name not in HEADS:
        raise UsageError("unknown head", where="head", got=name, needed=f"one of point, {', '.join(HEADS)}")
    if name == "quantile":
        return quantile(levels)
    if name == "mixture":
        return mixture(components)
    if name == "tweedie":
        return tweedie(power)
    return HEADS[name]
