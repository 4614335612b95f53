"""A model of piano rolls as a program from frames to the log-odds of each key in the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxseq.export.kinds.base import Kind
from jaxseq.export.program import Inputs, Outputs, Program
from jaxseq.music.corpora.pianoroll import KEYS
from jaxseq.nn import apply
from jaxseq.train.domains.base import RestoredRun
from jaxseq.train.domains.pianoroll import RollModel

if TYPE_CHECKING:
    from onnx import ModelProto


def of(run: RestoredRun) -> RollModel:
    """Return a restored run as a model of piano rolls, which the domain says it is."""
    assert isinstance(run, RollModel)
    return run


def program_of(run: RestoredRun) -> Program:
    """Return `RollModel.predict` as a program: `frames` "n t 88" give `log_odds` "n t 88"."""
    rolls = of(run)
    # As the program computes, at whatever precision the run was trained.
    rolls = rolls._replace(setup=rolls.setup.in_full())

    def function(inputs: Inputs) -> Outputs:
        return {"log_odds": apply.apply(rolls.setup.model, rolls.state.params, rolls.state.stats, inputs["frames"])}

    random = np.random.default_rng(0)
    return Program(
        function,
        {"frames": ("t", KEYS)},
        {"frames": np.dtype(np.float32)},
        result="log_odds",
        example={"frames": random.integers(0, 2, (3, 5, KEYS)).astype(np.float32)},
        own=lambda inputs: {"log_odds": rolls.predict(inputs["frames"])},
        least={"t": 1},
        grows=True,
    )


# The card -------------------------------------------------------------------------------------------------------------


def _title(run: RestoredRun) -> str:
    """Say what the model does."""
    model = of(run).experiment.model
    parts = []
    if model.convolutions:
        parts.append(f"{len(model.convolutions)} convolutions")
    if model.layers:
        parts.append(f"a {model.cell} of {model.hidden} units")
    network = " and ".join(parts)
    return (
        f"{network[0].upper()}{network[1:]}, to predict which of {KEYS} keys sound in the next frame of a piano roll."
    )


def _interface(run: RestoredRun) -> list[str]:
    """Say what goes in and comes out, a line each."""
    del run
    return [
        f'- `frames` "n t {KEYS}": 1 where a key sounds, else 0, in t frames; key k is MIDI note k + 21; float32',
        f'- result `log_odds` "n t {KEYS}": log p / (1 - p) of each key in the frame after each one, float32',
    ]


def _graph(run: RestoredRun, program: Program) -> ModelProto:
    """Return the ONNX graph of a model of piano rolls."""
    # Imported here: onnx is an optional package.
    from jaxseq.export.graphs import pianoroll as graph

    return graph.model_of(of(run), program)


KIND = Kind(program_of, _graph, title=_title, interface=_interface, tag="music")
"""Piano rolls: from frames to the log-odds of each key."""
