"""The optimiser of a run: the rule, the learning rate and its schedule, weight decay, clipping, and averaged weights.

What runs differ in by a number is an array in the optimiser's state: learning rates of a search share one compiled step.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxseq.common.arrays import Tree
from jaxseq.common.checks import count, one_of, share
from jaxseq.common.errors import UsageError
from jaxseq.nn import fields
from jaxseq.train.schedules import FACTOR, PLATEAU, RATES, WARMUP, Numbers, Schedule

WITH_DECAY = ("adam", "adamw", "nadamw", "lion", "muon")
"""Rules with a weight decay, which the learning rate multiplies; Adam with one is AdamW."""
WITH_MOMENTUM = ("sgd", "rmsprop")
"""Rules without a momentum of their own."""


class Settings(NamedTuple):
    """The settings of an optimiser; None takes the default of the schedule, or disables clipping.

    lr        learning rate, the largest of the schedule
    clip      maximum global norm of the gradient before the update
    decay     weight decay; 0 is none
    momentum  share of the last update that is added to this one
    warmup    share of the run in which the learning rate rises
    factor    of the learning rate: of the whole run if exponential, of each plateau
    plateau   epochs without a better validation score before the learning rate falls
    ema       share of the last average of the weights in the next one; 0 averages none
    """

    rule: Rule = "adam"
    lr: float = 1e-3
    schedule: Schedule = "constant"
    clip: float | None = None
    decay: float = 0.0
    momentum: float = 0.0
    warmup: float | None = None
    factor: float | None = None
    plateau: int | None = None
    ema: float = 0.0


class Optimiser(NamedTuple):
    """An optimiser in two parts.

    transformation  the constants of compiled functions: one object for all settings that differ in numbers alone
    numbers         the numbers, by name, for the state that the transformation makes
    """

    transformation: optax.GradientTransformationExtraArgs
    numbers: Mapping[str, np.ndarray]


class Plateau(NamedTuple):
    """How long a run has waited for a better validation score.

    scale   of every update, a power of the factor
    best    the best score so far
    waited  epochs since the best score, or since the learning rate fell
    """

    scale: Float[Array, ""]
    best: Float[Array, ""]
    waited: Float[Array, ""]


class Average(NamedTuple):
    """Exponential moving average of the weights after each step, which begins at 0 (Polyak & Juditsky 1992).

    weight  summed weight of all steps in it, by which `weights` divides, as Adam does its moments
    """

    params: Tree
    weight: Float[Array, ""]


class OptimiserState(NamedTuple):
    """State of an optimiser.

    numbers  by name; NaN until `with_numbers` gives them
    rule     the state of optax's rule
    plateau  None for every other schedule
    average  None where no weights are averaged
    """

    numbers: dict[str, Float[Array, ""]]
    rule: Tree
    plateau: Plateau | None = None
    average: Average | None = None


def check(settings: Settings) -> None:
    """Raise `UsageError`, by the options of the command line, for settings that are invalid or would mean nothing."""
    one_of(RULES, optimiser=settings.rule)
    one_of(get_args(Schedule), schedule=settings.schedule)
    for name, value in {"lr": settings.lr, "clip": settings.clip}.items():
        # Negated, because NaN compares false with everything and has to be refused, too.
        if value is not None and not 0 < value < math.inf:
            raise UsageError("not a positive number", where=name, got=value, needed="finite, above 0")
    share(decay=settings.decay, momentum=settings.momentum, ema=settings.ema)
    _check_rule(settings)

    _check_share("warmup", settings.warmup, settings, schedules=tuple(WARMUP))
    _check_share("factor", settings.factor, settings, schedules=tuple(FACTOR))
    if settings.plateau is not None:
        count(plateau=settings.plateau)
        _check_schedule("plateau", settings.plateau, settings, schedules=("plateau",))


def _check_rule(settings: Settings) -> None:
    rule = settings.rule
    if settings.decay and rule not in WITH_DECAY:
        needed = f"--decay 0, or --optimiser {' or '.join(WITH_DECAY)}"
        raise UsageError(f"{rule} has no weight decay", where="--decay", got=settings.decay, needed=needed)
    if rule == "adamw" and not settings.decay:
        raise UsageError(
            "adamw without weight decay is adam", where="--optimiser", got=rule, needed="--decay 0.01, say"
        )
    if settings.momentum and rule not in WITH_MOMENTUM:
        needed = f"--optimiser {' or '.join(WITH_MOMENTUM)}"
        raise UsageError(f"{rule} has a momentum already", where="--momentum", got=settings.momentum, needed=needed)


def _check_share(name: str, value: float | None, settings: Settings, schedules: tuple[str, ...]) -> None:
    if value is None:
        return
    if not 0 < value < 1:
        raise UsageError("not a share of a whole", where=name, got=value, needed="above 0 and below 1")
    _check_schedule(name, value, settings, schedules)


def _check_schedule(name: str, value: int | float, settings: Settings, schedules: tuple[str, ...]) -> None:
    """Raise `UsageError` for a number that the schedule does not read."""
    if settings.schedule not in schedules:
        needed = f"--schedule {' or '.join(schedules)}"
        raise UsageError(
            f"--schedule {settings.schedule} does not read it", where=f"--{name}", got=value, needed=needed
        )


def optimiser(settings: Settings, steps: int) -> Optimiser:
    """Build the optimiser of a run of `steps` optimiser steps. Raises as `check` does."""
    check(settings)
    schedule = settings.schedule
    numbers: dict[str, float] = {"lr": settings.lr}
    if schedule in RATES:
        numbers["steps"] = steps
    if schedule in WARMUP:
        numbers["warmup"] = round(_given(settings.warmup, WARMUP[schedule]) * steps)
    if schedule in FACTOR:
        numbers["factor"] = _given(settings.factor, FACTOR[schedule])
    if schedule == "plateau":
        numbers["plateau"] = _given(settings.plateau, PLATEAU)
    if settings.clip is not None:
        numbers["clip"] = settings.clip
    if settings.decay:
        numbers["decay"] = settings.decay
    if settings.momentum:
        numbers["momentum"] = settings.momentum
    if settings.ema:
        numbers["ema"] = settings.ema

    arrays = {name: np.asarray(number, np.float32) for name, number in numbers.items()}
    return Optimiser(_transformation(settings.rule, settings.schedule, tuple(arrays)), arrays)


def _given(value: int | float | None, default: int | float) -> int | float:
    if value is None:
        return default
    return value


def with_numbers(state: Tree, numbers: Mapping[str, Array | np.ndarray]) -> Tree:
    """Return the state of an `Optimiser` with its numbers; the state of any other optimiser stays as it is."""
    if not isinstance(state, OptimiserState):
        return state
    return state._replace(numbers={name: jnp.asarray(number) for name, number in numbers.items()})


def after_epoch(state: Tree, score: Float[Array, ""]) -> Tree:
    """Return the state after an epoch with this validation score, of which less is better; only a plateau changes it."""
    if not isinstance(state, OptimiserState) or state.plateau is None:
        return state
    return state._replace(plateau=_waited(state.plateau, score, state.numbers["plateau"], state.numbers["factor"]))


@jax.jit
def _waited(plateau: Plateau, score: Float[Array, ""], most: Float[Array, ""], factor: Float[Array, ""]) -> Plateau:
    """Count an epoch; lower the scale after `most` epochs without a better score, as torch's ReduceLROnPlateau."""
    is_better = score < plateau.best
    waited = jnp.where(is_better, 0, plateau.waited + 1)
    is_over = waited >= most
    return Plateau(
        scale=jnp.where(is_over, plateau.scale * factor, plateau.scale),
        best=jnp.where(is_better, score.astype(jnp.float32), plateau.best),
        waited=jnp.where(is_over, 0, waited),
    )


