"""The floor under a training step: the time of its matrix products alone, measured in XLA on the same shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from jaxseq.benchmark.workloads import Product, Workload, products

Operands: TypeAlias = tuple[Array, Array]


def floor(load: Workload, wanted: Sequence[Product] | None = None) -> Callable[[], object]:
    """What does the products of the workload's steps (or those `wanted`) and nothing else, and waits for them.

    A product that a step does many times runs in a scan, over as many left sides; all others find both sides laid out
    row by row, so that no transpose is in it.
    """
    wanted = products(load) if wanted is None else wanted
    operands = [_operands(product) for product in wanted]

    @jax.jit
    def many(operands: list[Operands]) -> Array:
        def step(mark: Array, _: None) -> tuple[Array, None]:
            for product, (left, right) in zip(wanted, operands, strict=True):
                # a barrier that hangs on the last result: nothing is loop-invariant, nothing can be lifted out
                mark, left, right = lax.optimization_barrier((mark, left, right))
                mark = mark + (_in_a_scan(left, right) if product.times > 1 else _once(left, right))
            return mark, None

        return lax.scan(step, jnp.zeros(()), None, length=load.steps)[0]

    return lambda: jax.block_until_ready(many(operands))


def _operands(product: Product) -> Operands:
    """Left and right sides; the right one is filled up with columns to a whole number of vector registers, which makes a
    narrow product up to 1.5 times faster, and a floor is the fastest way."""
    random = np.random.default_rng(0)
    many = (product.times,) if product.times > 1 else ()
    columns = product.columns + -product.columns % 32
    left = random.standard_normal((*many, product.rows, product.inner), np.float32)
    right = random.standard_normal((product.inner, columns), np.float32)
    return jnp.array(left), jnp.array(right)


def _in_a_scan(left: Array, right: Array) -> Array:
    return lax.scan(lambda mark, one: (mark + _corner(one @ right), None), jnp.zeros(()), left)[0]


def _once(left: Array, right: Array) -> Array:
    return _corner(left @ right)


def _corner(result: Array) -> Array:
    """One number of a result that the barrier keeps whole."""
    return lax.optimization_barrier(result)[0, 0]
