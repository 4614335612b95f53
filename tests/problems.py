"""Random weights, states and inputs in float64 for the tests of cells and recurrence."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq.cells import CELLS
from jaxseq.cells.base import Cell

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
    cell, size = CELLS[name], {**SIZES, **sizes}
    t, b, d, h = size["t"], size["b"], size["d"], size["h"]
    keys = jax.random.split(jax.random.key(seed), 5)
    shapes = cell.init(keys[0], d, h, dtype)
    params = jax.tree.map(lambda p, k: 0.5 * jax.random.normal(k, p.shape, dtype), shapes, spread(keys[1], shapes))
    start = jax.tree.map(lambda s, k: jax.random.normal(k, s.shape, dtype), *carries(cell, keys[2], (b, h), dtype))
    return Problem(
        cell, params, jax.random.normal(keys[3], (t, b, d), dtype), start, jax.random.normal(keys[4], (t, b, h), dtype)
    )


def carries(cell, key, shape, dtype):
    zeros = cell.start(shape, dtype)
    return zeros, spread(key, zeros)


def spread(key, tree):
    """A key for every leaf."""
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, list(jax.random.split(key, len(leaves))))


def loss(scan, problem):
    """A function of (params, x, start) that depends on every output and on every part of the last carry."""

    def value(params, x, start):
        last, outputs = scan(problem.cell, params, x, start)
        return jnp.sum(outputs * problem.mix) + sum(jnp.sum(jnp.sin(state)) for state in last)

    return value
