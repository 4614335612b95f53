"""What every recipe has: how it is trained; how its fields are checked, and rebuilt from a file."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

import optax

from jaxseq.common.checks import at_least, one_of
from jaxseq.common.errors import UsageError
from jaxseq.common.text import cut, printable, shown
from jaxseq.nn import objectives

LONGEST_REASON = 600
"""Letters of what is said against a recipe in a file, whose texts may be of any length."""


NormName = Literal["none", "layer", "layer-sum", "batch", "batch-between"]
Schedule = Literal["constant", "cosine"]
OnNonFinite = Literal["stop", "skip"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Data, model, and how it is trained. Raises `UsageError` for a field that cannot be."""

    data: Any
    """A data set's recipe."""
    model: Any
    """The network's recipe: cell, hidden, layers among its fields."""
    epochs: int = 100
    """Times that training goes through all its rows."""
    batch: int = 32
    """Rows in one optimiser step."""
    lr: float = 1e-3
    """Learning rate of Adam, at the start."""
    schedule: Schedule = "constant"
    """The rate over the epochs: constant, or a cosine from `lr` to 0."""
    clip: float | None = None
    """Norm that gradients are clipped to; None clips nothing."""
    seed: int = 0
    """The key of every draw: initial weights and the order of the rows."""
    patience: int | None = None
    """Stop after so many epochs without a better validation; None goes through all of them."""
    on_nonfinite: OnNonFinite = "stop"
    """What to do when a loss or gradient is not finite: stop, or skip the step, as long as that happens now and then."""

    name: ClassVar[str]
    domain: ClassVar[str]
    """The module of `jaxseq.train.domains` that prepares and judges its runs."""

    def __post_init__(self) -> None:
        at_least(1, epochs=self.epochs, batch=self.batch)
        # From 2**32 on, JAX's keys repeat.
        at_least(0, most=2**32 - 1, seed=self.seed)
        if self.patience is not None:
            at_least(1, patience=self.patience)
        for name, value in {"lr": self.lr, "clip": self.clip}.items():
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} must be a finite number above 0; it is {value:g}")
        one_of(get_args(Schedule), schedule=self.schedule)
        one_of(get_args(OnNonFinite), on_nonfinite=self.on_nonfinite)

    def objective(self) -> objectives.Objective:
        """The loss that is trained and the metrics of validation."""
        raise NotImplementedError

    def build(self) -> Any:
        """The Flax module."""
        raise NotImplementedError

    def optimiser(self, steps_per_epoch: int) -> optax.GradientTransformation:
        """Adam by this recipe; one object for one recipe, so that what is compiled for it is found again."""
        return adam(self.lr, self.clip, self.epochs * steps_per_epoch if self.schedule == "cosine" else None)


@functools.cache
def adam(lr: float, clip: float | None, cosine_steps: int | None, decay: float = 0.0) -> optax.GradientTransformation:
    """Adam, with `decay` AdamW (Loshchilov & Hutter 2019), after clipping; the same arguments give the same object."""
    rate = lr if cosine_steps is None else optax.cosine_decay_schedule(lr, cosine_steps)
    rule = optax.adamw(rate, weight_decay=decay) if decay else optax.adam(rate)
    return rule if clip is None else optax.chain(optax.clip_by_global_norm(clip), rule)


Rebuilt = TypeVar("Rebuilt")


def rebuild(default: Rebuilt, values: Any, source: str, nested: Mapping[str, Any] = MappingProxyType({})) -> Rebuilt:
    """`default` with other values, each of the type that its field has; `nested` values are taken as they are."""
    hints = get_type_hints(type(default))
    known = [f.name for f in dataclasses.fields(default)]  # pyrefly: ignore[bad-argument-type]
    if not isinstance(values, Mapping):
        raise UsageError(f"{source} is no table of fields but {shown(values)}; known are {', '.join(known)}")
    if unknown := sorted(set(values) - set(known)):
        names = ", ".join(printable(str(name))[:40] for name in unknown[:10])
        raise UsageError(f"{source} has unknown fields {names}; known are {', '.join(known)}")
    values = {name: _typed(value, hints[name]) for name, value in values.items()}
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise UsageError(f"{source}: {name} must be {_words(hints[name])}; it is {shown(value)}")
        if any(type(one) is int and abs(one) >= 2**63 for one in (value if isinstance(value, tuple) else (value,))):
            raise UsageError(f"{source}: {name} must be within 64 bits; it is {shown(value)}")
    try:
        return dataclasses.replace(default, **values, **nested)  # pyrefly: ignore[bad-specialization]
    except UsageError as error:
        raise UsageError(f"{source}: {cut(str(error), LONGEST_REASON)}") from error


def _typed(value: Any, hint: Any) -> Any:
    """A value out of JSON, which knows no tuples and may write 1.0 as 1, as its field has it."""
    if isinstance(value, list) and get_origin(hint) is tuple:
        return tuple(value)
    wanted = (hint, *get_args(hint))
    whole = type(value) is int and abs(value) < 2**53 and float in wanted and int not in wanted
    return float(value) if whole else value


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value out of JSON has a field's type."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(one, get_args(hint)[0]) for one in value)
    if alternatives := get_args(hint):
        return any(_fits(value, alternative) for alternative in alternatives)
    return type(value) in ((int, float) if hint is float else (hint,))


def _words(hint: Any) -> str:
    """A field's type for a message: ``int``, ``float or None``, ``one of constant, cosine``."""
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if get_origin(hint) is tuple:
        return f"a list of {get_args(hint)[0].__name__}"
    return " or ".join("None" if kind is type(None) else kind.__name__ for kind in get_args(hint) or (hint,))
