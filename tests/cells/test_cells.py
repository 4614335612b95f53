"""Golden values worked by hand for one unit, and flax's own cells with the same weights."""

import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import GATED, draw, loss

from jaxseq.cells import CELLS, named, recurrence
from jaxseq.common.errors import UsageError

pytestmark = pytest.mark.usefixtures("double", "compiled_quickly")


def sigma(x):
    return 1 / (1 + math.exp(-x))


def one_unit(name, weights, recurrent, bias, *more):
    """Parameters of one unit that reads one feature; one number a gate."""
    kind = type(CELLS[name].init(jax.random.key(0), 1, 1, jnp.float64))
    return kind(*(jnp.asarray(v, jnp.float64) for v in ([weights], [recurrent], bias, *more)))


def step(name, params, x, *states):
    carry = type(CELLS[name].start((1, 1), jnp.float64))(*(jnp.full((1, 1), s) for s in states))
    return [float(s[0, 0]) for s in recurrence.step(CELLS[name], params, jnp.full((1, 1), x), carry)]


@pytest.mark.exact_versions
def test_the_elman_unit_by_hand():
    params = one_unit("rnn", [0.5], [-0.3], [0.1])
    assert step("rnn", params, 2.0, 0.4) == pytest.approx([math.tanh(0.5 * 2 - 0.3 * 0.4 + 0.1)], abs=1e-15)


@pytest.mark.exact_versions
def test_the_lstm_unit_by_hand():
    params = one_unit("lstm", [0.1, 0.2, 0.3, 0.4], [0.5, -0.6, 0.7, -0.8], [0.01, 0.02, 0.03, 0.04])
    i = sigma(0.1 * 2 + 0.5 * 0.4 + 0.01)
    f = sigma(0.2 * 2 - 0.6 * 0.4 + 0.02)
    g = math.tanh(0.3 * 2 + 0.7 * 0.4 + 0.03)
    o = sigma(0.4 * 2 - 0.8 * 0.4 + 0.04)
    c = f * -0.9 + i * g
    assert step("lstm", params, 2.0, 0.4, -0.9) == pytest.approx([o * math.tanh(c), c], abs=1e-15)


@pytest.mark.exact_versions
def test_the_gru_unit_by_hand_resets_after_the_product():
    params = one_unit("gru", [0.1, 0.2, 0.3], [0.5, -0.6, 0.7], [0.01, 0.02, 0.03], [0.04, 0.05, 0.06])
    r = sigma(0.1 * 2 + 0.01 + 0.5 * 0.4 + 0.04)
    z = sigma(0.2 * 2 + 0.02 - 0.6 * 0.4 + 0.05)
    n = math.tanh(0.3 * 2 + 0.03 + r * (0.7 * 0.4 + 0.06))
    assert step("gru", params, 2.0, 0.4) == pytest.approx([(1 - z) * n + z * 0.4], abs=1e-15)


def split_gates(kernel, count):
    return jnp.split(kernel, count, axis=-1)


def flax_weights(p):
    """Our parameters as those of flax's cell of the same name."""
    count = p.cell.gate_count
    kernels, recurrents, biases = (
        split_gates(leaf, count) for leaf in (p.params.input_kernel, p.params.recurrent_kernel, p.params.bias)
    )
    if p.cell.name == "rnn":
        return {"i": {"kernel": kernels[0], "bias": biases[0]}, "h": {"kernel": recurrents[0]}}
    if p.cell.name == "lstm":
        i = {f"i{gate}": {"kernel": kernel} for gate, kernel in zip("ifgo", kernels, strict=True)}
        h = {f"h{g}": {"kernel": k, "bias": b} for g, k, b in zip("ifgo", recurrents, biases, strict=True)}
        return i | h
    ours = split_gates(p.params.recurrent_bias, 3)
    biases = [biases[0] + ours[0], biases[1] + ours[1], biases[2]]  # flax has one bias where ours has two
    i = {f"i{gate}": {"kernel": k, "bias": b} for gate, k, b in zip("rzn", kernels, biases, strict=True)}
    h = {f"h{gate}": {"kernel": k} for gate, k in zip("rzn", recurrents, strict=True)}
    h["hn"]["bias"] = ours[2]
    return i | h


FLAX = {"rnn": nn.SimpleCell, "lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}


@pytest.mark.parametrize("name", FLAX)
def test_outputs_and_gradients_are_those_of_flax(name):
    p = draw(name)
    cell = FLAX[name](p.sizes["h"], dtype=jnp.float64, param_dtype=jnp.float64)

    def theirs(_, params, x, start):
        variables = {"params": flax_weights(p._replace(params=params))}
        carry = (start.c, start.h) if name == "lstm" else start.h
        outputs = []
        for step in x:
            carry, output = cell.apply(variables, carry, step)
            outputs.append(output)
        last = (carry[1], carry[0]) if name == "lstm" else (carry,)
        return last, jnp.stack(outputs)

    ours_last, ours = recurrence.scan(p.cell, p.params, p.x, p.start)
    flax_last, flax = theirs(None, p.params, p.x, p.start)
    np.testing.assert_allclose(ours, flax, atol=1e-12, rtol=0)
    for mine, other in zip(ours_last, flax_last, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-12, rtol=0)
    gradients = [
        jax.jit(jax.grad(loss(scan, p), argnums=(0, 1, 2)))(p.params, p.x, p.start)
        for scan in (recurrence.scan, theirs)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12, rtol=1e-12), *gradients)


@pytest.mark.exact_versions
@pytest.mark.parametrize("name", GATED)
def test_weights_start_as_the_field_starts_them(name):
    cell, d, h = CELLS[name], 30, 40
    params = cell.init(jax.random.key(1), d, h, jnp.float64)
    assert cell.about.orthogonal
    for kernel in split_gates(params.recurrent_kernel, cell.gate_count):
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(h), atol=1e-10)
    for kernels in (params.recurrent_kernel, params.input_kernel):
        for first, second in itertools.combinations(split_gates(kernels, cell.gate_count), 2):
            assert float(jnp.abs(first - second).max()) > 0.01, "two gates share one draw"
    for kernel in split_gates(params.input_kernel, cell.gate_count):
        limit = math.sqrt(6 / (d + h))
        assert abs(float(kernel.std()) - limit / math.sqrt(3)) < 0.05 * limit
        assert float(jnp.abs(kernel).max()) <= limit
    bias = np.zeros(cell.gate_count * h)
    if name == "lstm":
        bias[h : 2 * h] = 1  # i, f, g, o
    np.testing.assert_array_equal(params.bias, bias)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float64")}


def test_an_unknown_cell_is_told_the_right_ones():
    with pytest.raises(UsageError) as error:
        named("grru")
    assert (error.value.got, error.value.needed) == ("grru", f"one of {', '.join(CELLS)}")
