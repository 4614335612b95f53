"""The leaves of a state by path, and their fingerprints: shape, dtype and sha256 of each."""

from __future__ import annotations

import hashlib
import sys
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxseq.common.arrays import Tree


class Leaf(NamedTuple):
    """What is known of a leaf without its values; a typed PRNG key has the dtype `key<threefry2x32>`."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str


def is_key(leaf: Any) -> bool:
    """Whether a leaf, abstract or not, is a typed PRNG key."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def by_path(tree: Tree) -> dict[str, Any]:
    """The leaves of a tree by path, as `params/cell/bias`."""
    pairs = [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
    for path, leaf in pairs:
        if not hasattr(leaf, "dtype"):
            raise TypeError(f"every leaf of a state has to be an array, but {path} is a {type(leaf).__name__}")
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError("two leaves of the state have the same path")
    return named


def data_of(leaf: Any) -> Any:
    """The array of a leaf; of a typed PRNG key its key data."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def dtype_of(leaf: Any) -> str:
    """The dtype's name, also of an abstract leaf; for a key the generator's full name."""
    if not is_key(leaf):
        return str(leaf.dtype)
    names: list[str] = []
    jax.eval_shape(lambda key: names.append(str(jax.random.key_impl(key))), leaf)
    return f"key<{names[0]}>"


def digest_of(data: np.ndarray, shape: tuple[int, ...], dtype: str) -> str:
    """sha256 over dtype, shape and the little-endian bytes."""
    raw = data.astype(data.dtype.newbyteorder("<")) if sys.byteorder == "big" else data
    head = f"{dtype} {list(shape)} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(raw).tobytes()).hexdigest()


def fingerprints(tree: Tree) -> dict[str, Leaf]:
    """The shape, dtype and sha256 of every leaf, by path.

    The hash is over dtype, shape and the little-endian bytes; for a typed PRNG key, its generator and key data.
    Raises `TypeError` if a leaf is not an array.
    """
    leaves = {}
    for path, leaf in by_path(tree).items():
        shape, dtype = tuple(leaf.shape), dtype_of(leaf)
        leaves[path] = Leaf(path, shape, dtype, digest_of(np.asarray(data_of(leaf)), shape, dtype))
    return leaves


def blank_of(leaf: Leaf) -> np.ndarray:
    """An array of the stored shape and dtype; for a key those of its data."""
    if not leaf.dtype.startswith("key<"):
        return np.zeros(leaf.shape, np.dtype(leaf.dtype))
    key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=leaf.dtype[4:-1])))
    return np.zeros((*leaf.shape, *key.shape), key.dtype)
