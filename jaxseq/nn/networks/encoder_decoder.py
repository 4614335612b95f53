"""An encoder of the window and a decoder of the horizon (Cho et al. 2014, arXiv:1406.1078; Sutskever, Vinyals & Le 2014).

The decoder starts from the encoder's carries and has a time step for each one that is forecast. It reads the position in
the horizon, the encoder's last output (Cho et al. 2014) and, where covariates are known ahead, those of the step's row.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from jaxseq.cells.base import Carry
from jaxseq.cells.padding import limit
from jaxseq.common import checks, precision
from jaxseq.nn.forecaster import Forecaster, Reading
from jaxseq.nn.networks.base import Kind, Use, needs_task, reads_forwards

NAME = "encoder-decoder"


class EncoderDecoder(Forecaster):
    """`Forecaster` whose horizon of `steps` time steps has recurrent layers of its own, "decoder", after the window's.

    The window's last time step is the first one of the decoder's input, as it has what is known of the first row ahead.
    """

    steps: int = 1

    @nn.compact
    @precision.in_full()
    def __call__(
        self,
        x: Float[Array, "b t d"],
        lengths: Integer[Array, "b"] | None = None,
        train: bool = False,
        carries: tuple[Carry, ...] | None = None,
        first: int | Integer[Array, ""] = 0,
        resets: Bool[Array, "b t"] | None = None,
    ) -> tuple[tuple[Carry, ...], Float[Array, "b k"]]:
        """Return the encoder's last carries and the predictions, "b k"; the arguments are those of `Forecaster`.

        Raises `ValueError` if a shape does not fit, and for what has no meaning before a decoder: carries of another call,
        resets, layers that read both ways, and predictions at every step.
        """
        checks.count(layers=self.layers, outputs=self.outputs, steps=self.steps)
        is_piece = carries is not None or resets is not None
        if is_piece or self.every_step or self.bidirectional:
            raise ValueError("an encoder reads whole windows, forwards; expected no carries, resets or every_step")
        if self.outputs % self.steps or self.beyond not in (0, self.steps - 1):
            raise ValueError(f"{self.outputs} outputs and {self.beyond} steps beyond fit no horizon of {self.steps}")

        window = x[:, : x.shape[1] - self.beyond]
        last_carries, _ = self._stack(window, None, Reading(lengths, train, first, resets))
        decoder = Forecaster(
            cell=self.cell,
            hidden=self.hidden,
            layers=self.layers,
            outputs=self.outputs // self.steps,
            every_step=True,
            norm=self.norm,
            norm_between=self.norm_between,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
            chunk=self.chunk,
            name="decoder",
        )
        decoded_lengths = None
        # Rows of padding stay out of the moments of a batch here, too.
        if lengths is not None:
            decoded_lengths = jnp.where(limit(lengths, 1) > 0, self.steps, 0)
        states = self._last_state(last_carries)
        _, each = decoder(self._ahead(x, states), decoded_lengths, train, carries=last_carries)

        predictions = each.reshape(each.shape[0], self.outputs)
        if self.skip:
            predictions += self._linear(x)
        return last_carries, predictions

    def _ahead(self, x: Float[Array, "b t d"], states: Float[Array, "b h"]) -> Float[Array, "b k e"]:
        """Return the decoder's inputs: position, the encoder's last output, and what is known of each row."""
        rows = x.shape[0]
        position = jnp.arange(1, self.steps + 1, dtype=x.dtype) / self.steps
        horizon = (rows, self.steps)
        columns = [
            jnp.broadcast_to(position[:, None], (*horizon, 1)),
            jnp.broadcast_to(states[:, None], (*horizon, states.shape[1])),
        ]
        # Without time steps beyond the window nothing is known of them.
        if self.beyond == self.steps - 1:
            first = x.shape[1] - self.steps
            columns.append(x[:, first:])
        return jnp.concatenate(columns, axis=2)


def _check(use: Use) -> None:
    reads_forwards(NAME, use)
    needs_task("direct", "decodes the whole horizon", use)


KIND = Kind(NAME, EncoderDecoder, _check, decodes=True)
