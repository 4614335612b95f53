"""The voices of a `ChordNet` as nodes of ONNX: each reads the notes above it, by themselves and by their intervals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxseq.common.arrays import Variables
from jaxseq.export.graphs import layers
from jaxseq.export.graphs.builder import Value, join
from jaxseq.music.networks.interval_features import INTERVALS, NOTES, OCTAVE
from jaxseq.music.networks.layers import RANK


class VoiceInputs(NamedTuple):
    """Inputs of all voices.

    context  of every step, "t n c"
    before   symbols of the previous chord, "t n 4"
    chord    symbols of this one
    notes    table of the notes' embedding
    """

    context: Value
    before: Value
    chord: Value
    notes: Value


def voice(
    params: Variables,
    inputs: VoiceInputs,
    number: int,
    relative: bool,
) -> Value:
    """Add the logits of a voice, "t n v", given this chord's notes above it."""
    own_last = inputs.before.take([number])
    parts = [inputs.context]
    # The soprano has no voice above it.
    if number > 0:
        above = inputs.chord.take(range(number))
        embedded = layers.embedding(inputs.notes, above)
        parts.append(embedded.shape(0, 0, -1))
        if relative:
            above_before = inputs.before.take(range(number))
            heard = _heard(params["heard"], before=above_before, now=above, own_last=own_last)
            parts.append(heard)

    seen = join(*parts, axis=2)
    z = layers.dense(params[f"voice_{number}"], seen).apply("Relu")
    logits = layers.dense(params[f"head_{number}"], z)
    if not relative:
        return logits

    anchors = [own_last]
    for number_above in range(number):
        anchors.append(inputs.chord.take([number_above]))
    return logits + _from_anchors(params[f"from_anchors_{number}"], z, anchors)


def _heard(
    params: Variables,
    *,
    before: Value,
    now: Value,
    own_last: Value,
) -> Value:
    """Add the features of the voices above by their motion and their distance, "t n e", as `Heard` computes them.

    before, now  symbols of the voices above, in the previous chord and in this one, "t n k"
    own_last     this voice's symbol in the previous chord, "t n 1"
    """
    intervals = np.arange(INTERVALS + 1)
    # 0 stays the class of a pair without an interval.
    pitch_class = np.where(intervals == 0, 0, (intervals - NOTES) % OCTAVE + 1)
    by_class = np.asarray(params["classes"]["embedding"])[pitch_class]
    by_interval = np.asarray(params["distances"]["embedding"])

    motions = now.graph.constant(params["motions"]["embedding"])
    distances = now.graph.constant(by_interval + by_class)
    motion = layers.embedding(motions, _between(now, before))
    distance = layers.embedding(distances, _between(before, own_last))
    by_voice = join(motion, distance, axis=3)
    return by_voice.shape(0, 0, -1)


def _between(high: Value, low: Value) -> Value:
    """Add the semitones from `low` up to `high`, as 1 (45 down) to 91 (45 up); 0 where either is no note."""
    are_notes = _is_note(high) & _is_note(low)
    interval = high - low + np.int32(NOTES)
    return are_notes.where(interval, np.int32(0))


def _is_note(symbols: Value) -> Value:
    """Add which symbols are notes: no rest, no start symbol, nothing masked."""
    above = symbols >= np.int32(1)
    below = symbols <= np.int32(NOTES)
    return above & below


def _from_anchors(params: Variables, z: Value, anchors: list[Value]) -> Value:
    """Add the logits of a voice from its interval to each anchor, "t n v", as `FromAnchors` computes them.

    z        state of the voice, "t n h"
    anchors  symbols of each anchor, "t n 1"
    """
    features = layers.dense(params["said"], z)
    columns = features.expand(3)
    tables = []
    for table in np.asarray(params["tables"]):
        tables.append(z.graph.constant(_by_interval(table)))

    scores = []
    for number, anchor in enumerate(anchors):
        # All voices above share a table: an interval means the same to each.
        table = tables[min(number, 1)]
        column = columns.cut(number * RANK, (number + 1) * RANK, axis=2)
        scores.append(_around(table, column, anchor))

    # A rest stands before the notes, and has no interval.
    first, *others = scores
    return first.apply("Sum", *others).pad(1, axis=2)


def _by_interval(table: Float[np.ndarray, "_ r"]) -> Float[np.ndarray, "i r"]:
    """Return the row of each interval: its own, and that of its pitch class."""
    interval = np.arange(INTERVALS)
    pitch_class = (interval - NOTES + 1) % OCTAVE
    return table[interval] + table[INTERVALS + pitch_class]


def _around(table: Value, column: Value, anchor: Value) -> Value:
    """Add scores by note, "t n 46", counted from the anchor; 0 if the anchor is no note.

    table   rows of the intervals, "i r"
    column  features that they are multiplied by, "t n r 1"
    anchor  its symbol, "t n 1"
    """
    is_anchor = _is_note(anchor)
    # Any note in the place of one that there is not, so that each interval is one.
    note = is_anchor.where(anchor, np.int32(1))
    from_lowest = anchor.graph.constant(np.arange(NOTES) + NOTES, np.int32)
    interval = from_lowest - note

    # ONNX's own implementation gathers no more than 64 entries a row, so the rows are taken before the product.
    products = table.rows_of(interval) @ column
    by_note = products.shape(0, 0, -1)
    return is_anchor.where(by_note, np.float32(0))
