"""The optimiser of a run: the rule, the learning rate and its schedule, weight decay and gradient clipping.

What runs differ in by a number is an array in the optimiser's state: learning rates of a search share one compiled step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxseq.common.arrays import Tree
from jaxseq.nn import fields
from jaxseq.train.schedules import RATES, Numbers, Schedule

Rule = Literal["adam"]
"""The update of the parameters, by its name in optax."""


class Settings(NamedTuple):
    """The settings of an optimiser.

    lr      learning rate, the largest of the schedule
    clip    maximum global norm of the gradient before the update; None disables clipping
    decay   weight decay; 0 is none
    """

    rule: Rule = "adam"
    lr: float = 1e-3
    schedule: Schedule = "constant"
    clip: float | None = None
    decay: float = 0.0


class Optimiser(NamedTuple):
    """An optimiser in two parts.

    transformation  the constants of compiled functions: one object for all settings that differ in numbers alone
    numbers         the numbers, by name, for the state that the transformation makes
    """

    transformation: optax.GradientTransformationExtraArgs
    numbers: Mapping[str, np.ndarray]


class OptimiserState(NamedTuple):
    """State of an optimiser: its numbers by name, NaN until `with_numbers` gives them, and the state of optax's rule."""

    numbers: dict[str, Float[Array, ""]]
    rule: Tree


def optimiser(settings: Settings, steps: int) -> Optimiser:
    """Build the optimiser of a run of `steps` optimiser steps."""
    numbers: dict[str, float] = {"lr": settings.lr}
    if settings.schedule in RATES:
        numbers["steps"] = steps
    if settings.clip is not None:
        numbers["clip"] = settings.clip
    if settings.decay:
        numbers["decay"] = settings.decay

    arrays = {name: np.asarray(number, np.float32) for name, number in numbers.items()}
    return Optimiser(_transformation(settings.rule, settings.schedule, tuple(arrays)), arrays)


def with_numbers(state: Tree, numbers: Mapping[str, Array | np.ndarray]) -> Tree:
    """Return the state of an `Optimiser` with its numbers; the state of any other optimiser stays as it is."""
    if not isinstance(state, OptimiserState):
        return state
    return state._replace(numbers={name: jnp.asarray(number) for name, number in numbers.items()})


# Cached, because functions are compiled for the object: an equal one would compile them anew.
@functools.cache
def _transformation(rule: Rule, schedule: Schedule, names: tuple[str, ...]) -> optax.GradientTransformationExtraArgs:
    """Build an optimiser that reads the numbers of these names from its state."""

    def build(numbers: Numbers) -> optax.GradientTransformationExtraArgs:
        rate: optax.ScalarOrSchedule = numbers["lr"]
        if schedule in RATES:
            rate = partial(RATES[schedule], numbers)

        update = RULES[rule](rate, numbers)
        if "clip" in numbers:
            update = optax.chain(_clip_by_global_norm(numbers["clip"]), update)
        return optax.with_extra_args_support(update)

    def init(params: Tree) -> OptimiserState:
        # An optimiser without its numbers stops training at once; zeros would train nothing, and say nothing.
        unknown = {name: jnp.full((), jnp.nan, jnp.float32) for name in names}
        return OptimiserState(unknown, build(unknown).init(params))

    def update(updates: Tree, state: Any, params: Tree = None, **extra_args: Any) -> tuple[Tree, OptimiserState]:
        updates, rule_state = build(state.numbers).update(updates, state.rule, params, **extra_args)
        return updates, OptimiserState(state.numbers, rule_state)

    return optax.GradientTransformationExtraArgs(init, update)


# Rules -----------------------------------------------------------------------------------------------------------------

MakeRule: TypeAlias = Callable[[optax.ScalarOrSchedule, Numbers], optax.GradientTransformation]


def _adam(rate: optax.ScalarOrSchedule, numbers: Numbers) -> optax.GradientTransformation:
    """Build Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019) for a weight decay."""
    if "decay" in numbers:
        return optax.adamw(rate, weight_decay=numbers["decay"])
    return optax.adam(rate)


RULES: Mapping[str, MakeRule] = MappingProxyType({"adam": _adam})
"""Optax's rules by name."""


# Norms -----------------------------------------------------------------------------------------------------------------


def global_norm(tree: Tree) -> Float[Array, ""]:
    """Return the Euclidean norm of all leaves together, summed in the order of `fields.in_order`."""
    return optax.tree.norm(fields.in_order(tree))


def _clip_by_global_norm(most: Float[Array, ""]) -> optax.GradientTransformation:
    """Scale gradients down to the norm `most`, as `optax.clip_by_global_norm`, which sums in the order of names."""

    def update(updates: Tree, state: optax.OptState, params: Tree = None) -> tuple[Tree, optax.OptState]:
        norm = global_norm(updates)
        is_small = norm < most
        # Scalars are divided first: a norm of 1 then gives the bits that it gives as a constant of the program.
        divisor = norm / most

        def clip(leaf: Float[Array, "..."]) -> Float[Array, "..."]:
            return jnp.where(is_small, leaf, leaf / divisor.astype(leaf.dtype))

        return jax.tree.map(clip, updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)
