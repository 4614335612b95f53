"""Generation one step at a time: each output is the next input, without gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxseq.benchmark.gpu import programs, torch_peers
from jaxseq.benchmark.gpu.loads import Load
from jaxseq.benchmark.gpu.start import Start
from jaxseq.benchmark.gpu.turns import Turn
from jaxseq.cells import CELLS, convert, recurrence
from jaxseq.common import precision
from jaxseq.common.arrays import Tree
from jaxseq.common.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

STEPS = 256
"""Steps of a call."""


class Weights(NamedTuple):
    """Weights of a cell and of the head that gives its next input."""

    params: Tree
    kernel: Float[Array | np.ndarray, "h 1"]
    bias: Float[Array | np.ndarray, "1"]


def ours(load: Load, start: Start) -> Turn:
    """Compile a scan of our step."""
    weights = Weights(
        start.params,
        start.head_kernel,
        start.head_bias,
    )
    # On the device before any turn; torch's loops take the same first input.
    arguments = jax.device_put((weights, start.y[0]))
    with precision.within(precision.JAX_NAMES[load.precision]):
        lowered = jax.jit(_generator(load)).lower(*arguments)
    compiled, compile_s = programs.timed_compilation(lowered)

    outputs = compiled(*arguments)
    check = _check(np.asarray(outputs))

    def call() -> None:
        nonlocal outputs
        outputs = compiled(*arguments)

    def wait() -> None:
        jax.block_until_ready(outputs)

    return Turn(
        call,
        wait,
        check,
        compile_s,
    )


def _generator(load: Load) -> Callable[[Weights, Array], Array]:
    """Return the scan, (weights, first input "b 1") -> outputs "n b 1"."""
    cell = CELLS[load.cell]

    def generate(weights: Weights, first: Float[Array, "b 1"]) -> Float[Array, "n b 1"]:
        def step(state: tuple[Tree, Array], _: None) -> tuple[tuple[Tree, Array], Array]:
            carry, x = state
            carry = recurrence.step(
                cell,
                weights.params,
                x,
                carry,
            )
            output = carry.h @ weights.kernel + weights.bias
            return (carry, output), output

        carry = cell.start((load.batch, load.hidden))
        return jax.lax.scan(step, (carry, first), length=load.time_steps)[1]

    return generate


def _torch_loop(
    load: Load,
    start: Start,
    device: str,
    layer_in_loop: bool,
) -> Callable[[], Tensor]:
    """Return a loop of torch's cell, or of its layer on one step; it gives the outputs "n b 1"."""
    import torch as t

    torch_peers.set_precision(load.precision)
    net = _torch_net(load, start, layer_in_loop).to(device)
    kernel = t.tensor(start.head_kernel, device=device)
    bias = t.tensor(start.head_bias, device=device)
    first = t.tensor(start.y[0], device=device)

    def generate() -> Tensor:
        output = first
        state = None
        outputs = []
        for _ in range(load.time_steps):
            # A layer has axes of time and of layers, a cell has not.
            if layer_in_loop:
                h, state = net(output[None], state)
                h = h[0]
            else:
                state = net(output, state)
                h = state
                if load.cell == "lstm":
                    h, _ = state
            output = t.addmm(bias, h, kernel)
            outputs.append(output)
        return t.stack(outputs)

    return generate


def _torch_net(load: Load, start: Start, is_layer: bool) -> Module:
    """Return torch's layer or its cell, with the weights of everybody."""
    import torch as t

    modules = {
        "rnn": t.nn.RNNCell,
        "lstm": t.nn.LSTMCell,
        "gru": t.nn.GRUCell,
    }
    if is_layer:
        modules = {
            "rnn": t.nn.RNN,
            "lstm": t.nn.LSTM,
            "gru": t.nn.GRU,
        }
    weights = {}
    for name, array in convert.to_torch(load.cell, start.params).items():
        weights[name] = t.tensor(array)
    # A cell has no layers to number.
    if not is_layer:
        weights = {name.removesuffix("_l0"): array for name, array in weights.items()}
    net = modules[load.cell](load.features, load.hidden)
    net.load_state_dict(weights)
    return net


def torch_cells(load: Load, start: Start, device: str) -> Turn:
    """Run a loop of torch's cell."""
    return _eager(_torch_loop(load, start, device, layer_in_loop=False), device)


def torch_layer(load: Load, start: Start, device: str) -> Turn:
    """Run a loop of torch's layer, cuDNN's on a GPU, on one step."""
    return _eager(_torch_loop(load, start, device, layer_in_loop=True), device)


def torch_graph(load: Load, start: Start, device: str) -> Turn:
    """Replay the loop of torch's cell as one CUDA graph."""
    import torch as t

    if device == "cpu":
        raise UsageError("a CUDA graph needs a GPU")
    generate = _torch_loop(load, start, device, layer_in_loop=False)
    with t.no_grad():
        torch_peers.warm_up(generate, calls=1)
        graph = t.cuda.CUDAGraph()
        # Other threads of the process, JAX's, may use the device meanwhile.
        with t.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = generate()
    # A capture records without computing: only a replay gives the outputs.
    graph.replay()
    return Turn(graph.replay, lambda: torch_peers.wait(device), _check(outputs))


def _eager(generate: Callable[[], Tensor], device: str) -> Turn:
    import torch as t

    def call() -> Tensor:
        with t.inference_mode():
            return generate()

    return Turn(call, lambda: torch_peers.wait(device), _check(call()))


def _check(outputs: Tensor | np.ndarray) -> list[float]:
    # The last output hangs on all before it, so an error of any step shows there.
    return [float(outputs[0, 0, 0]), float(outputs[-1, 0, 0])]


PEERS: dict[str, Callable[[Load, Start, str], Turn]] = {
    "torch cells": torch_cells,
    "torch layer": torch_layer,
    "torch graph": torch_graph,
}
"""torch's loops by name."""
