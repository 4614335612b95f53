"""The letters of every axis, and the plain types that all rooms share.

    b batch          examples that are computed together
    n examples       examples of a whole data set
    t time           time steps of a sequence (`window` of them in a forecast's input)
    d input          features of one time step
    c covariates     known values beside each value of a series
    h hidden         units of a cell
    g fused gates    h times the number of gates of the cell
    k horizon        time steps that are forecast
    v vocabulary     symbols of a softmax
    s seeds          runs that differ in their key alone
    e epochs         passes over the training set

A signature such as ``Float[Array, "t b d"]`` is checked while the tests run, and not otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Array, PRNGKeyArray, Shaped

Key: TypeAlias = PRNGKeyArray
"""A typed PRNG key, from `jax.random.key`."""

DType: TypeAlias = Any
"""Anything NumPy accepts as a dtype: `jnp.float32`, ``"float32"``, a `numpy.dtype`."""

Tree: TypeAlias = Any
"""Any pytree of arrays."""

Support = Literal["real", "counts", "amounts"]
"""Targets that a distribution is made for: real numbers, whole numbers from 0, or all numbers from 0."""

Variables: TypeAlias = Mapping[str, Tree]
"""Parameters or statistics of a Flax module: arrays in nested dicts, by the names of submodules and parameters."""

Arrays = TypeVar("Arrays", np.ndarray, Array)
"""Arrays of numpy, where a result is computed, or of JAX, where it is part of a compiled program."""

Part = TypeVar("Part")


class Batch(NamedTuple):
    """Examples with their targets, row by row: numbers, or symbols as integers."""

    x: Shaped[Array | np.ndarray, "n *d"]
    y: Shaped[Array | np.ndarray, "n *k"]


class Splits(NamedTuple, Generic[Part]):
    """The three parts of a data set; `test` is used once, at the end."""

    train: Part
    valid: Part
    test: Part


ALIGNMENT = 64
"""Bytes at a multiple of which a CPU device takes an array as its own; any other is copied."""


def empty_for_device(shape: tuple[int, ...], dtype: str) -> Shaped[np.ndarray, "..."]:
    """Return an array to be filled, which a CPU device need not copy."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)


def namespace(array: Shaped[np.ndarray | Array, "..."]) -> ModuleType:
    """Return numpy or `jax.numpy`, whichever an array belongs to."""
    return array.__array_namespace__()
