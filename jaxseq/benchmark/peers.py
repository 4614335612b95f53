"""The same training step by us and by others: same weights to start from, same rows, same loss, Adam."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxseq.benchmark.workloads import Workload
from jaxseq.cells import CELLS, convert, recurrence
from jaxseq.cells.norm import Norm
from jaxseq.common.arrays import Batch, Tree
from jaxseq.nn import fields, forecaster, heads
from jaxseq.nn.objectives import forecasting
from jaxseq.train import epoch

RATE = 1e-3


class Trainer(NamedTuple):
    """Somebody's training: `work` does the workload's steps, waits for them, and returns the loss of each.

    `compile_s` and `memory` (bytes) are known of our own step.
    """

    work: Callable[[], np.ndarray]
    parameters: int
    compile_s: float = 0.0
    memory: int = 0


class Given(NamedTuple):
    """What everybody starts from: our setup and first state, and the rows of a turn."""

    setup: epoch.Setup
    state: epoch.TrainState
    data: Batch


def squared_error(prediction: Float[Array, "b *k"], target: Float[Array, "b *k"]) -> Float[Array, "b"]:
    """Mean over all but the rows of the squared error."""
    return jnp.mean((prediction - target) ** 2, axis=tuple(range(1, prediction.ndim)))


ADAM = optax.adam(RATE)


def given(load: Workload) -> Given:
    """Weights from our initialisers, normal inputs and normal targets."""
    norm = Norm(load.norm) if load.norm else None
    model = forecaster.Forecaster(CELLS[load.cell], load.hidden, load.layers, load.outputs, load.every_step, norm)
    setup = epoch.Setup(model, forecasting(heads.point(), load.every_step), ADAM)
    rows = load.batch * load.steps
    random = np.random.default_rng(0)
    x = jnp.array(random.standard_normal((rows, load.window, load.features), np.float32))
    steps = [load.window] if load.every_step else []
    y = jnp.array(random.standard_normal((rows, *steps, load.outputs), np.float32))
    state = jax.jit(epoch.init, static_argnums=0)(setup, jax.random.key(1), x[:1])
    return Given(setup, state, Batch(x, y))


def _count(params: Tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def ours(load: Workload, start: Given) -> Trainer:
    """Our trainer's own step: `fit.epoch` on as many rows as give the steps."""
    began = time.process_time()
    compiled = epoch.epoch.lower(start.setup, start.state, start.data, load.batch).compile()
    compile_s, plan = time.process_time() - began, compiled.memory_analysis()
    assert plan is not None  # backends may have none; those of a CPU and a GPU do
    memory = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    state = jax.tree.map(jnp.copy, start.state)

    def work() -> np.ndarray:
        nonlocal state
        state, log = jax.block_until_ready(compiled(state, start.data))
        return np.asarray(log.loss)

    return Trainer(work, _count(state.params), compile_s, memory - plan.alias_size_in_bytes)


def autodiff(load: Workload, start: Given) -> Trainer:
    """Our cells and scan with autodiff's gradient in the place of the hand-written adjoint."""
    cell = CELLS[load.cell]

    def apply(params: Tree, x: Array) -> tuple[Array, Array]:
        steps, last = jnp.swapaxes(x, 0, 1), cell.start((0, load.hidden))
        for layer in params:
            last, steps = recurrence.scan_by_autodiff(cell, layer, steps, cell.start((x.shape[0], load.hidden)))
        return jnp.swapaxes(steps, 0, 1), last.h

    return _by_jax(load, start, apply, _layers(load, start))


