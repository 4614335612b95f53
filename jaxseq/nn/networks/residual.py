"""Residual connections around each layer but the first (Wu et al. 2016, arXiv:1609.08144, section 3.1; Kim, El-Khamy & Lee
2017, Interspeech): layer i reads x_i, and x_{i+1} = x_i + its outputs. The head reads the last sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
from jaxtyping import Array, Float

from jaxseq.cells.base import Carry
from jaxseq.nn.forecaster import Forecaster
from jaxseq.nn.networks.base import Kind, needs_layers


class Residual(Forecaster):
    """`Forecaster` whose layers from the second on add to what they read.

    What is added to is the sum itself, before batch norm and dropout between the layers.
    """

    @nn.nowrap
    def _joined(
        self, number: int, below: Float[Array, "b t d"], outputs: Float[Array, "b t h"]
    ) -> Float[Array, "b t h"]:
        # The inputs have another width than the first layer.
        if number == 0:
            return outputs
        return below + outputs

    @nn.nowrap
    def _last_state(self, carries: Sequence[Carry]) -> Float[Array, "b h"]:
        total = carries[0].h
        for carry in carries[1:]:
            total = total + carry.h
        return total


KIND = Kind("residual", Residual, partial(needs_layers, "residual"))
