"""Kinds of networks around the cells, against naive loops over their cells."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pairwise import slow_except
from problems import quickly

from jaxseq.cells import CELLS, recurrence
from jaxseq.cells.norm import Norm
from jaxseq.common.errors import UsageError
from jaxseq.nn import apply, fields, forecaster, networks

pytestmark = pytest.mark.usefixtures("compiled_quickly")

X = np.random.default_rng(3).normal(size=(3, 11, 2)).astype(np.float32)
HIDDEN = 4
KINDS = ("residual", "dilated")
every_kind = pytest.mark.parametrize("kind", KINDS)

init = quickly(apply.init, "model")
resume = quickly(apply.resume, "model", "first")
scan = quickly(recurrence.scan, "cell")
call = quickly(lambda module, params, x, **options: module.apply({"params": params}, x, **options), "module", "train")


def network(kind, cell="gru", layers=3, **options):
    return networks.named(kind).network(CELLS[cell], HIDDEN, layers, **{"outputs": 2, **options})


@functools.cache
def parameters(model):
    """Parameters of the network, which is compiled once for all tests."""
    return init(model.clone(every_step=True), jax.random.key(0), X)[0]


def cell_of(cell, params, number):
    return fields.cell_params(CELLS[cell], params[f"recurrent_{number}"]["cell"])


def head(params, state):
    return state @ params["head"]["kernel"] + params["head"]["bias"]


def steps_of(cell, params, x, stride):
    """Outputs of a layer, a loop over its time steps, each of which reads the state of `stride` steps before."""
    states = [CELLS[cell].start((len(x), HIDDEN), jnp.float32)] * stride
    outputs = []
    for step in range(x.shape[1]):
        state, _ = scan(CELLS[cell], params, x[None, :, step], states[step])
        states.append(state)
        outputs.append(state.h)
    return jnp.stack(outputs, axis=1)


@pytest.mark.parametrize("cell", ["gru", pytest.param("lstm", marks=pytest.mark.slow)])
def test_a_dilated_layer_reads_its_state_of_a_power_of_two_steps_before(cell):
    model = network("dilated", cell, every_step=True)
    params = parameters(model)
    x = X
    for number in range(3):
        x = steps_of(cell, cell_of(cell, params, number), x, 2**number)
    _, predicted = call(model, params, X)
    np.testing.assert_allclose(predicted, head(params, x), atol=1e-5)


def test_a_residual_layer_adds_to_what_it_reads():
    model = network("residual", every_step=True)
    params = parameters(model)
    x = steps_of("gru", cell_of("gru", params, 0), X, 1)
    for number in (1, 2):
        x = x + steps_of("gru", cell_of("gru", params, number), x, 1)
    _, predicted = call(model, params, X)
    np.testing.assert_allclose(predicted, head(params, x), atol=1e-5)


def test_a_stack_is_the_forecaster_itself():
    assert networks.named(networks.DEFAULT).network is forecaster.Forecaster
    assert next(iter(networks.KINDS)) == "stacked"


@pytest.mark.parametrize(("kind", "cut"), slow_except({("dilated", 6)}, [*itertools.product(KINDS, (1, 6))]))
def test_a_network_resumes_from_its_carries_at_any_time_step(kind, cut):
    model = network(kind)
    params = parameters(model)
    whole = resume(model, params, {}, X, None, 0)
    carries, _ = resume(model, params, {}, X[:, :cut], model.start(3, jnp.float32), 0)
    chex.assert_trees_all_close(resume(model, params, {}, X[:, cut:], carries, cut), whole, atol=1e-5)


@every_kind
def test_the_forecast_at_the_end_is_that_of_the_last_step_within_each_length(kind):
    lengths = np.asarray([11, 6, 1])
    model = network(kind)
    params = parameters(model)
    _, at_end = call(model, params, X, lengths=lengths)
    _, at_every_step = call(model.clone(every_step=True), params, X)
    np.testing.assert_allclose(at_end, np.asarray(at_every_step)[np.arange(3), lengths - 1], atol=1e-5)


@pytest.mark.parametrize("kind", slow_except({"dilated"}, KINDS))
def test_after_a_reset_nothing_is_left_of_what_was_read_before(kind):
    resets = np.zeros((3, 11), bool)
    resets[:, 5] = True
    model = network(kind, every_step=True)
    params = parameters(model)
    carries, after = call(model, params, X, resets=resets)
    expected_carries, anew = call(model, params, X[:, 5:])
    np.testing.assert_allclose(after[:, 5:], anew, atol=1e-5)
    chex.assert_trees_all_close(carries, expected_carries, atol=1e-5)
    _, before = call(model, params, X)
    np.testing.assert_allclose(after[:, :5], before[:, :5], atol=1e-6)


@pytest.mark.slow
@every_kind
def test_every_parameter_has_a_gradient_with_norms_and_dropout(kind):
    model = network(kind, norm=Norm("layer"), norm_between=Norm("batch-between"), dropout=0.2, recurrent_dropout=0.2)
    params, stats = init(model, jax.random.key(0), X)

    def loss(params):
        predicted, _ = apply.apply_train(model, params, stats, jnp.asarray(X), jnp.ones(3), jax.random.key(1))
        return jnp.sum(predicted**2)

    gradient = quickly(jax.grad(loss))(params)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


def test_a_decoder_starts_where_the_encoder_ends_and_reads_each_row_ahead():
    model = networks.named("encoder-decoder").network(CELLS["gru"], HIDDEN, 1, 6, beyond=2, steps=3)
    params = init(model, jax.random.key(0), X)[0]
    _, predicted = call(model, params, X)
    window, ahead = X[:, :9], X[:, 8:]
    states = steps_of("gru", cell_of("gru", params, 0), window, 1)[:, -1]
    decoder = params["decoder"]
    carry = CELLS["gru"].start((3, HIDDEN), jnp.float32)._replace(h=states)
    for step in range(3):
        position = np.full((3, 1), (step + 1) / 3, np.float32)
        x = np.concatenate([position, states, ahead[:, step]], axis=1)
        carry, _ = scan(CELLS["gru"], cell_of("gru", decoder, 0), x[None], carry)
        np.testing.assert_allclose(predicted[:, 2 * step : 2 * step + 2], head(decoder, carry.h), atol=1e-5)


def test_a_decoder_of_a_window_alone_reads_position_and_state():
    model = networks.named("encoder-decoder").network(CELLS["gru"], HIDDEN, 1, 3, steps=3)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.asarray(X)))["params"]
    assert params["decoder"]["recurrent_0"]["cell"]["input_kernel"].shape == (1 + HIDDEN, 3 * HIDDEN)
    for options in ({"carries": model.start(3, jnp.float32)}, {"resets": jnp.zeros((3, 11), bool)}):
        with pytest.raises(ValueError, match="whole windows"):
            model.apply({"params": params}, jnp.asarray(X), **options)


@pytest.mark.slow
def test_residual_layers_read_both_ways():
    model = network("residual", bidirectional=True)
    assert call(model, parameters(model), X)[1].shape == (3, 2)


def causal(x, kernel, bias, dilation=1):
    """A causal convolution of "b t d" with a kernel "k d f", a loop over time steps and the kernel's rows."""
    rows, steps, _ = x.shape
    outputs = np.tile(np.asarray(bias), (rows, steps, 1))
    for step, row in itertools.product(range(steps), range(len(kernel))):
        before = step - dilation * (len(kernel) - 1 - row)
        if before >= 0:
            outputs[:, step] += x[:, before] @ np.asarray(kernel[row])
    return outputs


