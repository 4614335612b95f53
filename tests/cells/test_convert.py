"""Round trips through the conventions of other frameworks, single numbers in their places, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.cells import CELLS, base, convert, gru, lstm_projected
from jaxseq.common.errors import UsageError

D, H = 2, 4
LAYERS = {
    "rnn": {"ours": "rnn", "torch": "RNN", "keras": "SimpleRNN", "onnx": "RNN"},
    "lstm": {"ours": "lstm", "torch": "LSTM", "keras": "LSTM", "onnx": "LSTM"},
    "gru": {"ours": "gru", "torch": "GRU", "keras": "GRU", "onnx": "GRU"},
    "gru-before": {"ours": "gru-before", "keras": "GRU before", "onnx": "GRU before"},
    "lstm-peephole": {"ours": "lstm-peephole", "onnx": "LSTM with P"},
    "lstm-projected": {"ours": "lstm-projected", "torch": "LSTM of r"},
}
KINDS = {"rnn": base.Params, "lstm": base.Params, "gru": gru.Params}
every_cell = pytest.mark.parametrize("name", KINDS)


def numbers(*shapes):
    source = np.random.default_rng(0)
    return [source.normal(size=shape).astype(np.float32) for shape in shapes]


def ours(name):
    g = CELLS[name].gate_count * H
    return KINDS[name](*map(jnp.asarray, numbers((D, g), (H, g), *[(g,)] * (2 if name == "gru" else 1))))


def torch_weights(name, layer=0):
    g = CELLS[name].gate_count * H
    names = [f"{part}_l{layer}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    return dict(zip(names, numbers((g, D), (g, H), (g,), (g,)), strict=True))


def keras_weights(name):
    g = CELLS[name].gate_count * H
    return numbers((D, g), (H, g), (2, g) if name == "gru" else (g,))


def onnx_weights(name, directions=2):
    g = CELLS[name].gate_count * H
    return dict(zip("WRB", numbers((directions, g, D), (directions, g, H), (directions, 2 * g)), strict=True))


def from_onnx(name, weights, direction=0):
    return convert.from_onnx(name, **weights, direction=direction, linear_before_reset=int(name == "gru"))


def same(one, other):
    assert type(one) is type(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert {np.asarray(leaf).dtype for leaf in jax.tree.leaves((one, other))} == {np.dtype("float32")}


@every_cell
def test_our_parameters_come_back_from_every_framework_as_they_were(name):
    params = ours(name)
    same(convert.from_torch(name, convert.to_torch(name, params)), params)
    same(convert.from_torch(name, convert.to_torch(name, params, 3, True), 3, True), params)
    same(convert.from_keras(name, convert.to_keras(name, params)), params)
    same(from_onnx(name, convert.to_onnx(name, params)), params)


def test_the_weights_of_a_gru_come_back_to_every_framework_as_they_were():
    torch, keras, onnx = torch_weights("gru"), keras_weights("gru"), onnx_weights("gru", 1)
    same(convert.to_torch("gru", convert.from_torch("gru", torch)), torch)
    same(convert.to_keras("gru", convert.from_keras("gru", keras)), keras)
    same(convert.to_onnx("gru", from_onnx("gru", onnx)), onnx)


@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_two_biases_come_back_as_their_sum_and_zeros_and_all_else_as_it_was(name):
    torch, keras, onnx = torch_weights(name), keras_weights(name), onnx_weights(name, 1)
    zeros = np.zeros_like(torch["bias_ih_l0"])
    summed = {"bias_ih_l0": torch["bias_ih_l0"] + torch["bias_hh_l0"], "bias_hh_l0": zeros}
    same(convert.to_torch(name, convert.from_torch(name, torch)), torch | summed)
    same(convert.to_keras(name, convert.from_keras(name, keras)), keras)
    first, second = np.split(onnx["B"], 2, axis=1)
    summed = {"B": np.concatenate([first + second, [zeros]], axis=1)}
    same(convert.to_onnx(name, from_onnx(name, onnx)), onnx | summed)


@pytest.mark.parametrize(
    ("framework", "name", "order"),
    [
        ("torch", "lstm", [0, 1, 2, 3]),
        ("keras", "lstm", [0, 1, 2, 3]),
        ("onnx", "lstm", [0, 2, 3, 1]),
        ("torch", "gru", [0, 1, 2]),
        ("keras", "gru", [1, 0, 2]),
        ("onnx", "gru", [1, 0, 2]),
    ],
)
def test_every_gate_finds_its_place(framework, name, order):
    """The framework's gate number n holds nothing but n; ours then read as written here, kernels and biases alike."""
    gates = np.repeat(np.arange(len(order), dtype=np.float32), H)
    kernels = [np.broadcast_to(gates, (rows, gates.size)) for rows in (D, H)]
    transposed = [kernel.T for kernel in kernels]
    params = {
        "torch": lambda: convert.from_torch(
            name, dict(zip(torch_weights(name), [*transposed, gates, 0 * gates], strict=True))
        ),
        "keras": lambda: convert.from_keras(name, [*kernels, np.stack([gates, gates]) if name == "gru" else gates]),
        "onnx": lambda: from_onnx(
            name, dict(zip("WRB", [array[None] for array in (*transposed, np.append(gates, 0 * gates))], strict=True))
        ),
    }[framework]()
    for leaf in params[:3]:
        np.testing.assert_array_equal(np.atleast_2d(leaf)[0], np.repeat(order, H))


