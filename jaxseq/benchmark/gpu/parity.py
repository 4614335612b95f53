"""Errors of every kernel on the device against float64 on the CPU, by the plain scan and autodiff."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.benchmark.gpu import layers
from jaxseq.benchmark.gpu.loads import PRECISIONS, Load, Precision
from jaxseq.benchmark.gpu.reasons import reason
from jaxseq.benchmark.gpu.start import draw, norm_of
from jaxseq.cells import CELLS, normalised, recurrence
from jaxseq.cells.norm import Norm
from jaxseq.cells.normalised import Normalisation
from jaxseq.common import precision as common_precision
from jaxseq.common.arrays import Tree

SIZE = Load("layer", "", hidden=64, batch=32, time_steps=50)
NORMS = ("", "layer", "layer-sum")


class Inputs(NamedTuple):
    """Arguments of a scan that have gradients."""

    params: Tree
    gains: Tree
    x: Any
    carry: Any


class Outcome(NamedTuple):
    """Results of a scan, and the gradients of `Inputs` for given cotangents of them."""

    last: Any
    outputs: Any
    gradient: Inputs


def measure(cell_name: str, norm_name: str, size: Load = SIZE) -> dict[str, Any]:
    """Return the relative errors by kernel and precision, or the reason why a kernel has none."""
    load = size._replace(cell=cell_name, norm=norm_name)
    inputs, cotangents = _draw(load)

    programs = {}
    results: dict[str, dict[str, Any]] = {}
    for kernel in layers.KERNELS:
        results[kernel] = {}
        for precision in PRECISIONS:
            try:
                programs[kernel, precision] = _trace(load, kernel, precision, (inputs, cotangents))
            except Exception as error:
                results[kernel][precision] = reason(error)

    with ThreadPoolExecutor() as pool:
        reference_future = pool.submit(_reference, load, inputs, cotangents)
        futures = {key: pool.submit(program.compile) for key, program in programs.items()}
    reference = reference_future.result()
    for (kernel, precision), future in futures.items():
        try:
            outcome = future.result()(inputs, cotangents)
            results[kernel][precision] = _errors(jax.tree.map(np.asarray, outcome), reference)
        except Exception as error:
            results[kernel][precision] = reason(error)
    return {"cell": cell_name, "norm": norm_name, "size": size._asdict(), "errors": results}


def _draw(load: Load) -> tuple[Inputs, tuple[Any, Any]]:
    """Draw inputs with a carry and biases that are not zero, and cotangents of the last carry and the outputs."""
    start = draw(load)
    generator = np.random.default_rng(1)

    def normal_like(leaf: np.ndarray) -> np.ndarray:
        return generator.standard_normal(leaf.shape, np.float32)

    def shifted(leaf: np.ndarray) -> np.ndarray:
        return leaf + np.float32(0.1) * normal_like(leaf)

    zeros = jax.tree.map(np.array, CELLS[load.cell].start((load.batch, load.hidden)))
    carry = jax.tree.map(normal_like, zeros)
    params, gains = jax.tree.map(shifted, (start.params, start.gains))
    inputs = Inputs(params, gains, start.x[0], carry)
    return inputs, (jax.tree.map(normal_like, zeros), start.cotangent)


def _outcome(scan: Callable[[Inputs], tuple[Any, Any]], inputs: Inputs, cotangents: tuple[Any, Any]) -> Outcome:
    (last, outputs), transpose = jax.vjp(scan, inputs)
    (gradient,) = transpose(cotangents)
    return Outcome(last, outputs, gradient)


def _reference(load: Load, inputs: Inputs, cotangents: tuple[Any, Any]) -> Outcome:
    """Compute in float64 on the CPU, without our adjoint."""
    cell = CELLS[load.cell]
    norm = norm_of(load)

    def scan(inputs: Inputs) -> tuple[Any, Any]:
        params, gains, x, carry = inputs
        if norm is None:
            return recurrence.scan_by_autodiff(cell, params, x, carry)
        return normalised.scan_by_autodiff(cell, Normalisation(norm, gains), params, x, carry)[:2]

    # JAX's name of the parameter changes between releases.
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):  # noqa: FBT003
        doubles = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (inputs, cotangents))
        outcome = jax.jit(lambda inputs, cotangents: _outcome(scan, inputs, cotangents))(*doubles)
        return jax.tree.map(np.asarray, outcome)


def _trace(load: Load, kernel: str, precision: Precision, arguments: tuple[Inputs, tuple[Any, Any]]) -> Any:
    """Trace our scan by a kernel, with its gradients."""
    cell = CELLS[load.cell]
    norm: Norm | None = norm_of(load)

    def scan(inputs: Inputs) -> tuple[Any, Any]:
        params, gains, x, carry = inputs
        if norm is None:
            return recurrence.scan(cell, params, x, carry, **layers.by(kernel))
        return normalised.scan(cell, Normalisation(norm, gains), params, x, carry, **layers.by(kernel))[:2]

    program = jax.jit(lambda inputs, cotangents: _outcome(scan, inputs, cotangents))
    with common_precision.within(common_precision.JAX_NAMES[precision]):
        return program.lower(*arguments)


def _errors(outcome: Outcome, reference: Outcome) -> dict[str, Any]:
    """Return the worst error of values and of gradients; each is the largest difference over the largest value."""

    def worst(part: Tree, expected: Tree) -> tuple[float, str]:
        errors = jax.tree.map(lambda a, b: float(np.abs(a - b).max() / np.abs(b).max()), part, expected)
        leaves, _ = jax.tree_util.tree_flatten_with_path(errors)
        # NaN must not hide behind a number.
        return max(((error, jax.tree_util.keystr(path)) for path, error in leaves), key=_nan_first)

    value, value_leaf = worst((outcome.last, outcome.outputs), (reference.last, reference.outputs))
    gradient, gradient_leaf = worst(outcome.gradient, reference.gradient)
    return {"value": value, "value_leaf": value_leaf, "gradient": gradient, "gradient_leaf": gradient_leaf}


def _nan_first(item: tuple[float, str]) -> tuple[bool, float]:
    return bool(np.isnan(item[0])), item[0]
