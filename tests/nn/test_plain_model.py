"""Any Flax module is trained, or refused with the reason."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxseq.cells import CELLS
from jaxseq.common.errors import ABSENT, UsageError
from jaxseq.nn import apply, plain_model
from jaxseq.nn.forecaster import Forecaster
from jaxseq.nn.recurrent import Recurrent

ROWS = jax.ShapeDtypeStruct((2, 3), jnp.float32)


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=True):
        return nn.Dropout(0.5, deterministic=deterministic)(nn.Dense(2)(x))


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, training=False):
        return nn.BatchNorm(use_running_average=not training)(nn.Dense(2)(x))


class Noisy(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(2)(x)
        if train:
            x = x + jax.random.normal(self.make_rng("noise"), x.shape)
        return x


class TwoInputs(nn.Module):
    @nn.compact
    def __call__(self, x, other):
        return nn.Dense(2)(x) + other


class Pair(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x, nn.Dense(2)(x)


class Summed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x).sum(axis=0)


class Empty(nn.Module):
    def __call__(self, x):
        return x


@pytest.mark.parametrize(
    ("module", "flag", "draws"),
    [
        (nn.Dense(2), None, False),
        (Dropped(), "deterministic", True),
        (Normed(), "training", False),
        (Noisy(), "train", True),
    ],
)
def test_what_a_module_needs_in_training_is_found(module, flag, draws):
    model = plain_model.of(module, ROWS)
    assert (model.flag, model.draws) == (flag, draws)
    # Equal modules share their compiled functions.
    assert hash(model) == hash(plain_model.of(module.clone(), ROWS))


@pytest.mark.parametrize("module", [Dropped(), Normed(), Noisy()])
def test_a_training_step_differs_from_a_prediction(module):
    model = plain_model.of(module, ROWS)
    x = jnp.arange(6.0).reshape(2, 3)
    params, stats = apply.init(model, jax.random.key(0), x)

    predicted = apply.apply(model, params, stats, x)
    trained, changed = apply.apply_train(model, params, stats, x, rows=jnp.ones(2), key=jax.random.key(1))
    assert not jnp.array_equal(predicted, trained)

    # Flax itself is the oracle: the same variables, moments and keys.
    flag = {model.flag: plain_model.TRAINING_FLAGS[model.flag]}
    rngs = {name: jax.random.key(1) for name in ("params", "dropout")}
    expected, variables = module.apply({"params": params, **stats}, x, **flag, mutable=list(stats), rngs=rngs)
    assert jnp.array_equal(trained, expected)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, changed, dict(variables)))


def test_a_model_stays_as_it_is():
    forecaster = Forecaster(CELLS["rnn"], 3, 1, 1)
    assert plain_model.of(forecaster, jax.ShapeDtypeStruct((1, 4, 1), jnp.float32)) is forecaster


@pytest.mark.parametrize(
    ("module", "rule", "got"),
    [
        (nn.Dense, "not a Flax module", "builtins.type"),
        (TwoInputs(), "the module needs arguments that training does not have", "other"),
        (Pair(), "does not return one array", "tuple"),
        (Recurrent(CELLS["gru"], 3), "Recurrent cannot be called with rows of the shape (2, 3)", ABSENT),
        (Summed(), "does not return a prediction for each row", "the shape (2,) for 3 rows"),
        (Empty(), "the module has no parameters to train", "'Empty'"),
        (nn.Embed(3, 4), "Embed cannot be called with rows of the shape (2, 3) and dtype float32", ABSENT),
    ],
)
def test_a_module_that_cannot_be_trained_is_refused(module, rule, got):
    rows = jax.ShapeDtypeStruct((3, 3), jnp.float32) if isinstance(module, Summed) else ROWS
    with pytest.raises(UsageError) as caught:
        plain_model.of(module, rows)
    assert caught.value.rule.startswith(rule)
    assert caught.value.got == got


def test_a_plain_module_has_no_state_to_resume_from():
    model = plain_model.of(nn.Dense(2), ROWS)
    variables = model.init(jax.random.key(0), jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match="carries were given to Dense"):
        model.apply(variables, jnp.zeros((2, 3)), carries=())


class Dropped(nnx.Module):
    """Dropout of nnx, whose mode no call can switch."""

    def __init__(self, rngs):
        self.dense = nnx.Linear(3, 2, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.dense(x))


def test_dropout_of_nnx_is_refused_by_name():
    with pytest.raises(UsageError, match="'dropout'") as caught:
        plain_model.of(nnx.bridge.to_linen(Dropped), ROWS)
    assert caught.value.needed == "dropout of flax.linen, or a module of nnx without it"
