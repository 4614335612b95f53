"""How far back a forecaster feels its loss: the gradient by the recurrent state, step by step back in time.

Where it falls off exponentially, nothing can be learnt from what lies further back (Bengio, Simard & Frasconi 1994, IEEE
Transactions on Neural Networks 5(2); Pascanu, Mikolov & Bengio 2013, ICML, section 2).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.common.arrays import Batch, Tree
from jaxseq.nn import apply, forecaster
from jaxseq.train import epoch


@partial(jax.jit, static_argnames="setup")
def influence(setup: epoch.Setup, params: Tree, stats: Tree, data: Batch) -> Float[Array, "t"]:
    """Mean over the rows of |∂ loss / ∂ state k steps back|, for k = 0 (the last state) to t - 1 (that after step 1).

    The loss is the task's for the forecast after the last step; a forecaster of every step is asked for that one alone.
    The state is all that passes from a step to the next: the LSTM's memory c as well as its h, and the states of all
    layers. Without c, an LSTM would be measured by the one path that its memory was made to avoid. Normalisation and
    dropout are as in a forecast, not as in training. Exact: each state has zeros added to it, and the loss is
    differentiated by those in one backward pass; it holds t times the states of all rows in memory.

    Raises `ValueError` unless the model is a `models.Forecaster` that reads one way.
    """
    model = setup.model
    # A subclass is a network of another kind, whose layers pass on more than their last state.
    if type(model) is not forecaster.Forecaster or model.bidirectional:
        what = "reads both ways" if type(model) is forecaster.Forecaster else f"is a {type(model).__name__}"
        raise ValueError(f"the model {what}; expected a Forecaster that reads one way")
    target = setup.objective.at_end(jnp.asarray(data.y))

    def loss(added: Tree) -> Array:
        return jnp.sum(setup.objective.loss(perturbed(model, params, stats, data.x, added), target))  # each row its own

    gradient = jax.grad(loss)(_zeros(model, jnp.asarray(data.x)))
    return jnp.flip(jnp.mean(_norms(gradient), axis=1))


def _zeros(model: forecaster.Forecaster, x: Float[Array, "b t d"]) -> Tree:
    """Zeros like the states of all layers after every step, steps first."""
    b, t, _ = x.shape
    return tuple(model.cell.start((t, b, model.hidden), x.dtype) for _ in range(model.layers))


def perturbed(
    model: forecaster.Forecaster, params: Tree, stats: Tree, x: Float[Any, "b t d"], added: Tree
) -> Float[Array, "b k"]:
    """The forecast after the last step, where `added` was added to the layers' states after each step (and before they
    are read: by the next step, or by the head)."""
    steps = jnp.swapaxes(jnp.asarray(x), 0, 1)
    start = tuple(model.cell.start((steps.shape[1], model.hidden), steps.dtype) for _ in range(model.layers))

    def step(states: Tree, at: Any) -> tuple[Tree, None]:
        number, x, added = at
        states, _ = apply.resume(model, params, stats, x[:, None], states, number)
        return jax.tree.map(jnp.add, states, added), None

    last, _ = jax.lax.scan(step, start, (jnp.arange(len(steps)), steps, added))
    return last[-1].h @ params["head"]["kernel"] + params["head"]["bias"]


def _norms(gradient: Tree) -> Float[Array, "t b"]:
    """Euclidean norm over all states of a row, with its largest part taken out: squares of what has vanished would be 0."""
    parts = jnp.concatenate(jax.tree.leaves(gradient), axis=-1)
    largest = jnp.max(jnp.abs(parts), axis=-1)
    return largest * jnp.linalg.norm(parts / jnp.where(largest > 0, largest, 1)[..., None], axis=-1)
