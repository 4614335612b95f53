"""Workloads of the GPU benchmark, the most informative first. Numbers only, no JAX."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

Task = Literal["step", "layer"]
Precision = Literal["float32", "tf32"]

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
        numbers = self.time_steps * self.batch * self.features
        fitting = min(TIME_STEPS_A_CALL // self.time_steps, NUMBERS_A_CALL // numbers)
        return min(MOST_STEPS, max(1, fitting))

    @property
    def name(self) -> str:
        """Name in tables and in progress lines."""
        prefix = f"{self.norm} " if self.norm else ""
        size = f"{self.hidden} units, batch {self.batch}, T {self.time_steps}"
        return f"{self.task}: {prefix}{self.cell}, {size}, {self.precision}"

    @property
    def weight(self) -> float:
        """Expected cost relative to a row of short sequences."""
        if self.time_steps <= 128:
            return 1.0
        if self.time_steps <= 1024:
            return 1.5
        return 6.0


CELLS = ("gru", "lstm", "rnn")
FIRST = (
    Load("step", "lstm", 50, 32, 50),
    Load("step", "gru", 50, 32, 50),
    Load("layer", "lstm", 128, 32, 128),
    Load("layer", "gru", 128, 32, 128),
    Load("step", "lstm", 50, 32, 50, norm="layer"),
    Load("layer", "lstm", 128, 256, 128),
)
"""Measured before parity and generation."""


def ordered() -> Iterator[Load]:
    """Yield all workloads, those of `FIRST` first, each once."""
    seen = set()
    for load in (*FIRST, *_rest()):
        if load not in seen:
            seen.add(load)
            yield load


def _rest() -> Iterator[Load]:
    yield from (
        Load("step", "rnn", 50, 32, 50),
        Load("step", "gru", 50, 32, 50, norm="layer"),
        Load("layer", "gru", 128, 256, 128),
        Load("layer", "lstm", 64, 32, 50),
        Load("layer", "lstm", 128, 32, 128, precision="tf32"),
        Load("layer", "gru", 128, 32, 128, precision="tf32"),
        Load("layer", "lstm", 256, 32, 128),
        Load("layer", "gru", 256, 32, 128),
        Load("layer", "lstm", 128, 32, 1024),
        Load("layer", "gru", 128, 32, 1024),
        Load("step", "lstm", 50, 256, 50),
        Load("step", "gru", 50, 256, 50),
    )
    for batch in (32, 256):
        for hidden in (64, 128):
            yield from (Load("layer", cell, hidden, batch, 50) for cell in CELLS)
    for cell in ("lstm", "gru"):
        yield Load("layer", cell, 128, 32, 50, norm="layer")
        yield Load("layer", cell, 512, 256, 128)
        yield Load("layer", cell, 512, 256, 128, precision="tf32")
        yield Load("step", cell, 128, 32, 128)
    # Long sequences last: a single step of a scan takes a second there.
    yield from (Load("layer", cell, 64, 32, 16384) for cell in CELLS)
    yield from (Load("layer", cell, 256, 256, 1024) for cell in CELLS)


PARITY = tuple((cell, norm) for norm in ("", "layer", "layer-sum") for cell in ("lstm", "gru", "rnn"))
"""(cell, norm) pairs of the parity block."""
GENERATION = tuple(Load("step", cell, 128, batch, 256) for cell in ("lstm", "gru") for batch in (1, 64))
"""Workloads of generation: `time_steps` outputs, each the next input."""
