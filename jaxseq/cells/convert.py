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

Parameters from a `from_` function are copies in JAX's current precision: float64 stays float64 only under
`jax_enable_x64`. Arrays from a `to_` function are numpy's, contiguous and writable. Nothing here imports another framework.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from jaxseq.cells import base, gru
from jaxseq.common import checks
from jaxseq.common.errors import UsageError

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


class Weights(NamedTuple):
    """The weights of one layer and direction, with kernels as ours and gates in a framework's order."""

    kernel: Float[np.ndarray, "d g"]
    recurrent: Float[np.ndarray, "h g"]
    bias: Float[np.ndarray, "g"]
    recurrent_bias: Float[np.ndarray, "g"]


class TorchNames(NamedTuple):
    """Names of one layer and direction in a torch `state_dict`."""

    kernel: str
    recurrent: str
    bias: str
    recurrent_bias: str
    projection: str


def from_torch(
    cell: str,
    weights: Mapping[str, ArrayLike],
    layer: int = 0,
    reverse: bool = False,
) -> Params:
    """Read one layer and direction from the `state_dict` of a `torch.nn.RNN`, `LSTM` or `GRU`.

    A layer with `bias=False` has zero biases. Raises `UsageError` for an unknown cell, a missing name, a projection
    (`proj_size`), and shapes or dtypes that do not fit each other.
    """
    _check_cell(cell)
    names = _torch_names(layer, reverse)
    if names.projection in weights:
        raise UsageError(
            "a projected LSTM has no counterpart",
            where=f"torch {names.projection}",
            got=np.shape(weights[names.projection]),
            needed="proj_size=0",
        )

    axes = {names.kernel: "g d", names.recurrent: "g h"}
    # Half a pair of biases is a mistake, none is a layer without them.
    if names.bias in weights or names.recurrent_bias in weights:
        axes |= {names.bias: "g", names.recurrent_bias: "g"}
    missing = [name for name in axes if name not in weights]
    if missing:
        raise UsageError(
            "missing from the state_dict",
            where=f"torch {missing[0]}",
            got=", ".join(weights) or "nothing",
            needed="this name",
        )

    kernel, recurrent, *biases = _checked("torch", cell, {name: weights[name] for name in axes}, axes)
    return _to_ours("torch", cell, _with_biases(kernel.T, recurrent.T, biases))


def to_torch(
    cell: str,
    params: Params,
    layer: int = 0,
    reverse: bool = False,
) -> dict[str, np.ndarray]:
    """Return the entries of a torch `state_dict` for one layer and direction: kernels, and both biases.

    Raises `UsageError` for an unknown cell, and for parameters of another cell.
    """
    weights = _from_ours("torch", cell, params)
    # torch multiplies from the left, so its kernels are transposed.
    names = _torch_names(layer, reverse)
    return {
        names.kernel: _contiguous(weights.kernel.T),
        names.recurrent: _contiguous(weights.recurrent.T),
        names.bias: weights.bias,
        names.recurrent_bias: weights.recurrent_bias,
    }


def from_keras(cell: str, weights: Sequence[ArrayLike]) -> Params:
    """Read `get_weights()` of a Keras `SimpleRNN`, `LSTM` or `GRU`: kernel, recurrent kernel, bias.

    A layer with `use_bias=False` has zero biases; a GRU's weights then do not show its `reset_after`, which has to be
    True. Raises `UsageError` for an unknown cell, another number of arrays, a GRU with `reset_after=False`, and shapes or
    dtypes that do not fit each other.
    """
    _check_cell(cell)
    if len(weights) not in (2, 3):
        raise UsageError(
            "wrong number of arrays (a Bidirectional layer has those of two layers: pass one half)",
            where="keras weights",
            got=len(weights),
            needed="kernel, recurrent_kernel and, unless use_bias=False, bias",
        )

    # A layer without biases has no third array.
    arrays = dict(zip(("kernel", "recurrent_kernel", "bias"), map(np.asarray, weights), strict=False))
    # Keras gives a GRU one bias row instead of two when its reset gate acts before the product.
    if cell == "gru" and "bias" in arrays and arrays["bias"].ndim == 1:
        raise UsageError(
            "a GRU with reset_after=False is another function; use reset_after=True",
            where="keras bias",
            got=arrays["bias"].shape,
            needed=(2, arrays["bias"].size),
        )

    axes = {"kernel": "d g", "recurrent_kernel": "h g", "bias": "2 g" if cell == "gru" else "g"}
    kernel, recurrent, *bias = _checked("keras", cell, arrays, axes)
    biases = [row for array in bias for row in np.atleast_2d(array)]
    return _to_ours("keras", cell, _with_biases(kernel, recurrent, biases))


