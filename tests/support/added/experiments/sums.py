"""Experiments on sums: whether a row of random numbers has a positive one. A domain as CONTRIBUTING.md describes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq import cells
from jaxseq.common.checks import at_least
from jaxseq.nn.forecaster import Forecaster
from jaxseq.nn.objectives import Objective, whole_output
from jaxseq.train.experiments.base import CellName, Experiment


@dataclass(frozen=True)
class Numbers:
    """Rows of random numbers."""

    rows: int = 64
    """Rows of the training part; validation and test part have half of it each."""
    steps: int = 5
    """Numbers in a row."""

    def __post_init__(self) -> None:
        at_least(2, rows=self.rows, steps=self.steps)


@dataclass(frozen=True)
class Classifier:
    """Recurrent layers and a logit."""

    cell: CellName = "gru"
    """Recurrent cell, a name of `jaxseq.cells.CELLS`."""
    hidden: int = 4
    """Units in each recurrent layer."""
    layers: int = 1
    """Number of stacked recurrent layers."""


def cross_entropy(logit: Float[Array, "b 1"], is_positive: Float[Array, "b 1"]) -> Float[Array, "b"]:
    """Return -log p of each row's class, in nats."""
    nats = jnp.logaddexp(0, logit) - is_positive * logit
    return nats[:, 0]


OBJECTIVE = Objective(cross_entropy, (("nats", cross_entropy),), "nats", whole_output)


@dataclass(frozen=True, kw_only=True)
class SumExperiment(Experiment):
    """A classifier of sums."""

    data: Numbers = field(default_factory=Numbers)
    """The rows."""
    model: Classifier = field(default_factory=Classifier)
    """The network."""

    domain: ClassVar[str] = "sums"

    def objective(self) -> Objective:
        """Return cross entropy in nats a row."""
        return OBJECTIVE

    def build(self) -> Forecaster:
        """Build the Flax module."""
        cell = cells.named(self.model.cell)
        return Forecaster(cell, self.model.hidden, self.model.layers, outputs=1)


EXPERIMENTS = (SumExperiment(name="sums", about="Whether the sum of a few numbers is positive.", epochs=2, batch=16),)
