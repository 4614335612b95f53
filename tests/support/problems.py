"""Random problems for the tests of cells, slots and recurrence, what is measured of them, and how closely it agrees."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from quick_compilation import OLDER_EMITTER

from jaxseq.cells import CELLS, normalised, recurrence
from jaxseq.cells import norm as norms
from jaxseq.cells.base import Cell
from jaxseq.cells.norm import NORMS, Norm
from jaxseq.cells.normalised import Normalisation
from jaxseq.cells.recurrence import Rows, Traversal

GATED = {name: cell for name, cell in CELLS.items() if cell.gates is not None}
"""Cells with slots for norms; the properties of all others are in `tests/cells/test_families.py`."""

SIZES = {"t": 7, "b": 3, "d": 2, "h": 4}


class Problem(NamedTuple):
    """A cell with random parameters, a random non-zero start, inputs, and the weights of a scalar loss."""

    cell: Cell
    params: object
    x: jax.Array
    start: object
    mix: jax.Array

    @property
    def sizes(self):
        t, b, d = self.x.shape
        return {"t": t, "b": b, "d": d, "h": self.start.h.shape[-1]}


def draw(name, seed=0, dtype=jnp.float64, **sizes):
    """A problem in which no number is special: biases are random too."""
    size = {**SIZES, **sizes}
    t, b, d, h = size["t"], size["b"], size["d"], size["h"]
    params, start = shapes(CELLS[name], b, d, h, jnp.dtype(dtype))
    source = np.random.default_rng(seed)
    params, start = normal(source, params, 0.5), normal(source, start)
    x, mix = (source.normal(size=(t, b, width)).astype(dtype) for width in (d, h))
    return Problem(CELLS[name], *jax.tree.map(jnp.asarray, (params, x, start, mix)))


@functools.cache
def shapes(cell, b, d, h, dtype):
    """Parameters and carry without their numbers: to trace an initialiser is fast, to run it is not."""
    return jax.eval_shape(lambda: (cell.init(jax.random.key(0), d, h, dtype), cell.start((b, h), dtype)))


def normal(source, like, scale=1.0):
    """A tree like another, of normal numbers."""
    return jax.tree.map(lambda leaf: (scale * source.normal(size=leaf.shape)).astype(leaf.dtype), like)


def slots(p, kind, seed=5, epsilon=1e-5, t=None):
    """A normalisation with random gains, and random running moments of t steps where it needs them."""
    norm, h, dtype = Norm(kind, epsilon, 0.75), p.sizes["h"], p.x.dtype
    source = np.random.default_rng(seed)
    weights, running = untrained(norm, p.cell.gate_count, len(p.start) > 1, t or p.sizes["t"], h, dtype)
    weights = jax.tree.map(np.add, weights, normal(source, weights, 0.3))
    running = jax.tree.map(lambda m, n: m + np.abs(n), running, normal(source, running, 0.3))
    return norm, *jax.tree.map(jnp.asarray, (weights, running if norm.by_batch else None))


@functools.cache
def untrained(norm, gate_count, memory, t, h, dtype):
    """Gains and running moments as they start."""
    return norms.init(norm, gate_count, memory, h, dtype), norms.init_running(gate_count, memory, t, h, dtype)


def total(last, outputs, mix):
    """A scalar that depends on every output and on every part of the last carry."""
    return jnp.sum(outputs * mix) + sum(jnp.sum(jnp.sin(state)) for state in last)


def loss(scan, problem):
    """`total` as a function of (params, x, start)."""

    def value(params, x, start):
        return total(*scan(problem.cell, params, x, start), problem.mix)

    return value


def close(ours, expected, tolerance=1e-12):
    """Every leaf agrees, absolutely or relatively; NaN agrees with nothing."""

    def agree(one, other):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=False)

    jax.tree.map(agree, ours, expected)


EVALUATED = "batch, evaluated"
SLOTS = ("none", *NORMS, EVALUATED)
"""What a cell's slots may hold: batch norm by the moments of the batch, and by running ones."""


