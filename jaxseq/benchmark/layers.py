"""Layers of other JAX libraries with our weights: flax linen and nnx, Keras on JAX, equinox.

Each is written as the library's documentation has it. `jaxseq.cells.convert` names the order of gates and biases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxseq.cells import convert
from jaxseq.common.arrays import Tree
from jaxseq.common.errors import UsageError


class Shape(NamedTuple):
    """Sizes of a layer; with `time_major` its input is "t b d", else "b t d"."""

    cell: str
    batch: int
    time_steps: int
    features: int
    hidden: int
    time_major: bool = False

    @property
    def batch_axis(self) -> int:
        """Axis of the rows in inputs and outputs."""
        return int(self.time_major)


class Results(NamedTuple):
    """Outputs of all time steps, in the order of the input, and the last of them, of which only one is used."""

    outputs: Float[Array, "_ _ h"]
    last: Float[Array, "b h"]


class Layer(NamedTuple):
    """Weights of a layer or of a stack, and its results from zero states."""

    weights: Tree
    apply: Callable[[Tree, Float[Array, "_ _ d"]], Results]


def stacked(layers: Sequence[Layer]) -> Layer:
    """Return layers above each other as one."""

    def apply(weights: Tree, x: Float[Array, "_ _ d"]) -> Results:
        results = layers[0].apply(weights[0], x)
        for layer, layer_weights in zip(layers[1:], weights[1:], strict=True):
            results = layer.apply(layer_weights, results.outputs)
        return results

    return Layer([layer.weights for layer in layers], apply)


def linen(shape: Shape, params: convert.Params) -> Layer:
    """Build Flax Linen's cell, the optimised one of the LSTM, in `nn.RNN`."""
    import flax.linen as nn

    cells = {
        "rnn": nn.SimpleCell,
        "lstm": nn.OptimizedLSTMCell,
        "gru": nn.GRUCell,
    }
    layer = nn.RNN(cells[shape.cell](shape.hidden), time_major=shape.time_major, return_carry=True)

    def apply(weights: Tree, x: Float[Array, "_ _ d"]) -> Results:
        results: Tree = layer.apply({"params": {"cell": weights}}, x)
        carry, outputs = results
        return Results(outputs, _flax_output(shape, carry))

    return Layer(linen_weights(shape.cell, params), apply)


def linen_weights(cell: str, params: convert.Params) -> Tree:
    """Return our parameters under the names of Flax Linen's cells, whose GRU has one bias for r and one for z, not two."""
    gates = {"rnn": [""], "lstm": list("ifgo"), "gru": list("rzn")}[cell]
    input_kernels = np.split(np.asarray(params.input_kernel), len(gates), axis=-1)
    recurrent_kernels = np.split(np.asarray(params.recurrent_kernel), len(gates), axis=-1)
    biases = np.split(np.asarray(params.bias), len(gates))

    weights: dict[str, dict[str, Array]] = {}
    for number, gate in enumerate(gates):
        weights[f"i{gate}"] = {"kernel": jnp.asarray(input_kernels[number])}
        weights[f"h{gate}"] = {"kernel": jnp.asarray(recurrent_kernels[number])}
    # The bias of its LSTM is beside h, those of the others beside x.
    side = "i"
    if cell == "lstm":
        side = "h"
    for gate, bias in zip(gates, biases, strict=True):
        weights[f"{side}{gate}"]["bias"] = jnp.asarray(bias)
    if cell == "gru":
        _add_recurrent_biases(weights, params)
    return weights


def _add_recurrent_biases(weights: dict[str, dict[str, Array]], params: convert.Params) -> None:
    """Put the GRU's second biases where Flax Linen has them: n alone has one beside h."""
    biases = np.split(_recurrent_bias(params), 3)
    for gate, bias in zip("rz", biases[:2], strict=True):
        weights[f"i{gate}"]["bias"] = weights[f"i{gate}"]["bias"] + jnp.asarray(bias)
    weights["hn"]["bias"] = jnp.asarray(biases[2])


def nnx(shape: Shape, params: convert.Params) -> Layer:
    """Build Flax NNX's cell, the optimised one of the LSTM, in `nnx.RNN`."""
    from flax import nnx as nn

    cells = {
        "rnn": nn.SimpleCell,
        "lstm": nn.OptimizedLSTMCell,
        "gru": nn.GRUCell,
    }
    # Compiling its initialisers for a GPU takes seconds.
    with jax.default_device(jax.devices("cpu")[0]):
        cell = cells[shape.cell](shape.features, shape.hidden, rngs=nn.Rngs(0))
        # Its gates stand side by side in our order, so that nothing is split.
        cell.dense_i.kernel[...] = jnp.asarray(params.input_kernel)
        cell.dense_h.kernel[...] = jnp.asarray(params.recurrent_kernel)
        # One of the two projections has a bias. The GRU lacks our second one, which starts at zero.
        biased: nn.Linear = cell.dense_i
        if shape.cell == "lstm":
            biased = cell.dense_h
        assert biased.bias is not None, "made with use_bias=True"
        biased.bias[...] = jnp.asarray(params.bias)
        layer = nn.RNN(cell, time_major=shape.time_major, return_carry=True, rngs=False)
        graph, variables = nn.split(layer)

    def apply(weights: Tree, x: Float[Array, "_ _ d"]) -> Results:
        zeros = jnp.zeros((x.shape[shape.batch_axis], shape.hidden), x.dtype)
        start: Tree = zeros
        if shape.cell == "lstm":
            start = (zeros, zeros)
        carry, outputs = nn.merge(graph, weights)(x, initial_carry=start)
        return Results(outputs, _flax_output(shape, carry))

    # Arrays of numpy belong to no device; those of JAX would keep the program on the CPU.
    return Layer(jax.tree.map(np.asarray, variables), apply)


