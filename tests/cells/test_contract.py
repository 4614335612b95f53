"""A cell of the user's own: what it needs to give, that it then has everything, and what is refused by name."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.cells import CELLS, contract, recurrence, rnn
from jaxseq.cells.base import Cell
from jaxseq.cells.norm import Norm
from jaxseq.cells.recurrence import Rows, Traversal
from jaxseq.common.errors import UsageError
from jaxseq.nn.recurrent import Bidirectional, Recurrent

pytestmark = pytest.mark.usefixtures("compiled_quickly")
X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 2)), jnp.float32)
LENGTHS = jnp.asarray([6, 2, 0])
H = 4


class Diagonal(NamedTuple):
    input_kernel: jax.Array
    bias: jax.Array
    recurrent_weight: jax.Array


def init(key, d, h, dtype=jnp.float32):
    return Diagonal(jax.random.normal(key, (d, h), dtype), jnp.ones(h, dtype), jnp.full(h, 0.5, dtype))


def elman(params, z, h, carry):
    return rnn.Carry(jnp.tanh(z + h @ params.recurrent_kernel))


def diagonal(params, z, h, carry):
    return rnn.Carry(jnp.tanh(z + params.recurrent_weight * h))


STEP = Cell("elman", rnn.start, rnn.init, step=elman)
OWN = Cell("diagonal", rnn.start, init, step=diagonal)
GATED = Cell("gated", rnn.start, rnn.init, gates=rnn.gates)
SILENT = GATED._replace(name="silent", gates=lambda z, u, carry, slots=None: (rnn.Carry(jnp.tanh(z + u)), ()))


def loss_and_gradients(layer, variables):
    """Outputs, last carry, and the gradient of a loss of both by the variables and x."""

    def loss(variables, x):
        last, outputs = layer.apply(variables, x, lengths=LENGTHS)
        return jnp.sum(jnp.sin(outputs)) + sum(jnp.sum(state**2) for state in jax.tree.leaves(last)), (last, outputs)

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(variables, X)


@pytest.mark.parametrize(("cell", "both"), [(STEP, True), (GATED, False)], ids=["step", "gates"])
def test_an_elman_network_of_the_users_is_ours(cell, both):
    ours, theirs = (Recurrent(kind, H, truncate=4) for kind in (CELLS["rnn"], cell))
    if both:
        ours, theirs = Bidirectional(ours), Bidirectional(theirs)
    variables = ours.init(jax.random.key(1), X)

    expected, result = (loss_and_gradients(layer, variables) for layer in (ours, theirs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), result, expected)


@pytest.mark.parametrize("slot", ["layer-sum", "batch"])
def test_a_gated_cell_without_an_adjoint_takes_every_norm(slot):
    ours, theirs = (Recurrent(kind, H, norm=Norm(slot)) for kind in (CELLS["rnn"], GATED))
    variables = ours.init(jax.random.key(1), X)
    expected, result = (loss_and_gradients(layer, variables) for layer in (ours, theirs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), result, expected)


def test_no_array_of_a_cell_without_a_recurrent_product_is_there_for_nothing():
    layer = Recurrent(OWN, H)
    variables = layer.init(jax.random.key(1), X)
    assert sorted(leaf.shape for leaf in jax.tree.leaves(variables)) == [(2, H), (H,), (H,)]

    (by_variables, _), _ = loss_and_gradients(layer, variables)
    assert all(np.abs(leaf).min() > 0 for leaf in jax.tree.leaves(by_variables))


def test_recurrent_dropout_reaches_a_cell_that_reads_h():
    params = init(jax.random.key(0), 2, H)
    x = jnp.swapaxes(X, 0, 1)
    nothing = Rows(drop=jnp.zeros((3, H)))
    _, outputs = recurrence.scan(OWN, params, x, OWN.start((3, H)), nothing)
    np.testing.assert_allclose(outputs, np.tanh(x @ params.input_kernel + params.bias), rtol=1e-5)


def reads_the_carry(params, z, h, carry):
    return rnn.Carry(jnp.tanh(z + params.recurrent_weight * carry.h))


def test_dropout_is_refused_where_nothing_reads_it():
    params = init(jax.random.key(0), 2, H)
    cell = OWN._replace(step=reads_the_carry)
    with pytest.raises(UsageError) as error:
        recurrence.scan(cell, params, X, cell.start((6, H)), Rows(drop=jnp.zeros((6, H))))
    assert error.value.where == "cell diagonal: recurrent_dropout"


@pytest.mark.parametrize(("cell", "slot"), [(OWN, "layer"), (OWN, "batch"), (SILENT, "layer-sum")])
def test_a_norm_is_refused_where_nothing_reads_it(cell, slot):
    with pytest.raises(UsageError) as error:
        Recurrent(cell, H, norm=Norm(slot)).init(jax.random.key(0), X)
    assert (error.value.where, error.value.got) == (f"cell {cell.name}: norm", slot)


def test_a_memory_that_passes_no_slot_is_refused_by_layer_norm():
    lstm = CELLS["lstm"]

    def gates(z, u, carry, slots):
        return lstm.gates(z, u, carry)

    cell = lstm._replace(gates=gates, linearise=None, adjoint=None, pointwise=None)
    with pytest.raises(UsageError, match=r"slots\.memory"):
        Recurrent(cell, H, norm=Norm("layer")).init(jax.random.key(0), X)


BAD = {
    "cell diagonal": OWN._replace(step=None),
    "cell gated": GATED._replace(adjoint=rnn.adjoint),
    "cell elman: groups": STEP._replace(groups=(1,)),
    "cell gated: groups": GATED._replace(groups=(2,)),
    "cell elman: adjoint": STEP._replace(linearise=rnn.linearise, adjoint=rnn.adjoint),
    "cell elman: pointwise": STEP._replace(pointwise=rnn.pointwise),
    "cell gated: project": GATED._replace(project=lambda params, x: x),
    "cell elman: step": STEP._replace(step=lambda params, z, carry: carry),
    "cell elman: init": STEP._replace(init=lambda key, d, h: rnn.init(key, d, h)),
    "cell elman: start": STEP._replace(start=lambda shape, dtype: jnp.zeros(shape, dtype)),
    "cell elman: h": STEP._replace(step=lambda params, z, h, carry: rnn.Carry(z.sum(-1))),
    "cell": "lstm",
    "cell elman: gate_count": STEP._replace(gate_count=0),
    "cell elman": STEP._replace(step=lambda params, z, h, carry: z),
}


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize("where", BAD)
def test_a_cell_that_does_not_keep_its_contract_is_refused_by_name(where):
    with pytest.raises(UsageError) as error:
        Recurrent(BAD[where], H).init(jax.random.key(0), X)
    assert error.value.where == where


def test_a_parameter_that_the_layer_multiplies_with_is_named():
    cell = STEP._replace(init=lambda key, d, h, dtype: rnn.Carry(jnp.zeros((d, h), dtype)))
    with pytest.raises(UsageError, match="lack input_kernel"):
        Recurrent(cell, H).init(jax.random.key(0), X)


def test_a_cell_that_projects_its_input_needs_no_kernel():
    cell = OWN._replace(project=lambda params, x: x @ params.input_kernel[:2])
    params = init(jax.random.key(0), 5, H)
    _, outputs = recurrence.scan(cell, params, X, cell.start((6, H)))
    assert outputs.shape == (3, 6, H)


@pytest.mark.parametrize("kernel", ["pallas", "cudnn"])
def test_the_gpu_kernels_refuse_a_step_cell(kernel):
    params = init(jax.random.key(0), 2, H)
    with pytest.raises(ValueError, match=f"kernel is '{kernel}'"):
        recurrence.scan(OWN, params, X, OWN.start((6, H)), traversal=Traversal(kernel=kernel))


def test_every_cell_of_the_package_keeps_the_contract():
    for cell in CELLS.values():
        contract.check_step(cell, contract.Sizes(2, H, jnp.dtype("float32")))
