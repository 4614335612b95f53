"""Notes that are never drawn, by rules of the style."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jaxseq.music.networks.interval_features import is_note
from jaxseq.music.scales import FIFTH, OCTAVE
from jaxseq.music.tokens import VOCABULARY


def parallel(
    last: Int[Array, "b"],
    before: Int[Array, "b n"],
    now: Int[Array, "b n"],
) -> Bool[Array, "b v"]:
    """Return which notes would make parallel fifths, octaves or unisons with a voice above.

    `last` is the last note of the voice itself, `before` and `now` are the notes of the voices above. Parallels are those
    that `music.evaluation.voice_leading` counts. A symbol that is no note makes none.
    """
    motion = now - before
    target = last[:, None] + motion
    interval = (now - target) % OCTAVE
    is_perfect = (interval == 0) | (interval == FIFTH)
    sounding = is_note(now) & is_note(before) & is_note(last)[:, None]
    # Two voices that both stay are no parallels.
    excluded = sounding & (motion != 0) & is_perfect

    is_target = jnp.arange(VOCABULARY) == target[..., None]
    return (is_target & excluded[..., None]).any(axis=1)
