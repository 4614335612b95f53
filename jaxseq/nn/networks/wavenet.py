"""Dilated causal convolutions in the place of recurrent layers: a WaveNet without gates and skips (Géron 2019, chapter 15).

Layer i reads the time step and the one 2^(i mod 4) before it: eight layers see 31 time steps.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.cells import padding
from jaxseq.cells.base import Carry
from jaxseq.common.errors import UsageError
from jaxseq.nn.forecaster import Forecaster, Reading
from jaxseq.nn.networks.base import Kind, Use, needs_window, reads_forwards

NAME = "wavenet"
TIME_STEPS = 2
DILATIONS = (1, 2, 4, 8)
"""Time steps between the two that a layer reads, by layer and from the start again."""


class LastState(NamedTuple):
    """The state "b h" after each row's last time step, as the carry of a recurrent layer has it."""

    h: Float[Array, "b h"]


class WaveNet(Forecaster):
    """`Forecaster` of convolutions with `hidden` channels and rectified outputs; its cell is not read."""

    def _stack(
        self, x: Float[Array, "b t d"], carries: tuple[Carry, ...] | None, reading: Reading
    ) -> tuple[tuple[Carry, ...], Float[Array, "b t h"]]:
        if carries is not None or reading.resets is not None:
            raise ValueError(f"a network of the kind {NAME} reads whole windows; expected neither carries nor resets")
        for number in range(self.layers):
            inputs = x
            if number > 0:
                inputs = self._between(x, reading.lengths, reading.train, number)
            dilation = DILATIONS[number % len(DILATIONS)]
            layer = nn.Conv(
                self.hidden,
                (TIME_STEPS,),
                kernel_dilation=dilation,
                padding="CAUSAL",
                name=f"convolution_{number}",
            )
            x = nn.relu(layer(inputs))
        return (LastState(_last_of(x, reading)),), x


def _last_of(x: Float[Array, "b t h"], reading: Reading) -> Float[Array, "b h"]:
    """Return what follows each row's last valid time step."""
    if reading.lengths is None:
        return x[:, -1]
    last = padding.limit(reading.lengths, x.shape[1]) - 1
    return jnp.take_along_axis(x, jnp.maximum(last, 0)[:, None, None], axis=1)[:, 0]


def _check(use: Use) -> None:
    needs_window(NAME, use)
    reads_forwards(NAME, use)
    if use.recurrent_dropout:
        raise UsageError(
            "has no state to drop",
            where="--model.recurrent-dropout",
            got=use.recurrent_dropout,
            needed="0, or --model.dropout",
        )
    if use.norm not in ("none", "batch-between"):
        raise UsageError(
            "has no cell to normalise in", where="--model.norm", got=use.norm, needed="batch-between or none"
        )


KIND = Kind(NAME, WaveNet, _check, reads_cell=False)
