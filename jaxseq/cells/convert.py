"""Parameters across frameworks: the weights of torch, Keras and ONNX layers as ours, and ours as theirs.

    framework  layer      gate order  kernels   biases            what the layer has to be
    ---------  ---------  ----------  --------  ----------------  ------------------------------------------------
    ours       rnn        h           d g, h g  one, g
    ours       lstm       i f g o     d g, h g  one, g
    ours       gru        r z n       d g, h g  two, g and g      reset-after
    torch      RNN        h           g d, g h  two, g and g      nonlinearity="tanh"
    torch      LSTM       i f g o     g d, g h  two, g and g      proj_size=0
    torch      GRU        r z n       g d, g h  two, g and g      reset-after, which it always is
    keras      SimpleRNN  h           d g, h g  one, g            default activations
    keras      LSTM       i f g o     d g, h g  one, g            default activations
    keras      GRU        z r n       d g, h g  two in one, 2 g   default activations, reset_after=True (the default)
    onnx       RNN        h           g d, g h  two in one, 2*g   default activations, no clip
    onnx       LSTM       i o f g     g d, g h  two in one, 2*g   the same, no peepholes, input_forget=0
    onnx       GRU        z r n       g d, g h  two in one, 2*g   the same, linear_before_reset=1 (not the default)

Gates are written in our letters: Keras and ONNX call the LSTM's g "c" and the GRU's n "h". A kernel "d g" is multiplied
from the right (x W), "g d" is its transpose. Two biases are that of the input's product and that of the recurrent one, in
this order; RNN and LSTM only ever add them, so ours is their sum and goes back as (sum, zeros). Reset-after means
n = tanh(z_n + r u_n), the reset gate behind the recurrent product and its bias; the original GRU (Cho et al. 2014), with
the gate before the product, is another function of the same shapes. In all four z keeps: h_t = (1 - z) n + z h_{t-1}.
ONNX stacks the directions of a layer on a first axis. A forget bias is a bias like any other: none is added on the way.

What comes back from a `from_` function is copied and in JAX's own precision: float64 stays float64 only under
`jax_enable_x64`. What a `to_` function gives is numpy, contiguous and writable. Nothing here imports another framework.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxseq.cells import base, gru
from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted

Params: TypeAlias = base.Params | gru.Params

GATES: MappingProxyType[str, dict[str, str]] = MappingProxyType(
    {
        "ours": {"rnn": "h", "lstm": "ifgo", "gru": "rzn"},
        "torch": {"rnn": "h", "lstm": "ifgo", "gru": "rzn"},
        "keras": {"rnn": "h", "lstm": "ifgo", "gru": "zrn"},
        "onnx": {"rnn": "h", "lstm": "iofg", "gru": "zrn"},
    }
)
"""The gates of every framework's layer, in its order and in our letters."""


def from_torch(cell: str, weights: Mapping[str, ArrayLike], layer: int = 0, reverse: bool = False) -> Params:
    """Parameters from the `state_dict` of a `torch.nn.RNN`, `LSTM` or `GRU`: one layer, one direction of it.

    A layer with `bias=False` has zero biases. Raises `UsageError` for an unknown cell, a missing name, a projection
    (`proj_size`), and shapes or dtypes that do not fit each other.
    """
    _known(cell)
    names = _torch_names(layer, reverse)
    if names["projection"] in weights:
        raise UsageError(
            f"torch {names['projection']}: a projected LSTM (proj_size) has no counterpart, use proj_size=0"
        )
    needed = [names[part] for part in ("kernel", "recurrent")]
    biases = [names[part] for part in ("bias", "recurrent_bias")]
    needed += biases if any(name in weights for name in biases) else []
    if missing := [name for name in needed if name not in weights]:
        raise UsageError(f"torch {missing[0]} is missing: came {', '.join(weights) or 'nothing'}")
    axes = dict(zip(needed, ("g d", "g h", "g", "g"), strict=False))
    kernel, recurrent, *rest = _fitting("torch", cell, {name: weights[name] for name in needed}, axes)
    return _ours("torch", cell, kernel.T, recurrent.T, *rest)