class Size(NamedTuple):
    """Shapes and precision; whether rows have lengths and recurrent dropout."""

    t: int
    b: int
    d: int
    h: int
    dtype: str = "float64"
    gated: bool = True


class Inputs(NamedTuple):
    """What `measure` reads; it differentiates by the first five."""

    params: Any
    weights: Any
    x: np.ndarray
    start: Any
    drop: np.ndarray | None
    mix: np.ndarray
    lengths: np.ndarray | None
    running: Any

    def rows(self, take):
        """These inputs with what belongs to a row passed through `take`, rows first."""
        x, mix = (np.swapaxes(take(np.swapaxes(a, 0, 1)), 0, 1) for a in (self.x, self.mix))
        start, drop, lengths = jax.tree.map(take, (self.start, self.drop, self.lengths))
        return self._replace(x=x, mix=mix, start=start, drop=drop, lengths=lengths)

    def with_params(self, **leaves):
        return self._replace(params=self.params._replace(**leaves))


class Measured(NamedTuple):
    """Values of a scan, and the gradients of `total`."""

    last: Any
    outputs: np.ndarray
    running: Any
    by_params: Any
    by_weights: Any
    by_x: np.ndarray
    by_start: Any
    by_drop: np.ndarray | None


def inputs(name, slot, size, seed, lengths):
    """Random inputs in numpy's arrays: JAX would compile whatever a test does with its own."""
    p = draw(name, seed, size.dtype, t=size.t, b=size.b, d=size.d, h=size.h)
    weights, running = (None, None) if slot == "none" else slots(p, norm_of(slot).name, seed + 1)[1:]
    drop = 2 * np.random.default_rng(seed + 2).integers(0, 2, p.start.h.shape).astype(size.dtype)
    drop, lengths = (drop, np.asarray(lengths)) if size.gated else (None, None)
    return jax.tree.map(np.asarray, Inputs(p.params, weights, p.x, p.start, drop, p.mix, lengths, running))


def norm_of(slot, epsilon=1e-5):
    return Norm("batch" if slot == EVALUATED else slot, epsilon, 0.75)


def run(i, name, slot, way="scan", reverse=False, epsilon=1e-5, chunk=None):
    """Last carry, outputs and running moments; the latter are None for all but batch norm."""
    cell, rows, traversal = CELLS[name], Rows(i.lengths, i.drop), Traversal(reverse, chunk=chunk)
    if slot == "none":
        return *getattr(recurrence, way)(cell, i.params, i.x, i.start, rows, traversal), None
    normalisation = Normalisation(norm_of(slot, epsilon), i.weights, i.running, train=slot != EVALUATED)
    return getattr(normalised, way)(cell, normalisation, i.params, i.x, i.start, rows, traversal)


def differentiate(i, name, slot, way="scan", reverse=False, chunk=None):
    """A `Measured` of these inputs."""

    def value(*leaves):
        values = run(Inputs(*leaves, *i[5:]), name, slot, way, reverse, chunk=chunk)
        return total(*values[:2], i.mix), values

    gradients, values = jax.grad(value, argnums=(0, 1, 2, 3, 4), has_aux=True)(*i[:5])
    return Measured(*values, *gradients)


def quickly(function, *static):
    """Compiled without LLVM's optimisations, which take longer than all that a test then computes.

    Tests against somebody else's numbers, and those of the adjoint at many sizes, compile with them.
    """
    options = {"xla_backend_optimization_level": 0, **OLDER_EMITTER}
    return jax.jit(function, static_argnames=static, compiler_options=options)


compiled_run = quickly(run, "name", "slot", "way", "reverse", "epsilon", "chunk")
compiled = quickly(differentiate, "name", "slot", "way", "reverse", "chunk")


def measure(i, name, slot, way="scan", reverse=False, chunk=None):
    """`differentiate`, compiled once for each size, in numpy's arrays."""
    return jax.tree.map(np.asarray, compiled(i, name, slot, way, reverse, chunk))
