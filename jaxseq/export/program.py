"""A restored run as one pure function of arrays, and how what is written of it is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Inputs: TypeAlias = dict[str, Array]
"""Arrays by name, the rows first."""
Outputs: TypeAlias = dict[str, Array]
Computed: TypeAlias = dict[str, np.ndarray]
"""Inputs or outputs in numpy."""

TOLERANCE = 1e-5
"""Largest difference between an exported program and the run's own model, relative to the size of its results."""


class Program(NamedTuple):
    """A function from `Inputs` to `Outputs`, for any number of rows.

    shapes   of the inputs but for the rows; a letter stands for a length that is free
    least    smallest length that each letter stands for
    result   name of the first output, after which files are named
    example  made-up inputs, by which an export is checked
    own      the outputs of the run's own methods for such inputs
    unit     size of the results that differences are measured by, of each row of the example or of all
    grows    whether that size is relative to the row's largest result
    """

    function: Callable[[Inputs], Outputs]
    shapes: Mapping[str, tuple[int | str, ...]]
    dtypes: Mapping[str, np.dtype]
    result: str
    example: Computed
    own: Callable[[Computed], Computed]
    least: Mapping[str, int] = {}
    unit: Float[np.ndarray, "n"] | float = 1.0
    grows: bool = False


def symbolic(program: Program) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the inputs as shapes with a symbol for the number of rows, n, and for each length that is free."""
    letters = ["n", *program.least]
    constraints = [f"{letter} >= {least}" for letter, least in program.least.items()]
    symbols = jax.export.symbolic_shape(", ".join(letters), constraints=constraints)
    by_letter = dict(zip(letters, symbols, strict=True))

    inputs = {}
    for name, shape in program.shapes.items():
        sizes = [by_letter.get(size, size) if isinstance(size, str) else size for size in shape]
        inputs[name] = jax.ShapeDtypeStruct((by_letter["n"], *sizes), program.dtypes[name])
    return inputs


def computed(program: Program, inputs: Computed) -> Computed:
    """Return the outputs of a program for inputs."""
    # The scaling is in float64, which JAX leaves out by default.
    with jax.enable_x64(True):  # noqa: FBT003
        arrays = {name: jnp.asarray(value) for name, value in inputs.items()}
        outputs = jax.jit(program.function)(arrays)
    return {name: np.asarray(value) for name, value in outputs.items()}


def check(program: Program, outputs: Computed) -> None:
    """Raise `RuntimeError` if the outputs of an export, for `program.example`, are not those of the run's own methods.

    A wrong file is worse than none.
    """
    expected = program.own(program.example)
    # Of a distribution's quantiles no method gives the uncalibrated numbers.
    if not outputs.keys() <= expected.keys():
        expected = computed(program, program.example) | expected

    for name, output in outputs.items():
        # What the model says nothing of is NaN in both.
        is_unknown = np.isnan(output) & np.isnan(expected[name])
        differences = np.where(is_unknown, 0.0, np.abs(output - expected[name]))
        rows = len(output)
        by_row = differences.reshape(rows, -1).max(axis=1)
        by_row /= program.unit
        # Relative to the results themselves where the unit is that of a growth.
        if program.grows:
            results = np.nan_to_num(np.abs(expected[name]))
            sizes = results.reshape(rows, -1).max(axis=1)
            by_row /= np.where(sizes > 0, sizes, 1.0)
        difference = by_row.max()
        # Negated, because NaN compares false with everything.
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"the exported {name} differs by {difference:g} of the scale; at most {TOLERANCE:g} may be"
            )
