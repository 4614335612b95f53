"""Features and logits of notes by their intervals, which are the same in every key.

Symbols are those of `music.tokens`: 1 to 46 are notes, a semitone apart; all others have no interval.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxseq.music.scales import OCTAVE
from jaxseq.music.tokens import VOCABULARY

NOTES = VOCABULARY - 1
INTERVALS = 2 * NOTES - 1
"""Number of intervals, from 45 semitones down to 45 up."""


class Heard(nn.Module):
    """Embeds the last motion of the voices above, and their distance to this voice."""

    features: int

    @nn.compact
    def __call__(
        self,
        before: Int[Array, "*b n"],
        now: Int[Array, "*b n"],
        own_last: Int[Array, "*b"],
    ) -> Float[Array, "*b n _"]:
        """Return the features of each voice above, motion beside distance.

        before, now  notes of the voices above, in the previous chord and in this one
        own_last     this voice's note in the previous chord
        """
        moved = between(now, before)
        apart = between(before, own_last[..., None])
        # 0 stays the class of a pair without an interval.
        pitch_class = jnp.where(apart == 0, 0, (apart - NOTES) % OCTAVE + 1)

        motion = nn.Embed(INTERVALS + 1, self.features, name="motions")(moved)
        distance = nn.Embed(INTERVALS + 1, self.features, name="distances")(apart)
        by_class = nn.Embed(OCTAVE + 1, self.features, name="classes")(pitch_class)
        return jnp.concatenate([motion, distance + by_class], axis=-1)


class FromAnchors(nn.Module):
    """Logits of a note from its interval to each anchor: the voice's own last note, and the notes of the voices above.

    Each anchor has `rank` features of the voice's state, which a table scores for every interval. A score has a row of
    the interval and a row of its pitch class, so that a twelfth shares what is learnt of a fifth.
    """

    rank: int
    anchors: int

    @nn.compact
    def __call__(self, z: Float[Array, "*b h"], anchors: Int[Array, "*b a"]) -> Float[Array, "*b v"]:
        """Return logits from the voice's state `z`; rests, and anchors that are no notes, add 0."""
        anchor_features = nn.Dense(self.rank * self.anchors, name="said")(z)
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)
        tables = self.param("tables", init, (2, INTERVALS + OCTAVE, self.rank))

        interval = jnp.arange(INTERVALS)
        logits = jnp.zeros((*z.shape[:-1], VOCABULARY), z.dtype)
        for number in range(self.anchors):
            # All voices above share a table: an interval means the same to each.
            table = tables[min(number, 1)]
            rows = table[interval] + table[INTERVALS + (interval - NOTES + 1) % OCTAVE]
            features = anchor_features[..., number * self.rank : (number + 1) * self.rank]
            logits = logits + around(features @ rows.T, anchors[..., number])
        return logits


def is_note(symbols: Int[Array, "*b"]) -> Bool[Array, "*b"]:
    """Return which symbols are notes: no rest, no start symbol, nothing masked."""
    return (symbols > 0) & (symbols <= NOTES)


def between(high: Int[Array, "*#b"], low: Int[Array, "*#b"]) -> Int[Array, "*#b"]:
    """Return the semitones from `low` up to `high`, as 1 (45 down) to 91 (45 up); 0 where either is no note."""
    return jnp.where(is_note(high) & is_note(low), high - low + NOTES, 0)


def around(by_interval: Float[Array, "*b i"], anchor: Int[Array, "*b"]) -> Float[Array, "*b v"]:
    """Turn scores by interval into scores by note, counted from the anchor; 0 for a rest, and if the anchor is no note."""
    is_anchor = is_note(anchor)[..., None]
    index = jnp.arange(NOTES) + NOTES - jnp.where(is_anchor, anchor[..., None], 1)
    by_note = jnp.where(is_anchor, jnp.take_along_axis(by_interval, index, axis=-1), 0)
    rest = jnp.zeros_like(by_note[..., :1])
    return jnp.concatenate([rest, by_note], axis=-1)
