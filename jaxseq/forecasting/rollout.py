"""One-step forecasts fed back as inputs, on the state that the window has left behind."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxseq.common.arrays import Key, Tree
from jaxseq.data.transforms import AsInput
from jaxseq.nn import apply, forecaster
from jaxseq.nn.heads import Head


class Feedback(NamedTuple):
    """How an output becomes the next input: read by the head, then by `as_input` where a target is not an input itself.

    kept  inputs after the value that stay as they are at the window's last step, such as the scale of a series
    """

    head: Head
    as_input: AsInput | None = None
    kept: int = 0


class Inputs(NamedTuple):
    """Inputs of a network, in its own scale.

    x      the time steps that are read at once
    ahead  covariates that are known of the rows after those, for steps that are fed back; s may be 0
    """

    x: Float[Array | np.ndarray, "b t d"]
    ahead: Float[Array | np.ndarray, "b v s"]


@partial(jax.jit, static_argnames=("model", "feedback", "horizon"))
def rollout(
    model: forecaster.Forecaster,
    feedback: Feedback,
    params: Tree,
    stats: Tree,
    x: Float[Array, "b t d"] | Inputs,
    horizon: int,
    key: Key | None = None,
) -> Float[Array, "b k"]:
    """Forecast `horizon` steps, one at a time; each forecast is the model's next input.

    Beside the values of a series, d may count masks of missing values; a value that is fed back is not missing. The last s
    of d are covariates that are known ahead, of the row that a time step forecasts: as `Inputs`, x comes with those of the
    k - 1 steps that are fed back.
    The window is read once, and every later step resumes from the carried state: k steps cost t + k - 1, not k · t.
    The value fed back is the centre of the forecast or, with a key, a draw from it (Salinas et al. 2020, DeepAR, section
    3.1): one path of the future.
    """
    ahead = jnp.zeros((0, 0, 0))
    if isinstance(x, Inputs):
        x, ahead = (jnp.asarray(array) for array in x)
    window, features = x.shape[1:]
    head, as_input, _ = feedback
    kept = x[:, -1, 1 : 1 + feedback.kept]

    def choose(
        raw: Array,
        step_key: Key | None,
    ) -> Array:
        if model.every_step:
            # Of a window that is trained at every step, the forecast is the last one.
            raw = raw[:, -1]
        raw = raw.reshape(raw.shape[0], 1, head.width)
        # A head without a distribution has nothing to draw from.
        if step_key is None or head.draw is None:
            return head.centre(raw)
        return head.draw(raw, step_key)

    def step(
        state: tuple[Tree, Array],
        of_step: tuple[Key | None, Array],
    ) -> tuple[tuple[Tree, Array], Array]:
        step_key, known = of_step
        carries, last = state
        fed_back = last if as_input is None else jnp.asarray(as_input(last))
        x = _next_input(fed_back, features, kept=kept, known=known)
        carries, raw = apply.resume(model, params, stats, x=x, carries=carries, first=window)
        following = choose(raw, step_key)
        return (carries, following), following[:, 0]

    first_key = None
    later_keys = None
    # Without a key nothing is drawn: the path of the centres.
    if key is not None:
        keys = jax.random.split(key, horizon)
        first_key = keys[0]
        later_keys = keys[1:]

    carries, raw = apply.resume(model, params, stats, x=x, carries=None, first=0)
    first = choose(raw, first_key)
    # Without such covariates, windows may be laid out for another horizon.
    if not ahead.shape[2]:
        ahead = jnp.zeros((x.shape[0], horizon - 1, 0), x.dtype)
    known_by_step = ahead[:, : horizon - 1].swapaxes(0, 1)
    _, later = jax.lax.scan(step, (carries, first), (later_keys, known_by_step), length=horizon - 1)
    return jnp.concatenate([first, later.T], axis=1)


def _next_input(
    value: Float[Array, "b 1"],
    features: int,
    *,
    kept: Float[Array, "b c"],
    known: Float[Array, "b s"],
) -> Float[Array, "b 1 d"]:
    """Return a forecast as the next input, with the inputs that are `kept` and covariates `known` of the row after it.

    The masks of missing values beside it, if there are any, are 0.
    """
    step = value[..., None]
    if features == 1:
        return step
    count = features - 1 - kept.shape[1] - known.shape[1]
    masks = jnp.zeros((*step.shape[:2], count), step.dtype)
    return jnp.concatenate([step, kept[:, None], masks, known[:, None]], axis=-1)


@partial(jax.jit, static_argnames=("model", "feedback", "horizon"))
def paths(
    model: forecaster.Forecaster,
    feedback: Feedback,
    params: Tree,
    stats: Tree,
    x: Float[Array, "b t d"] | Inputs,
    horizon: int,
    keys: Shaped[Array, "m"],
) -> Float[Array, "m b k"]:
    """Forecast a path of the future for each of m `keys`, from which it draws; the other arguments are `rollout`'s."""

    def path(key: Key) -> Float[Array, "b k"]:
        return rollout(model, feedback, params=params, stats=stats, x=x, horizon=horizon, key=key)

    return jax.lax.map(path, keys)
