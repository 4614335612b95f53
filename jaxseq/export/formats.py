"""The files of each format, as their content by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import cells
from jaxseq.cells import convert
from jaxseq.checkpoint import leaves
from jaxseq.common.errors import UsageError
from jaxseq.export import program
from jaxseq.export.program import Program
from jaxseq.nn import fields
from jaxseq.train.forecaster import Trained

TORCH_CELLS = ("rnn", "lstm", "gru")
"""Cells whose layers the model card builds in torch; each has as many units of memory as of output."""
TOLERANCE = 1e-5
"""Largest difference between an exported forecast and the run's own, relative to the scale of the series."""


def stablehlo(trained: Trained, exported: Program) -> dict[str, bytes]:
    """Return the program for any number of rows: as `jax.export` reads it, and as StableHLO's portable bytecode."""
    with jax.enable_x64(True), _without_places():  # noqa: FBT003
        (rows,) = jax.export.symbolic_shape("n")
        inputs = {}
        for name, shape in exported.shapes.items():
            inputs[name] = jax.ShapeDtypeStruct((rows, *shape), exported.dtypes[name])
        compiled = jax.export.export(jax.jit(exported.function), platforms=("cpu", "cuda", "tpu"))(inputs)
        content = compiled.serialize()

        # What is checked is what another program will read.
        made_up = program.example(exported, trained.scaling)
        arrays = {name: jnp.asarray(value) for name, value in made_up.items()}
        outputs = jax.export.deserialize(content).call(arrays)
    _check(trained, exported, made_up, np.asarray(outputs["forecast"]))
    return {"forecast.jax_export": bytes(content), "forecast.stablehlo": compiled.mlir_module_serialized}


def onnx(trained: Trained, exported: Program) -> dict[str, bytes]:
    """Return the program as an ONNX model. Raises `UsageError` if onnx is not installed or has no such layer."""
    try:
        from onnx.reference import ReferenceEvaluator

        from jaxseq.export import onnx_graph
    except ModuleNotFoundError as error:
        raise _missing("onnx") from error

    model = onnx_graph.model_of(trained, exported)
    made_up = program.example(exported, trained.scaling)
    # Its logistic function overflows for large arguments, on the way to the right value.
    with np.errstate(over="ignore"):
        (forecast,) = ReferenceEvaluator(model).run(None, made_up)
    _check(trained, exported, made_up, np.asarray(forecast))
    return {"forecast.onnx": model.SerializeToString()}


def safetensors(trained: Trained, exported: Program) -> dict[str, bytes]:
    """Return the parameters by their path, such as ``recurrent_0/cell/input_kernel``, and running moments if there are."""
    del exported
    arrays = leaves.by_path(trained.state.params) | leaves.by_path({"stats": trained.state.stats})
    return {"parameters.safetensors": _as_safetensors(arrays)}


def torch(trained: Trained, exported: Program) -> dict[str, bytes]:
    """Return the `state_dict` of a torch module with `nn.RNN`, `nn.LSTM` or `nn.GRU` as `recurrent`, `nn.Linear` as `head`.

    Raises `UsageError` for a network that is not of these layers.
    """
    del exported
    model = trained.experiment.model
    if model.cell not in TORCH_CELLS:
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
    return {"torch.safetensors": _as_safetensors(weights)}


@contextmanager
def _without_places() -> Iterator[None]:
    """Trace without the places of operations in the source, which name folders of this machine and differ by the call."""
    before = jax.config.values["jax_traceback_in_locations_limit"]
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", before)


class Format(NamedTuple):
    """A format of exported files.

    files  (trained forecaster, its program) -> the content of each file by its name
    call   how the files are called, for the card; `card` says what may stand in its braces
    """

    files: Callable[[Trained, Program], dict[str, bytes]]
    call: str


_CALL_STABLEHLO = """
```python
import jax, numpy as np

program = jax.export.deserialize(open("forecast.jax_export", "rb").read())
with jax.enable_x64(True):
    print(program.call({{"values": np.zeros((1, {window}))}})["forecast"])
```

`forecast.stablehlo` is the same program as StableHLO's portable bytecode, for other compilers.
"""
_CALL_ONNX = """
```python
import numpy as np, onnxruntime

session = onnxruntime.InferenceSession("forecast.onnx")
print(session.run(None, {{"values": np.zeros((1, {window}))}})[0])
```
"""
_CALL_SAFETENSORS = """
`parameters.safetensors` has the network's parameters by their path, as `jaxseq.nn.forecaster.Forecaster` takes them.
"""
_CALL_TORCH = """
```python
import torch
from safetensors.torch import load_file

class Forecaster(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent = torch.nn.{layer}({arguments})
        self.head = torch.nn.Linear({width}, {outputs})

    def forward(self, x):  # "b t {features}", scaled as below
{forward}

model = Forecaster()
model.load_state_dict(load_file("torch.safetensors"))
```

The scaling is not inside: {scaling}.
"""

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "stablehlo": Format(stablehlo, _CALL_STABLEHLO),
        "onnx": Format(onnx, _CALL_ONNX),
        "safetensors": Format(safetensors, _CALL_SAFETENSORS),
        "torch": Format(torch, _CALL_TORCH),
    }
)
"""The formats by the name that `--to` gives them."""


def _as_safetensors(arrays: Mapping[str, np.ndarray | jax.Array]) -> bytes:
    try:
        from safetensors.numpy import save
    except ModuleNotFoundError as error:
        raise _missing("safetensors") from error
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def _missing(package: str) -> UsageError:
    return UsageError(f"needs {package}", where="--to", needed='pip install "jaxseq[export]"')


def _check(trained: Trained, exported: Program, inputs: dict[str, np.ndarray], forecast: np.ndarray) -> None:
    """Raise `RuntimeError` if an exported forecast is not the run's own: a wrong file is worse than none."""
    expected = program.computed(exported, inputs)["forecast"]
    # Relative to the forecast itself where the scale is that of a growth.
    scale = max(trained.scaling.scale)
    if trained.scaling.transform.relative:
        scale = scale * np.abs(expected).max()
    difference = np.abs(forecast - expected).max() / scale
    # Negated, because NaN compares false with everything.
    if not difference <= TOLERANCE:
        raise RuntimeError(
            f"the exported forecast differs by {difference:g} of the scale; at most {TOLERANCE:g} may be"
        )