def test_recurrent_layers_read_a_convolution_of_the_inputs():
    model = network("convolved", layers=1, every_step=True)
    params = parameters(model)
    below = causal(X, **params["convolution"])
    others = {name: part for name, part in params.items() if name != "convolution"}
    expected = call(network("stacked", layers=1, every_step=True), others, jnp.asarray(below, jnp.float32))[1]
    chex.assert_trees_all_close(call(model, params, X)[1], expected, atol=1e-5)


def test_a_wavenet_is_a_loop_over_dilated_convolutions():
    model = network("wavenet", layers=5, every_step=True)
    params = parameters(model)
    states = X
    for number, dilation in enumerate((1, 2, 4, 8, 1)):
        states = np.maximum(causal(states, **params[f"convolution_{number}"], dilation=dilation), 0)
    every_step = call(model, params, X)[1]
    chex.assert_trees_all_close(every_step, head(params, states), atol=1e-5)

    # Within a length, the last step is that of the rows alone.
    lengths = jnp.array([11, 4, 7])
    last = call(model.clone(every_step=False), params, X, lengths=lengths)[1]
    chex.assert_trees_all_close(last, every_step[jnp.arange(3), lengths - 1], atol=1e-6)


@pytest.mark.parametrize("kind", ["convolved", "wavenet"])
def test_a_network_with_convolutions_takes_no_state(kind):
    model = network(kind, layers=5 if kind == "wavenet" else 1, every_step=True)
    with pytest.raises(ValueError, match="expected neither carries nor resets"):
        call(model, parameters(model), X, resets=jnp.zeros((3, 11), bool))


USE = networks.Use(task="direct", layers=2)


@pytest.mark.parametrize(
    ("kind", "changes", "where"),
    [
        ("residual", {"layers": 1}, "--model.kind"),
        ("dilated", {"layers": 1}, "--model.kind"),
        ("dilated", {"layers": 11}, "--model.layers"),
        ("dilated", {"bidirectional": True}, "--model.kind"),
        ("dilated", {"norm": "batch"}, "--model.norm"),
        ("convolved", {"task": "iterated"}, "--model.kind"),
        ("wavenet", {"stateful": True}, "--model.kind"),
        ("wavenet", {"bidirectional": True}, "--model.kind"),
        ("wavenet", {"norm": "layer"}, "--model.norm"),
        ("wavenet", {"recurrent_dropout": 0.5}, "--model.recurrent-dropout"),
        ("encoder-decoder", {"task": "iterated"}, "--model.kind"),
        ("encoder-decoder", {"bidirectional": True}, "--model.kind"),
    ],
)
def test_what_has_no_meaning_for_a_kind_is_refused(kind, changes, where):
    check = networks.named(kind).check
    check(USE)
    with pytest.raises(UsageError) as caught:
        check(USE._replace(**changes))
    assert caught.value.where == where


def test_deepar_is_an_iterated_distribution():
    check = networks.named("deepar").check
    check(USE._replace(task="iterated", draws=True))
    for use in (USE._replace(draws=True), USE._replace(task="iterated")):
        with pytest.raises(UsageError) as caught:
            check(use)
        assert caught.value.where == "--model.kind"


def test_an_unknown_kind_is_refused_with_the_names():
    with pytest.raises(UsageError, match="stacked, convolved, deepar, dilated, encoder-decoder, residual, wavenet"):
        networks.named("plain")


def test_a_state_from_before_a_reset_is_not_read_in_the_next_call():
    model = network("dilated", every_step=True)
    params = parameters(model)
    resets = np.zeros((3, 15), bool)
    resets[:, 10] = True
    longer = np.concatenate([X, X[:, :4]], axis=1)
    _, whole = call(model, params, longer, resets=resets)
    carries, _ = call(model, params, X, resets=resets[:, :11])
    _, later = call(model, params, X[:, :4], carries=carries, first=11)
    np.testing.assert_allclose(later, whole[:, 11:], atol=1e-5)
