"""The leaves of a state by path, and their fingerprints: shape, dtype and sha256 of each."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import jax
import numpy as np

from jaxseq.checkpoint.records import Leaf
from jaxseq.common.arrays import Tree


def is_key(leaf: Any) -> bool:
    """Return whether a leaf, abstract or not, is a typed PRNG key."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def is_key_dtype(dtype: str) -> bool:
    """Return whether the dtype of a `Leaf` is that of a typed PRNG key."""
    return dtype.startswith("key<")


def key_impl(dtype: str) -> str:
    """Return the generator in the dtype of a `Leaf`: threefry2x32 for ``key<threefry2x32>``."""
    return dtype.removeprefix("key<").removesuffix(">")


def by_path(tree: Tree) -> dict[str, Any]:
    """Return the leaves of a tree by path, such as ``params/cell/bias``.

    Raises `TypeError` for a leaf that is no array, `ValueError` for two leaves with one path.
    """
    leaves: dict[str, Any] = {}
    for key_path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        path = jax.tree_util.keystr(key_path, simple=True, separator="/")
        if not hasattr(leaf, "dtype"):
            raise TypeError(f"every leaf of a state must be an array, but {path} is a {type(leaf).__name__}")
        # A dict with the keys "a/b" and "a" can spell one path in two ways.
        if path in leaves:
            raise ValueError(f"two leaves of the state have the path {path}")
        leaves[path] = leaf
    return leaves


def data_of(leaf: Any) -> Any:
    """Return the array of a leaf; for a typed PRNG key its key data."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def dtype_of(leaf: Any) -> str:
    """Return the name of the dtype of a leaf, abstract or not; for a key with the full name of its generator."""
    if not is_key(leaf):
        return str(leaf.dtype)

    # An abstract key prints a short name only; a trace sees the generator.
    names: list[str] = []
    jax.eval_shape(lambda key: names.append(str(jax.random.key_impl(key))), leaf)
    return f"key<{names[0]}>"


def digest_of(data: np.ndarray, shape: tuple[int, ...], dtype: str) -> str:
    """Return the sha256 over dtype, shape and the little-endian bytes."""
    if sys.byteorder == "big":
        data = data.astype(data.dtype.newbyteorder("<"))
    head = f"{dtype} {list(shape)} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(data).tobytes()).hexdigest()


def fingerprints(tree: Tree) -> dict[str, Leaf]:
    """Return the shape, dtype and sha256 of every leaf, by path.

    The hash is over dtype, shape and the little-endian bytes; for a typed PRNG key, over its generator and key data.
    Raises `TypeError` if a leaf is no array.
    """
    leaves = {}
    for path, leaf in by_path(tree).items():
        shape = tuple(leaf.shape)
        dtype = dtype_of(leaf)
        digest = digest_of(np.asarray(data_of(leaf)), shape, dtype)
        leaves[path] = Leaf(path, shape, dtype, digest)
    return leaves


def blank_of(leaf: Leaf) -> np.ndarray:
    """Return zeros of the stored shape and dtype; for a key those of its data."""
    if not is_key_dtype(leaf.dtype):
        return np.zeros(leaf.shape, np.dtype(leaf.dtype))

    # How many integers a key has depends on its generator.
    key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=key_impl(leaf.dtype))))
    return np.zeros((*leaf.shape, *key.shape), key.dtype)
