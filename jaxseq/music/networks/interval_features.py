"""Notes by their intervals: what a voice is told of the voices above as motion and distance, and logits that move with the
notes that they are reckoned from. Both are the same in every key.

Symbols are those of `music.tokens`: 1 to 46 are notes, a semitone apart; all else has no interval.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxseq.music.tokens import VOCABULARY

NOTES = VOCABULARY - 1
INTERVALS = 2 * NOTES - 1
"""From 45 semitones down to 45 up."""
OCTAVE = 12


class Heard(nn.Module):
    """Embeds how the voices above have just moved, and how far they stood above this one: "... v 2e"."""

    features: int

    @nn.compact
    def __call__(self, before: Int[Array, "*b v"], now: Int[Array, "*b v"], mine: Int[Array, "*b"]) -> Array:
        """`before` and `now` are the notes of the voices above, `mine` this voice's last one."""
        moved, apart = between(now, before), between(before, mine[..., None])
        pitch_class = jnp.where(apart == 0, 0, (apart - NOTES) % OCTAVE + 1)
        motion = nn.Embed(INTERVALS + 1, self.features, name="motions")(moved)
        distance = nn.Embed(INTERVALS + 1, self.features, name="distances")(apart)
        return jnp.concatenate(
            [motion, distance + nn.Embed(OCTAVE + 1, self.features, name="classes")(pitch_class)], axis=-1
        )


class FromAnchors(nn.Module):
    """Logits of a note from its interval to each of several anchors: the voice's own last note, and the voices above.

    Each anchor has `rank` numbers of its own, and a table says what an interval of so many semitones makes of them; it is a
    row for the interval and one for its pitch class, so that what is learnt of a fifth is known of a twelfth.
    """

    rank: int
    anchors: int

    @nn.compact
    def __call__(self, z: Float[Array, "*b h"], anchors: Int[Array, "*b a"]) -> Float[Array, "*b v"]:
        """`z` is what the voice knows; an anchor that is no note adds nothing, nor is there anything for a rest."""
        said = nn.Dense(self.rank * self.anchors, name="said")(z)
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)
        tables = self.param("tables", init, (2, INTERVALS + OCTAVE, self.rank))
        index = jnp.arange(INTERVALS)
        logits = jnp.zeros((*z.shape[:-1], VOCABULARY), z.dtype)
        for number in range(self.anchors):
            table = tables[min(number, 1)]
            rows = table[index] + table[INTERVALS + (index - NOTES + 1) % OCTAVE]
            mine = said[..., number * self.rank : (number + 1) * self.rank]
            logits = logits + around(mine @ rows.T, anchors[..., number])
        return logits


def is_note(symbols: Int[Array, "*b"]) -> Bool[Array, "*b"]:
    """Which symbols are notes: no rest, no start, nothing masked."""
    return (symbols > 0) & (symbols <= NOTES)


def between(high: Int[Array, "*#b"], low: Int[Array, "*#b"]) -> Int[Array, "*#b"]:
    """Semitones from `low` up to `high`, as 1 (45 down) to 91 (45 up); 0 where either is no note."""
    return jnp.where(is_note(high) & is_note(low), high - low + NOTES, 0)


def around(by_interval: Float[Array, "*b i"], anchor: Int[Array, "*b"]) -> Float[Array, "*b v"]:
    """Embed intervals as the notes at that distance from the anchor; 0 for a rest, and without a note."""
    there = is_note(anchor)[..., None]
    index = jnp.arange(NOTES) + NOTES - jnp.where(there, anchor[..., None], 1)
    found = jnp.where(there, jnp.take_along_axis(by_interval, index, axis=-1), 0)
    return jnp.concatenate([jnp.zeros_like(found[..., :1]), found], axis=-1)