def flax(load: Workload, start: Given) -> Trainer:
    """flax.linen's own cell (the optimised one for the LSTM) in `nn.RNN`."""
    import flax.linen as nn

    cells = {"rnn": nn.SimpleCell, "lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}
    layer = nn.RNN(cells[load.cell](load.hidden), return_carry=True)

    def apply(params: Tree, x: Array) -> tuple[Array, Array]:
        last: Any = None
        for weights in params:
            way: Any = layer.apply({"params": {"cell": weights}}, x)
            last, x = way
        return x, last[1] if load.cell == "lstm" else last

    return _by_jax(load, start, apply, [flax_weights(load.cell, layer) for layer in _layers(load, start)])


def flax_weights(cell: str, params: Any) -> Tree:
    """Our parameters under the names of flax.linen's cells, whose GRU has one bias for r and one for z, not two."""
    gates = {"rnn": [""], "lstm": list("ifgo"), "gru": list("rzn")}[cell]
    w, r, bias = (np.split(np.asarray(leaf), len(gates), axis=-1) for leaf in params[:3])
    # in flax the LSTM's bias is beside h, the others' beside x; the GRU's candidate has one beside each
    beside_x = {"rnn": [True], "lstm": [False] * 4, "gru": [True] * 3}[cell]
    second = np.split(np.asarray(params.recurrent_bias), 3) if cell == "gru" else None
    found: dict[str, dict[str, Array]] = {}
    for n, gate in enumerate(gates):
        inputs, recurrent = {"kernel": jnp.array(w[n])}, {"kernel": jnp.array(r[n])}
        first = bias[n] + second[n] if second is not None and gate != "n" else bias[n]
        (inputs if beside_x[n] else recurrent)["bias"] = jnp.array(first)
        if second is not None and gate == "n":
            recurrent["bias"] = jnp.array(second[n])
        found |= {f"i{gate}": inputs, f"h{gate}": recurrent}
    return found


def cudnn(load: Workload, start: Given) -> Trainer:
    """cuDNN's LSTM, by `jax.experimental.rnn`; needs an NVIDIA GPU."""
    from jax.experimental import rnn

    layers = [convert.to_torch("lstm", layer) for layer in _layers(load, start)]
    kernels = [layer[f"weight_{side}_l0"].ravel() for layer in layers for side in ("ih", "hh")]
    biases = [layer[f"bias_{side}_l0"].ravel() for layer in layers for side in ("ih", "hh")]
    zeros = jnp.zeros((load.layers, load.batch, load.hidden))
    lengths = jnp.full(load.batch, load.window, jnp.int32)
    sizes = (load.features, load.hidden, load.layers, 0.0, False, jax.lax.Precision.HIGHEST)

    def apply(weights: Array, x: Array) -> tuple[Array, Array]:
        outputs, last, _ = rnn.lstm(x, zeros, zeros, weights, lengths, *sizes)
        return outputs, last[-1]

    return _by_jax(load, start, apply, jnp.concatenate([jnp.array(part) for part in (*kernels, *biases)]))


def torch(load: Workload, start: Given, device: str = "cpu") -> Trainer:
    """torch's layer, eager, with `torch.optim.Adam`; on a CPU on one thread, on a GPU in full float32.

    Denormal numbers count as zero, as in XLA: gradients that vanish over hundreds of steps are slow otherwise.
    """
    import torch as t

    t.set_num_threads(1)
    t.backends.cuda.matmul.allow_tf32 = t.backends.cudnn.allow_tf32 = False
    layer = {"rnn": t.nn.RNN, "lstm": t.nn.LSTM, "gru": t.nn.GRU}[load.cell]
    layer = layer(load.features, load.hidden, load.layers, batch_first=True)
    head = t.nn.Linear(load.hidden, load.outputs)
    weights = [convert.to_torch(load.cell, params, number) for number, params in enumerate(_layers(load, start))]
    layer.load_state_dict({name: t.tensor(array) for part in weights for name, array in part.items()})
    dense = {name: t.tensor(np.array(array.T)) for name, array in start.state.params["head"].items()}
    head.load_state_dict({"weight": dense["kernel"], "bias": dense["bias"]})
    layer, head = layer.to(device), head.to(device)
    every = [*layer.parameters(), *head.parameters()]
    adam = t.optim.Adam(every, lr=RATE)
    data = [t.tensor(np.array(part), device=device).split(load.batch) for part in start.data]

    def work() -> np.ndarray:
        t.set_flush_denormal(True)
        losses = []
        for x, y in zip(*data, strict=True):
            adam.zero_grad()
            outputs, _ = layer(x)
            loss = ((head(outputs if load.every_step else outputs[:, -1]) - y) ** 2).mean()
            loss.backward()
            adam.step()
            losses.append(loss.detach())
        t.set_flush_denormal(False)  # a switch of the whole thread
        found = t.stack(losses).cpu().numpy()
        if device != "cpu":
            t.cuda.synchronize()
        return found

    return Trainer(work, sum(p.numel() for p in every))


def _layers(load: Workload, start: Given) -> list[Any]:
    """Our cells' parameters, from the first layer to the last."""
    params = start.state.params
    cell = CELLS[load.cell]
    return [fields.cell_params(cell, params[f"recurrent_{number}"]["cell"]) for number in range(load.layers)]


def _by_jax(load: Workload, start: Given, apply: Callable[[Any, Array], tuple[Array, Array]], layers: Tree) -> Trainer:
    """The step around another recurrence: `apply(layers, x "b t d")` gives all states "b t h" and the last "b h"."""

    def loss(weights: Tree, x: Array, y: Array) -> Array:
        states = apply(weights["layers"], x)[0 if load.every_step else 1]
        return jnp.mean((states @ weights["head"]["kernel"] + weights["head"]["bias"] - y) ** 2)

    def step(state: tuple[Tree, Tree], batch: tuple[Array, Array]) -> tuple[tuple[Tree, Tree], Array]:
        weights, opt = state
        value, gradient = jax.value_and_grad(loss)(weights, *batch)
        with jax.numpy_dtype_promotion("standard"):
            updates, opt = ADAM.update(gradient, opt, weights)
            weights = optax.apply_updates(weights, updates)
        return (weights, opt), value

    many = jax.jit(lambda state, data: jax.lax.scan(step, state, data), donate_argnums=0)
    data = tuple(jnp.asarray(part).reshape(load.steps, load.batch, *part.shape[1:]) for part in start.data)
    weights = jax.tree.map(jnp.copy, {"layers": layers, "head": start.state.params["head"]})
    state = (weights, ADAM.init(weights))

    def work() -> np.ndarray:
        nonlocal state
        state, losses = jax.block_until_ready(many(state, data))
        return np.asarray(losses)

    return Trainer(work, _count(weights))


MAKERS: dict[str, Callable[..., Trainer]] = {"autodiff": autodiff, "flax": flax, "cudnn": cudnn, "torch": torch}
"""The peers by name; torch also takes the device."""