def to_keras(cell: str, params: Params) -> list[np.ndarray]:
    """Return the argument of `set_weights` of the Keras layer: kernel, recurrent kernel, bias (a GRU's is "2 g").

    Raises `UsageError` for an unknown cell, and for parameters of another cell.
    """
    weights = _from_ours("keras", cell, params)
    bias = weights.bias
    if cell == "gru":
        bias = np.stack([weights.bias, weights.recurrent_bias])
    return [weights.kernel, weights.recurrent, bias]


def from_onnx(
    cell: str,
    W: ArrayLike,
    R: ArrayLike,
    B: ArrayLike | None = None,
    direction: int = 0,
    linear_before_reset: int = 0,
) -> Params:
    """Read the inputs W "k g d", R "k g h" and B "k 2*g" of an ONNX `RNN`, `LSTM` or `GRU` node of k directions.

    Give a GRU the node's `linear_before_reset`: the arrays do not show it, ONNX's default is 0, and only 1 is our GRU.
    Raises `UsageError` for an unknown cell, a GRU with 0, a direction that is not there, and shapes or dtypes that do not
    fit each other.
    """
    _check_cell(cell)
    # The arrays of both kinds of GRU have the same shapes: only the node's attribute tells them apart.
    if cell == "gru" and linear_before_reset != 1:
        raise UsageError(
            "another function unless the reset gate acts after the product",
            where="onnx linear_before_reset",
            got=linear_before_reset,
            needed=1,
        )

    given = {"W": W, "R": R}
    if B is not None:
        given["B"] = B
    arrays = _checked("onnx", cell, given, {"W": "k g d", "R": "k g h", "B": "k 2*g"})
    directions = len(arrays[0])
    checks.count(0, where="onnx W", direction=direction)
    if not 0 <= direction < directions:
        raise UsageError("no such direction", where="onnx W", got=direction, needed=f"direction 0 to {directions - 1}")

    kernel, recurrent, *bias = (array[direction] for array in arrays)
    biases = [half for array in bias for half in np.split(array, 2)]
    return _to_ours("onnx", cell, _with_biases(kernel.T, recurrent.T, biases))


def to_onnx(cell: str, params: Params) -> dict[str, np.ndarray]:
    """Return the inputs W, R and B of an ONNX node of one direction.

    Concatenate two along the first axis for a bidirectional node, and give a GRU's node `linear_before_reset=1`. Raises
    `UsageError` for an unknown cell, and for parameters of another cell.
    """
    weights = _from_ours("onnx", cell, params)
    # ONNX keeps both biases in one array.
    bias = np.concatenate([weights.bias, weights.recurrent_bias])
    return {"W": _contiguous(weights.kernel.T)[None], "R": _contiguous(weights.recurrent.T)[None], "B": bias[None]}


def _check_cell(cell: str) -> None:
    if cell not in GATES["ours"]:
        raise UsageError("unknown cell", got=cell, needed=f"one of {', '.join(GATES['ours'])}")


