"""Draw pieces forward in time, by networks that read the past."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxseq.common import row_counts
from jaxseq.common.arrays import Key, Tree
from jaxseq.music import conditions
from jaxseq.music.networks.chord_net import ChordNet
from jaxseq.music.networks.layers import VOICE_COUNT
from jaxseq.music.networks.note_net import NoteNet
from jaxseq.music.sampling.by_chord import by_chord
from jaxseq.music.sampling.by_note import by_note
from jaxseq.music.sampling.choose import Program
from jaxseq.music.sampling.drawn import UNGUIDED, Drawn, Guide, Keys, first_pieces, template_of
from jaxseq.music.sampling.options import FREE, UNCHANGED, SamplingOptions
from jaxseq.music.tokens import VOCABULARY


def ancestral(
    model: NoteNet | ChordNet,
    variables: Tree,
    key: Key,
    forced: Int[np.ndarray, "b t 4"],
    positions: Int[np.ndarray, "t"],
    options: SamplingOptions = UNCHANGED,
    started: bool = True,
    guide: Guide = UNGUIDED,
) -> Drawn:
    """Draw pieces forward in time; within a step, in the order of the voices, each given everything before it.

    forced     symbols that stay, and `FREE` where one is to be drawn
    positions  sixteenths since the bar line
    started    whether the network was trained on pieces that begin with a start symbol
    guide      guidance beyond the given notes

    Without a start symbol, a network has no distribution of the first note. Raises `ValueError` if that is free in any
    row; its log-probability is NaN.
    """
    first_notes = np.asarray(forced)[:, 0, 0]
    if not started and (first_notes == FREE).any():
        raise ValueError("forced[:, 0, 0] is free; the model was trained on windows, whose first note is given")

    count, steps, _ = forced.shape
    known = guide.known
    if isinstance(model, ChordNet) and model.conditions and known is None:
        known = np.zeros((count, steps, conditions.WIDTH), np.int32)
    draw_all = by_chord
    shape: tuple[int, ...] = (steps, VOICE_COUNT, VOCABULARY)
    if isinstance(model, NoteNet):
        draw_all = by_note
        notes = VOICE_COUNT * steps
        # A first note that is given is read, not drawn.
        if not started:
            notes -= 1
        shape = (notes, VOCABULARY)

    rows = row_counts.shared(count)
    if known is not None:
        known = row_counts.filled_up(known, rows)
    noise = _noise(guide.keys(key, count, rows), shape)
    drawn = draw_all(
        model,
        Program(options.truncates, options.avoid_parallels, started, options.sharpens_moves),
        variables,
        noise,
        template=template_of(row_counts.filled_up(forced, rows), positions, known, guide.weights),
        thresholds=options.thresholds,
    )
    return first_pieces(drawn, count)


@partial(jax.jit, static_argnames="shape")
def _noise(keys: Keys, shape: tuple[int, ...]) -> Float[Array, "*n b v"]:
    """Draw the noise of all notes before the scan over them: drawn note by note it would take a quarter of the time."""
    by_piece = jax.vmap(lambda key: jax.random.gumbel(key, shape))(keys)
    return jnp.moveaxis(by_piece, 0, -2)
