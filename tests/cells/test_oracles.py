"""Outputs, last states and gradients against implementations we did not write: torch's layers and ONNX's evaluator."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.cells import CELLS, base, convert, indrnn, linear, lstm_projected, recurrence, rglru
from jaxseq.cells.adjoint import Layer, Sequence, Trainable
from jaxseq.cells.recurrence import Rows, Traversal
from jaxseq.cells.rnn import Carry
from jaxseq.cells.strategy import States

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


def run_onnx(onnx, name, weights, x, starts, direction="forward", before_reset=1):
    """A model of one node, checked by ONNX and run by its reference evaluator: outputs and last states, as torch's."""
    helper = onnx.helper
    element = helper.np_dtype_to_tensor_dtype(x.dtype)
    given = {"X": x, **weights, **dict(zip(("initial_h", "initial_c"), starts, strict=False))}
    results = ["Y", "Y_h", "Y_c"][: 1 + len(starts)]
    node = helper.make_node(
        name.upper(),
        [
            "X",
            "W",
            "R",
            "B",
            "",
            *[key for key in given if key.startswith("initial")],
            *[key for key in given if key == "P"],
        ],
        results,
        hidden_size=H,
        direction=direction,
        **({"linear_before_reset": before_reset} if name == "gru" else {}),
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


def scanned(name, params, x, starts):
    """Outputs and last states of one of our cells."""
    carry = type(CELLS[name].start((1, 1)))(*map(jnp.asarray, starts))
    last, outputs = jax.jit(partial(recurrence.scan, CELLS[name]))(params, jnp.asarray(x), carry)
    return outputs, last


def test_onnx_has_the_gru_whose_reset_gate_acts_before_the_product(onnx):
    draw = numbers(5, "float64")
    weights = onnx_weights("gru", 1, draw)
    x, start = draw(T, B, D), draw(1, B, H)
    theirs, (their_last,) = run_onnx(onnx, "gru", weights, x, [start], before_reset=0)

    params = convert.from_onnx("gru-before", **weights)
    outputs, last = scanned("gru-before", params, x, [start[0]])
    close(outputs, theirs, "float64")
    close(last.h, their_last[0], "float64")
    returned, _ = run_onnx(onnx, "gru", convert.to_onnx("gru-before", params), x, [start], before_reset=0)
    close(returned, theirs, "float64")


def test_onnx_has_the_lstm_with_peepholes(onnx):
    draw = numbers(6, "float64")
    weights = {**onnx_weights("lstm", 1, draw), "P": draw(1, 3 * H)}
    x, starts = draw(T, B, D), [draw(1, B, H), draw(1, B, H)]
    theirs, their_lasts = run_onnx(onnx, "lstm", weights, x, starts)

    params = convert.from_onnx("lstm-peephole", **weights)
    outputs, lasts = scanned("lstm-peephole", params, x, [state[0] for state in starts])
    close(outputs, theirs, "float64")
    for ours, expected in zip(lasts, their_lasts, strict=True):
        close(ours, expected[0], "float64")
    returned, _ = run_onnx(onnx, "lstm", convert.to_onnx("lstm-peephole", params), x, starts)
    close(returned, theirs, "float64")


def test_torch_has_the_lstm_with_projection(torch):
    draw, memory = numbers(7, "float64"), 9
    layer = torch.nn.LSTM(D, memory, proj_size=H, dtype=torch.float64)
    x, h, c = draw(T, B, D), draw(1, B, H), draw(1, B, memory)
    theirs, (h_last, c_last) = layer(torch.from_numpy(x), (torch.from_numpy(h), torch.from_numpy(c)))

    params = convert.from_torch("lstm-projected", layer.state_dict())
    cell = lstm_projected.with_memory(memory)
    start = lstm_projected.Carry(jnp.asarray(h[0]), jnp.asarray(c[0]))
    last, outputs = recurrence.scan(cell, jax.tree.map(jnp.asarray, params), jnp.asarray(x), start)
    close(outputs, theirs.detach().numpy(), "float64")
    close(last.h, h_last[0].detach().numpy(), "float64")
    close(last.c, c_last[0].detach().numpy(), "float64")

    other = torch.nn.LSTM(D, memory, proj_size=H, dtype=torch.float64)
    ours = convert.to_torch("lstm-projected", params)
    other.load_state_dict({key: torch.from_numpy(array) for key, array in ours.items()})
    returned, _ = other(torch.from_numpy(x), (torch.from_numpy(h), torch.from_numpy(c)))
    close(returned.detach().numpy(), theirs.detach().numpy(), "float64")


def test_an_indrnn_is_a_torch_layer_with_a_diagonal_kernel(torch):
    draw = numbers(8, "float64")
    layer = torch.nn.RNN(D, H, nonlinearity="relu", dtype=torch.float64)
    weight = draw(H)
    layer.weight_hh_l0.data = torch.from_numpy(np.diag(weight))
    x, start = draw(T, B, D), draw(1, B, H)
    theirs, _ = layer(torch.from_numpy(x), torch.from_numpy(start))

    bias = (layer.bias_ih_l0 + layer.bias_hh_l0).detach().numpy()
    params = indrnn.Params(layer.weight_ih_l0.detach().numpy().T, bias, weight)
    outputs, _ = scanned("indrnn", params, x, [start[0]])
    close(outputs, theirs.detach().numpy(), "float64")


def gru_without_memory_of_its_output(torch, draw):
    """A torch GRU whose gates do not see the state: h = z h + (1 - z) n, with z and n of x alone."""
    layer = torch.nn.GRU(D, H, dtype=torch.float64)
    layer.weight_hh_l0.data.zero_()
    layer.bias_hh_l0.data.zero_()
    x, start = draw(T, B, D), draw(1, B, H)
    outputs, _ = layer(torch.from_numpy(x), torch.from_numpy(start))
    sums = x @ layer.weight_ih_l0.detach().numpy().T + layer.bias_ih_l0.detach().numpy()
    _, update, candidate = np.split(sums, 3, axis=-1)
    return outputs.detach().numpy(), start, update, np.tanh(candidate)


def test_a_mingru_that_is_given_the_sums_is_a_torch_gru_without_recurrent_weights(torch):
    theirs, start, update, candidate = gru_without_memory_of_its_output(torch, numbers(9, "float64"))
    features = np.concatenate([update, candidate], axis=-1)

    # Its update gate lets in where torch's keeps.
    kernel = np.diag([-1.0] * H + [1.0] * H)
    outputs, _ = scanned("mingru", base.InputParams(kernel, np.zeros(2 * H)), features, [start[0]])
    close(outputs, theirs, "float64")


def test_a_minlstm_whose_gates_have_its_odds_is_the_same_gru(torch):
    theirs, start, update, candidate = gru_without_memory_of_its_output(torch, numbers(10, "float64"))
    odds = np.exp(update)
    # Gates whose quotient is that of torch's z and 1 - z: f / i = odds, with f = 0.9 odds / (1 + odds).
    gates = [0.9 * odds / (1 + odds), 0.9 / (1 + odds)]
    features = np.concatenate([*(np.log(gate / (1 - gate)) for gate in gates), candidate], axis=-1)
    outputs, _ = scanned("minlstm", base.InputParams(np.eye(3 * H), np.zeros(3 * H)), features, [start[0]])
    close(outputs, theirs, "float64")


LONG = 8192
"""Steps after which a product of gates is 0 in every precision; its logarithm is about -7,000."""


def in_steps(sums, h):
    """The paper's sequential form in NumPy, from the sums of gates and candidate."""
    expit = pytest.importorskip("scipy.special").expit
    *gates, v = sums
    candidate = np.where(v >= 0, v + 0.5, expit(v))
    if len(gates) == 1:
        keep, let_in = 1 - expit(gates[0]), expit(gates[0])
    else:
        f, i = map(expit, gates)
        keep, let_in = f / (f + i), i / (f + i)

    states = []
    for kept, added in zip(keep, let_in * candidate, strict=True):
        h = kept * h + added
        states.append(h)
    return np.stack(states)


def on_logarithms(torch, sums, h):
    """The paper's parallel form in torch, from the same."""
    softplus = torch.nn.functional.softplus
    *gates, v = map(torch.from_numpy, sums)
    (odds,) = gates if len(gates) == 1 else [softplus(-gates[0]) - softplus(-gates[1])]
    candidate = torch.where(v >= 0, torch.log(torch.relu(v) + 0.5), -softplus(-v))
    values = torch.cat([torch.from_numpy(np.log(h))[None], candidate - softplus(-odds)])
    product = torch.nn.functional.pad(torch.cumsum(-softplus(odds), 0), (0, 0, 0, 0, 1, 0))
    return torch.exp(product + torch.logcumsumexp(values - product, 0))[1:].numpy()


@pytest.mark.parametrize("name", ["mingru-positive", "minlstm-positive"])
def test_positive_cells_are_the_papers_steps_and_its_scan_of_logarithms(torch, name):
    draw, gates = numbers(14, "float64"), CELLS[name].gate_count
    params = base.InputParams(draw(D, gates * H), draw(gates * H))
    x, start = draw(LONG, B, D), np.abs(draw(B, H))
    sums = np.split(x @ params.input_kernel + params.bias, gates, axis=-1)
    expected = in_steps(sums, start)
    np.testing.assert_allclose(on_logarithms(torch, sums, start), expected, rtol=1e-9)

    orders = (
        (States.IN_PARALLEL, "float64", 1e-11),
        (States.IN_PARALLEL, "float32", 1e-5),
        (States.STEP_BY_STEP, "float32", 1e-5),
    )
    for states, dtype, tolerance in orders:
        given = jax.tree.map(lambda array, dtype=dtype: jnp.asarray(array, dtype), (params, x, Carry(start)))
        _, outputs = jax.jit(partial(in_order, CELLS[name], states))(*given)
        np.testing.assert_allclose(outputs, expected, rtol=tolerance)
        assert (outputs > 0).all()


def in_order(cell, states, params, x, start):
    return linear.scan_by(Layer(cell), Trainable(params), Sequence(x, start), states=states, size=512)


def test_an_lru_is_a_linear_system_of_scipy():
    signal = pytest.importorskip("scipy.signal")
    draw = numbers(11, "float64")
    shapes = jax.eval_shape(lambda: CELLS["lru"].init(jax.random.key(0), D, H))
    params = jax.tree.map(lambda leaf: draw(*leaf.shape) / 2, shapes)
    x, start = draw(T, 1, D), [draw(1, H) for _ in range(3)]
    outputs, last = scanned("lru", params, x, start)

    # Real and imaginary parts side by side; scipy's state is that before the input.
    modulus, phase = np.exp(-np.exp(params.nu)), np.exp(params.theta)
    real, imaginary = np.diag(modulus * np.cos(phase)), np.diag(modulus * np.sin(phase))
    a = np.block([[real, -imaginary], [imaginary, real]])
    b = (params.input_kernel * np.tile(np.exp(params.gamma), 2)).T
    c, d = params.output_kernel.T, params.skip_kernel.T
    system = signal.StateSpace(a, b, c @ a, c @ b + d, dt=1)
    _, theirs, _ = signal.dlsim(system, x[:, 0], x0=np.concatenate([start[1][0], start[2][0]]))
    close(outputs[:, 0], theirs, "float64")
    close(last.h[0], theirs[-1], "float64")


def test_an_rglru_with_constant_gates_is_a_filter_of_scipy():
    """The paper's numbers: a = σ(Λ)^(8 r), and an input weighed by √(1 - a²) i."""
    signal, special = pytest.importorskip("scipy.signal"), pytest.importorskip("scipy.special")
    draw = numbers(12, "float64")
    params = rglru.Params(draw(D, H), draw(H), np.zeros((H, 2 * H)), draw(2 * H), draw(H))
    x, start = draw(T, B, D), draw(B, H)
    outputs, _ = scanned("rglru", params, x, [start])

    r, i = np.split(special.expit(params.gate_bias), 2)
    a = special.expit(params.decay) ** (8 * r)
    v = x @ params.input_kernel + params.bias
    for unit in range(H):
        weights = [np.sqrt(1 - a[unit] ** 2) * i[unit]]
        state = a[unit] * start[None, :, unit]
        theirs, _ = signal.lfilter(weights, [1, -a[unit]], v[..., unit], axis=0, zi=state)
        close(outputs[..., unit], theirs, "float64")


def test_an_rglru_solves_its_banded_system():
    """h_t - a_t h_{t-1} = b_t for all t at once, with gates that depend on the input."""
    linalg, special = pytest.importorskip("scipy.linalg"), pytest.importorskip("scipy.special")
    draw = numbers(13, "float64")
    params = rglru.Params(draw(D, H), draw(H), draw(H, 2 * H), draw(2 * H), draw(H))
    x = draw(T, B, D)
    outputs, _ = scanned("rglru", params, x, [np.zeros((B, H))])

    v = x @ params.input_kernel + params.bias
    r, i = np.split(special.expit(v @ params.gate_kernel + params.gate_bias), 2, axis=-1)
    a = special.expit(params.decay) ** (8 * r)
    driven = np.sqrt(1 - a**2) * i * v
    for row, unit in np.ndindex(B, H):
        bands = np.stack([np.ones(T), np.append(-a[1:, row, unit], 0)])
        close(outputs[:, row, unit], linalg.solve_banded((1, 0), bands, driven[:, row, unit]), "float64")
