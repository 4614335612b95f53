"""Planted bugs in the mathematics: each must turn the tests red that are named for it.

That all of them can be planted is checked in every run; that they are found takes minutes: `python -m pytest -m slow`.
"""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from mutate import PatternError, mutate

ROOT = Path(__file__).parent.parent
CELLS = ("test_cells.py",)
NORM = ("test_norm.py", "test_properties.py")
RECURRENT = ("test_recurrence.py", "test_padding.py", "test_properties.py")


class Mutant(NamedTuple):
    """A bug: the module and the function it is in, the right pattern, the wrong one, and the tests that should see it."""

    module: str
    function: str
    right: str
    wrong: str
    tests: tuple[str, ...]


MUTANTS = {
    # the cells
    "rnn without tanh": Mutant("rnn", "gates", "jnp.tanh(A)", "A", CELLS),
    "rnn that drops its input": Mutant("rnn", "gates", "z + u", "u", CELLS),
    "rnn with the slope of another function": Mutant("rnn", "linearise", "tanh_slope(A)", "1 - A", RECURRENT),
    "lstm with f and i swapped": Mutant(
        "lstm", "gates", "I, F, G, O = jnp.split(A, 4, axis=-1)", "F, I, G, O = jnp.split(A, 4, axis=-1)", CELLS
    ),
    "lstm with g and o swapped": Mutant(
        "lstm", "gates", "I, F, G, O = jnp.split(A, 4, axis=-1)", "I, F, O, G = jnp.split(A, 4, axis=-1)", CELLS
    ),
    "lstm that shows c without tanh": Mutant("lstm", "gates", "jnp.tanh(A)", "A", CELLS),
    "lstm that forgets to forget": Mutant("lstm", "gates", "F * carry.c + A", "carry.c + A", CELLS),
    "lstm that carries h as c": Mutant("lstm", "gates", "Carry(H, C)", "Carry(H, H)", CELLS),
    "lstm without a forget bias": Mutant("lstm", "init", "A.at[G].set(1)", "A", CELLS),
    "lstm with the bias on the input gate": Mutant("lstm", "init", "A.at[G].set(1)", "A.at[:h].set(1)", CELLS),
    "lstm whose adjoint loses the memory": Mutant("lstm", "adjoint", "cotangent.c + A", "A", RECURRENT),
    "lstm whose adjoint takes i for g": Mutant(
        "lstm", "linearise", "i * tanh_slope(g)", "g * tanh_slope(i)", RECURRENT
    ),
    "lstm whose adjoint takes the new memory": Mutant("lstm", "linearise", "saved.c_before", "saved.tanh_c", RECURRENT),
    "gru with z inverted": Mutant("gru", "gates", "N + Z * (carry.h - N)", "carry.h + Z * (N - carry.h)", CELLS),
    "gru with r and z swapped": Mutant(
        "gru", "gates", "R, Z = jnp.split(A, 2, axis=-1)", "Z, R = jnp.split(A, 2, axis=-1)", CELLS
    ),
    "gru that never resets": Mutant("gru", "gates", "A + R * u_n", "A + u_n", CELLS),
    "gru that resets its input too": Mutant("gru", "gates", "A + R * u_n", "R * (A + u_n)", CELLS),
    "gru whose adjoint gives u what is z's": Mutant("gru", "adjoint", "N * local.r", "N", RECURRENT),
    "gru whose adjoint loses the direct path": Mutant(
        "gru", "adjoint", "cotangent.h * local.update", "cotangent.h * 0", RECURRENT
    ),
    "kernels that are not orthogonal": Mutant("base", "orthogonal_kernel", "orthogonal()", "glorot_uniform()", CELLS),
    "gates that share one draw": Mutant(
        "base", "init_kernels", "jax.random.split(input_key, gate_count)", "[input_key] * gate_count", CELLS
    ),
    # the recurrence
    "input projection without its bias": Mutant(
        "products", "project", "X @ W + params.bias", "X @ W", RECURRENT + CELLS
    ),
    "recurrent product without its bias": Mutant("adjoint", "advance", "U + params.recurrent_bias", "U", CELLS),
    "recurrent kernel transposed": Mutant(
        "adjoint",
        "_backward",
        "products.pad_columns(params.recurrent_kernel.T)",
        "products.pad_columns(jnp.flip(params.recurrent_kernel.T, 1))",
        RECURRENT,
    ),
    "weight gradient from the same step's state": Mutant(
        "adjoint",
        "_backward",
        "products.apply_drop(drop, h_before)",
        "products.apply_drop(drop, residuals.outputs)",
        RECURRENT,
    ),
    "gradient that forgets the outputs": Mutant(
        "adjoint", "_backward.body", "with_output(A, A.h + output_grad)", "A", RECURRENT
    ),
    "gradient that forgets the initial state": Mutant(
        "adjoint",
        "_backward",
        "jnp.concatenate([h_start[None], A])",
        "jnp.concatenate([0 * h_start[None], A])",
        RECURRENT,
    ),
    "bias gradient over time alone": Mutant(
        "products", "weight_gradients", "deltas.z.sum(rows)", "deltas.z.sum(rows[:-1])[0]", RECURRENT
    ),
    "padding that moves the carry": Mutant(
        "adjoint", "hold", "jax.tree.map(partial(jnp.where, A), new, old)", "new", RECURRENT
    ),
    "outputs that go on after the end": Mutant("adjoint", "hold", "jnp.where(A, state, 0)", "state", RECURRENT),
    "padding that leaks into gradients": Mutant(
        "adjoint", "_backward.body", "_zero_padding(preserved.valid, B)", "B", RECURRENT
    ),
    "padding whose NaN comes back": Mutant("recurrence", "without_padding", "jnp.where(A, x, 0)", "x", RECURRENT),
    "reverse that does not turn its outputs back": Mutant(
        "recurrence", "traverse", "jax.tree.map(A, outputs)", "outputs", RECURRENT
    ),
    "reverse that begins in the padding": Mutant(
        "padding", "turn", "jnp.where(A, B, t)", "x.shape[0] - 1 - t + 0 * lengths", RECURRENT
    ),
    "length that is one step too long": Mutant("padding", "valid_steps", "A < B", "A <= B", RECURRENT),
    "dropout that the gradient does not see": Mutant(
        "adjoint", "_backward.body", "products.apply_drop(drop, through_u)", "through_u", RECURRENT
    ),
    "dropout whose own gradient forgets the state": Mutant(
        "adjoint", "_backward", "jnp.sum(A * h_before, axis=0)", "jnp.sum(A, axis=0)", RECURRENT
    ),
    "a few features without the bias": Mutant("products", "project", "sum(A, params.bias)", "sum(A)", RECURRENT),
    "truncation that truncates nothing": Mutant("chunks", "_cut", "jax.lax.stop_gradient(A)", "A", RECURRENT),
    # the normalisations
    "layer norm that does not centre": Mutant("layer_norm", "centre", "a - A", "a", NORM),
    "layer norm of all gates of a gru": Mutant(
        "layer_norm",
        "layer_norm_gates",
        "[layer_norm(P, epsilon).values for P in A]",
        "[layer_norm(a, epsilon).values]",
        NORM,
    ),
    "gain that is left out": Mutant("layer_norm", "layer_norm_gates", "A * gain", "A", NORM),
    "memory that is not normalised": Mutant(
        "layer_norm", "layer_slots.memory", "A.values * gains.c + gains.c_shift", "c", NORM
    ),
    "sum whose shift is lost": Mutant("layer_norm", "layer_slots.total", "A + group_shifts[group]", "A", NORM),
    "single feature that keeps its scale": Mutant(
        "normalised", "_of_one_feature", "[x * S for S in A]", "[x for S in A]", NORM
    ),
    "layer norm whose adjoint keeps the mean": Mutant("layer_norm", "layer_norm_transpose", "centre(A)", "A", NORM),
    "layer norm whose adjoint takes the deviation for a constant": Mutant(
        "layer_norm", "rms_norm_transpose", "cotangent - A", "cotangent", NORM
    ),
    "layer norm whose adjoint forgets the gain": Mutant(
        "layer_norm", "layer_transposes.recurrent", "cotangent * gains.h", "cotangent", NORM
    ),
    "gain of the memory that takes the shift's gradient": Mutant(
        "layer_norm",
        "gain_gradients",
        "gains._replace(h=H, c=C, c_shift=S)",
        "gains._replace(h=H, c=S, c_shift=S)",
        NORM,
    ),
    "memory of batch norm whose shift is lost": Mutant(
        "normalised", "_memory_slot.memory", "A + gains.c_shift", "A", NORM
    ),
    "moments shared over time": Mutant(
        "batch_norm",
        "batch_moments",
        "jnp.mean(a, axis=-2)",
        "jnp.broadcast_to(jnp.mean(a, axis=(0, -2)), jnp.mean(a, axis=-2).shape)",
        NORM,
    ),
    "moments of both projections mixed up": Mutant(
        "normalised", "_standardised_scan.body", "fixed_t.h", "fixed_t.x", NORM
    ),
    "padding that leaks into moments": Mutant("batch_norm", "batch_moments", "valid is None", "True", NORM),
    "momentum the wrong way round": Mutant(
        "batch_norm",
        "follow.updated",
        "momentum * A + (1 - momentum) * B",
        "(1 - momentum) * A + momentum * B",
        NORM,
    ),
    "moments of unseen steps that fade": Mutant("batch_norm", "follow", "valid is None", "True", NORM),
    "beyond the trained length, the first moments": Mutant(
        "batch_norm", "at_steps", "jnp.minimum(A, last)", "A % (last + 1)", NORM
    ),
    "moments that start again where a scan goes on": Mutant("batch_norm", "at_steps", "first + A", "A", NORM),
    "gains of batch norm that start at one": Mutant("norm", "init", "0.1", "1.0", NORM),
    "variance for its root": Mutant("batch_norm", "standardise", "jax.lax.rsqrt(A) * gain", "gain / A", NORM),
}
every_mutant = pytest.mark.parametrize("mutant", MUTANTS.values(), ids=list(MUTANTS))


