"""Outputs, last states and gradients against implementations we did not write: torch's layers and ONNX's evaluator."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.cells import CELLS, convert, recurrence
from jaxseq.cells.recurrence import Rows, Traversal

pytestmark = pytest.mark.usefixtures("compiled_quickly")

T, B, D, H = 7, 4, 3, 5
LENGTHS = (3, 7, 1, 5)
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}

every_cell = pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def onnx():
    pytest.importorskip("onnx.reference")
    return pytest.importorskip("onnx")


class Stack(NamedTuple):
    """Which layers, directions and rows: "the whole sequence of every row" has no lengths."""

    layers: int = 1
    directions: int = 1
    lengths: tuple[int, ...] | None = None
    features: int = D

    def parts(self):
        """(layer, reverse) in the order of the first axis of torch's and ONNX's states."""
        return [(layer, bool(back)) for layer in range(self.layers) for back in range(self.directions)]


def numbers(seed, dtype):
    """A source of arrays in which no number is special."""
    source = np.random.default_rng(seed)
    return lambda *shape: source.normal(size=shape).astype(dtype)


def close(ours, theirs, dtype):
    np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def random_params(name, features, draw):
    shapes = jax.eval_shape(lambda key: CELLS[name].init(key, features, H), jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(draw(*leaf.shape)), shapes)


def states(name):
    return CELLS[name].start((1, 1), jnp.float32)._fields


def run(name, stack, params, x, starts):
    """Our outputs "t b (directions h)" and the last state of every part, stacked on a first axis, as torch has them."""
    rows = Rows(None if stack.lengths is None else jnp.asarray(stack.lengths, jnp.int32))
    lasts, outputs = [], []
    for part, (layer, reverse) in enumerate(stack.parts()):
        if not reverse:
            x = jnp.concatenate(outputs, axis=-1) if layer else x
            outputs = []
        carry = type(CELLS[name].start((1, 1), x.dtype))(*(state[part] for state in starts))
        last, output = recurrence.scan(CELLS[name], params[layer, reverse], x, carry, rows, Traversal(reverse))
        lasts.append(last)
        outputs.append(output)
    return jnp.concatenate(outputs, axis=-1), tuple(jnp.stack(state) for state in zip(*lasts, strict=True))


@partial(jax.jit, static_argnums=(0, 1))
def pulled_back(name, stack, arguments, bars):
    """Our outputs and last states, and the gradients of (params, x, starts) for their cotangents."""
    value, back = jax.vjp(partial(run, name, stack), *arguments)
    return value, back(bars)


def ours(name, stack, params, x, starts):
    """Our outputs and last states, out of the program that is compiled for the gradients anyway."""
    x, starts = jnp.asarray(x), tuple(map(jnp.asarray, starts))
    bars = jnp.zeros((T, B, stack.directions * H), x.dtype), starts
    return pulled_back(name, stack, (params, x, starts), bars)[0]


def torch_layer(torch, name, stack, dtype, draw):
    """A torch layer with random kernels and both biases random."""
    kind = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[name]
    layer = kind(
        stack.features, H, stack.layers, bidirectional=stack.directions == 2, dtype=getattr(torch, dtype), device="cpu"
    )
    for weight in layer.parameters():
        weight.data = torch.from_numpy(draw(*weight.shape) / 2)
    return layer


def run_torch(torch, name, stack, layer, x, starts):
    """torch's outputs and last states; rows of different lengths go through a packed sequence."""
    start = starts if name == "lstm" else starts[0]
    if stack.lengths is None:
        outputs, last = layer(x, start)
    else:
        rnn = torch.nn.utils.rnn
        packed, last = layer(rnn.pack_padded_sequence(x, torch.tensor(stack.lengths), enforce_sorted=False), start)
        outputs, _ = rnn.pad_packed_sequence(packed, total_length=T)
    return outputs, last if name == "lstm" else (last,)


def as_ours(name, stack, weights):
    return {part: convert.from_torch(name, weights, *part) for part in stack.parts()}


def gradients_as_ours(name, stack, gradients):
    """torch's gradients in our convention: its two biases have one gradient where ours has one bias, not their sum."""
    if not CELLS[name].recurrent_bias:
        for bias in [key for key in gradients if key.startswith("bias_hh")]:
            close(gradients[bias], gradients[bias.replace("hh", "ih")], gradients[bias].dtype.name)
            gradients[bias] = np.zeros_like(gradients[bias])
    return as_ours(name, stack, gradients)


def compare_with_torch(torch, name, stack, dtype, seed=0):
    draw = numbers(seed, dtype)
    layer = torch_layer(torch, name, stack, dtype, draw)
    x = draw(T, B, stack.features)
    starts = tuple(draw(len(stack.parts()), B, H) for _ in states(name))
    inputs = [torch.from_numpy(value.copy()).requires_grad_() for value in (x, *starts)]
    their_outputs, their_lasts = run_torch(torch, name, stack, layer, inputs[0], tuple(inputs[1:]))
    cotangents = [draw(*value.shape) for value in (their_outputs, *their_lasts)]
    torch.autograd.backward([their_outputs, *their_lasts], [torch.from_numpy(bar) for bar in cotangents])
    their_gradients = {key: weight.grad.numpy() for key, weight in layer.named_parameters()}

    params = as_ours(name, stack, {key: weight.detach().numpy() for key, weight in layer.named_parameters()})
    arguments = params, jnp.asarray(x), tuple(map(jnp.asarray, starts))
    bars = jnp.asarray(cotangents[0]), tuple(map(jnp.asarray, cotangents[1:]))
    (outputs, lasts), (params_bar, x_bar, starts_bar) = pulled_back(name, stack, arguments, bars)

    close(outputs, their_outputs.detach().numpy(), dtype)
    for ours, theirs in zip(lasts, their_lasts, strict=True):
        close(ours, theirs.detach().numpy(), dtype)
    for ours, theirs in zip((x_bar, *starts_bar), inputs, strict=True):
        close(ours, theirs.grad.numpy(), dtype)
    expected = gradients_as_ours(name, stack, their_gradients)
    jax.tree.map(lambda ours, theirs: close(ours, theirs, dtype), params_bar, expected)


