"""The same training step by us and by others: same weights to start from, same rows, same loss, Adam, float32 in full.

Every peer is a row of `PEERS`: the package that it needs, and a function that makes its `Trainer`. JAX libraries give a
layer (`layers.MAKERS`), around which the step is ours; torch has its whole step here.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.stages import Compiled
from jaxtyping import Array, Float

from jaxseq.benchmark import layers
from jaxseq.benchmark.layers import Layer, Results, Shape
from jaxseq.benchmark.workloads import Workload
from jaxseq.cells import CELLS, convert, recurrence
from jaxseq.cells.norm import Norm
from jaxseq.common.arrays import Batch, Tree
from jaxseq.nn import fields, forecaster, heads
from jaxseq.nn.objectives import forecasting
from jaxseq.train import epoch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter
    from torch.optim import Optimizer

RATE = 1e-3
ADAM = optax.adam(RATE)
Device: TypeAlias = Literal["cpu", "gpu"]


class Trainer(NamedTuple):
    """Somebody's training.

    work        do the steps of a workload, wait for them, and return the loss of each
    parameters  their number
    compile_s   CPU seconds to trace and compile our own step
    memory      bytes that XLA plans for it
    """

    work: Callable[[], np.ndarray]
    parameters: int
    compile_s: float = 0.0
    memory: int = 0


class Given(NamedTuple):
    """The start of everybody: our setup and first state, and the rows of a call."""

    setup: epoch.Setup
    state: epoch.TrainState
    data: Batch


@runtime_checkable
class Make(Protocol):
    """Maker of a peer's trainer."""

    def __call__(self, load: Workload, start: Given, device: Device = "cpu") -> Trainer:
        """Return a trainer of the workload from the start of everybody."""
        ...


class Peer(NamedTuple):
    """Somebody whose step is timed beside ours.

    package  that has to be installed
    title    name in tables
    cells    that it has
    devices  that it computes on
    """

    package: str
    title: str
    make: Make
    cells: tuple[str, ...] = ("rnn", "lstm", "gru")
    devices: tuple[Device, ...] = ("cpu", "gpu")

    def absent(self, cell: str, device: Device) -> str | None:
        """Return why it cannot be timed, None if it can."""
        if importlib.util.find_spec(self.package) is None:
            return "not installed"
        if device not in self.devices:
            return f"not on a {device.upper()}"
        if cell not in self.cells:
            return f"no {cell.upper()}"
        if self.package == "torch" and device == "gpu":
            return _without_cuda()
        return None


def _without_cuda() -> str | None:
    import torch

    if torch.cuda.is_available():
        return None
    return "no CUDA"


# The start, and our own step -------------------------------------------------------------------------------------------


def given(load: Workload) -> Given:
    """Draw weights by our initialisers, and normal inputs and targets."""
    norm = None
    if load.norm:
        norm = Norm(load.norm)
    model = forecaster.Forecaster(
        CELLS[load.cell],
        load.hidden,
        layers=load.layers,
        outputs=load.outputs,
        every_step=load.every_step,
        norm=norm,
        chunk=load.chunk,
    )
    setup = epoch.Setup(model, forecasting(heads.point(), load.every_step), ADAM)

    # A call has other rows for each of its steps.
    rows = load.batch * load.steps
    target_shape = (rows, load.outputs)
    if load.every_step:
        target_shape = (rows, load.window, load.outputs)
    generator = np.random.default_rng(0)
    x = jnp.array(generator.standard_normal((rows, load.window, load.features), np.float32))
    y = jnp.array(generator.standard_normal(target_shape, np.float32))
    return started(setup, Batch(x, y))


def started(setup: epoch.Setup, data: Batch) -> Given:
    """Draw the first state."""
    init = jax.jit(epoch.init, static_argnums=0)
    # One row, as only its shape matters.
    state = init(setup, jax.random.key(1), data.x[:1])
    return Given(setup, state, data)


def batches_of(load: Workload, start: Given) -> Batch:
    """Return the rows of a call as batches, one for each step, along a first axis."""

    def batches(part: Array) -> Array:
        return part.reshape(load.steps, load.batch, *part.shape[1:])

    return jax.tree.map(batches, start.data)


def first_batch(load: Workload, start: Given) -> Batch:
    """Return the rows of the first step."""
    return jax.tree.map(lambda part: part[: load.batch], start.data)


def ours(load: Workload, start: Given) -> Trainer:
    """Compile our trainer's own steps: `epoch.epoch` on the rows of a call."""
    # CPU time, as wall time would be longer on a machine that others use.
    began = time.process_time()
    compiled = epoch.epoch.lower(start.setup, start.state, start.data, load.batch).compile()
    compile_s = time.process_time() - began
    # An epoch is given its state to overwrite, and the peers start from the same arrays.
    state = jax.tree.map(jnp.copy, start.state)

    def work() -> np.ndarray:
        nonlocal state
        state, log = jax.block_until_ready(compiled(state, start.data))
        return np.asarray(log.loss)

    return Trainer(work, _count(state.params), compile_s, planned_bytes(compiled))


