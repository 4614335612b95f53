"""The letters of every axis, and the few plain types that all floors share.

    b batch          rows that are computed together
    n examples       rows of a whole data set
    t time           steps of a sequence (`window` of them in a forecast's input)
    d input          features of one step
    c covariates     what is known beside each value of a series
    h hidden         units of a cell
    g fused gates    h times the number of gates of the cell
    k horizon        steps that are forecast
    v vocabulary     symbols of a softmax
    s seeds          runs that differ in their key alone
    e epochs         times that a training went through all its rows

A signature such as ``Float[Array, "t b d"]`` is checked while the tests run and costs nothing otherwise.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Array, PRNGKeyArray, Shaped

Key: TypeAlias = PRNGKeyArray
"""A typed PRNG key, from `jax.random.key`."""

DType: TypeAlias = Any
"""What numpy takes for a dtype: `jnp.float32`, ``"float32"``, a `numpy.dtype`."""

Tree: TypeAlias = Any
"""Any pytree of arrays."""

Part = TypeVar("Part")


class Batch(NamedTuple):
    """Examples and what is to be predicted from them, row by row: numbers, or symbols as integers."""

    x: Shaped[Array | np.ndarray, "n t d"]
    y: Shaped[Array | np.ndarray, "n *k"]


class Splits(NamedTuple, Generic[Part]):
    """The three parts of a data set; `test` is touched once, at the end."""

    train: Part
    valid: Part
    test: Part