def _flax_output(shape: Shape, carry: Tree) -> Float[Array, "b h"]:
    """Return h of a carry, which for the LSTM is (c, h)."""
    if shape.cell == "lstm":
        return carry[1]
    return carry


def keras(shape: Shape, params: convert.Params) -> Layer:
    """Build Keras's layer on its JAX backend. Raises `UsageError` if Keras computes with another one."""
    import keras as k

    if k.backend.backend() != "jax":
        raise UsageError(
            "Keras does not compute with JAX",
            where="KERAS_BACKEND",
            got=k.backend.backend(),
            needed="jax",
        )
    layers = {
        "rnn": k.layers.SimpleRNN,
        "lstm": k.layers.LSTM,
        "gru": k.layers.GRU,
    }
    layer = layers[shape.cell](shape.hidden, return_sequences=True, return_state=True)
    # Compiling its initialisers for a GPU takes seconds.
    with jax.default_device(jax.devices("cpu")[0]):
        layer.build((shape.batch, shape.time_steps, shape.features))
    # A stateless call takes every variable, also those that it leaves as they are.
    others = [variable.value for variable in layer.non_trainable_variables]

    def apply(weights: Tree, x: Float[Array, "_ _ d"]) -> Results:
        # Keras has no layer that takes time first.
        if shape.time_major:
            x = jnp.swapaxes(x, 0, 1)
        results, _ = layer.stateless_call(weights, others, x)
        outputs, last = results[:2]
        if shape.time_major:
            outputs = jnp.swapaxes(outputs, 0, 1)
        return Results(outputs, last)

    return Layer(convert.to_keras(shape.cell, params), apply)


def equinox(shape: Shape, params: convert.Params) -> Layer:
    """Build equinox's cell in a scan over one sequence, mapped over the rows. It has no plain RNN."""
    import equinox as eqx

    cells = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}
    cell = cells[shape.cell](shape.features, shape.hidden, key=jax.random.key(0))
    arrays = {name: jnp.asarray(array) for name, array in equinox_weights(shape.cell, params).items()}

    def arrays_of(tree: Tree) -> list[Array]:
        return [getattr(tree, name) for name in arrays]

    cell = eqx.tree_at(arrays_of, cell, list(arrays.values()))
    weights, static = eqx.partition(cell, eqx.is_array)

    def apply(weights: Tree, x: Float[Array, "_ _ d"]) -> Results:
        combined = eqx.combine(weights, static)

        def step(carry: Tree, x_t: Float[Array, "d"]) -> tuple[Tree, Float[Array, "h"]]:
            carry = combined(x_t, carry)
            # The LSTM's is (h, c).
            return carry, jax.tree.leaves(carry)[0]

        def one_sequence(x: Float[Array, "t d"]) -> tuple[Float[Array, "t h"], Float[Array, "h"]]:
            zeros = jnp.zeros(shape.hidden, x.dtype)
            start: Tree = zeros
            if shape.cell == "lstm":
                start = (zeros, zeros)
            carry, outputs = jax.lax.scan(step, start, x)
            return outputs, jax.tree.leaves(carry)[0]

        # The last state has no axis of time, so its rows come first.
        every_sequence = jax.vmap(one_sequence, in_axes=shape.batch_axis, out_axes=(shape.batch_axis, 0))
        return Results(*every_sequence(x))

    return Layer(weights, apply)


def equinox_weights(cell: str, params: convert.Params) -> dict[str, np.ndarray]:
    """Return our parameters under the names of equinox's cells, whose GRU has a second bias for n alone."""
    arrays = convert.to_torch(cell, params)
    weights = {
        "weight_ih": arrays["weight_ih_l0"],
        "weight_hh": arrays["weight_hh_l0"],
        "bias": arrays["bias_ih_l0"] + arrays["bias_hh_l0"],
    }
    # The second bias of n is multiplied by r, so it stays apart; those of r and z are only added.
    if cell == "gru":
        hidden = len(arrays["bias_ih_l0"]) // 3
        second = arrays["bias_hh_l0"][-hidden:]
        weights["bias"][-hidden:] -= second
        weights["bias_n"] = second
    return weights


def _recurrent_bias(params: convert.Params) -> np.ndarray:
    """Return the GRU's bias beside h."""
    return np.asarray(getattr(params, "recurrent_bias"))  # noqa: B009


MAKERS: MappingProxyType[str, Callable[[Shape, convert.Params], Layer]] = MappingProxyType(
    {"linen": linen, "nnx": nnx, "keras": keras, "equinox": equinox}
)
"""Layers by the name of the library; each raises `ImportError` where that is not installed."""
