"""A model of chorales as an ONNX graph: from notes to symbols, input rows, logits, and log-probabilities.

Rows are laid out with the batch first, as in `music.networks.inputs`, and the networks compute with time first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import onnx

from jaxseq.common.arrays import Variables
from jaxseq.common.errors import UsageError
from jaxseq.export.graphs import builder, chord_voices, layers
from jaxseq.export.graphs.builder import Graph, Value, join
from jaxseq.export.graphs.chord_voices import VoiceInputs
from jaxseq.export.program import Program
from jaxseq.music import conditions, sampling, tokens
from jaxseq.music.networks.inputs import LONGEST
from jaxseq.music.networks.layers import BOOK_EPSILON, VOICE_COUNT
from jaxseq.music.piece import BAR, REST
from jaxseq.train.domains.chorales import Composer
from jaxseq.train.experiments import chorale_networks


class Piece(NamedTuple):
    """Symbols "n t 4" of pieces, their positions in the bar "n t", and whether a start symbol is read."""

    symbols: Value
    positions: Value
    started: bool


def model_of(composer: Composer, program: Program) -> onnx.ModelProto:
    """Return the graph of a model of chorales, checked by onnx. Raises `UsageError` for layers that ONNX lacks."""
    options = composer.experiment.model
    network = NETWORKS.get(type(options))
    if network is None:
        name = type(options).__qualname__
        raise UsageError("the graph has no such network", where="--model", got=name, needed=layers.WAY_OUT)
    layers.check_recurrent(options.cell, options.norm)

    graph = Graph()
    symbols = _symbols(graph.input("notes"), composer.fills)
    positions = graph.input("positions").minimum(np.int32(BAR - 1))
    piece = Piece(symbols, positions, composer.experiment.started)

    logits = network(composer, piece)
    log_p = logits.apply("LogSoftmax", axis=-1)
    by_note = _by_note(log_p, composer)
    _only_of_notes(by_note, symbols).output(program.result)
    shape = ["n", "t", VOICE_COUNT, tokens.VOCABULARY]
    return builder.model(graph, program, {program.result: shape}, np.float32)


# From notes to rows ---------------------------------------------------------------------------------------------------


def _symbols(notes: Value, fills: bool) -> Value:
    """Add the symbols of MIDI numbers, "n t 4"; -1 for a note out of range."""
    above = notes >= np.int32(tokens.LOWEST)
    below = notes <= np.int32(tokens.HIGHEST)
    pitches = notes - np.int32(tokens.LOWEST - 1)
    symbols = (above & below).where(pitches, np.int32(-1))

    is_rest = notes.equals(np.int32(REST))
    symbols = is_rest.where(np.int32(0), symbols)
    if not fills:
        return symbols
    is_free = notes.equals(np.int32(sampling.FREE))
    return is_free.where(np.int32(tokens.MASKED), symbols)


def _before(symbols: Value, first: int) -> Value:
    """Add the symbols a step earlier along the second axis, behind a first one."""
    # As many rows and voices as there are.
    zeros = symbols.cut(0, 1) * np.int32(0)
    start = zeros + np.int32(first)
    earlier = symbols.cut(0, -1)
    return join(start, earlier, axis=1)


def _lasted(symbols: Value, before: Value) -> Value:
    """Add the steps that each note of the previous chord has lasted, "n t 4": `LONGEST` at most, 0 before the first."""
    one = np.int32(1)
    zeros = symbols * np.int32(0)
    steps = (zeros + one).running_total(axis=1)

    # The step of the last change is a maximum over the longest duration, as ONNX has no running one.
    is_held = symbols.equals(before)
    changes = is_held.where(one, steps)
    by_voice = changes.cast(np.float32).turn(0, 2, 1)
    padded = by_voice.pad(LONGEST - 1, axis=2)
    last = padded.apply("MaxPool", kernel_shape=[LONGEST])
    last_change = last.turn(0, 2, 1).cast(np.int32)

    since = steps - last_change + one
    durations = since.minimum(np.int32(LONGEST))
    return join(zeros.cut(0, 1), durations.cut(0, -1), axis=1)


def _embedded(table: Value, symbols: Value) -> Value:
    """Add the embeddings of the symbols of all voices side by side, from "t n 4" to "t n e"."""
    by_voice = layers.embedding(table, symbols)
    return by_voice.shape(0, 0, -1)


# The networks ---------------------------------------------------------------------------------------------------------


def _note_net(composer: Composer, piece: Piece) -> Value:
    """Add a `NoteNet`, and return its logits, "n m v"."""
    params = composer.state.params
    options = composer.experiment.model
    assert isinstance(options, chorale_networks.Notes)

    flat = piece.symbols.shape(0, -1)
    read = _before(flat, tokens.START)
    if not piece.started:
        # The first note is given, and stands before the second one.
        read = read.cut(1)
    notes = flat.graph.constant(params["notes"]["embedding"])
    z = layers.embedding(notes, read.turn(1, 0))
    if options.places:
        table = flat.graph.constant(params["places"]["embedding"])
        places = _places(piece).turn(1, 0)
        z = z + layers.embedding(table, places)

    for number in range(len(options.convolutions)):
        convolution = params[f"convolution_{number}"]
        z = layers.causal_convolution(convolution, z, 2**number)
        if options.norm_convolutions:
            name = f"norm_{number}"
            stats = composer.state.stats["batch_stats"][name]
            moments = layers.Moments(params[name], stats, BOOK_EPSILON)
            z = layers.batch_norm(moments, z)

    stack = layers.stack_of(options, params["stack"])
    states = layers.recurrent(stack, z)
    logits = layers.dense(params["head"], states.steps)
    return logits.turn(1, 0, 2)


def _places(piece: Piece) -> Value:
    """Add voice and position in the bar of each note as one number, "n m"."""
    codes = BAR * np.arange(VOICE_COUNT, dtype=np.int32)
    by_voice = piece.positions.expand(2) + codes
    places = by_voice.shape(0, -1)
    if piece.started:
        return places
    return places.cut(1)


def _chord_net(composer: Composer, piece: Piece) -> Value:
    """Add a `ChordNet`, and return its logits, "n m v"."""
    params = composer.state.params
    options = composer.experiment.model
    assert isinstance(options, chorale_networks.Chords)
    # The longest passage is found step by step, in a loop that the graph lacks.
    if options.reprises:
        needed = f"a run with --model.no-reprises, or {layers.WAY_OUT}"
        raise UsageError("the graph has no reprises", where="--model.reprises", got=True, needed=needed)

    first = tokens.MASKED
    if piece.started:
        first = tokens.START
    before = _before(piece.symbols, first)
    lasted = _lasted(piece.symbols, before).turn(1, 0, 2)
    before = before.turn(1, 0, 2)
    chord = piece.symbols.turn(1, 0, 2)
    positions = piece.positions.turn(1, 0)

    graph = piece.symbols.graph
    notes = graph.constant(params["notes"]["embedding"])
    lasting = graph.constant(params["lasting"]["embedding"])
    places = graph.constant(params["places"]["embedding"])
    columns = [
        _embedded(notes, before),
        _embedded(lasting, lasted),
        layers.embedding(places, positions),
    ]
    if options.conditions:
        columns.append(_unknown(params, positions))
    seen = join(*columns, axis=2)
    stack = layers.stack_of(options, params["stack"])
    states = layers.recurrent(stack, seen)
    context = join(states.steps, seen, axis=2)

    inputs = VoiceInputs(context, before, chord, notes)
    logits = []
    for number in range(VOICE_COUNT):
        logits.append(chord_voices.voice(params, inputs, number, options.relative))
    return _by_piece(logits)


def _unknown(params: Variables, positions: Value) -> Value:
    """Add what a network reads of a piece of which no condition is known, the same at every step, "t n e"."""
    rows = [params[f"known_{number}"]["embedding"][conditions.UNKNOWN] for number in range(conditions.WIDTH)]
    table = positions.graph.constant(np.sum(rows, axis=0)[None])
    return layers.embedding(table, positions * np.int32(0))


def _fill_net(composer: Composer, piece: Piece) -> Value:
    """Add a `FillNet`, and return its logits, "n m v"."""
    params = composer.state.params
    options = composer.experiment.model
    chord = piece.symbols.turn(1, 0, 2)
    positions = piece.positions.turn(1, 0)

    graph = piece.symbols.graph
    notes = graph.constant(params["notes"]["embedding"])
    places = graph.constant(params["places"]["embedding"])
    columns = join(_embedded(notes, chord), layers.embedding(places, positions), axis=2)
    seen = layers.dense(params["seen"], columns).apply("Relu")

    stack = layers.stack_of(options, params["stack"])
    context = layers.recurrent(stack, seen).steps
    logits = []
    for number in range(VOICE_COUNT):
        z = layers.dense(params[f"voice_{number}"], context).apply("Relu")
        logits.append(layers.dense(params[f"head_{number}"], z))
    return _by_piece(logits)


def _by_piece(logits: list[Value]) -> Value:
    """Add the logits of all voices, "t n v" each, as "n m v"."""
    by_step = join(*logits, axis=2)
    turned = by_step.turn(1, 0, 2)
    return turned.shape(0, -1, tokens.VOCABULARY)


NETWORKS: Mapping[type, Callable[[Composer, Piece], Value]] = MappingProxyType(
    {
        chorale_networks.Notes: _note_net,
        chorale_networks.Chords: _chord_net,
        chorale_networks.Fills: _fill_net,
    }
)
"""The networks by the class of their options."""


# Results --------------------------------------------------------------------------------------------------------------


def _by_note(log_p: Value, composer: Composer) -> Value:
    """Add log-probabilities "n m v" in the place of each note, "n t 4 v"."""
    if not composer.experiment.started:
        unknown = log_p.cut(0, 1) * np.float32(np.nan)
        # A network of chords says something of the first note, which it has not learnt.
        if composer.experiment.model.per_step == 1:
            log_p = log_p.cut(1)
        log_p = join(unknown, log_p, axis=1)
    return log_p.shape(0, -1, VOICE_COUNT, tokens.VOCABULARY)


def _only_of_notes(log_p: Value, symbols: Value) -> Value:
    """Add the log-probabilities of the rows whose notes all have a symbol; NaN for the others."""
    least = symbols.apply("ReduceMin", axes=[1, 2], keepdims=1)
    has_symbols = least >= np.int32(0)
    return has_symbols.expand(3).where(log_p, np.float32(np.nan))