@every_dtype
@every_cell
def test_a_torch_layer_has_our_outputs_and_gradients(torch, name, dtype):
    compare_with_torch(torch, name, Stack(), dtype)


@every_cell
def test_a_torch_layer_that_reads_a_single_feature_is_ours_too(torch, name):
    compare_with_torch(torch, name, Stack(features=1), "float64")


@every_cell
def test_two_stacked_torch_layers_are_two_of_our_scans(torch, name):
    compare_with_torch(torch, name, Stack(layers=2), "float64")


@every_cell
def test_a_bidirectional_torch_layer_is_our_scan_both_ways(torch, name):
    compare_with_torch(torch, name, Stack(directions=2), "float64")


@every_cell
def test_a_packed_torch_sequence_is_our_scan_with_lengths_both_ways(torch, name):
    compare_with_torch(torch, name, Stack(directions=2, lengths=LENGTHS), "float64")


@every_cell
def test_a_torch_layer_without_biases_is_read_with_zero_biases(torch, name):
    draw = numbers(1, "float64")
    kind = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[name]
    layer = kind(D, H, bias=False, dtype=torch.float64)
    x, starts = draw(T, B, D), [draw(1, B, H) for _ in states(name)]
    theirs, _ = run_torch(torch, name, Stack(), layer, torch.from_numpy(x), [torch.from_numpy(s) for s in starts])
    params = as_ours(name, Stack(), layer.state_dict())
    outputs, _ = ours(name, Stack(), params, x, starts)
    close(outputs, theirs.detach().numpy(), "float64")


@every_cell
def test_torch_loads_what_we_hand_it(torch, name):
    draw, stack = numbers(2, "float64"), Stack(layers=2)
    layer = torch_layer(torch, name, stack, "float64", draw)
    params = {(n, False): random_params(name, features, draw) for n, features in enumerate((D, H))}
    weights = {key: value for (n, _), one in params.items() for key, value in convert.to_torch(name, one, n).items()}
    layer.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()}, strict=True)
    x, starts = draw(T, B, D), [draw(2, B, H) for _ in states(name)]
    theirs, _ = run_torch(torch, name, stack, layer, torch.from_numpy(x), [torch.from_numpy(s) for s in starts])
    outputs, _ = ours(name, stack, params, x, starts)
    close(outputs, theirs.detach().numpy(), "float64")


def run_onnx(onnx, name, weights, x, starts, direction="forward"):
    """A model of one node, checked by ONNX and run by its reference evaluator: outputs and last states, as torch's."""
    helper = onnx.helper
    element = helper.np_dtype_to_tensor_dtype(x.dtype)
    given = {"X": x, **weights, **dict(zip(("initial_h", "initial_c"), starts, strict=False))}
    results = ["Y", "Y_h", "Y_c"][: 1 + len(starts)]
    node = helper.make_node(
        name.upper(),
        ["X", "W", "R", "B", "", *list(given)[4:]],
        results,
        hidden_size=H,
        direction=direction,
        **({"linear_before_reset": 1} if name == "gru" else {}),
    )
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(key, element, value.shape) for key, value in given.items()],
        [helper.make_tensor_value_info(key, element, ["?"] * (4 if key == "Y" else 3)) for key in results],
    )
    model = helper.make_model(graph)
    onnx.checker.check_model(model, full_check=True)
    outputs, *lasts = onnx.reference.ReferenceEvaluator(model).run(None, given)
    return np.concatenate(list(np.moveaxis(outputs, 1, 0)), axis=-1), lasts


def onnx_weights(name, directions, draw):
    g = CELLS[name].gate_count * H
    return {"W": draw(directions, g, D) / 2, "R": draw(directions, g, H) / 2, "B": draw(directions, 2 * g) / 2}


def compare_with_onnx(onnx, name, dtype, direction, parts):
    draw = numbers(3, dtype)
    weights = onnx_weights(name, len(parts), draw)
    x, starts = draw(T, B, D), [draw(len(parts), B, H) for _ in states(name)]
    their_outputs, their_lasts = run_onnx(onnx, name, weights, x, starts, direction)
    stack = Stack(directions=len(parts))
    params = {
        part: convert.from_onnx(name, **weights, direction=n, linear_before_reset=int(name == "gru"))
        for n, part in enumerate(parts)
    }
    outputs, lasts = ours(name, stack, params, x, starts)
    close(outputs, their_outputs, dtype)
    for mine, theirs in zip(lasts, their_lasts, strict=True):
        close(mine, theirs, dtype)


@every_dtype
@every_cell
def test_an_onnx_node_has_our_outputs(onnx, name, dtype):
    compare_with_onnx(onnx, name, dtype, "forward", [(0, False)])


@every_cell
def test_a_bidirectional_onnx_node_is_our_scan_both_ways(onnx, name):
    compare_with_onnx(onnx, name, "float64", "bidirectional", [(0, False), (0, True)])


@every_cell
def test_onnx_runs_what_we_hand_it(onnx, name):
    draw = numbers(4, "float64")
    params = random_params(name, D, draw)
    x, starts = draw(T, B, D), [draw(1, B, H) for _ in states(name)]
    theirs, _ = run_onnx(onnx, name, convert.to_onnx(name, params), x, starts)
    outputs, _ = ours(name, Stack(), {(0, False): params}, x, starts)
    close(outputs, theirs, "float64")
