"""Errors of every kernel on the device against float64 on the CPU, by the plain scan and autodiff."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Lowered

from jaxseq.benchmark.gpu import layers
from jaxseq.benchmark.gpu.layers import Inputs
from jaxseq.benchmark.gpu.loads import PRECISIONS, Load, Precision
from jaxseq.benchmark.gpu.reasons import reason
from jaxseq.benchmark.gpu.records import ErrorRecord, Record
from jaxseq.benchmark.gpu.start import draw, norm_of
from jaxseq.cells import CELLS, normalised, recurrence
from jaxseq.cells.kernels import Kernel
from jaxseq.cells.normalised import Normalisation
from jaxseq.common import precision as precisions
from jaxseq.common.arrays import Tree

SIZE = Load("layer", "", hidden=64, batch=32, time_steps=50)
"""Size of the scan whose errors are measured."""


class Results(NamedTuple):
    """Results of a scan, or their cotangents."""

    last: Tree
    outputs: Tree


class Outcome(NamedTuple):
    """Results of a scan, and the gradients of its inputs for given cotangents."""

    results: Results
    gradient: Inputs


class WorstError(NamedTuple):
    """Largest difference over the largest value of an array, in the worst array of several, and that array's name."""

    error: float
    leaf: str


def measure(cell_name: str, norm_name: str, size: Load = SIZE) -> Record:
    """Return the relative errors by kernel and precision, or the reason why a kernel has none."""
    load = size._replace(cell=cell_name, norm=norm_name)
    inputs, cotangents = _draw(load)

    # A kernel may refuse a cell or a norm when it is traced, compiled or run.
    errors: dict[str, dict[str, ErrorRecord | str]] = {}
    lowered = {}
    for kernel in layers.KERNELS:
        errors[kernel] = {}
        for precision in PRECISIONS:
            try:
                lowered[kernel, precision] = _trace(load, kernel, precision, inputs, cotangents)
            except Exception as error:
                errors[kernel][precision] = reason(error)

    # XLA compiles outside of Python's lock, so each program has a thread.
    with ThreadPoolExecutor() as pool:
        reference_future = pool.submit(_reference, load, inputs, cotangents)
        futures = {key: pool.submit(program.compile) for key, program in lowered.items()}

    reference = reference_future.result()
    for (kernel, precision), future in futures.items():
        try:
            outcome = future.result()(inputs, cotangents)
            host_outcome = jax.tree.map(np.asarray, outcome)
            errors[kernel][precision] = _errors(host_outcome, reference)
        except Exception as error:
            errors[kernel][precision] = reason(error)
    return Record(
        cell=cell_name,
        norm=norm_name,
        size=size._asdict(),
        errors=errors,
    )


def _draw(load: Load) -> tuple[Inputs, Results]:
    """Draw inputs with a carry and biases that are not zero, and cotangents of the results."""
    start = draw(load)
    generator = np.random.default_rng(1)

    def normal_like(leaf: np.ndarray) -> np.ndarray:
        return generator.standard_normal(leaf.shape, np.float32)

    def shifted(leaf: np.ndarray) -> np.ndarray:
        return leaf + np.float32(0.1) * normal_like(leaf)

    # States of zero would hide what the first step does with them.
    zeros = CELLS[load.cell].start((load.batch, load.hidden))
    host_zeros = jax.tree.map(np.array, zeros)
    inputs = Inputs(
        params=jax.tree.map(shifted, start.params),
        gains=jax.tree.map(shifted, start.gains),
        x=start.x[0],
        carry=jax.tree.map(normal_like, host_zeros),
    )
    cotangents = Results(
        last=jax.tree.map(normal_like, host_zeros),
        outputs=start.cotangent,
    )
    return inputs, cotangents


Scan = Callable[[Inputs], tuple[Tree, Tree]]
"""A scan as a function of all that has a gradient: the last carry, and the outputs."""


def _outcome(scan: Scan, inputs: Inputs, cotangents: Results) -> Outcome:
    """Compute results and gradients."""

    def results_of(inputs: Inputs) -> Results:
        return Results(*scan(inputs))

    results, transpose = jax.vjp(results_of, inputs)
    (gradient,) = transpose(cotangents)
    return Outcome(results, gradient)


def _reference(load: Load, inputs: Inputs, cotangents: Results) -> Outcome:
    """Compute in float64 on the CPU, without our adjoint and our kernels."""
    # Like `layers.scan`, but apart from it: a reference that called it would have its errors.
    cell = CELLS[load.cell]
    norm = norm_of(load)

    def scan(inputs: Inputs) -> tuple[Tree, Tree]:
        if norm is None:
            return recurrence.scan_by_autodiff(cell, inputs.params, inputs.x, inputs.carry)

        last, outputs, _ = normalised.scan_by_autodiff(
            cell,
            Normalisation(norm, inputs.gains),
            inputs.params,
            inputs.x,
            inputs.carry,
        )
        return last, outputs

    def double(leaf: np.ndarray) -> jax.Array:
        return jnp.asarray(leaf, jnp.float64)

    cpu = jax.devices("cpu")[0]
    # JAX's name of the parameter changes between releases.
    with jax.enable_x64(True), jax.default_device(cpu):  # noqa: FBT003
        outcome = jax.jit(partial(_outcome, scan))(
            jax.tree.map(double, inputs),
            jax.tree.map(double, cotangents),
        )
        return jax.tree.map(np.asarray, outcome)


def _trace(
    load: Load,
    kernel: Kernel,
    precision: Precision,
    inputs: Inputs,
    cotangents: Results,
) -> Lowered:
    """Trace our scan by a kernel, with its gradients."""
    scan = partial(layers.scan, kernel, load)
    program = jax.jit(partial(_outcome, scan))
    with precisions.within(precisions.JAX_NAMES[precision]):
        return program.lower(inputs, cotangents)


def _errors(outcome: Outcome, reference: Outcome) -> ErrorRecord:
    """Return the worst errors of results and of gradients."""
    value = _worst(outcome.results, reference.results)
    gradient = _worst(outcome.gradient, reference.gradient)
    return ErrorRecord(
        value=value.error,
        value_leaf=value.leaf,
        gradient=gradient.error,
        gradient_leaf=gradient.leaf,
    )


def _worst(tree: Tree, expected: Tree) -> WorstError:
    """Return the error of the worst array of a tree."""

    def relative_error(array: np.ndarray, expected_array: np.ndarray) -> float:
        difference = np.abs(array - expected_array)
        # Relative to the array's largest value: single values near zero have no relative error that says anything.
        return float(difference.max() / np.abs(expected_array).max())

    errors = jax.tree.map(relative_error, tree, expected)
    leaves, _ = jax.tree_util.tree_flatten_with_path(errors)
    named = [WorstError(error, jax.tree_util.keystr(path)) for path, error in leaves]
    # NaN compares as neither more nor less; it must not hide behind a number.
    return max(named, key=lambda leaf: (np.isnan(leaf.error), leaf.error))