def _torch_names(layer: int, reverse: bool) -> TorchNames:
    suffix = f"_l{layer}"
    if reverse:
        suffix += "_reverse"
    prefixes = TorchNames("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    return TorchNames(*(prefix + suffix for prefix in prefixes))


def _checked(
    framework: str,
    cell: str,
    given: Mapping[str, ArrayLike],
    axes: Mapping[str, str],
) -> list[np.ndarray]:
    """Return the arrays if they are floating, of one dtype, and of shapes that agree; the kernels' d, h and k decide."""
    arrays = {name: np.asarray(array) for name, array in given.items()}
    # Kernels come first, so the sizes that they set are known when the others are compared.
    first = next(iter(arrays))
    sizes: dict[str, int] = {"2": 2}
    for name, array in arrays.items():
        where = f"{framework} {name}"
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise UsageError("wrong dtype", where=where, got=array.dtype, needed="a floating dtype")
        if array.dtype != arrays[first].dtype:
            raise UsageError("wrong dtype", where=where, got=array.dtype, needed=f"{arrays[first].dtype}, as {first}")

        letters = axes[name].split()
        if array.ndim != len(letters):
            raise UsageError("wrong number of axes", where=where, got=array.shape, needed=f'the axes "{axes[name]}"')
        for letter, size in zip(letters, array.shape, strict=True):
            if letter in "dhk":
                sizes.setdefault(letter, size)

    # The gates' axes follow from the number of units, whatever the arrays say.
    gates = len(GATES["ours"][cell])
    sizes |= {"g": gates * sizes["h"], "2*g": 2 * gates * sizes["h"]}
    for name, array in arrays.items():
        expected = tuple(sizes[letter] for letter in axes[name].split())
        if array.shape != expected:
            raise UsageError(
                "wrong shape",
                where=f"{framework} {name}",
                got=array.shape,
                needed=f"{expected} of {cell}: gates {gates}, units {sizes['h']}, features {sizes['d']}",
            )
    return list(arrays.values())


def _with_biases(
    kernel: Float[np.ndarray, "d g"],
    recurrent: Float[np.ndarray, "h g"],
    biases: Sequence[Float[np.ndarray, "g"]],
) -> Weights:
    """Fill up missing biases with zeros."""
    zeros = np.zeros(kernel.shape[-1], kernel.dtype)
    bias, recurrent_bias, *_ = (*biases, zeros, zeros)
    return Weights(kernel, recurrent, bias, recurrent_bias)


def _reordered(
    weights: Weights,
    order: str,
    new_order: str,
) -> Weights:
    """Put the gates on the last axis, which are in one order, into another; always new arrays."""

    def reorder(array: Float[np.ndarray, "*r g"]) -> Float[np.ndarray, "*r g"]:
        gate = dict(zip(order, np.split(array, len(order), axis=-1), strict=True))
        return np.concatenate([gate[letter] for letter in new_order], axis=-1)

    return Weights(*map(reorder, weights))


def _to_ours(
    framework: str,
    cell: str,
    weights: Weights,
) -> Params:
    """Return our parameters for weights with gates in a framework's order."""
    weights = _reordered(weights, GATES[framework][cell], GATES["ours"][cell])
    if cell == "gru":
        return gru.Params(*map(jnp.array, weights))
    # The other cells only ever add the two biases.
    bias = weights.bias + weights.recurrent_bias
    return base.Params(jnp.array(weights.kernel), jnp.array(weights.recurrent), jnp.array(bias))


def _from_ours(
    framework: str,
    cell: str,
    params: Params,
) -> Weights:
    """Return the weights with gates in a framework's order; RNN and LSTM have a zero second bias."""
    _check_cell(cell)
    params_type = gru.Params if cell == "gru" else base.Params
    # Compared by fields: parameters that were restored from a file may be of another class.
    if params._fields != params_type._fields:
        raise UsageError(
            f"parameters of another cell than {cell}",
            where="ours",
            got=", ".join(params._fields),
            needed=", ".join(params_type._fields),
        )

    axes = {"input_kernel": "d g", "recurrent_kernel": "h g", "bias": "g", "recurrent_bias": "g"}
    kernel, recurrent, *biases = _checked("ours", cell, params._asdict(), axes)
    weights = _with_biases(kernel, recurrent, biases)
    return _reordered(weights, GATES["ours"][cell], GATES[framework][cell])


def _contiguous(array: Float[np.ndarray, "r c"]) -> Float[np.ndarray, "r c"]:
    """Copy an array row by row."""
    return np.array(array, order="C")