def to_torch(cell: str, params: Params, layer: int = 0, reverse: bool = False) -> dict[str, np.ndarray]:
    """The entries of a torch `state_dict` for one layer and direction: kernels, and both biases.

    Raises `UsageError` for an unknown cell and for parameters that are not that cell's.
    """
    kernel, recurrent, *biases = _theirs("torch", cell, params)
    names = _torch_names(layer, reverse)
    return dict(zip(names.values(), (_own(kernel.T), _own(recurrent.T), *biases), strict=False))


def from_keras(cell: str, weights: Sequence[ArrayLike]) -> Params:
    """Parameters from `get_weights()` of a Keras `SimpleRNN`, `LSTM` or `GRU`: kernel, recurrent kernel, bias.

    A layer with `use_bias=False` has zero biases; a GRU's weights then do not show its `reset_after`, which has to be
    True. Raises `UsageError` for an unknown cell, another number of arrays, a GRU with `reset_after=False`, and shapes or
    dtypes that do not fit each other.
    """
    _known(cell)
    names = ("kernel", "recurrent_kernel", "bias")
    if len(weights) not in (2, 3):
        raise UsageError(
            f"keras weights: {len(weights)} arrays came, expected kernel, recurrent_kernel and, unless use_bias=False, "
            "bias (a Bidirectional layer has those of its two layers: pass one half)"
        )
    given = dict(zip(names, map(np.asarray, weights), strict=False))
    if cell == "gru" and "bias" in given and given["bias"].ndim == 1:
        raise UsageError(
            f"keras bias: shape {given['bias'].shape} came, expected (2, {given['bias'].size}): "
            "that is a GRU with reset_after=False, another function; only reset_after=True can be read"
        )
    axes = dict(zip(names, ("d g", "h g", "2 g" if cell == "gru" else "g"), strict=True))
    kernel, recurrent, *biases = _fitting("keras", cell, given, axes)
    return _ours("keras", cell, kernel, recurrent, *(row for bias in biases for row in np.atleast_2d(bias)))


def to_keras(cell: str, params: Params) -> list[np.ndarray]:
    """What `set_weights` of the Keras layer takes: kernel, recurrent kernel, bias (a GRU's is "2 g").

    Raises `UsageError` for an unknown cell and for parameters that are not that cell's.
    """
    kernel, recurrent, bias, recurrent_bias = _theirs("keras", cell, params)
    return [kernel, recurrent, np.stack([bias, recurrent_bias]) if cell == "gru" else bias]


def from_onnx(
    cell: str,
    W: ArrayLike,
    R: ArrayLike,
    B: ArrayLike | None = None,
    direction: int = 0,
    linear_before_reset: int = 0,
) -> Params:
    """Parameters from the inputs W "k g d", R "k g h" and B "k 2*g" of an ONNX `RNN`, `LSTM` or `GRU` node of k directions.

    Give a GRU the node's `linear_before_reset`: the arrays do not show it, ONNX's default is 0, and only 1 is our GRU.
    Raises `UsageError` for an unknown cell, a GRU with 0, a direction that is not there, and shapes or dtypes that do not
    fit each other.
    """
    _known(cell)
    if cell == "gru" and linear_before_reset != 1:
        raise UsageError(
            f"onnx GRU: linear_before_reset={linear_before_reset} came, expected 1: with 0 it is another function"
        )
    given = {"W": W, "R": R} if B is None else {"W": W, "R": R, "B": B}
    arrays = _fitting("onnx", cell, given, {"W": "k g d", "R": "k g h", "B": "k 2*g"})
    if not 0 <= direction < len(arrays[0]):
        raise UsageError(f"onnx W: direction {direction} of {len(arrays[0])} was asked for, counted from 0")
    kernel, recurrent, *biases = (array[direction] for array in arrays)
    return _ours("onnx", cell, kernel.T, recurrent.T, *(half for bias in biases for half in np.split(bias, 2)))


def to_onnx(cell: str, params: Params) -> dict[str, np.ndarray]:
    """The inputs W, R and B of an ONNX node of one direction; concatenate two along the first axis for a bidirectional
    one, and give a GRU's node `linear_before_reset=1`.

    Raises `UsageError` for an unknown cell and for parameters that are not that cell's.
    """
    kernel, recurrent, *biases = _theirs("onnx", cell, params)
    return {"W": _own(kernel.T)[None], "R": _own(recurrent.T)[None], "B": np.concatenate(biases)[None]}


