"""A model of chorales as a program from notes to the log-probabilities of each note."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxseq.export.kinds.base import Kind
from jaxseq.export.program import Inputs, Outputs, Program
from jaxseq.music import sampling, tokens
from jaxseq.music.piece import BAR, REST, VOICES
from jaxseq.nn import apply
from jaxseq.train.domains.base import RestoredRun
from jaxseq.train.domains.chorales import Composer

if TYPE_CHECKING:
    from onnx import ModelProto


def of(run: RestoredRun) -> Composer:
    """Return a restored run as a model of chorales, which the domain says it is."""
    assert isinstance(run, Composer)
    return run


def program_of(run: RestoredRun) -> Program:
    """Return `Composer.predict` as a program: `notes` "n t 4" and `positions` "n t" give `log_probabilities` "n t 4 v".

    A row with a note out of range is NaN, as a program raises no error.
    """
    composer = of(run)
    # As the program computes, at whatever precision the run was trained.
    composer = composer._replace(setup=composer.setup.in_full())
    model = composer.setup.model
    started = composer.experiment.started

    def function(inputs: Inputs) -> Outputs:
        notes = inputs["notes"]
        symbols = _symbols(notes, composer.fills)

        def row(symbols: Int[Array, "t 4"], positions: Int[Array, "t"]) -> Array:
            return jnp.asarray(composer.experiment.model.rows(symbols, positions, not started).x)

        x = jax.vmap(row)(symbols, inputs["positions"])
        logits = apply.apply(model, composer.state.params, composer.state.stats, x)
        log_p = jax.nn.log_softmax(logits).reshape(x.shape[0], -1, tokens.VOCABULARY)
        # The first note of a window is given: nothing is said of it, or nothing that was learnt.
        if not started:
            known = log_p[:, -(len(VOICES) * notes.shape[1] - 1) :]
            log_p = jnp.concatenate([jnp.full_like(log_p[:, :1], jnp.nan), known], axis=1)

        has_symbols = jnp.all(symbols >= 0, axis=(1, 2))
        is_row = has_symbols[:, None, None, None]
        by_note = log_p.reshape(*notes.shape, -1)
        return {"log_probabilities": jnp.where(is_row, by_note, jnp.nan)}

    integers = np.dtype(np.int32)
    return Program(
        function,
        {"notes": ("t", len(VOICES)), "positions": ("t",)},
        {"notes": integers, "positions": integers},
        result="log_probabilities",
        example=_example(composer.fills),
        own=lambda inputs: {"log_probabilities": composer.predict(**inputs)},
        least={"t": 1},
        grows=True,
    )


def _symbols(notes: Int[Array, "n t 4"], fills: bool) -> Int[Array, "n t 4"]:
    """Return the symbols of MIDI numbers; -1 for a note out of range."""
    in_range = (notes >= tokens.LOWEST) & (notes <= tokens.HIGHEST)
    symbols = jnp.where(in_range, notes - tokens.LOWEST + 1, -1)
    symbols = jnp.where(notes == REST, 0, symbols)
    if fills:
        symbols = jnp.where(notes == sampling.FREE, tokens.MASKED, symbols)
    return symbols


def _example(fills: bool, rows: int = 3, steps: int = 5) -> dict[str, np.ndarray]:
    """Return made-up pieces with rests, held notes and, where a model fills gaps, hidden notes."""
    random = np.random.default_rng(0)
    notes = random.integers(tokens.LOWEST, tokens.HIGHEST + 1, (rows, steps, len(VOICES)))
    notes[:, 2] = notes[:, 1]
    notes[:, 3, 1] = REST
    if fills:
        notes[:, 1:3, 2] = sampling.FREE
    positions = random.integers(0, BAR, (rows, 1)) + np.arange(steps)
    return {"notes": notes.astype(np.int32), "positions": (positions % BAR).astype(np.int32)}


# The card -------------------------------------------------------------------------------------------------------------


def _title(run: RestoredRun) -> str:
    """Say what the model does."""
    composer = of(run)
    model = composer.experiment.model
    given = "the notes before it, and the voices above it in its chord"
    if composer.fills:
        given = "all notes that are not hidden"
    return f"A {model.cell} of {model.hidden} units that predicts each note of a chorale for four voices from {given}."


def _interface(run: RestoredRun) -> list[str]:
    """Say what goes in and comes out, a line each."""
    composer = of(run)
    hidden = ""
    if composer.fills:
        hidden = f", {sampling.FREE} a hidden note"
    notes = f"MIDI numbers of soprano, alto, tenor and bass in t sixteenths, {tokens.LOWEST} to {tokens.HIGHEST}"
    lines = [
        f'- `notes` "n t 4": {notes}; {REST} is a rest{hidden}; int32. A row with another number gives NaN',
        '- `positions` "n t": sixteenths since the bar line, int32',
        f'- result `log_probabilities` "n t 4 {tokens.VOCABULARY}": of a rest and the notes from {tokens.LOWEST} on, '
        "in the place of each note; float32",
    ]
    if not composer.fills:
        lines.append("- the next chord is that of a further step: its soprano does not depend on what stands there")
    if not composer.experiment.started:
        lines.append("- the first note of a row is given, and has no probability: NaN")
    return lines


def _graph(run: RestoredRun, program: Program) -> ModelProto:
    """Return the ONNX graph of a model of chorales."""
    # Imported here: onnx is an optional package.
    from jaxseq.export.graphs import chorales as graph

    return graph.model_of(of(run), program)


KIND = Kind(program_of, _graph, title=_title, interface=_interface, tag="music")
"""Chorales: from notes to the log-probabilities of each."""