def weights(state: Tree, params: Tree) -> Tree:
    """Return the weights that predict: the average in the optimiser's state, or `params` where there is none yet."""
    if not isinstance(state, OptimiserState) or state.average is None:
        return params
    total = state.average.weight

    # Before the first step there is nothing to divide by.
    def averaged(mean: Float[Array, "..."], last: Float[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
        divisor = jnp.where(total > 0, total, 1).astype(mean.dtype)
        return jnp.where(total > 0, mean / divisor, last)

    return jax.tree.map(averaged, state.average.params, params)


def _with_step(average: Average, params: Tree, share_kept: Float[Array, ""]) -> Average:
    """Return the average with the weights after one more step."""

    def mixed(mean: Float[Array, "..."], last: Float[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
        kept = share_kept.astype(mean.dtype)
        return kept * mean + (1 - kept) * last

    return Average(jax.tree.map(mixed, average.params, params), mixed(average.weight, jnp.ones_like(average.weight)))


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

    def init(params: Tree) -> Tree:
        # An optimiser without its numbers stops training at once; zeros would train nothing, and say nothing.
        unknown = {name: jnp.full((), jnp.nan, jnp.float32) for name in names}
        plateau = None
        if schedule == "plateau":
            plateau = Plateau(jnp.ones((), jnp.float32), jnp.full((), jnp.inf, jnp.float32), jnp.zeros((), jnp.float32))
        average = None
        # From 0, so that it shares no memory with the weights: both are donated.
        if "ema" in names:
            average = Average(jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.float32))
        return OptimiserState(unknown, build(unknown).init(params), plateau, average)

    def update(updates: Tree, state: Any, params: Tree = None, **extra_args: Any) -> tuple[Tree, Tree]:
        updates, rule_state = build(state.numbers).update(updates, state.rule, params, **extra_args)
        if state.plateau is not None:
            updates = optax.tree.scale(state.plateau.scale, updates)
        average = state.average
        if average is not None:
            average = _with_step(average, optax.apply_updates(params, updates), state.numbers["ema"])
        return updates, state._replace(rule=rule_state, average=average)

    return optax.GradientTransformationExtraArgs(init, update)


# Rules -----------------------------------------------------------------------------------------------------------------

MakeRule: TypeAlias = Callable[[optax.ScalarOrSchedule, Numbers], optax.GradientTransformation]


def _adam(rate: optax.ScalarOrSchedule, numbers: Numbers) -> optax.GradientTransformation:
    """Build Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019) for a weight decay."""
    if "decay" in numbers:
        return optax.adamw(rate, weight_decay=numbers["decay"])
    return optax.adam(rate)


def _nadamw(rate: optax.ScalarOrSchedule, numbers: Numbers) -> optax.GradientTransformation:
    """Build Adam with Nesterov's momentum (Dozat 2016), and weight decay as in AdamW."""
    return optax.nadamw(rate, weight_decay=numbers.get("decay", 0.0))


def _lion(rate: optax.ScalarOrSchedule, numbers: Numbers) -> optax.GradientTransformation:
    """Build Lion, which steps by the sign of a momentum (Chen et al. 2023)."""
    return optax.lion(rate, weight_decay=numbers.get("decay", 0.0))


def _muon(rate: optax.ScalarOrSchedule, numbers: Numbers) -> optax.GradientTransformation:
    """Build Muon, which orthogonalises the updates of matrices (Jordan et al. 2024); all else is Adam's."""
    decay = numbers.get("decay", 0.0)
    return optax.contrib.muon(rate, weight_decay=decay, adam_weight_decay=decay)


def _sgd(rate: optax.ScalarOrSchedule, numbers: Numbers) -> optax.GradientTransformation:
    """Build gradient descent, with momentum if there is one (Polyak 1964)."""
    return optax.sgd(rate, numbers.get("momentum"))


def _rmsprop(rate: optax.ScalarOrSchedule, numbers: Numbers) -> optax.GradientTransformation:
    """Build RMSProp (Tieleman & Hinton 2012), with momentum if there is one."""
    return optax.rmsprop(rate, momentum=numbers.get("momentum"))


def _adafactor(rate: optax.ScalarOrSchedule, numbers: Numbers) -> optax.GradientTransformation:
    """Build Adafactor (Shazeer & Stern 2018), whose updates are relative to the size of the parameters."""
    return optax.adafactor(rate)


RULES: Mapping[str, MakeRule] = MappingProxyType(
    {
        "adam": _adam,
        "adamw": _adam,
        "nadamw": _nadamw,
        "lion": _lion,
        "muon": _muon,
        "sgd": _sgd,
        "rmsprop": _rmsprop,
        "adafactor": _adafactor,
    }
)
"""Optax's rules by name, each of a learning rate and the numbers of the state."""

if TYPE_CHECKING:
    Rule: TypeAlias = str
else:  # A type checker reads no list of names that is computed.
    Rule = Literal[tuple(RULES)]


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
