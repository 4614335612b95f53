"""Parameters across frameworks: the weights of torch, Keras and ONNX layers as ours, and ours as theirs.

    framework  layer           gate order  kernels   biases            what the layer has to be
    ---------  --------------  ----------  --------  ----------------  -----------------------------------------------
    ours       rnn             h           d g, h g  one, g
    ours       lstm            i f g o     d g, h g  one, g
    ours       gru             r z n       d g, h g  two, g and g      reset-after
    ours       gru-before      r z n       d g, h g  one, g
    ours       lstm-peephole   i f g o     d g, h g  one, g            peepholes 3*h of i f o
    ours       lstm-projected  i f g o     d g, h g  one, g            projection m h, g = 4 m
    torch      RNN             h           g d, g h  two, g and g      nonlinearity="tanh"
    torch      LSTM            i f g o     g d, g h  two, g and g      proj_size=0
    torch      GRU             r z n       g d, g h  two, g and g      reset-after, which it always is
    torch      LSTM of r       i f g o     g d, g h  two, g and g      proj_size=r, hidden_size=m, projection h m
    keras      SimpleRNN       h           d g, h g  one, g            default activations
    keras      LSTM            i f g o     d g, h g  one, g            default activations
    keras      GRU             z r n       d g, h g  two in one, 2 g   default activations, reset_after=True (the default)
    keras      GRU before      z r n       d g, h g  one, g            default activations, reset_after=False
    onnx       RNN             h           g d, g h  two in one, 2*g   default activations, no clip
    onnx       LSTM            i o f g     g d, g h  two in one, 2*g   the same, no peepholes, input_forget=0
    onnx       GRU             z r n       g d, g h  two in one, 2*g   the same, linear_before_reset=1 (not the default)
    onnx       GRU before      z r n       g d, g h  two in one, 2*g   the same, linear_before_reset=0 (the default)
    onnx       LSTM with P     i o f g     g d, g h  two in one, 2*g   as LSTM, peepholes 3*h of i o f

Gates are written in our letters: Keras and ONNX call the LSTM's g "c" and the GRU's n "h". A kernel "d g" is multiplied
from the right (x W), "g d" is its transpose. Two biases are that of the input's product and that of the recurrent one, in
this order; all cells but the GRU only ever add them, so ours is their sum and goes back as (sum, zeros). Reset-after means
n = tanh(z_n + r u_n), the reset gate behind the recurrent product and its bias; the original GRU (Cho et al. 2014), with
the gate before the product, is another function of the same shapes. In all four z keeps: h_t = (1 - z) n + z h_{t-1}.
A projected LSTM of m units of memory is the cell `lstm_projected.with_memory(m)`. No other cell is a layer of theirs.
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

from jaxseq.cells import base, gru, lstm_peephole, lstm_projected
from jaxseq.common import checks
from jaxseq.common.errors import UsageError

Params: TypeAlias = base.Params | gru.Params | lstm_peephole.Params | lstm_projected.Params
PARAMS: MappingProxyType[str, type[Params]] = MappingProxyType(
    {
        "rnn": base.Params,
        "lstm": base.Params,
        "gru": gru.Params,
        "gru-before": base.Params,
        "lstm-peephole": lstm_peephole.Params,
        "lstm-projected": lstm_projected.Params,
    }
)
"""The parameters of each cell that some framework has as a layer."""

_PLAIN = MappingProxyType({"rnn": "h", "lstm": "ifgo", "gru": "rzn"})
GATES: MappingProxyType[str, Mapping[str, str]] = MappingProxyType(
    {
        "ours": {**_PLAIN, "gru-before": "rzn", "lstm-peephole": "ifgo", "lstm-projected": "ifgo"},
        "torch": {**_PLAIN, "lstm-projected": "ifgo"},
        "keras": {**_PLAIN, "gru": "zrn", "gru-before": "zrn"},
        "onnx": {"rnn": "h", "lstm": "iofg", "gru": "zrn", "gru-before": "zrn", "lstm-peephole": "iofg"},
    }
)
"""The gates of every framework's layer, in its order and in our letters."""


