"""Options of the recurrent layer: dtypes, initialisers, axes, carries, forward mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import initializers

from jaxseq.cells import CELLS, recurrence
from jaxseq.cells.norm import Norm
from jaxseq.cells.recurrence import Rows
from jaxseq.common.errors import UsageError
from jaxseq.nn.recurrent import Bidirectional, Recurrent

pytestmark = pytest.mark.usefixtures("compiled_quickly")
X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 2)), jnp.float32)
LENGTHS = jnp.asarray([6, 2, 0])
KEY = jax.random.key(0)
H = 4


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def close(ours, expected, tolerance=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), ours, expected)


def dtypes(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "norm"),
    [("gru", "layer"), ("lru", None), slow("lstm", None), slow("gru-before", None)],
)
def test_a_layer_computes_in_bfloat16_on_weights_and_states_of_float32(name, norm):
    norm = norm and Norm(norm)
    layer = Recurrent(CELLS[name], H, norm, learn_start=True, dtype=jnp.bfloat16, param_dtype=jnp.float32)
    variables = jax.jit(layer.init)(KEY, X)
    last, outputs = jax.jit(layer.apply)(variables, X)
    assert (dtypes(variables), dtypes(last), dtypes(outputs)) == ({"float32"}, {"float32"}, {"bfloat16"})

    # Eight bits of a fraction, and the weights of the layer without the option.
    full = Recurrent(CELLS[name], H, norm, learn_start=True)
    close(variables, jax.jit(full.init)(KEY, X))
    close(outputs.astype(jnp.float32), full.apply(variables, X)[1], 0.1)
    gradient = jax.jit(jax.grad(lambda v: layer.apply(v, X)[1].sum().astype(jnp.float32)))(variables)
    assert dtypes(gradient) == {"float32"}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_is_made_in_bfloat16_and_computes_in_it(name):
    layer, x = Recurrent(CELLS[name], H), X.astype(jnp.bfloat16)
    variables = jax.eval_shape(layer.init, KEY, x)
    assert dtypes(variables) == {"bfloat16"}
    assert dtypes(jax.eval_shape(layer.apply, variables, x)) == {"bfloat16"}


def test_an_orthogonal_kernel_is_drawn_in_bfloat16():
    kernel = CELLS["rnn"].init(KEY, 2, H, jnp.bfloat16).recurrent_kernel
    np.testing.assert_allclose((kernel @ kernel.T).astype(np.float32), np.eye(H), atol=0.02)


def test_moments_of_a_batch_are_refused_in_bfloat16():
    with pytest.raises(UsageError) as error:
        jax.eval_shape(Recurrent(CELLS["rnn"], H, Norm("batch"), dtype=jnp.bfloat16).init, KEY, X)
    assert error.value.where == "dtype"


def test_a_mixture_of_dtypes_is_still_refused_without_the_option():
    layer = Recurrent(CELLS["rnn"], H)
    variables = layer.init(KEY, X)
    with pytest.raises(ValueError, match=r"carry\.h has the dtype bfloat16"):
        layer.apply(variables, X, CELLS["rnn"].start((3, H), jnp.bfloat16))


def test_initialisers_draw_every_gate_by_itself():
    layer = Recurrent(
        CELLS["gru"],
        H,
        kernel_init=initializers.constant(0.5),
        recurrent_init=initializers.orthogonal(2.0),
        bias_init=initializers.ones,
    )
    params = layer.init(KEY, X)["params"]["cell"]
    assert set(np.unique(params["input_kernel"])) == {0.5}
    gates = jnp.split(params["recurrent_kernel"], 3, axis=-1)
    for gate in gates:
        np.testing.assert_allclose(gate @ gate.T, 4 * np.eye(H), atol=1e-5)
    assert np.abs(gates[0] - gates[1]).max() > 0.01
    assert set(np.unique(params["bias"])) == set(np.unique(params["recurrent_bias"])) == {1.0}


def test_an_initialiser_of_what_a_cell_lacks_is_refused():
    with pytest.raises(UsageError) as error:
        Recurrent(CELLS["mingru"], H, recurrent_init=initializers.orthogonal()).init(KEY, X)
    assert error.value.where == "cell mingru: recurrent_kernel"


@pytest.mark.parametrize("kind", [Recurrent, lambda *given, **more: Bidirectional(Recurrent(*given, **more))])
def test_the_time_axis_may_come_first(kind):
    resets = jnp.zeros(X.shape[:2], bool).at[:, 3].set(True)
    layer = kind(CELLS["rnn"], H)
    variables = layer.init(KEY, X)
    last, outputs = layer.apply(variables, X, lengths=LENGTHS, resets=resets)
    by_time = kind(CELLS["rnn"], H, time_major=True)
    mine = by_time.apply(variables, X.swapaxes(0, 1), lengths=LENGTHS, resets=resets.T)
    close(mine, (last, outputs.swapaxes(0, 1)), 0)


@pytest.mark.parametrize(
    ("name", "norm", "reverse"),
    [
        ("lstm", None, False),
        ("lru", None, True),
        slow("lstm", "batch", True),
        slow("lstm", None, True),
        slow("lru", None, False),
        slow("lstm-projected", None, True),
    ],
)
def test_the_carries_of_every_step_are_those_of_shorter_rows(name, norm, reverse):
    options = {"norm": norm and Norm(norm), "reverse": reverse}
    layer = Recurrent(CELLS[name], H, **options, return_carries=True)
    variables = jax.jit(layer.init)(KEY, X)
    apply = jax.jit(layer.apply)
    last, carries = apply(variables, X, lengths=LENGTHS)
    plain_last, outputs = jax.jit(Recurrent(CELLS[name], H, **options).apply)(variables, X, lengths=LENGTHS)
    close((last, carries.h), (plain_last, outputs))

    # The last carry of a row is its carry at the last step that the scan reaches.
    ends = [0, 0] if reverse else [5, 1]
    for row, end in enumerate(ends):
        close([state[row, end] for state in carries], [state[row] for state in last])
    assert not any(np.any(state[1, 2:]) or np.any(state[2]) for state in carries)


def test_carries_are_differentiated():
    layer = Recurrent(CELLS["lstm"], H, return_carries=True)
    variables = layer.init(KEY, X)

    def loss(variables, x):
        return jnp.sum(layer.apply(variables, x)[1].c ** 2)

    (by_kernel, by_x) = jax.jit(jax.grad(loss, argnums=(0, 1)))(variables, X)
    step = 1e-2 * by_x
    rise = (loss(variables, X + step) - loss(variables, X - step)) / 2
    np.testing.assert_allclose(rise, jnp.vdot(step, by_x), rtol=1e-2)
    assert np.abs(by_kernel["params"]["cell"]["input_kernel"]).max() > 0


def test_both_directions_start_from_given_carries():
    both = Bidirectional(Recurrent(CELLS["lstm"], H))
    variables = jax.jit(both.init)(KEY, X)
    given = jax.tree.map(lambda state: state + jnp.arange(2.0 * H), CELLS["lstm"].start((3, 2 * H)))
    last, outputs = jax.jit(both.apply)(variables, X, carry=given)
    for part, direction in enumerate(("forward", "backward")):
        half = slice(part * H, (part + 1) * H)
        layer = Recurrent(CELLS["lstm"], H, reverse=direction == "backward")
        start = jax.tree.map(lambda state, half=half: state[:, half], given)
        mine = jax.jit(layer.apply)({"params": variables["params"][direction]}, X, start)
        close(mine, (jax.tree.map(lambda state, half=half: state[:, half], last), outputs[..., half]))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), [("gru", None), ("lstm", "layer")])
def test_forward_mode_is_reverse_mode(name, norm):
    norm = norm and Norm(norm)
    layer, plain = (Recurrent(CELLS[name], H, norm, forward_mode=way) for way in (True, False))
    variables = jax.jit(plain.init)(KEY, X)
    direction = jnp.ones_like(X)
    with pytest.raises(TypeError, match=r"forward-mode autodiff \(jvp\)") as refused:
        jax.jvp(lambda x: plain.apply(variables, x)[1], (X,), (direction,))
    assert "forward_mode=True" in "".join(refused.value.__notes__)

    _, forward = jax.jit(lambda x: jax.jvp(lambda x: layer.apply(variables, x)[1].sum(), (x,), (direction,)))(X)
    backward = jax.jit(jax.grad(lambda x: plain.apply(variables, x)[1].sum()))(X)
    np.testing.assert_allclose(forward, jnp.vdot(backward, direction), rtol=1e-4)


def test_forward_mode_has_no_gpu_kernel():
    with pytest.raises(UsageError) as error:
        Recurrent(CELLS["rnn"], H, forward_mode=True, kernel="pallas").init(KEY, X)
    assert error.value.where == "kernel"


def test_transformations_of_jax_around_a_layer_change_nothing():
    """A checkpoint, a map over models, and a scan over layers' inputs, with resets inside."""
    cell = CELLS["gru"]
    params, x = cell.init(KEY, 2, H), X.swapaxes(0, 1)
    rows = Rows(resets=jnp.zeros(x.shape[:2], bool).at[3].set(True))

    def outputs(params, x):
        return recurrence.scan(cell, params, x, cell.start((3, H)), rows)[1]

    def loss(function):
        return lambda params: jnp.sum(function(params, x) ** 2)

    expected = jax.jit(jax.grad(loss(outputs)))(params)
    close(jax.jit(jax.grad(loss(jax.checkpoint(outputs))))(params), expected)
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
    close(jax.jit(jax.vmap(jax.grad(loss(outputs))))(two), jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), expected))
    close(jax.jit(jax.grad(loss(lambda p, x: jax.lax.map(lambda x: outputs(p, x), x[None])[0])))(params), expected)