@every_cell
def test_a_layer_without_biases_has_zero_biases(name):
    torch, keras, onnx = torch_weights(name), keras_weights(name)[:2], onnx_weights(name)
    torch = {key: torch[key] for key in ("weight_ih_l0", "weight_hh_l0")}
    found = convert.from_torch(name, torch), convert.from_keras(name, keras), from_onnx(name, onnx | {"B": None})
    for params in found:
        np.testing.assert_array_equal(params.bias, np.zeros(CELLS[name].gate_count * H))
        assert len(params) == 3 or not params.recurrent_bias.any()


@every_cell
def test_a_layer_and_a_direction_are_found_among_others(name):
    stack = {key: 0 * value for key, value in torch_weights(name).items()} | torch_weights(name, 1)
    reverse = {f"{key}_reverse": 2 * value for key, value in torch_weights(name, 1).items()}
    alone = convert.from_torch(name, torch_weights(name))
    same(convert.from_torch(name, stack | reverse, layer=1), alone)
    same(convert.from_torch(name, stack | reverse, 1, reverse=True), jax.tree.map(lambda leaf: 2 * leaf, alone))
    onnx = onnx_weights(name)
    for direction in (0, 1):
        one = {key: value[direction : direction + 1] for key, value in onnx.items()}
        same(from_onnx(name, onnx, direction), from_onnx(name, one))


@every_cell
def test_what_was_read_does_not_follow_the_framework_when_it_trains_on(name):
    def check(read, weights):
        params = read(weights)
        before = jax.tree.map(np.array, params)
        for weight in weights.values() if isinstance(weights, dict) else weights:
            weight += 1
        same(jax.tree.map(np.asarray, params), before)

    check(lambda weights: convert.from_torch(name, weights), torch_weights(name))
    check(lambda weights: convert.from_keras(name, weights), keras_weights(name))
    check(lambda weights: from_onnx(name, weights), onnx_weights(name))


@every_cell
def test_what_is_handed_out_is_contiguous_and_may_be_written(name):
    params = ours(name)
    out = [*convert.to_torch(name, params).values(), *convert.to_onnx(name, params).values()]
    for array in out + convert.to_keras(name, params):
        assert array.flags.c_contiguous
        assert array.flags.writeable


def refused(where, got, needed, convert, *args, **more):
    with pytest.raises(UsageError) as caught:
        convert(*args, **more)
    assert (caught.value.where, caught.value.got) == (where, got)
    assert str(caught.value.needed).startswith(str(needed))