class Weights(NamedTuple):
    """The weights of one layer and direction, with kernels as ours and gates in a framework's order.

    peepholes   of all gates but g, in the same order; None for other cells
    projection  as ours; None for other cells
    """

    kernel: Float[np.ndarray, "d g"]
    recurrent: Float[np.ndarray, "h g"]
    bias: Float[np.ndarray, "g"]
    recurrent_bias: Float[np.ndarray, "g"]
    peepholes: Float[np.ndarray, "3*h"] | None = None
    projection: Float[np.ndarray, "m h"] | None = None


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
    (`proj_size`) of another cell than lstm-projected, and shapes or dtypes that do not fit each other.
    """
    _check_cell("torch", cell)
    names = _torch_names(layer, reverse)
    is_projected = cell == "lstm-projected"
    if names.projection in weights and not is_projected:
        raise UsageError(
            "a projected LSTM is another cell",
            where=f"torch {names.projection}",
            got=np.shape(weights[names.projection]),
            needed="proj_size=0, or the cell lstm-projected",
        )

    axes = {names.kernel: "g d", names.recurrent: "g h"}
    if is_projected:
        axes[names.projection] = "h m"
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

    arrays = _checked("torch", cell, {name: weights[name] for name in axes}, axes)
    biases = [arrays[name] for name in (names.bias, names.recurrent_bias) if name in arrays]
    read = _with_biases(arrays[names.kernel].T, arrays[names.recurrent].T, biases)
    if is_projected:
        read = read._replace(projection=arrays[names.projection].T)
    return _to_ours("torch", cell, read)


def to_torch(
    cell: str,
    params: Params,
    layer: int = 0,
    reverse: bool = False,
) -> dict[str, np.ndarray]:
    """Return the entries of a torch `state_dict` for one layer and direction: kernels, both biases, and a projection.

    Raises `UsageError` for an unknown cell, and for parameters of another cell.
    """
    weights = _from_ours("torch", cell, params)
    # torch multiplies from the left, so its kernels are transposed.
    names = _torch_names(layer, reverse)
    entries = {
        names.kernel: _contiguous(weights.kernel.T),
        names.recurrent: _contiguous(weights.recurrent.T),
        names.bias: weights.bias,
        names.recurrent_bias: weights.recurrent_bias,
    }
    if weights.projection is not None:
        entries[names.projection] = _contiguous(weights.projection.T)
    return entries


def from_keras(cell: str, weights: Sequence[ArrayLike]) -> Params:
    """Read `get_weights()` of a Keras `SimpleRNN`, `LSTM` or `GRU`: kernel, recurrent kernel, bias.

    A layer with `use_bias=False` has zero biases; a GRU's weights then do not show its `reset_after`, which has to be
    True for gru and False for gru-before. Raises `UsageError` for an unknown cell, another number of arrays, a gru with
    `reset_after=False`, and shapes or dtypes that do not fit each other.
    """
    _check_cell("keras", cell)
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
            "a GRU with reset_after=False is another function, of the cell gru-before",
            where="keras bias",
            got=arrays["bias"].shape,
            needed=(2, arrays["bias"].size),
        )

    axes = {"kernel": "d g", "recurrent_kernel": "h g", "bias": "2 g" if cell == "gru" else "g"}
    kernel, recurrent, *bias = _checked("keras", cell, arrays, axes).values()
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
    P: ArrayLike | None = None,
) -> Params:
    """Read the inputs W "k g d", R "k g h", B "k 2*g" and P "k 3*h" of an ONNX `RNN`, `LSTM` or `GRU` node of k directions.

    Give a GRU the node's `linear_before_reset`: the arrays do not show it, ONNX's default is 0, which is gru-before, and 1
    is our gru. A node without P has zero peepholes. Raises `UsageError` for an unknown cell, a GRU of the other kind,
    peepholes of another cell than lstm-peephole, a direction that is not there, and shapes or dtypes that do not fit.
    """
    _check_cell("onnx", cell)
    # The arrays of both kinds of GRU have the same shapes: only the node's attribute tells them apart.
    kinds = {"gru": 1, "gru-before": 0}
    if linear_before_reset != kinds.get(cell, linear_before_reset):
        raise UsageError(
            f"another function than {cell}, whose reset gate acts on the other side of the product",
            where="onnx linear_before_reset",
            got=linear_before_reset,
            needed=kinds[cell],
        )
    if P is not None and cell != "lstm-peephole":
        raise UsageError(
            "an LSTM with peepholes is another cell", where="onnx P", got=np.shape(P), needed="lstm-peephole"
        )

    given = {"W": W, "R": R}
    for name, array in (("B", B), ("P", P)):
        if array is not None:
            given[name] = array
    arrays = _checked("onnx", cell, given, {"W": "k g d", "R": "k g h", "B": "k 2*g", "P": "k 3*h"})
    directions = len(arrays["W"])
    checks.count(0, where="onnx W", direction=direction)
    if not 0 <= direction < directions:
        raise UsageError("no such direction", where="onnx W", got=direction, needed=f"direction 0 to {directions - 1}")

    chosen = {name: array[direction] for name, array in arrays.items()}
    biases = np.split(chosen["B"], 2) if "B" in chosen else []
    read = _with_biases(chosen["W"].T, chosen["R"].T, biases)
    if cell == "lstm-peephole":
        zeros = np.zeros(3 * len(read.recurrent), read.kernel.dtype)
        read = read._replace(peepholes=chosen.get("P", zeros))
    return _to_ours("onnx", cell, read)


def to_onnx(cell: str, params: Params) -> dict[str, np.ndarray]:
    """Return the inputs W, R and B, and P of lstm-peephole, of an ONNX node of one direction.

    Concatenate two along the first axis for a bidirectional node, and give the node of a gru `linear_before_reset=1`, that
    of gru-before 0. Raises `UsageError` for an unknown cell, and for parameters of another cell.
    """
    weights = _from_ours("onnx", cell, params)
    # ONNX keeps both biases in one array.
    bias = np.concatenate([weights.bias, weights.recurrent_bias])
    inputs = {"W": _contiguous(weights.kernel.T)[None], "R": _contiguous(weights.recurrent.T)[None], "B": bias[None]}
    if weights.peepholes is not None:
        inputs["P"] = weights.peepholes[None]
    return inputs


def _check_cell(framework: str, cell: str) -> None:
    """Raise `UsageError` for a cell that is no layer of a framework."""
    if cell not in GATES[framework]:
        raise UsageError(f"no layer of {framework}", got=cell, needed=f"one of {', '.join(GATES[framework])}")


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
) -> dict[str, np.ndarray]:
    """Return the arrays if they are floating, of one dtype, and of shapes that agree; the first d, h, k and m decide."""
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
            if letter in "dhkm":
                sizes.setdefault(letter, size)

    # The gates' axes follow from the number of units, whatever the arrays say.
    gates, units = len(GATES["ours"][cell]), sizes.get("m", sizes["h"])
    sizes |= {"g": gates * units, "2*g": 2 * gates * units, "3*h": 3 * units}
    for name, array in arrays.items():
        expected = tuple(sizes[letter] for letter in axes[name].split())
        if array.shape != expected:
            raise UsageError(
                "wrong shape",
                where=f"{framework} {name}",
                got=array.shape,
                needed=f"{expected} of {cell}: gates {gates}, units {units}, features {sizes['d']}",
            )
    return arrays


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

    def reorder(array: Float[np.ndarray, "*r g"], left_out: str = "") -> Float[np.ndarray, "*r g"]:
        letters = order.replace(left_out, "")
        gate = dict(zip(letters, np.split(array, len(letters), axis=-1), strict=True))
        return np.concatenate([gate[letter] for letter in new_order if letter in gate], axis=-1)

    peepholes = None
    if weights.peepholes is not None:
        # The candidate does not see the memory.
        peepholes = reorder(weights.peepholes, left_out="g")
    return Weights(*map(reorder, weights[:4]), peepholes=peepholes, projection=weights.projection)


def _to_ours(
    framework: str,
    cell: str,
    weights: Weights,
) -> Params:
    """Return our parameters for weights with gates in a framework's order."""
    weights = _reordered(weights, GATES[framework][cell], GATES["ours"][cell])
    if cell == "gru":
        return gru.Params(*map(jnp.array, weights[:4]))
    # The other cells only ever add the two biases.
    shared = base.Params(*map(jnp.array, (weights.kernel, weights.recurrent, weights.bias + weights.recurrent_bias)))
    if weights.peepholes is not None:
        return lstm_peephole.Params(*shared, peepholes=jnp.array(weights.peepholes))
    if weights.projection is not None:
        return lstm_projected.Params(*shared, projection=jnp.array(weights.projection))
    return shared


