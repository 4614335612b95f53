"""The time of a training step's matrix products alone, on the same shapes: in XLA, and by the fastest product known here.

XLA's time says how much of a step is anything but its products. Another library's products may be faster than XLA's, so
that this is no limit of the machine: `MAKERS` has others, and a table names the one that was the fastest.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxseq.benchmark.workloads import Product

Left: TypeAlias = Float[Array, "*n i k"]
Right: TypeAlias = Float[Array, "k j"]
Operands: TypeAlias = tuple[np.ndarray, np.ndarray]

REGISTERS = 32
"""Columns are padded to multiples of it, which makes a narrow product up to 1.5 times faster."""


def operands(product: Product) -> Operands:
    """Draw the left sides "n i k", or one "i k", and the right side "k j", laid out row by row."""
    generator = np.random.default_rng(0)
    left_shape: tuple[int, ...] = (product.rows, product.inner)
    if product.times > 1:
        left_shape = (product.times, *left_shape)
    # Whole vector registers.
    columns = product.columns + -product.columns % REGISTERS
    left = generator.standard_normal(left_shape, np.float32)
    right = generator.standard_normal((product.inner, columns), np.float32)
    return left, right


def in_xla(products: Sequence[Product], steps: int) -> Callable[[], object]:
    """Return a function that does the products of `steps` training steps, and waits for them.

    A product that a step does many times runs in a scan, over as many left sides.
    """
    # Arguments of the program: of constants the compiler could compute the products itself.
    pairs = jax.tree.map(jnp.array, [operands(product) for product in products])

    @jax.jit
    def many(pairs: list[tuple[Array, Array]]) -> Float[Array, ""]:
        def step(mark: Float[Array, ""], _: None) -> tuple[Float[Array, ""], None]:
            for product, (left, right) in zip(products, pairs, strict=True):
                # It hangs on the last result, so that nothing is constant over the steps and lifted out of the loop.
                mark, left, right = lax.optimization_barrier((mark, left, right))
                if product.times > 1:
                    mark = mark + _in_a_scan(left, right)
                else:
                    mark = mark + _once(left, right)
            return mark, None

        return lax.scan(step, jnp.zeros(()), None, length=steps)[0]

    return lambda: jax.block_until_ready(many(pairs))


def _in_a_scan(left: Left, right: Right) -> Float[Array, ""]:
    # A recurrence has its products one after the other; one product over all left sides is none that it could do.
    def body(mark: Float[Array, ""], one_left: Left) -> tuple[Float[Array, ""], None]:
        return mark + _corner(one_left @ right), None

    return lax.scan(body, jnp.zeros(()), left)[0]


def _once(left: Left, right: Right) -> Float[Array, ""]:
    return _corner(left @ right)


def _corner(result: Float[Array, "i j"]) -> Float[Array, ""]:
    """Return one number of a result that the barrier keeps whole."""
    return lax.optimization_barrier(result)[0, 0]


def in_torch(products: Sequence[Product], steps: int) -> Callable[[], object]:
    """Return the same by `torch.mm` on one thread, into arrays that are there already."""
    import torch

    torch.set_num_threads(1)
    pairs = []
    for product in products:
        left, right = (torch.tensor(side) for side in operands(product))
        result = torch.empty(product.rows, right.shape[1])
        # Taken apart here, so that no turn pays for it.
        lefts = left.reshape(product.times, product.rows, product.inner).unbind()
        pairs.append((lefts, right, result))

    def many() -> None:
        for _ in range(steps):
            for lefts, right, result in pairs:
                for left in lefts:
                    torch.mm(left, right, out=result)

    return many


MAKERS: MappingProxyType[str, Callable[[Sequence[Product], int], Callable[[], object]]] = MappingProxyType(
    {"XLA": in_xla, "torch": in_torch}
)
"""The products of training steps by the library that does them."""


def libraries(device: str) -> tuple[str, ...]:
    """Return the libraries whose products are timed; numpy's may use threads that cannot be limited any more."""
    if device == "gpu" or importlib.util.find_spec("torch") is None:
        return ("XLA",)
    return ("XLA", "torch")