def _known(cell: str) -> None:
    if cell not in GATES["ours"]:
        raise UsageError(f"unknown cell {cell!r}: choose one of {', '.join(GATES['ours'])}")


def _torch_names(layer: int, reverse: bool) -> dict[str, str]:
    names = {"kernel": "weight_ih", "recurrent": "weight_hh", "bias": "bias_ih", "recurrent_bias": "bias_hh"}
    end = f"_l{layer}" + ("_reverse" if reverse else "")
    return {part: name + end for part, name in (names | {"projection": "weight_hr"}).items()}


def _fitting(framework: str, cell: str, given: Mapping[str, ArrayLike], axes: Mapping[str, str]) -> list[np.ndarray]:
    """The arrays, if they are floating, of one dtype, and agree with each other; the kernels' d, h and k decide."""
    arrays = {name: np.asarray(array) for name, array in given.items()}
    first = next(iter(arrays))
    sizes: dict[str, int] = {"2": 2}
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise UsageError(f"{framework} {name}: dtype {array.dtype} came, expected a floating one")
        if array.dtype != arrays[first].dtype:
            raise UsageError(f"{framework} {name}: dtype {array.dtype} came, expected {arrays[first].dtype} as {first}")
        if array.ndim != len(axes[name].split()):
            raise UsageError(f'{framework} {name}: shape {array.shape} came, expected the axes "{axes[name]}"')
        for letter, size in zip(axes[name].split(), array.shape, strict=True):
            if letter in "dhk":
                sizes.setdefault(letter, size)
    gates = len(GATES["ours"][cell])
    sizes |= {"g": gates * sizes["h"], "2*g": 2 * gates * sizes["h"]}
    for name, array in arrays.items():
        expected = tuple(sizes[letter] for letter in axes[name].split())
        if array.shape != expected:
            why = f"{counted(gates, 'gate')} of {sizes['h']} units, {sizes['d']} features"
            raise UsageError(f"{framework} {name}: shape {array.shape} came, expected {expected} for {cell} with {why}")
    return list(arrays.values())


def _reordered(array: np.ndarray, came: str, wanted: str) -> np.ndarray:
    """The gates on the last axis, which come in one order, in another; always a new array."""
    gate = dict(zip(came, np.split(array, len(came), axis=-1), strict=True))
    return np.concatenate([gate[name] for name in wanted], axis=-1)


def _ours(
    framework: str,
    cell: str,
    kernel: np.ndarray,
    recurrent: np.ndarray,
    bias: np.ndarray | None = None,
    recurrent_bias: np.ndarray | None = None,
) -> Params:
    """Our parameters from a framework's, kernels "d g" and "h g", gates in its order; a missing bias is zero."""
    zeros = np.zeros(kernel.shape[-1], kernel.dtype)
    leaves = kernel, recurrent, zeros if bias is None else bias, zeros if recurrent_bias is None else recurrent_bias
    leaves = [_reordered(leaf, GATES[framework][cell], GATES["ours"][cell]) for leaf in leaves]
    if cell == "gru":
        return gru.Params(*map(jnp.array, leaves))
    return base.Params(*map(jnp.array, (*leaves[:2], leaves[2] + leaves[3])))


def _theirs(framework: str, cell: str, params: Params) -> list[np.ndarray]:
    """Kernels "d g" and "h g" and both biases, gates in a framework's order; RNN and LSTM have a zero second bias."""
    _known(cell)
    kind = gru.Params if cell == "gru" else base.Params
    if params._fields != kind._fields:
        raise UsageError(
            f"ours: parameters {', '.join(params._fields)} came, expected {', '.join(kind._fields)} of {cell}"
        )
    axes = {"input_kernel": "d g", "recurrent_kernel": "h g", "bias": "g", "recurrent_bias": "g"}
    leaves = _fitting("ours", cell, params._asdict(), axes)
    leaves += [] if cell == "gru" else [np.zeros_like(leaves[2])]
    return [_reordered(leaf, GATES["ours"][cell], GATES[framework][cell]) for leaf in leaves]


def _own(array: np.ndarray) -> np.ndarray:
    """A copy that lies row by row."""
    return np.array(array, order="C")
