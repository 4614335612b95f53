"""Compiled programs of a JAX layer: many training steps, or many passes of the layer alone, in one call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import stages
from jaxtyping import Array, Float

from jaxseq.benchmark.gpu.layers import Layer
from jaxseq.benchmark.gpu.loads import Load
from jaxseq.benchmark.gpu.start import Start
from jaxseq.benchmark.gpu.turns import Turn
from jaxseq.common import precision
from jaxseq.common.arrays import Tree

RATE = 1e-3
ADAM = optax.adam(RATE)

Program = Callable[[Tree, Tree], tuple[Tree, Array]]
"""(state, data) -> (state after the call, losses "n" or input gradients "n t b d")."""


class Lowered(NamedTuple):
    """A traced program with its arguments, ready to be compiled in any thread."""

    program: stages.Lowered
    state: Tree
    data: Tree
    comparable: bool = True
    """Whether it computes in the same order as others, so that its numbers can be compared with theirs."""


def trace(layer: Layer, load: Load, start: Start, data: Tree) -> Lowered:
    """Trace the program of a row; `data` is that of `on_device`."""
    weights = layer.weights
    if load.task == "step":
        weights = {
            "layer": layer.weights,
            "kernel": start.head_kernel,
            "bias": start.head_bias,
        }
        program = _training(layer)
        # By its shapes alone: computing it would be one more program to compile.
        state = (weights, zeros(jax.eval_shape(ADAM.init, weights)))
    else:
        program = _passes(layer)
        state = (zeros(jax.eval_shape(lambda: weights)), weights)

    # The state is donated, as in training: it is updated in place.
    state = jax.device_put(state)
    jitted = jax.jit(program, donate_argnums=0)
    with precision.within(precision.JAX_NAMES[load.precision]):
        return Lowered(jitted.lower(state, data), state, data)


def on_device(load: Load, start: Start) -> Tree:
    """Put the data of a row onto the device, once for all JAX peers."""
    if load.task == "step":
        return jax.device_put((start.x, start.y))
    return jax.device_put((start.x, start.cotangent))


def compiled(lowered: Lowered) -> Callable[[], Turn]:
    """Compile; return the function that makes the first call, which a thread that compiles must not do."""
    executable, compile_s = timed_compilation(lowered.program)
    return lambda: _first_call(executable, lowered, compile_s)


def timed_compilation(program: stages.Lowered) -> tuple[stages.Compiled, float]:
    """Compile a program; return it with the seconds that it took."""
    began = time.perf_counter()
    executable = program.compile()
    return executable, time.perf_counter() - began


def _first_call(executable: stages.Compiled, lowered: Lowered, compile_s: float) -> Turn:
    data = lowered.data
    state, result = executable(lowered.state, data)
    # The trainer's batches are other rows.
    check = []
    if lowered.comparable:
        check = [float(number) for number in np.asarray(_check(result))]
    jax.block_until_ready(state)

    def call() -> None:
        nonlocal state, result
        state, result = executable(state, data)

    def wait() -> None:
        jax.block_until_ready((state, result))

    return Turn(
        call,
        wait,
        check,
        compile_s,
    )


@jax.jit
def _check(result: Array) -> Float[Array, "2"]:
    """Return the first and last loss, or the norm of the first and the last input gradient."""
    ends = result[jnp.array([0, -1])]
    # A loss is its own size.
    if ends.ndim == 1:
        return ends
    return jnp.sqrt(jnp.sum(ends * ends, axis=(1, 2, 3)))


def zeros(shapes: Tree) -> Tree:
    """Return zeros of the shapes; optax's first state is zeros, too."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def _training(layer: Layer) -> Program:
    """Return training steps one after the other, each on data of its repetition."""

    def step(state: Tree, batch: tuple[Array, Array]) -> tuple[Tree, Float[Array, ""]]:
        weights, opt = state
        x, y = batch

        def loss(weights: Tree) -> Float[Array, ""]:
            outputs = layer.apply(weights["layer"], x)
            prediction = outputs[-1] @ weights["kernel"] + weights["bias"]
            return jnp.mean((prediction - y) ** 2)

        value, gradient = jax.value_and_grad(loss)(weights)
        # optax mixes its float32 with Python floats and int32 counts, which strict promotion would refuse.
        with jax.numpy_dtype_promotion("standard"):
            updates, opt = ADAM.update(gradient, opt, weights)
            weights = optax.apply_updates(weights, updates)
        return (weights, opt), value

    return lambda state, data: jax.lax.scan(step, state, data)


def _passes(layer: Layer) -> Program:
    """Return forward and backward passes of the layer, whose parameter gradients are added up."""

    def program(state: Tree, data: tuple[Array, Array]) -> tuple[Tree, Array]:
        total, weights = state
        xs, cotangent = data

        def one_pass(total: Tree, x: Float[Array, "t b d"]) -> tuple[Tree, Float[Array, "t b d"]]:
            _, transpose = jax.vjp(layer.apply, weights, x)
            gradient, x_gradient = transpose(cotangent)
            # The sum uses every pass's gradient, so that XLA leaves none out.
            return jax.tree.map(jnp.add, total, gradient), x_gradient

        total, x_gradients = jax.lax.scan(one_pass, total, xs)
        return (total, weights), x_gradients

    return program
