"""Outputs, last states and gradients against Keras' layers, which run in a process of their own: Keras picks its backend
once, when it is imported. It is torch here, because that compiles nothing.

As a program (`python tests/cells/test_keras.py CASES.npz ANSWERS.npz`) this file is that process.
"""

import importlib.util
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

# On each change torch, Flax and ONNX are the oracles (test_oracles.py), and layouts of Keras are those of test_convert.py.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_quickly")]

T, B, D, H = 7, 4, 3, 5
LENGTHS = (3, 7, 1, 5)
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
CASES = [("whole", dtype) for dtype in TOLERANCE] + [("masked backwards", "float64")]
NAMES = ("rnn", "lstm", "gru", "gru-before")
PROBLEMS = [(name, *case) for name in NAMES[:3] for case in CASES] + [("gru-before", "whole", "float64")]


def keras_answers(source, target):
    """The Keras side: outputs "b t h", last states and gradients of every case in one file, written to another."""
    import keras
    import torch
    from keras.src.backend.common.dtypes import BIT64_TO_BIT32_DTYPE

    BIT64_TO_BIT32_DTYPE.pop("float64")  # or keras.ops would round float64 to float32 between two float64 arrays
    kinds = {"rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
    kinds["gru-before"] = partial(keras.layers.GRU, reset_after=False)
    given, found = np.load(source), {}
    for case in sorted({key.rsplit("/", 1)[0] for key in given}):
        name, kind, dtype = case.split("/")
        part = {key.rsplit("/", 1)[1]: given[key] for key in given if key.startswith(case + "/")}
        masked = kind == "masked backwards"
        how = {"go_backwards": True, "zero_output_for_mask": True} if masked else {}
        mask = torch.arange(T) < torch.tensor(part["lengths"])[:, None] if masked else None
        keras.config.set_floatx(dtype)
        layer = kinds[name](H, return_sequences=True, return_state=True, dtype=dtype, **how)
        layer.build((B, T, D))
        layer.set_weights(numbered(part, "weight"))
        x, *start = (torch.tensor(array, requires_grad=True) for array in [part["x"], *numbered(part, "start")])
        values = list(layer(x, initial_state=start, mask=mask))
        inputs = [*(variable.value for variable in layer.trainable_variables), x, *start]
        gradients = torch.autograd.grad(values, inputs, [torch.tensor(bar) for bar in numbered(part, "bar")])
        results = {"weight": layer.get_weights(), "value": values, "gradient": gradients}
        for key, arrays in results.items():
            found |= {f"{case}/{key}{n}": keras.ops.convert_to_numpy(array) for n, array in enumerate(arrays)}
    np.savez(target, **found)


def numbered(part, name):
    """The arrays name0, name1, ... of a case."""
    return [part[f"{name}{n}"] for n in range(len(part)) if f"{name}{n}" in part]


if __name__ == "__main__":
    keras_answers(*sys.argv[1:])
    sys.exit()

import jax
import jax.numpy as jnp

from jaxseq.cells import CELLS, convert, recurrence
from jaxseq.cells.recurrence import Rows, Traversal


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def problem(name, dtype):
    """Our random parameters, inputs, start and cotangents of (outputs, last states), time first."""
    source = np.random.default_rng(NAMES.index(name))

    def draw(*shape):
        return jnp.asarray(source.normal(size=shape), dtype)

    shapes = jax.eval_shape(lambda key: CELLS[name].init(key, D, H), jax.random.key(0))
    params = jax.tree.map(lambda leaf: draw(*leaf.shape) / 2, shapes)
    start = jax.tree.map(lambda leaf: draw(B, H), CELLS[name].start((B, H), jnp.dtype(dtype)))
    bars = jax.tree.map(lambda leaf: draw(B, H), start), draw(T, B, H)
    return params, draw(T, B, D), start, bars


def as_keras(x, kind):
    """Our outputs or their cotangents as Keras': batch first, and in the order computed, where it reads backwards."""
    return np.swapaxes(np.asarray(x)[::-1] if kind == "masked backwards" else x, 0, 1)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What Keras says to every problem: {"cell/kind/dtype": {"weight0": ..., "value0": ..., "gradient0": ...}}."""
    for package in ("keras", "torch"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    folder = tmp_path_factory.mktemp("keras")
    cases = {}
    with jax.enable_x64(True):
        for name, kind, dtype in PROBLEMS:
            params, x, start, (last_bar, outputs_bar) = problem(name, dtype)
            many = {
                "weight": convert.to_keras(name, params),
                "start": list(start),
                "bar": [as_keras(outputs_bar, kind), *last_bar],
            }
            case = {"x": np.swapaxes(x, 0, 1), "lengths": np.asarray(LENGTHS)}
            case |= {f"{key}{n}": array for key, arrays in many.items() for n, array in enumerate(arrays)}
            cases |= {f"{name}/{kind}/{dtype}/{key}": np.asarray(array) for key, array in case.items()}
    np.savez(folder / "cases.npz", **cases)
    own = {"KERAS_BACKEND": "torch", "KERAS_TORCH_DEVICE": "cpu", "KERAS_HOME": str(folder)}
    command = [sys.executable, __file__, folder / "cases.npz", folder / "answers.npz"]
    process = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    found = {}
    with np.load(folder / "answers.npz") as arrays:
        for key in arrays:
            case, name = key.rsplit("/", 1)
            found.setdefault(case, {})[name] = arrays[key]
    return found


@partial(jax.jit, static_argnums=(0, 1))
def pulled_back(name, kind, params, x, start, bars):
    """Our (last state, outputs), and the gradients of (params, x, start)."""
    how = {}
    if kind == "masked backwards":
        how = {"rows": Rows(jnp.asarray(LENGTHS, jnp.int32)), "traversal": Traversal(reverse=True)}
    value, back = jax.vjp(lambda *values: recurrence.scan(CELLS[name], *values, **how), params, x, start)
    return value, back(bars)


@pytest.mark.parametrize(("name", "kind", "dtype"), PROBLEMS)
def test_a_keras_layer_has_our_outputs_and_gradients(answers, name, kind, dtype):
    params, x, start, bars = problem(name, dtype)
    theirs = answers[f"{name}/{kind}/{dtype}"]
    (last, outputs), (params_bar, x_bar, start_bar) = pulled_back(name, kind, params, x, start, bars)
    ours = [as_keras(outputs, kind), *last, *convert.to_keras(name, params_bar), np.swapaxes(x_bar, 0, 1), *start_bar]
    expected = [*numbered(theirs, "value"), *numbered(theirs, "gradient")]
    for mine, other in zip(ours, expected, strict=True):
        assert other.dtype == dtype
        np.testing.assert_allclose(mine, other, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("name", NAMES)
def test_a_keras_layer_gives_back_the_weights_that_we_hand_it(answers, name):
    weights = numbered(answers[f"{name}/whole/float64"], "weight")
    jax.tree.map(np.testing.assert_array_equal, convert.from_keras(name, weights), problem(name, "float64")[0])
