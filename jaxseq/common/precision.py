"""Precision of matrix products and convolutions of float32 numbers: float32 in full, unless somebody asks for less.

Left alone, JAX takes the platform's default: on a GPU that is TF32, which keeps 10 of float32's 23 bits of the fraction.
Here every product is computed in full by default. A caller's `jax.default_matmul_precision` is honoured. A CPU computes
in full at any precision. `docs/gpu.md` says what each precision costs and gains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Literal, TypeAlias

import jax

Precision: TypeAlias = Literal["float32", "tf32", "bfloat16"]
"""Precision of the factors of a product; its sums are always float32."""

FULL = "float32"
"""JAX's name of the precision that nobody has to ask for."""

JAX_NAMES: Mapping[Precision, str] = MappingProxyType(
    {
        "float32": FULL,
        "tf32": "tensorfloat32",
        # JAX's own "bfloat16" means the platform's default, which is TF32 on a GPU.
        "bfloat16": "BF16_BF16_F32",
    }
)
"""Names of the precisions in `jax.default_matmul_precision`."""


def current() -> str:
    """Return the caller's `jax.default_matmul_precision`, or `FULL` where none is set."""
    precision = jax.config.jax_default_matmul_precision  # pyrefly: ignore[missing-attribute]
    if precision is None:
        return FULL
    return precision


def within(jax_name: str) -> AbstractContextManager[object]:
    """Compute the products that are traced within in a precision of JAX, one of `JAX_NAMES` or a result of `current`."""
    return jax.default_matmul_precision(jax_name)


@contextmanager
def in_full() -> Iterator[None]:
    """Compute products in float32 within, or in the caller's `jax.default_matmul_precision`; also a decorator."""
    with within(current()):
        yield
