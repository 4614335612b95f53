"""The variables of a layer are plain dicts, which the tools around Flax take; its NamedTuples lose nothing on the way."""

import chex
import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from pairwise import slow_except
from problems import quickly

from jaxseq.cells import CELLS
from jaxseq.cells.norm import NORMS, Norm, init_running
from jaxseq.nn import apply, fields
from jaxseq.nn.recurrent import Recurrent

pytestmark = pytest.mark.usefixtures("compiled_quickly")

X = np.random.default_rng(3).normal(size=(4, 6, 2)).astype(np.float32)
SLOTS = [None, *map(Norm, NORMS)]
every_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)

init = quickly(apply.init, "model")


def is_plain(tree):
    if isinstance(tree, dict):
        return all(isinstance(name, str) and is_plain(value) for name, value in tree.items())
    return isinstance(tree, jax.ShapeDtypeStruct)


LAYERS = [(cell, norm) for cell in CELLS.values() for norm in SLOTS if norm is None or cell.gates is not None]


@pytest.mark.parametrize(("cell", "norm"), LAYERS, ids=lambda part: getattr(part, "name", "none"))
def test_every_variable_is_a_nested_dict_of_arrays(cell, norm):
    layer = Recurrent(cell, 4, norm=norm, learn_start=True)
    variables = jax.eval_shape(layer.init, jax.random.key(0), X)
    assert is_plain(variables)
    assert len(variables["params"]["start"]) == len(cell.start((4,)))


@pytest.mark.parametrize("name", slow_except({"lstm", "mingru"}, list(CELLS)))
def test_a_layer_draws_what_the_cell_draws_from_flaxs_key(name):
    cell = CELLS[name]

    class Reference(nn.Module):
        @nn.compact
        def __call__(self, x):
            return self.param("cell", cell.init, x.shape[-1], 4)

    params, _ = init(Recurrent(cell, 4), jax.random.key(5), X)
    drawn = quickly(Reference().init)(jax.random.key(5), X)["params"]["cell"]
    chex.assert_trees_all_equal(fields.cell_params(cell, params["cell"]), drawn)


@every_cell
def test_a_namedtuple_comes_back_from_its_dict(cell):
    params = jax.eval_shape(lambda key: cell.init(key, 2, 3), jax.random.key(0))
    assert fields.cell_params(cell, fields.nested(params)) == params
    assert fields.cell_params(cell, params) is params
    # The last field of each cell.
    whole = fields.nested(params)
    missing = list(whole)[-1]
    del whole[missing]
    with pytest.raises(KeyError, match=missing):
        fields.cell_params(cell, whole)


def test_a_field_without_arrays_is_in_no_dict_and_comes_back():
    moments = jax.eval_shape(lambda: init_running(3, False, t=5, h=4))
    nested = fields.nested(moments)
    assert set(nested) == {"x", "h"} and set(nested["x"]) == {"mean", "var"}
    assert fields.typed(nested, moments) == moments


def test_leaves_come_in_the_order_of_the_fields_and_not_of_the_names():
    tree = {
        "recurrent_0": {
            "norm": {"c_shift": 8, "x": 5, "c": 7, "h": 6},
            "cell": {"recurrent_bias": 4, "bias": 3, "input_kernel": 1, "recurrent_kernel": 2},
        },
        "head": {"kernel": (0,), "bias": -1},
        "start": {"c": 10, "h": 9},
    }
    assert fields.in_order(tree) == list(range(-1, 11))


# The tools around Flax -------------------------------------------------------------------------------------------------


# optax and nnx mix integers and floats, which the tests' strict promotion refuses.
@pytest.mark.slow
@jax.numpy_dtype_promotion("standard")
@pytest.mark.parametrize("norm", SLOTS, ids=str)
def test_the_layer_trains_with_adam_in_flax_nnx(norm):
    """The loss of each step is that of linen and plain optax."""
    x = jnp.asarray(X)
    layer = Recurrent(CELLS["lstm"], 4, norm=norm, learn_start=True)
    module = nnx.bridge.ToNNX(layer, rngs=nnx.Rngs(0)).lazy_init(x)
    optimiser = nnx.Optimizer(module, optax.adam(1e-2), wrt=nnx.Param)
    params = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    stats = nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

    def mean_square(outputs):
        return jnp.mean((outputs - 0.5) ** 2)

    @nnx.jit
    def step(module, optimiser):
        loss, gradient = nnx.value_and_grad(lambda module: mean_square(module(x)[1]))(module)
        optimiser.update(module, gradient)
        return loss

    @quickly
    def linen_step(params, state):
        def loss_of(params):
            return mean_square(layer.apply({"params": params, "batch_stats": stats}, x)[1])

        loss, gradient = jax.value_and_grad(loss_of)(params)
        updates, state = optax.adam(1e-2).update(gradient, state)
        return optax.apply_updates(params, updates), state, loss

    state = optax.adam(1e-2).init(params)
    for _ in range(3):
        params, state, expected = linen_step(params, state)
        np.testing.assert_allclose(step(module, optimiser), expected, rtol=1e-5)


def test_paths_are_flattened_and_masked_by_name():
    params, _ = init(Recurrent(CELLS["gru"], 4, norm=Norm("layer")), jax.random.key(0), X)
    paths = flax.traverse_util.flatten_dict(params, sep="/")
    assert "cell/input_kernel" in paths and "norm/x" in paths
    assert jax.tree.structure(flax.traverse_util.unflatten_dict(paths, sep="/")) == jax.tree.structure(params)

    kernels = flax.traverse_util.path_aware_map(lambda path, _: path[-1].endswith("kernel"), params)
    decay = optax.add_decayed_weights(0.1, mask=kernels)
    updates, _ = decay.update(jax.tree.map(jnp.zeros_like, params), decay.init(params), params)
    for path, update in flax.traverse_util.flatten_dict(updates, sep="/").items():
        decayed = 0.1 * paths[path] if path.endswith("kernel") else jnp.zeros_like(update)
        np.testing.assert_allclose(update, decayed, rtol=1e-6)


def test_a_file_of_safetensors_holds_a_layer(tmp_path):
    safetensors = pytest.importorskip("safetensors.flax")
    params, _ = init(Recurrent(CELLS["lstm"], 4, learn_start=True), jax.random.key(0), X)
    safetensors.save_file(flax.traverse_util.flatten_dict(params, sep="/"), tmp_path / "layer.safetensors")
    loaded = flax.traverse_util.unflatten_dict(safetensors.load_file(tmp_path / "layer.safetensors"), sep="/")
    chex.assert_trees_all_equal(loaded, params)
