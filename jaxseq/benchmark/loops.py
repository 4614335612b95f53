"""Training loops as anybody writes them around our layer: a call for each step, and a scan over batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxseq.benchmark.peers import ADAM, Given, batches_of
from jaxseq.benchmark.workloads import Workload
from jaxseq.common.arrays import Batch, Tree


class State(NamedTuple):
    """Parameters, and the optimiser's state."""

    params: Tree
    moments: Tree


Step = Callable[[State, Batch], tuple[State, Float[Array, ""]]]
"""(state, batch) -> (state after the step, loss)."""


def _first_state(start: Given) -> State:
    # Copied, as loops that donate their state would take the weights of the others.
    params = jax.tree.map(jnp.copy, start.state.params)
    return State(params, ADAM.init(params))


def _step(start: Given) -> Step:
    """Return a training step."""

    def loss(params: Tree, batch: Batch) -> Float[Array, ""]:
        _, prediction = start.setup.model.apply({"params": params}, batch.x)
        return jnp.mean((prediction - batch.y) ** 2)

    def step(state: State, batch: Batch) -> tuple[State, Float[Array, ""]]:
        value, gradient = jax.value_and_grad(loss)(state.params, batch)
        # optax mixes its float32 with Python floats and int32 counts, which strict promotion would refuse.
        with jax.numpy_dtype_promotion("standard"):
            updates, moments = ADAM.update(gradient, state.moments, state.params)
            params = optax.apply_updates(state.params, updates)
        return State(params, moments), value

    return step


def step_by_step(load: Workload, start: Given, is_donated: bool) -> Callable[[], object]:
    """Return a loop in Python that calls a compiled step for each batch."""
    donated = ()
    if is_donated:
        donated = (0,)
    step = jax.jit(_step(start), donate_argnums=donated)
    stacked = batches_of(load, start)
    # Cut beforehand, as a loader would give them.
    batches = [Batch(stacked.x[place], stacked.y[place]) for place in range(load.steps)]
    state = _first_state(start)

    def work() -> object:
        nonlocal state
        losses = []
        for batch in batches:
            state, loss = step(state, batch)
            losses.append(loss)
        return jax.block_until_ready((state, losses))

    return work


def scan(load: Workload, start: Given) -> Callable[[], object]:
    """Return a compiled scan over all batches, with donated state."""
    step = _step(start)

    def steps(state: State, batches: Batch) -> tuple[State, Float[Array, "n"]]:
        return jax.lax.scan(step, state, batches)

    # The state is overwritten; the batches are those of every call.
    many = jax.jit(steps, donate_argnums=0)
    batches = batches_of(load, start)
    state = _first_state(start)

    def work() -> object:
        nonlocal state
        state, losses = jax.block_until_ready(many(state, batches))
        return losses

    return work


MAKERS: MappingProxyType[str, Callable[[Workload, Given], Callable[[], object]]] = MappingProxyType(
    {
        "a call for each step": partial(step_by_step, is_donated=False),
        "the same, state donated": partial(step_by_step, is_donated=True),
        "a scan over batches": scan,
    }
)
"""The kinds of loop by name; each makes the function that does the steps of a workload."""