def test_a_wrong_shape_is_told_by_name_with_both_shapes():
    weights = torch_weights("lstm") | {"bias_hh_l0": np.zeros(12, np.float32)}
    needed = "(16,) of lstm: gates 4, units 4, features 2"
    refused("torch bias_hh_l0", (12,), needed, convert.from_torch, "lstm", weights)

    kernel, recurrent, bias = keras_weights("rnn")
    needed = "(4, 4) of rnn: gates 1, units 4, features 4"
    refused("keras kernel", (4, 2), needed, convert.from_keras, "rnn", [kernel.T, recurrent, bias])

    onnx = onnx_weights("gru") | {"R": np.zeros((1, 12, 4), np.float32)}
    refused("onnx R", (1, 12, 4), "(2, 12, 4) of gru: gates 3, units 4, features 2", from_onnx, "gru", onnx)

    params = ours("gru")._replace(recurrent_bias=jnp.zeros(4))
    for to in (convert.to_torch, convert.to_keras, convert.to_onnx):
        needed = "(12,) of gru: gates 3, units 4, features 2"
        refused("ours recurrent_bias", (4,), needed, to, "gru", params)


def test_the_weights_of_another_cell_are_refused():
    needed = "(16, 2) of lstm: gates 4, units 4, features 2"
    refused("torch weight_ih_l0", (12, 2), needed, convert.from_torch, "lstm", torch_weights("gru"))
    came, expected = "input_kernel, recurrent_kernel, bias", "input_kernel, recurrent_kernel, bias, recurrent_bias"
    for to in (convert.to_torch, convert.to_keras, convert.to_onnx):
        refused("ours", came, expected, to, "gru", ours("rnn"))
        needed = "(2, 16) of lstm: gates 4, units 4, features 2"
        refused("ours input_kernel", (2, 4), needed, to, "lstm", ours("rnn"))


def test_a_wrong_number_of_axes_is_told_with_their_letters():
    weights = onnx_weights("gru") | {"W": np.zeros((12, 2), np.float32)}
    refused("onnx W", (12, 2), 'the axes "k g d"', from_onnx, "gru", weights)


def test_integers_and_mixed_dtypes_are_refused():
    weights = torch_weights("rnn")
    mixed = weights | {"bias_ih_l0": np.zeros(4)}
    needed = "float32, as weight_ih_l0"
    refused("torch bias_ih_l0", np.dtype("float64"), needed, convert.from_torch, "rnn", mixed)
    integers = weights | {"weight_ih_l0": np.zeros((4, 2), int)}
    needed = "a floating dtype"
    refused("torch weight_ih_l0", np.dtype("int64"), needed, convert.from_torch, "rnn", integers)


def test_an_unknown_cell_is_told_the_right_ones():
    fields = (None, "grru", "one of rnn, lstm, gru")
    refused(*fields, convert.from_torch, "grru", {})
    refused(*fields, convert.from_keras, "grru", [])
    refused(*fields, convert.from_onnx, "grru", np.zeros(1), np.zeros(1))
    for to in (convert.to_torch, convert.to_keras, convert.to_onnx):
        refused(*fields, to, "grru", ours("gru"))


def test_a_missing_name_is_told_with_those_that_came():
    weights = {key: value for key, value in torch_weights("gru").items() if key != "bias_hh_l0"}
    came = "weight_ih_l0, weight_hh_l0, bias_ih_l0"
    refused("torch bias_hh_l0", came, "this name", convert.from_torch, "gru", weights)
    refused("torch weight_ih_l1", "nothing", "this name", convert.from_torch, "gru", {}, layer=1)


