"""Precision of products: float32 in full unless somebody asks for less, in every program and in its derivative."""

import re
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import GATED, SLOTS, Size, differentiate, inputs

from jaxseq.cells import CELLS, recurrence
from jaxseq.common import precision
from jaxseq.common.precision import Precision

SIZE = Size(3, 2, 3, 4, "float32", gated=False)
LENGTHS = [3, 2]
MARKS = {"float32": "precision = [HIGHEST, HIGHEST]", "tf32": "precision = [HIGH, HIGH]", "bfloat16": "bf16"}
every_cell = pytest.mark.parametrize("name", GATED)


def products(lowered):
    """The matrix products of a program, a line each."""
    lines = [
        line for line in lowered.as_text().splitlines() if re.search(r"stablehlo\.(dot_general|convolution)", line)
    ]
    assert lines
    return lines


def lowered_gradient(name, slot="none"):
    return jax.jit(differentiate, static_argnums=(1, 2)).lower(inputs(name, slot, SIZE, 0, LENGTHS), name, slot)


@every_cell
@pytest.mark.parametrize("slot", SLOTS)
def test_every_product_and_its_derivative_is_float32_in_full(name, slot):
    assert all(MARKS["float32"] in line for line in products(lowered_gradient(name, slot)))


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("asked", get_args(Precision))
def test_the_precision_of_the_caller_is_honoured(slot, asked):
    with jax.default_matmul_precision(precision.JAX_NAMES[asked]):
        lowered = lowered_gradient("gru", slot)
    assert all(MARKS[asked] in line for line in products(lowered))


def test_an_explicit_default_is_the_platforms():
    with jax.default_matmul_precision("default"):
        assert precision.current() == "default"
        lowered = lowered_gradient("gru")
    assert not any("HIGH" in line for line in products(lowered))


@every_cell
def test_a_derivative_that_is_traced_later_keeps_the_precision(name):
    i = jax.tree.map(jnp.asarray, inputs(name, "none", SIZE, 0, LENGTHS))

    def outputs(params):
        return recurrence.scan(CELLS[name], params, i.x, i.start)[1]

    with jax.default_matmul_precision("tensorfloat32"):
        _, transpose = jax.vjp(jax.jit(outputs), i.params)
        traced_within = jax.jit(outputs)
    after = jax.jit(transpose).lower(i.mix)
    assert all(MARKS["tf32"] in line for line in products(after))

    # A function that is first traced outside takes the precision of that place.
    full = traced_within.lower(i.params)
    assert all(MARKS["float32"] in line for line in products(full))


def test_outside_the_context_nothing_is_set():
    assert jax.config.jax_default_matmul_precision is None
    recurrence.step(CELLS["rnn"], *_one_step())
    assert jax.config.jax_default_matmul_precision is None
    assert precision.current() == precision.FULL


def _one_step():
    i = jax.tree.map(jnp.asarray, inputs("rnn", "none", SIZE, 0, LENGTHS))
    return i.params, i.x[0], i.start


def test_a_cpu_computes_the_same_bits_at_any_precision():
    i = inputs("gru", "none", Size(5, 8, 3, 33, "float32", gated=False), 0, [5] * 8)
    results = []
    for jax_name in ("default", *precision.JAX_NAMES.values()):
        with jax.default_matmul_precision(jax_name):
            results.append(jax.jit(partial(differentiate, name="gru", slot="none"))(i))
    for other in results[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, results[0])
