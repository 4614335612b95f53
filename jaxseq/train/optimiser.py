"""Learning rate, its schedule and gradient clipping: everything that makes the optimiser of a run."""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxseq.common.arrays import Tree
from jaxseq.nn import fields

Schedule = Literal["constant", "cosine"]
"""The learning rate over a run: constant, or a cosine from `lr` to 0."""


def optimiser(
    lr: float, schedule: Schedule, steps: int, clip: float | None, decay: float = 0.0
) -> optax.GradientTransformation:
    """Build Adam, or AdamW for a weight `decay` above 0, with its learning rate over `steps` optimiser steps.

    Equal settings return the same object, so functions compiled for it are reused; a constant schedule does not depend
    on `steps`. `clip` is the maximum global norm of the gradient before the update; None disables clipping.
    """
    # A constant rate has no length: runs of 10 and of 20 epochs share one optimiser, and one compiled step.
    cosine_steps = steps if schedule == "cosine" else None
    return _adam(lr, cosine_steps, clip, decay)


@functools.cache
def _adam(lr: float, cosine_steps: int | None, clip: float | None, decay: float) -> optax.GradientTransformation:
    """Build Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019) once for each set of arguments."""
    rate = lr
    if cosine_steps is not None:
        rate = optax.cosine_decay_schedule(lr, cosine_steps)

    # AdamW without decay has an additional, empty state: plain Adam keeps checkpoints without decay as they are.
    update = optax.adam(rate)
    if decay:
        update = optax.adamw(rate, weight_decay=decay)

    if clip is None:
        return update
    return optax.chain(_clip_by_global_norm(clip), update)


def global_norm(tree: Tree) -> Float[Array, ""]:
    """Return the Euclidean norm of all leaves together, summed in the order of `fields.in_order`."""
    return optax.tree.norm(fields.in_order(tree))


def _clip_by_global_norm(most: float) -> optax.GradientTransformation:
    """Scale gradients down to the norm `most`, as `optax.clip_by_global_norm`, which sums in the order of names."""

    def update(updates: Tree, state: optax.OptState, params: Tree = None) -> tuple[Tree, optax.OptState]:
        norm = global_norm(updates)
        is_small = norm < most

        def clip(leaf: Float[Array, "..."]) -> Float[Array, "..."]:
            return jnp.where(is_small, leaf, leaf / norm.astype(leaf.dtype) * most)

        return jax.tree.map(clip, updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)
