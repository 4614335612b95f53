"""The gradient by the recurrent state k steps back, against the equations by hand and against going on from that state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import GATED, quickly

from jaxseq.cells import CELLS
from jaxseq.cells.norm import Norm
from jaxseq.common.arrays import Batch
from jaxseq.nn import apply, fields, forecaster, heads, objectives
from jaxseq.nn.recurrent import Recurrent
from jaxseq.report import vanishing_gradients
from jaxseq.train import epoch

pytestmark = pytest.mark.usefixtures("double", "compiled_quickly")
B, T, H, K = 3, 5, 4, 2
BACK = [1, 4]
SOURCE = np.random.default_rng(11)
DATA = Batch(SOURCE.normal(size=(B, T, 1)), SOURCE.normal(size=(B, K)))

influence = quickly(vanishing_gradients.influence, "setup")
perturbed = quickly(vanishing_gradients.perturbed, "model")
apply_model = quickly(apply.apply, "model")


def problem(name, **options):
    """A setup, and random parameters and statistics in which no number is special."""
    model = forecaster.Forecaster(CELLS[name], H, **{"layers": 1, "outputs": K, **options})
    task = objectives.forecasting(heads.point(), model.every_step)
    setup = epoch.Setup(model, task, optax.sgd(0.1))
    shapes = jax.eval_shape(lambda: apply.init(model, jax.random.key(0), jnp.zeros((B, T, 1), jnp.float32)))
    source = np.random.default_rng(0)
    params, stats = jax.tree.map(lambda leaf: 0.5 * source.normal(size=leaf.shape), shapes)
    return setup, params, jax.tree.map(lambda leaf: 1 + np.abs(leaf), stats)


def logistic(a):
    return 1 / (1 + jnp.exp(-a))


def rnn(p, x, state):
    return (jnp.tanh(x @ p.input_kernel + p.bias + state[0] @ p.recurrent_kernel),)


def lstm(p, x, state):
    i, f, g, o = jnp.split(x @ p.input_kernel + p.bias + state[0] @ p.recurrent_kernel, 4)
    c = logistic(f) * state[1] + logistic(i) * jnp.tanh(g)
    return logistic(o) * jnp.tanh(c), c


def gru(p, x, state):
    a = jnp.split(x @ p.input_kernel + p.bias, 3)
    u = jnp.split(state[0] @ p.recurrent_kernel + p.recurrent_bias, 3)
    r, z = logistic(a[0] + u[0]), logistic(a[1] + u[1])
    return ((1 - z) * jnp.tanh(a[2] + r * u[2]) + z * state[0],)


@pytest.mark.parametrize("step", [rnn, lstm, gru], ids=lambda step: step.__name__)
def test_it_is_the_product_of_the_jacobians_of_the_steps(step):
    setup, params, stats = problem(step.__name__)
    cell, head = fields.cell_params(CELLS[step.__name__], params["recurrent_0"]["cell"]), params["head"]
    width = 2 if step is lstm else 1

    def flat(state, x):
        return jnp.concatenate(step(cell, x, jnp.split(state, width)))

    slopes, flat = quickly(jax.jacobian(flat)), quickly(flat)
    found = np.zeros((B, T))
    for row in range(B):
        state, jacobians = np.zeros(width * H), []
        for x in DATA.x[row]:
            jacobians.append(np.asarray(slopes(state, x)))
            state = np.asarray(flat(state, x))
        error = state[:H] @ head["kernel"] + head["bias"] - DATA.y[row]
        back = np.zeros(width * H)
        back[:H] = 2 / K * head["kernel"] @ error  # of the mean over the horizon of the squared error
        for k in range(T):
            found[row, k] = np.linalg.norm(back)
            back = jacobians[T - 1 - k].T @ back
    np.testing.assert_allclose(influence(setup, params, stats, DATA), found.mean(0), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("rnn", {"norm": Norm("layer")}, marks=pytest.mark.slow),
        pytest.param("lstm", {"norm": Norm("layer")}, marks=pytest.mark.slow),
        pytest.param("gru", {"norm": Norm("layer-sum")}, marks=pytest.mark.slow),
        pytest.param("lstm", {"norm": Norm("batch")}, marks=pytest.mark.slow),
        ("gru", {"every_step": True, "recurrent_dropout": 0.5}),
        ("lstm", {"layers": 2, "norm_between": Norm("batch"), "dropout": 0.5}),
    ],
    ids=["layer", "layer, memory", "layer-sum", "batch", "every step", "two layers"],
)
def test_it_is_the_gradient_of_going_on_from_each_state(name, options):
    setup, params, stats = problem(name, **options)
    every = setup.model.every_step
    data = DATA._replace(y=np.random.default_rng(1).normal(size=(B, T, K))) if every else DATA
    target = data.y[:, -1] if every else data.y

    def loss(states, params, stats, rest, first):
        prediction = apply.resume(setup.model, params, stats, rest, states, first)[1]
        return jnp.sum(jnp.mean(((prediction[:, -1] if every else prediction) - target) ** 2, axis=-1))

    def gradient(params, stats, x, k):
        states, _ = apply.resume(setup.model, params, stats, x[:, : T - k], None, 0)
        return jax.tree.leaves(jax.grad(loss)(states, params, stats, x[:, T - k :], T - k))

    found = quickly(lambda *given: [gradient(*given, k) for k in BACK])(params, stats, data.x)
    expected = [np.linalg.norm(np.concatenate(parts, axis=-1), axis=-1).mean() for parts in found]
    ours = np.asarray(influence(setup, params, stats, data))
    np.testing.assert_allclose(ours[BACK], expected, rtol=1e-10)
    error = np.asarray(apply_model(setup.model, params, stats, data.x))
    error = (error[:, -1] if every else error) - target
    last = np.linalg.norm(2 / K * error @ params["head"]["kernel"].T, axis=-1)
    np.testing.assert_allclose(ours[0], last.mean(), rtol=1e-10)


@pytest.mark.parametrize("name", GATED)
def test_adding_zeros_changes_no_forecast(name):
    setup, params, stats = problem(name, norm=Norm("layer"))
    zeros = jax.tree.map(np.asarray, vanishing_gradients._zeros(setup.model, jnp.asarray(DATA.x)))
    ours = perturbed(setup.model, params, stats, DATA.x, zeros)
    np.testing.assert_allclose(ours, apply_model(setup.model, params, stats, DATA.x), rtol=1e-12)


def linear(spectrum, dtype=np.float64, t=12):
    """An RNN whose states are so small that its tanh is the identity, for windows of t steps."""
    setup, params, stats = problem("rnn")
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(H, H)))[0]
    recurrent = turn @ np.diag(spectrum) @ turn.T
    cell = params["recurrent_0"]["cell"]
    small = {"input_kernel": 1e-7 * cell["input_kernel"], "recurrent_kernel": recurrent, "bias": 0 * cell["bias"]}
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), {**params, "recurrent_0": {"cell": small}})
    x = np.random.default_rng(3).normal(size=(B, t, 1)).astype(dtype)
    return recurrent, params, influence(setup, params, stats, Batch(x, DATA.y.astype(dtype)))


def test_of_a_linear_network_it_falls_as_the_powers_of_the_recurrent_matrix():
    recurrent, params, found = linear([0.9, 0.5, -0.3, 0.1])
    head = params["head"]
    back = 2 / K * (head["bias"] - DATA.y) @ head["kernel"].T
    expected = [np.linalg.norm(back @ np.linalg.matrix_power(recurrent.T, k), axis=1).mean() for k in range(12)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found[11] / found[10] == pytest.approx(0.9, abs=1e-3)


def test_what_has_nearly_vanished_is_still_measured():
    _, _, found = linear([0.01] * 4, np.float32, t=16)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[1:] / found[:-1], 0.01, rtol=1e-3)  # down to 1e-30, whose square is no float32
    assert 0 < found[-1] < 1e-25


def test_the_memory_of_an_lstm_belongs_to_its_state():
    """With no recurrent product and an open forget gate, c alone carries the gradient, and loses nothing of it."""
    setup, params, stats = problem("lstm")
    cell = params["recurrent_0"]["cell"]
    bias = cell["bias"].copy()
    bias[H : 2 * H] = 40
    params["recurrent_0"]["cell"] = {**cell, "recurrent_kernel": 0 * cell["recurrent_kernel"], "bias": bias}
    found = np.asarray(influence(setup, params, stats, DATA))
    assert found[1] > 1e-3
    np.testing.assert_allclose(found[2:], found[1], rtol=1e-12)


def test_rows_are_measured_one_by_one_and_averaged():
    setup, params, stats = problem("gru", norm=Norm("batch"))
    alone = [vanishing_gradients.influence(setup, params, stats, Batch(DATA.x[[n]], DATA.y[[n]])) for n in range(B)]
    np.testing.assert_allclose(
        vanishing_gradients.influence(setup, params, stats, DATA), np.mean(alone, axis=0), rtol=1e-12
    )


def test_a_loss_that_is_reached_exactly_has_no_gradient():
    setup, params, stats = problem("rnn")
    exact = apply_model(setup.model, params, stats, DATA.x)
    found = influence(setup, params, stats, DATA._replace(y=np.asarray(exact)))
    np.testing.assert_allclose(found, 0, atol=1e-14)


def test_a_model_that_has_no_steps_back_is_refused():
    setup, params, stats = problem("rnn", bidirectional=True)
    with pytest.raises(ValueError, match="the model reads both ways; expected a Forecaster that reads one way"):
        vanishing_gradients.influence(setup, params, stats, DATA)
    with pytest.raises(ValueError, match="the model is a Recurrent; expected a Forecaster"):
        vanishing_gradients.influence(setup._replace(model=Recurrent(CELLS["rnn"], H)), params, stats, DATA)
