"""A causal convolution below the recurrent layers (Géron 2019, chapter 15, without its stride of 2)."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from jaxseq.cells.base import Carry
from jaxseq.nn.forecaster import Forecaster, Reading
from jaxseq.nn.networks.base import Kind, Use, needs_window

NAME = "convolved"
TIME_STEPS = 4
"""Time steps that an output of the convolution is a linear map of: the present one and those before it."""


class Convolved(Forecaster):
    """`Forecaster` whose first layer reads `hidden` linear maps of the last `TIME_STEPS` inputs, zeros before the first."""

    def _stack(
        self, x: Float[Array, "b t d"], carries: tuple[Carry, ...] | None, reading: Reading
    ) -> tuple[tuple[Carry, ...], Float[Array, "b t h"]]:
        if carries is not None or reading.resets is not None:
            # The carries lack the inputs that the convolution reads before the first time step.
            raise ValueError(f"a network of the kind {NAME} reads whole windows; expected neither carries nor resets")
        x = nn.Conv(self.hidden, (TIME_STEPS,), padding="CAUSAL", name="convolution")(x)
        return super()._stack(x, carries, reading)


def _check(use: Use) -> None:
    needs_window(NAME, use)


KIND = Kind(NAME, Convolved, _check)
