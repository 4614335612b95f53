"""One-step forecasts fed back as inputs, on the state that the window has left behind."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.common.arrays import Key, Tree
from jaxseq.nn import apply, forecaster
from jaxseq.nn.heads import Head


@partial(jax.jit, static_argnames=("model", "head", "horizon"))
def rollout(
    model: forecaster.Forecaster,
    head: Head,
    params: Tree,
    stats: Tree,
    x: Float[Array, "b t d"],
    horizon: int,
    key: Key | None = None,
) -> Float[Array, "b k"]:
    """`horizon` one-step forecasts, each of which the model is given as its next input.

    The window is read once; every later step goes on from the carried state, so k steps cost t + k - 1 and not k · t.
    What is fed back is the centre of the forecast or, with a key, a draw from it (Salinas et al. 2020, DeepAR, section
    3.1): one path of the future.
    """
    window, features = x.shape[1:]

    def choose(raw: Array, step_key: Key | None) -> Array:
        raw = raw.reshape(raw.shape[0], 1, head.width)
        if step_key is None or head.draw is None:
            return head.centre(raw)
        return head.draw(raw, step_key)

    def step(state: tuple[Tree, Array], step_key: Key | None) -> tuple[tuple[Tree, Array], Array]:
        carries, last = state
        carries, raw = apply.resume(model, params, stats, _next_input(last, features), carries, window)
        following = choose(raw, step_key)
        return (carries, following), following[:, 0]

    keys = None if key is None else jax.random.split(key, horizon)
    carries, raw = apply.resume(model, params, stats, x, None, 0)
    first = choose(raw, None if keys is None else keys[0])
    later = None if keys is None else keys[1:]
    _, rest = jax.lax.scan(step, (carries, first), later, length=horizon - 1)
    return jnp.concatenate([first, rest.T], axis=1)


def _next_input(value: Float[Array, "b 1"], features: int) -> Float[Array, "b 1 d"]:
    """Return a forecast as the next input: its masks of missing values, if it has any, are 0."""
    step = value[..., None]
    if features == 1:
        return step
    masks = jnp.zeros((*value.shape, features - 1), value.dtype)
    return jnp.concatenate([step, masks], axis=-1)


@partial(jax.jit, static_argnames=("model", "head", "horizon", "draws"))
def paths(
    model: forecaster.Forecaster,
    head: Head,
    params: Tree,
    stats: Tree,
    x: Float[Array, "b t d"],
    horizon: int,
    key: Key,
    draws: int,
) -> Float[Array, "m b k"]:
    """So many paths of the future, each with draws of its own."""
    one = partial(rollout, model, head, params, stats, x, horizon)
    return jax.lax.map(one, jax.random.split(key, draws))