def read(mutant):
    return (ROOT / "jaxseq/cells" / mutant.module).with_suffix(".py").read_text()


def plant(mutant, source):
    return mutate(source, mutant.function, mutant.right, mutant.wrong)


@every_mutant
def test_a_planted_bug_changes_its_function_alone_however_that_is_written(mutant):
    source = read(mutant)
    changed = plant(mutant, source)
    compile(changed, mutant.module, "exec")

    before = ast.parse(source).body
    after = ast.parse(changed).body
    different = [a for a, b in zip(before, after, strict=True) if ast.dump(a) != ast.dump(b)]
    assert [node.name for node in different] == [mutant.function.split(".")[0]]

    without_comments = ast.unparse(ast.parse(source))
    assert plant(mutant, without_comments) == changed


@pytest.mark.parametrize(
    ("function", "right"), [("f", "x * A"), ("f", "x + A"), ("g", "x"), ("f.h", "x"), ("f", "y + y")]
)
def test_a_bug_that_has_no_place_or_several_is_refused(function, right):
    source = "def f(x):\n    return (x + 1) - (x + 2)\n"
    with pytest.raises(PatternError, match="expected once"):
        mutate(source, function, right, "0")


def test_a_wildcard_stands_for_one_expression_wherever_it_comes_again():
    source = "def f(a, b):\n    return a - a + (a - b)\n"
    assert mutate(source, "f", "A - A", "A * A") == "def f(a, b):\n    return a * a + (a - b)\n"
    assert mutate(source, "f", "A + B", "B") == "def f(a, b):\n    return a - b\n"


SAY_WHAT_IS_TESTED = """

def pytest_sessionfinish():
    import jaxseq
    print("tested:", jaxseq.__file__)
"""
"""End of the copy's conftest.py."""


@pytest.mark.slow
@every_mutant
def test_a_planted_bug_is_found(mutant, tmp_path):
    # Byte code is copied, too, as it is kept for a file's size and time: without it each copy compiles everything anew.
    shutil.copytree(ROOT / "jaxseq", tmp_path / "jaxseq")
    shutil.copytree(ROOT / "tests", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "jaxseq/cells" / mutant.module).with_suffix(".py").write_text(plant(mutant, read(mutant)))
    with (tmp_path / "tests/conftest.py").open("a") as conftest:
        conftest.write(SAY_WHAT_IS_TESTED)

    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    files = [f"tests/cells/{name}" for name in mutant.tests]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *files]
    tested = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert f"tested: {tmp_path}/jaxseq/__init__.py" in tested.stdout, "the copy is not what is tested"
    # 1 is a failed test; 2 to 5 are errors of collection and the like, which prove nothing.
    assert tested.returncode == 1, tested.stdout[-2000:]
