"""Workloads of the GPU benchmark, the most informative first. Numbers only, no JAX."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal, NamedTuple

Task = Literal["step", "layer"]
Precision = Literal["float32", "tf32"]
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32")

MOST_STEPS = 16
"""Most repetitions in one compiled call."""
TIME_STEPS_A_CALL = 2**11
"""Time steps that the repetitions of one call have together, unless one repetition has more."""
NUMBERS_A_CALL = 2**26
"""Most input numbers of one call, 256 MiB in float32."""


class Load(NamedTuple):
    """One row of the results.

    task        "step": a training step of one layer and a dense head on its last output: forward, backward, Adam;
                "layer": the forward and backward pass of the layer alone, with gradients of parameters and input
    norm        normalisation inside the cell; empty for the plain cell
    precision   of matrix products: "float32" in full, or "tf32"
    """

    task: Task
    cell: str
    hidden: int
    batch: int
    time_steps: int
    norm: str = ""
    precision: Precision = "float32"

    @property
    def features(self) -> int:
        """Width of the input: a series of one feature in training, else as wide as the layer."""
        if self.task == "step":
            return 1
        return self.hidden

    @property
    def steps(self) -> int:
        """Repetitions in one call, so that Python's dispatch is small beside the work."""
        # A call holds the input of all its repetitions.
        numbers = self.time_steps * self.batch * self.features
        fitting = min(TIME_STEPS_A_CALL // self.time_steps, NUMBERS_A_CALL // numbers)
        return min(MOST_STEPS, max(1, fitting))

    @property
    def name(self) -> str:
        """Name in tables and in progress lines."""
        prefix = f"{self.norm} norm " if self.norm else ""
        size = f"{self.hidden} units, batch {self.batch}, T {self.time_steps}"
        return f"{self.task}: {prefix}{self.cell}, {size}, {self.precision}"

    @property
    def weight(self) -> float:
        """Expected cost relative to a row of short sequences."""
        if self.time_steps <= 128:
            return 1.0
        if self.time_steps <= 1024:
            return 1.5
        return 4.0


# A short budget reaches no more than these: both tasks, both gated cells, a norm and a large batch.
FIRST = (
    Load("step", "lstm", 50, 32, 50),
    Load("step", "gru", 50, 32, 50),
    Load("layer", "lstm", 128, 32, 128),
    Load("layer", "gru", 128, 32, 128),
    Load("step", "lstm", 50, 32, 50, norm="layer"),
    Load("layer", "lstm", 128, 256, 128),
)
"""Workloads that come before parity and generation."""
THEN = (
    Load("step", "rnn", 50, 32, 50),
    Load("step", "gru", 50, 32, 50, norm="layer"),
    Load("layer", "gru", 128, 256, 128),
    Load("layer", "lstm", 128, 32, 128, precision="tf32"),
    Load("layer", "gru", 128, 32, 128, precision="tf32"),
    Load("layer", "lstm", 64, 32, 50),
    Load("layer", "gru", 64, 32, 50),
    Load("layer", "lstm", 256, 32, 128),
    Load("layer", "gru", 256, 32, 128),
    Load("layer", "lstm", 512, 256, 128),
    Load("layer", "lstm", 128, 32, 1024),
    Load("layer", "gru", 128, 32, 1024),
    Load("layer", "lstm", 128, 32, 50, norm="layer"),
    Load("step", "lstm", 50, 256, 50),
    Load("step", "gru", 50, 256, 50),
    Load("layer", "lstm", 64, 32, 16384),
    Load("layer", "gru", 512, 256, 128),
    Load("layer", "lstm", 512, 256, 128, precision="tf32"),
    Load("layer", "gru", 128, 32, 50, norm="layer"),
    Load("layer", "gru", 64, 32, 16384),
)
"""Workloads that come after them."""


def ordered() -> Iterator[Load]:
    """Yield all workloads: those of `FIRST`, those of `THEN`, and the rest of a grid of sizes."""
    yield from FIRST
    yield from THEN
    # The large batch comes after all sizes of the small one, so that a run that ends early has those.
    for batch, hidden, cell in itertools.product((32, 256), (64, 128, 256), ("lstm", "gru", "rnn")):
        for time_steps in (50, 128, 1024):
            load = Load("layer", cell, hidden, batch, time_steps)
            if load not in FIRST + THEN:
                yield load


PARITY = tuple((cell, norm) for norm in ("", "layer", "layer-sum") for cell in ("lstm", "gru", "rnn"))
"""(cell, norm) pairs of the parity block."""
GENERATION = tuple(Load("step", cell, 128, batch, 256) for cell in ("lstm", "gru") for batch in (1, 64))
"""Workloads of generation: `time_steps` outputs, each the next input."""