M = 6
"""Units of the memory of a projected LSTM of H units."""


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in KINDS])
def test_parameters_of_the_other_cells_come_back_from_the_frameworks_that_have_them(name):
    cell = lstm_projected.with_memory(M) if name == "lstm-projected" else CELLS[name]
    shapes = jax.eval_shape(lambda: cell.init(jax.random.key(0), D, H))
    params = type(shapes)(*map(jnp.asarray, numbers(*(leaf.shape for leaf in shapes))))
    ways = {
        "torch": lambda: convert.from_torch(name, convert.to_torch(name, params, 1, True), 1, True),
        "keras": lambda: convert.from_keras(name, convert.to_keras(name, params)),
        "onnx": lambda: convert.from_onnx(name, **convert.to_onnx(name, params)),
    }
    for framework, there_and_back in ways.items():
        if framework in LAYERS[name]:
            same(there_and_back(), params)
            continue
        with pytest.raises(UsageError) as caught:
            there_and_back()
        assert caught.value.got == name
        assert str(caught.value.needed).startswith("one of rnn, lstm, gru")


def test_a_projected_lstm_is_another_cell_than_an_lstm():
    projection = np.zeros((2, 4), np.float32)
    projected = torch_weights("lstm") | {"weight_hr_l0": projection}
    refused("torch weight_hr_l0", (2, 4), "proj_size=0", convert.from_torch, "lstm", projected)
    refused("torch weight_hr_l0", ", ".join(torch_weights("lstm")), "this name",
            convert.from_torch, "lstm-projected", torch_weights("lstm"))  # fmt: skip
    recurrent = {"weight_hh_l0": np.zeros((16, 2), np.float32)}
    params = convert.from_torch("lstm-projected", projected | recurrent)
    assert [leaf.shape for leaf in params] == [(2, 16), (2, 16), (16,), (4, 2)]
    other = {"weight_hh_l0": np.zeros((16, 3), np.float32)}
    refused("torch weight_hr_l0", (2, 4), "(3, 4)", convert.from_torch, "lstm-projected", projected | other)


def test_the_two_kinds_of_gru_are_not_taken_for_each_other():
    kernel, recurrent, bias = keras_weights("gru")
    refused("keras bias", (12,), (2, 12), convert.from_keras, "gru", [kernel, recurrent, bias[0]])
    refused("keras bias", (2, 12), 'the axes "g"', convert.from_keras, "gru-before", [kernel, recurrent, bias])
    refused("onnx linear_before_reset", 0, 1, convert.from_onnx, "gru", **onnx_weights("gru"))
    onnx = onnx_weights("gru")
    refused("onnx linear_before_reset", 1, 0, convert.from_onnx, "gru-before", linear_before_reset=1, **onnx)


def test_peepholes_are_those_of_an_lstm_with_peepholes():
    onnx = onnx_weights("lstm") | {"P": np.repeat(np.arange(3, dtype=np.float32), H)[None].repeat(2, 0)}
    refused("onnx P", (2, 12), "lstm-peephole", convert.from_onnx, "lstm", **onnx)
    # ONNX's order is i, o, f.
    params = convert.from_onnx("lstm-peephole", **onnx, direction=1)
    np.testing.assert_array_equal(params.peepholes, np.repeat([0, 2, 1], H))
    assert not convert.from_onnx("lstm-peephole", **onnx_weights("lstm")).peepholes.any()


def test_a_keras_layer_has_two_or_three_arrays_and_an_onnx_node_one_or_two_directions():
    refused("keras weights", 6, "kernel, recurrent_kernel", convert.from_keras, "lstm", 2 * keras_weights("lstm"))
    refused("onnx W", 2, "direction 0 to 1", from_onnx, "lstm", onnx_weights("lstm"), direction=2)


def table():
    """The rows of the docstring's table: {(framework, layer): gate order}."""
    rows = [line.split("  ") for line in convert.__doc__.split("-------\n")[1].split("\n\n")[0].splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    return {(framework, layer): order.replace(" ", "") for framework, layer, order, *_ in cells}


def test_the_table_has_every_cell_of_every_framework_with_the_order_that_is_read():
    expected = {
        (framework, layer): convert.GATES[framework][name]
        for name, layers in LAYERS.items()
        for framework, layer in layers.items()
    }
    assert set(convert.GATES["ours"]) == set(convert.PARAMS) == set(LAYERS)
    assert table() == expected