def planned_bytes(compiled: Compiled) -> int:
    """Return the bytes of arguments, results and temporaries; what is updated in place counts once."""
    plan: Tree = compiled.memory_analysis()
    assert plan is not None, "CPUs and GPUs have a plan"
    memory = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    return memory - plan.alias_size_in_bytes


def first_loss(load: Workload, start: Given) -> float:
    """Return the loss of the first batch before any step, by our model alone."""
    variables = {"params": start.state.params, **start.state.stats}

    @jax.jit
    def loss(batch: Batch) -> Float[Array, ""]:
        _, prediction = start.setup.model.apply(variables, batch.x)
        return jnp.mean((prediction - batch.y) ** 2)

    return float(loss(first_batch(load, start)))


def _count(params: Tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def cell_params(load: Workload, start: Given) -> list[Tree]:
    """Return our cells' parameters, from the first layer to the last."""
    params = start.state.params
    cell = CELLS[load.cell]
    return [fields.cell_params(cell, params[f"recurrent_{number}"]["cell"]) for number in range(load.layers)]


# JAX libraries ---------------------------------------------------------------------------------------------------------


def by_jax(load: Workload, start: Given, stack: Layer) -> Trainer:
    """Compile training steps around a stack of layers, with head, loss and optimiser as everybody has them."""

    def loss(weights: Tree, batch: Batch) -> Float[Array, ""]:
        results = stack.apply(weights["layers"], jnp.asarray(batch.x))
        states = results.last
        if load.every_step:
            states = results.outputs
        prediction = states @ weights["head"]["kernel"] + weights["head"]["bias"]
        return jnp.mean((prediction - batch.y) ** 2)

    def step(state: tuple[Tree, Tree], batch: Batch) -> tuple[tuple[Tree, Tree], Float[Array, ""]]:
        weights, moments = state
        value, gradient = jax.value_and_grad(loss)(weights, batch)
        updates, moments = ADAM.update(gradient, moments, weights)
        return (optax.apply_updates(weights, updates), moments), value

    def steps(state: Tree, data: Batch) -> tuple[Tree, Float[Array, "n"]]:
        return jax.lax.scan(step, state, data)

    data = batches_of(load, start)
    # Copied, as each call overwrites them.
    weights = jax.tree.map(jnp.array, {"layers": stack.weights, "head": start.state.params["head"]})
    state = (weights, ADAM.init(weights))
    # Compiled here, so that no turn pays for it. Other libraries mix dtypes as JAX does by default.
    with jax.numpy_dtype_promotion("standard"):
        compiled = jax.jit(steps, donate_argnums=0).lower(state, data).compile()

    def work() -> np.ndarray:
        nonlocal state
        state, losses = jax.block_until_ready(compiled(state, data))
        return np.asarray(losses)

    return Trainer(work, _count(weights))


def autodiff(load: Workload, start: Given, device: Device = "cpu") -> Trainer:
    """Make our cells and scan with autodiff's gradient instead of the hand-written adjoint."""
    cell = CELLS[load.cell]

    def apply(params: Tree, x: Float[Array, "b t d"]) -> Results:
        carry = cell.start((x.shape[0], load.hidden))
        last, outputs = recurrence.scan_by_autodiff(cell, params, jnp.swapaxes(x, 0, 1), carry)
        return Results(jnp.swapaxes(outputs, 0, 1), last.h)

    stack = [Layer(params, apply) for params in cell_params(load, start)]
    return by_jax(load, start, layers.stacked(stack))


def library(
    make: Callable[[Shape, convert.Params], Layer],
    load: Workload,
    start: Given,
) -> Trainer:
    """Make the trainer of a JAX library from its layer."""
    stack = []
    features = load.features
    for params in cell_params(load, start):
        shape = Shape(load.cell, load.batch, load.window, features, load.hidden)
        stack.append(make(shape, params))
        # The next layer reads the states of this one.
        features = load.hidden
    return by_jax(load, start, layers.stacked(stack))


def _maker(name: str) -> Make:
    """Return the maker of a JAX library's trainer."""
    make = layers.MAKERS[name]

    def trainer(load: Workload, start: Given, device: Device = "cpu") -> Trainer:
        return library(make, load, start)

    return trainer


def cudnn(load: Workload, start: Given, device: Device = "gpu") -> Trainer:
    """Make cuDNN's LSTM, by `jax.experimental.rnn`; needs an NVIDIA GPU."""
    from jax.experimental import rnn

    by_name = [convert.to_torch("lstm", params) for params in cell_params(load, start)]
    # One vector holds all kernels, and after them all biases.
    kernels = [layer[f"weight_{side}_l0"].ravel() for layer in by_name for side in ("ih", "hh")]
    biases = [layer[f"bias_{side}_l0"].ravel() for layer in by_name for side in ("ih", "hh")]
    zeros = jnp.zeros((load.layers, load.batch, load.hidden))
    lengths = jnp.full(load.batch, load.window, jnp.int32)
    # Full float32: the default on a GPU may be TF32.
    precision = jax.lax.Precision.HIGHEST
    dropout = 0.0
    is_bidirectional = False
    sizes = (load.features, load.hidden, load.layers)

    def apply(weights: Tree, x: Float[Array, "b t d"]) -> Results:
        arrays = (x, zeros, zeros, weights, lengths)
        outputs, last, _ = rnn.lstm(*arrays, *sizes, dropout, is_bidirectional, precision)
        return Results(outputs, last[-1])

    weights = jnp.concatenate([jnp.array(part) for part in (*kernels, *biases)])
    return by_jax(load, start, Layer(weights, apply))


# torch -----------------------------------------------------------------------------------------------------------------


def torch_layers(load: Workload, start: Given, device: Device = "cpu") -> Trainer:
    """Make torch's layer, eager, with its fused Adam; on a CPU on one thread, on a GPU in full float32."""
    import torch

    place = settle_torch(device)
    kinds = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    layer = kinds[load.cell](load.features, load.hidden, load.layers, batch_first=True)
    entries: dict[str, np.ndarray] = {}
    for number, params in enumerate(cell_params(load, start)):
        entries |= convert.to_torch(load.cell, params, number)
    layer.load_state_dict({name: torch.tensor(array) for name, array in entries.items()})

    head = torch.nn.Linear(load.hidden, load.outputs)
    dense = start.state.params["head"]
    # torch has its kernel as "outputs inputs".
    kernel = np.array(dense["kernel"].T)
    bias = np.array(dense["bias"])
    head.load_state_dict({"weight": torch.tensor(kernel), "bias": torch.tensor(bias)})

    net = torch.nn.ModuleList([layer, head]).to(place)
    # On the device before any turn, as the rows of JAX are.
    xs = torch.tensor(np.array(start.data.x), device=place).split(load.batch)
    ys = torch.tensor(np.array(start.data.y), device=place).split(load.batch)
    batches = list(zip(xs, ys, strict=True))

    def loss(x: Tensor, y: Tensor) -> Tensor:
        # The last output is the last state.
        outputs, _ = layer(x)
        if not load.every_step:
            outputs = outputs[:, -1]
        return ((head(outputs) - y) ** 2).mean()

    return torch_trainer(list(net.parameters()), loss, batches, device)


def settle_torch(device: Device) -> str:
    """Set torch to one thread and full float32; return its name of the device."""
    import torch

    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return {"cpu": "cpu", "gpu": "cuda"}[device]


def torch_trainer(
    parameters: list[Parameter],
    loss: Callable[..., Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    device: Device,
) -> Trainer:
    """Return an eager loop of training steps, by torch's fused Adam.

    Denormal numbers count as zero, as in XLA: gradients that vanish over hundreds of steps are slow otherwise.
    """
    import torch

    adam: Optimizer = torch.optim.Adam(parameters, lr=RATE, fused=True)

    def work() -> np.ndarray:
        torch.set_flush_denormal(True)
        losses = []
        for x, y in batches:
            adam.zero_grad()
            value = loss(x, y)
            value.backward()
            adam.step()
            # Its number is read after the last step: reading it here would wait for the device in each.
            losses.append(value.detach())
        # It is a switch of the whole thread.
        torch.set_flush_denormal(False)

        array = torch.stack(losses).cpu().numpy()
        if device == "gpu":
            torch.cuda.synchronize()
        return array

    return Trainer(work, sum(parameter.numel() for parameter in parameters))


PEERS: MappingProxyType[str, Peer] = MappingProxyType(
    {
        "torch": Peer("torch", "torch, fused Adam", torch_layers),
        "linen": Peer("flax", "flax linen", _maker("linen")),
        "nnx": Peer("flax", "flax nnx", _maker("nnx")),
        "keras": Peer("keras", "Keras on JAX", _maker("keras")),
        "equinox": Peer("equinox", "equinox", _maker("equinox"), cells=("lstm", "gru")),
        "autodiff": Peer("jax", "our scan by autodiff", autodiff),
        "cudnn": Peer("jax", "cuDNN", cudnn, cells=("lstm",), devices=("gpu",)),
    }
)
"""The peers by the name that `--peers` takes."""


def names(device: Device, chosen: frozenset[str] | None = None) -> list[str]:
    """Return the peers on a device, all of them or those that are chosen."""
    on_device = [name for name, peer in PEERS.items() if device in peer.devices]
    if chosen is None:
        return on_device
    return [name for name in on_device if name in chosen]