def _from_ours(
    framework: str,
    cell: str,
    params: Params,
) -> Weights:
    """Return the weights with gates in a framework's order; all cells but the GRU have a zero second bias."""
    _check_cell(framework, cell)
    params_type = PARAMS[cell]
    # Compared by fields: parameters that were restored from a file may be of another class.
    if params._fields != params_type._fields:
        raise UsageError(
            f"parameters of another cell than {cell}",
            where="ours",
            got=", ".join(params._fields),
            needed=", ".join(params_type._fields),
        )

    axes = {
        "input_kernel": "d g",
        "recurrent_kernel": "h g",
        "bias": "g",
        "recurrent_bias": "g",
        "peepholes": "3*h",
        "projection": "m h",
    }
    arrays = _checked("ours", cell, params._asdict(), axes)
    biases = [arrays[name] for name in ("bias", "recurrent_bias") if name in arrays]
    weights = _with_biases(arrays["input_kernel"], arrays["recurrent_kernel"], biases)
    weights = weights._replace(peepholes=arrays.get("peepholes"), projection=arrays.get("projection"))
    return _reordered(weights, GATES["ours"][cell], GATES[framework][cell])


def _contiguous(array: Float[np.ndarray, "r c"]) -> Float[np.ndarray, "r c"]:
    """Copy an array row by row."""
    return np.array(array, order="C")
