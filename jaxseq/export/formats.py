"""The files of each format, as their content by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
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
from jaxseq.export import forecasts, kinds, program
from jaxseq.export.program import Outputs, Program
from jaxseq.nn import fields
from jaxseq.train.domains.base import RestoredRun
from jaxseq.train.forecaster import Trained

TORCH_CELLS = ("rnn", "lstm", "gru")
"""Cells whose layers the model card builds in torch; each has as many units of memory as of output."""
FORWARD = {
    "every-step": "        return self.head(self.recurrent(x)[0][:, -1])",
    "end": """        _, last = self.recurrent(x)
        h = last[0] if isinstance(last, tuple) else last
        h = h.view({layers}, {directions}, len(x), {hidden})[-1]
        return self.head(h.transpose(0, 1).flatten(1))""",
}
"""The last lines of torch's module, by the state that the head reads."""


def stablehlo(run: RestoredRun, exported: Program) -> dict[str, bytes]:
    """Return the program for any number of rows: as `jax.export` reads it, and as StableHLO's portable bytecode.

    Raises `UsageError` if flatbuffers is not installed.
    """
    del run
    # JAX writes its own format by it, and does not install it.
    try:
        import flatbuffers  # noqa: F401
    except ModuleNotFoundError as error:
        raise _missing("flatbuffers") from error

    is_double = np.dtype(np.float64) in exported.dtypes.values()
    with jax.enable_x64(is_double), _without_places():
        inputs = program.symbolic(exported)
        compiled = jax.export.export(jax.jit(exported.function), platforms=("cpu", "cuda", "tpu"))(inputs)
        content = compiled.serialize()

        # What is checked is what another program will read.
        arrays = {name: jnp.asarray(value) for name, value in exported.example.items()}
        outputs: Outputs = jax.export.deserialize(content).call(arrays)  # pyrefly: ignore[bad-assignment]
    program.check(exported, {name: np.asarray(output) for name, output in outputs.items()})
    name = exported.result
    return {f"{name}.jax_export": bytes(content), f"{name}.stablehlo": compiled.mlir_module_serialized}


def onnx(run: RestoredRun, exported: Program) -> dict[str, bytes]:
    """Return the program as an ONNX model. Raises `UsageError` if onnx is not installed or has no such layer."""
    try:
        from onnx.reference import ReferenceEvaluator

        from jaxseq.export import onnx_graph, onnx_rolls
    except ModuleNotFoundError as error:
        raise _missing("onnx") from error

    graphs = {"forecasts": onnx_graph.forecaster, "pianoroll": onnx_rolls.rolls}
    model = graphs[run.experiment.domain](run, exported)
    # Its logistic function overflows for large arguments, on the way to the right value.
    with np.errstate(over="ignore"):
        outputs = ReferenceEvaluator(model).run(None, exported.example)
    names = [output.name for output in model.graph.output]
    program.check(exported, dict(zip(names, map(np.asarray, outputs), strict=True)))
    return {f"{exported.result}.onnx": model.SerializeToString()}


def safetensors(run: RestoredRun, exported: Program) -> dict[str, bytes]:
    """Return the parameters by their path, such as ``recurrent_0/cell/input_kernel``, and running moments if there are."""
    del exported
    arrays = leaves.by_path(run.state.params) | leaves.by_path({"stats": run.state.stats})
    return {"parameters.safetensors": _as_safetensors(arrays)}


def torch(run: RestoredRun, exported: Program) -> dict[str, bytes]:
    """Return the `state_dict` of a torch module with `nn.RNN`, `nn.LSTM` or `nn.GRU` as `recurrent`, `nn.Linear` as `head`.

    Raises `UsageError` for a network that is not of these layers.
    """
    del exported
    trained = forecasts.of(run)
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
    """A format.

    files  (restored run, its program) -> content of each file, by name
    call   (restored run, its program) -> how the files are called, in Markdown
    kinds  of run that it takes, names of `kinds.KINDS`
    """

    files: Callable[[RestoredRun, Program], dict[str, bytes]]
    call: Callable[[RestoredRun, Program], str]
    kinds: tuple[str, ...]


