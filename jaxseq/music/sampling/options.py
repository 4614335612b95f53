"""How notes are drawn: temperature, truncation and rules."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.music.tokens import VOCABULARY

FREE = -1
"""Stands for a note that is to be drawn."""


class Thresholds(NamedTuple):
    """The numbers of `SamplingOptions` as arrays, so that other values need no new compilation."""

    temperature: Float[Array, ""]
    note_temperature: Float[Array, ""]
    top_k: Int[Array, ""]
    top_p: Float[Array, ""]


class SamplingOptions(NamedTuple):
    """How notes are drawn; the defaults draw from the network's distribution unchanged.

    temperature      divides the logits; must be above 0
    note_temperature divides the logits of the notes that a voice can move to once more, with the chance that it moves
                     left as it is; must be above 0
    top_k            number of most likely notes to draw from
    top_p            probability that the notes to draw from reach together
    avoid_parallels  whether to exclude notes that `parallel` names
    sweeps           over a piece, by `gibbs`
    """

    temperature: float = 1.0
    top_k: int = VOCABULARY
    top_p: float = 1.0
    avoid_parallels: bool = False
    note_temperature: float = 1.0
    sweeps: int = 128

    @property
    def truncates(self) -> bool:
        """Whether top-k or top-p excludes any note."""
        return self.top_k < VOCABULARY or self.top_p < 1

    @property
    def sharpens_moves(self) -> bool:
        """Whether the notes that a voice moves to have a temperature of their own."""
        return self.note_temperature != 1

    @property
    def thresholds(self) -> Thresholds:
        """The numbers as arrays."""
        return Thresholds(
            temperature=jnp.float32(self.temperature),
            note_temperature=jnp.float32(self.note_temperature),
            top_k=jnp.int32(self.top_k),
            top_p=jnp.float32(self.top_p),
        )


UNCHANGED = SamplingOptions()
