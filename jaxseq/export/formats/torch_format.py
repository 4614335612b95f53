"""torch: the weights of a forecaster for `nn.RNN`, `nn.LSTM` or `nn.GRU` and `nn.Linear`."""

from __future__ import annotations

import numpy as np

from jaxseq import cells
from jaxseq.cells import convert
from jaxseq.common.errors import UsageError
from jaxseq.export.formats.base import as_safetensors
from jaxseq.export.kinds import forecasts
from jaxseq.nn import fields
from jaxseq.train.domains.base import RestoredRun
from jaxseq.train.forecaster import Trained

LAYERS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
"""Layer that the card builds, by the cell; each has as many units of memory as of output."""
FORWARD = {
    "every-step": "        return self.head(self.recurrent(x)[0][:, -1])",
    "end": """        _, last = self.recurrent(x)
        h = last[0] if isinstance(last, tuple) else last
        h = h.view({layers}, {directions}, len(x), {hidden})[-1]
        return self.head(h.transpose(0, 1).flatten(1))""",
}
"""The last lines of torch's module, by the state that the head reads."""


def takes(run: RestoredRun) -> bool:
    """Return whether the run is a forecaster."""
    return isinstance(run, Trained)


def files(run: RestoredRun) -> dict[str, bytes]:
    """Return the `state_dict` of a torch module with the layers as `recurrent` and the dense one as `head`.

    Raises `UsageError` for a network that is not of these layers.
    """
    trained = forecasts.of(run)
    forecasts.refuse_known_ahead(trained)
    forecasts.refuse_kinds(trained)
    forecasts.refuse_power(trained)
    model = trained.experiment.model
    if model.cell not in LAYERS:
        raise UsageError("torch has no such layer", where="--model.cell", got=model.cell, needed="rnn, lstm or gru")
    if model.norm != "none":
        raise UsageError("torch has no norm inside its layers", where="--model.norm", got=model.norm, needed="none")

    weights: dict[str, np.ndarray] = {}
    for number in range(model.layers):
        layer = trained.state.params[f"recurrent_{number}"]
        directions = {False: layer}
        if model.bidirectional:
            directions = {False: layer["forward"], True: layer["backward"]}

        for reverse, direction in directions.items():
            params = fields.cell_params(cells.named(model.cell), direction["cell"])
            by_name = convert.to_torch(model.cell, params, number, reverse)
            for name, array in by_name.items():
                weights[f"recurrent.{name}"] = array

    head = trained.state.params["head"]
    # torch multiplies from the left.
    weights["head.weight"] = np.ascontiguousarray(np.asarray(head["kernel"]).T)
    weights["head.bias"] = np.asarray(head["bias"])
    if "skip" in trained.state.params:
        weights["skip.weight"] = np.ascontiguousarray(np.asarray(trained.state.params["skip"]["kernel"]).T)
    return {"torch.safetensors": as_safetensors(weights)}


def call(run: RestoredRun) -> str:
    """Write the torch module that loads the weights."""
    trained = forecasts.of(run)
    experiment = trained.experiment
    scaling = trained.scaling
    model = experiment.model
    directions = 1 + model.bidirectional
    arguments = [f"{scaling.features}, {model.hidden}", "batch_first=True"]
    if model.layers > 1:
        arguments.insert(1, f"num_layers={model.layers}")
    if model.bidirectional:
        arguments.append("bidirectional=True")

    # The head reads the last state of the last layer, which is no output of a backward layer's last step.
    reads = "end"
    if experiment.task == "every-step":
        reads = "every-step"
    forward = FORWARD[reads].format(layers=model.layers, directions=directions, hidden=model.hidden)
    outputs = experiment.steps_out * experiment.head.width
    skip = ""
    if "skip" in trained.state.params:
        inputs = experiment.data.window * scaling.features
        skip = f"\n        self.skip = torch.nn.Linear({inputs}, {outputs}, bias=False)"
        forward = f"{forward} + self.skip(x.flatten(1))"
    numbers = "shift and scale of each series as in the recipe below"
    if len(scaling.shift) == 1:
        numbers = f"shift {scaling.shift[0]!r}, scale {scaling.scale[0]!r}"
    longer = ""
    if scaling.longer:
        longer = f" and {scaling.longer}, of the longer season the share {scaling.share:g}"
    return f"""
```python
import torch
from safetensors.torch import load_file

class Forecaster(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent = torch.nn.{LAYERS[model.cell]}({", ".join(arguments)})
        self.head = torch.nn.Linear({directions * model.hidden}, {outputs}){skip}

    def forward(self, x):  # "b t {scaling.features}", scaled as below
{forward}

model = Forecaster()
model.load_state_dict(load_file("torch.safetensors"))
```

Neither scaling nor intervals are inside. Scaling: {scaling.kind}, {numbers},
lag {scaling.lag}{longer}, by {"each window" if scaling.by_window else "the training rows"} (`jaxseq.data.scaling.Scaling`).
"""