def _call_stablehlo(run: RestoredRun, exported: Program) -> str:
    del run
    name = exported.result
    call = f"program.call({_zeros(exported)})"
    read = f'jax.export.deserialize(open("{name}.jax_export", "rb").read())'
    lines = [f"results = {call}"]
    if np.dtype(np.float64) in exported.dtypes.values():
        lines = ["with jax.enable_x64(True):", f"    results = {call}"]
    code = "\n".join(["import jax, numpy as np", "", f"program = {read}", *lines, f'print(results["{name}"])'])
    return f"""
```python
{code}
```

It needs `pip install jax flatbuffers`. `{name}.stablehlo` is the same as StableHLO's portable bytecode, for compilers.
"""


def _call_onnx(run: RestoredRun, exported: Program) -> str:
    remark = ""
    if isinstance(run, Trained) and run.experiment.head.name == "student-t":
        remark = "\nThe file has the forecast alone: ONNX has no operator for the quantiles of Student's t.\n"
    return f"""
```python
import numpy as np, onnxruntime

session = onnxruntime.InferenceSession("{exported.result}.onnx")
names = [output.name for output in session.get_outputs()]
results = dict(zip(names, session.run(None, {_zeros(exported)})))
print(results["{exported.result}"])
```
{remark}"""


def _zeros(exported: Program) -> str:
    """Return the inputs of one row of zeros, in Python; of forecasts, ones, whose logarithm is finite."""
    made_up = []
    for name, shape in exported.shapes.items():
        sizes = [exported.least[size] if isinstance(size, str) else size for size in shape]
        dtype = exported.dtypes[name].name
        if dtype == "float64":
            made_up.append(f'"{name}": np.ones({(1, *sizes)})')
        else:
            made_up.append(f'"{name}": np.zeros({(1, *sizes)}, np.{dtype})')
    return "{" + ", ".join(made_up) + "}"


def _call_safetensors(run: RestoredRun, exported: Program) -> str:
    del exported
    network = type(run.experiment.build())
    path = f"{network.__module__}.{network.__qualname__}"
    return f"\n`parameters.safetensors` has the network's parameters by their path, as `{path}` takes them.\n"


def _call_torch(run: RestoredRun, exported: Program) -> str:
    del exported
    trained = forecasts.of(run)
    experiment = trained.experiment
    scaling = trained.scaling
    model = experiment.model
    directions = 1 + model.bidirectional
    layer = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}[model.cell]
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
    return f"""
```python
import torch
from safetensors.torch import load_file

class Forecaster(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent = torch.nn.{layer}({", ".join(arguments)})
        self.head = torch.nn.Linear({directions * model.hidden}, {outputs})

    def forward(self, x):  # "b t {scaling.features}", scaled as below
{forward}

model = Forecaster()
model.load_state_dict(load_file("torch.safetensors"))
```

Neither scaling nor intervals are inside. Scaling: {scaling.kind}, shift {scaling.shift[0]!r}, scale {scaling.scale[0]!r}.
"""


EVERY_KIND = tuple(kinds.KINDS)
FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "stablehlo": Format(stablehlo, _call_stablehlo, EVERY_KIND),
        "onnx": Format(onnx, _call_onnx, ("forecasts", "pianoroll")),
        "safetensors": Format(safetensors, _call_safetensors, EVERY_KIND),
        "torch": Format(torch, _call_torch, ("forecasts",)),
    }
)
"""The formats by the name that `--to` gives them."""


def check_kind(names: Iterable[str], run: RestoredRun) -> None:
    """Raise `UsageError`, which names the formats that there are, for one that does not take a run of this kind."""
    domain = run.experiment.domain
    offered = [name for name, other in FORMATS.items() if domain in other.kinds]
    for name in names:
        if name not in offered:
            rule = f"takes no run of {run.experiment.name} ({domain})"
            raise UsageError(rule, where="--to", got=name, needed=" or ".join(offered))


def _as_safetensors(arrays: Mapping[str, np.ndarray | jax.Array]) -> bytes:
    try:
        from safetensors.numpy import save
    except ModuleNotFoundError as error:
        raise _missing("safetensors") from error
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def _missing(package: str) -> UsageError:
    return UsageError(f"needs {package}", where="--to", needed='pip install "jaxseq[export]"')
