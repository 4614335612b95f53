"""Are the tests of the mathematics awake? Each planted bug must turn them red. Minutes long: `python -m pytest -m slow`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
CELLS = ("test_cells.py",)
NORM = ("test_norm.py", "test_properties.py")
RECURRENT = ("test_recurrence.py", "test_sequences.py", "test_properties.py")


class Mutant(NamedTuple):
    """A bug: in which file, what it says instead of what, and the tests that should see it."""

    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


MUTANTS = {
    # the cells
    "rnn without tanh": Mutant("cells/rnn.py", "Carry(jnp.tanh(total))", "Carry(total)", CELLS),
    "rnn that drops its input": Mutant("cells/rnn.py", "slots.total(z + u, 0)", "slots.total(u, 0)", CELLS),
    "rnn with the slope of another function": Mutant("cells/rnn.py", "Local(tanh_slope(h),", "Local(1 - h,", RECURRENT),
    "lstm with f and i swapped": Mutant(
        "cells/lstm.py", "i, f, g, o = jnp.split(activated", "f, i, g, o = jnp.split(activated", CELLS
    ),
    "lstm with g and o swapped": Mutant(
        "cells/lstm.py", "i, f, g, o = jnp.split(activated", "i, f, o, g = jnp.split(activated", CELLS
    ),
    "lstm that shows c without tanh": Mutant("cells/lstm.py", "tanh_c = jnp.tanh(seen)", "tanh_c = seen", CELLS),
    "lstm that forgets to forget": Mutant("cells/lstm.py", "c = f * carry.c + i * g", "c = carry.c + i * g", CELLS),
    "lstm that carries h as c": Mutant(
        "cells/lstm.py", "return Carry(o * tanh_c, c), Saved", "return Carry(o * tanh_c, o * tanh_c), Saved", CELLS
    ),
    "lstm without a forget bias": Mutant("cells/lstm.py", ".at[h : 2 * h].set(1)", "", CELLS),
    "lstm with the bias on the input gate": Mutant("cells/lstm.py", ".at[h : 2 * h].set(1)", ".at[:h].set(1)", CELLS),
    "lstm whose adjoint loses the memory": Mutant(
        "cells/lstm.py", "c_bar = bar.c + through_h", "c_bar = through_h", RECURRENT
    ),
    "lstm whose adjoint takes i for g": Mutant(
        "cells/lstm.py", "        i * tanh_slope(g),", "        g * tanh_slope(i),", RECURRENT
    ),
    "lstm whose adjoint takes the new memory": Mutant(
        "cells/lstm.py", "saved.c_before * sigmoid_slope(f)", "saved.tanh_c * sigmoid_slope(f)", RECURRENT
    ),
    "gru with z inverted": Mutant(
        "cells/gru.py", "Carry(n + update * (carry.h - n))", "Carry(carry.h + update * (n - carry.h))", CELLS
    ),
    "gru with r and z swapped": Mutant(
        "cells/gru.py",
        "r, update = jnp.split(rz, 2, axis=-1)\n    u_n",
        "update, r = jnp.split(rz, 2, axis=-1)\n    u_n",
        CELLS,
    ),
    "gru that never resets": Mutant("cells/gru.py", "z[..., 2 * h :] + r * u_n", "z[..., 2 * h :] + u_n", CELLS),
    "gru that resets its input too": Mutant(
        "cells/gru.py", "z[..., 2 * h :] + r * u_n", "r * (z[..., 2 * h :] + u_n)", CELLS
    ),
    "gru whose adjoint gives u what is z's": Mutant(
        "cells/gru.py", "in (n_bar, n_bar * local.r))", "in (n_bar, n_bar))", RECURRENT
    ),
    "gru whose adjoint loses the direct path": Mutant(
        "cells/gru.py", "Carry(bar.h * local.update)", "Carry(bar.h * 0)", RECURRENT
    ),
    "kernels that are not orthogonal": Mutant(
        "cells/base.py", "glorot_uniform(), orthogonal()", "glorot_uniform(), glorot_uniform()", CELLS
    ),
    "gates that share one draw": Mutant(
        "cells/base.py",
        "for k in jax.random.split(input_key, gate_count)]",
        "for k in [input_key] * gate_count]",
        CELLS,
    ),
    # the recurrence
    "input projection without its bias": Mutant(
        "cells/recurrence.py",
        "return x @ params.input_kernel + params.bias",
        "return x @ params.input_kernel",
        RECURRENT + CELLS,
    ),
    "recurrent product without its bias": Mutant(
        "cells/recurrence.py",
        "u + params.recurrent_bias if cell.recurrent_bias else u, carry, slots)",
        "u, carry, slots)",
        CELLS,
    ),
    "recurrent kernel transposed": Mutant(
        "cells/recurrence.py",
        "_filled_up(params.recurrent_kernel.T)",
        "_filled_up(jnp.flip(params.recurrent_kernel.T, 1))",
        RECURRENT,
    ),
    "weight gradient from the same step's state": Mutant(
        "cells/recurrence.py",
        "recurrent_kernel=_over_rows(h_before if",
        "recurrent_kernel=_over_rows(outputs if",
        RECURRENT,
    ),
    "gradient that forgets the outputs": Mutant(
        "cells/recurrence.py", "mine = bar._replace(h=bar.h + h_bar)", "mine = bar", RECURRENT
    ),
    "gradient that forgets the initial state": Mutant(
        "cells/recurrence.py",
        "jnp.concatenate([h_start[None], outputs[:-1]])",
        "jnp.concatenate([0 * h_start[None], outputs[:-1]])",
        RECURRENT,
    ),
    "bias gradient over time alone": Mutant(
        "cells/recurrence.py", "else dz.sum(rows),", "else dz.sum(rows[:-1])[0],", RECURRENT
    ),
    "padding that moves the carry": Mutant(
        "cells/recurrence.py",
        "return jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, old), jnp",
        "return new, jnp",
        RECURRENT,
    ),
    "outputs that go on after the end": Mutant("cells/recurrence.py", "jnp.where(keep, new.h, 0)", "new.h", RECURRENT),
    "padding that leaks into gradients": Mutant(
        "cells/recurrence.py",
        "mine = jax.tree.map(lambda state: jnp.where(keep[:, None], state, 0), mine)",
        "pass",
        RECURRENT,
    ),
    "padding whose NaN comes back": Mutant(
        "cells/recurrence.py", "return x if keep is None else jnp.where(keep[..., None], x, 0)", "return x", RECURRENT
    ),
    "reverse that does not turn its outputs back": Mutant(
        "cells/recurrence.py",
        "    return carry, padding.turn(outputs, lengths) if reverse else outputs",
        "    return carry, outputs",
        RECURRENT,
    ),
    "reverse that begins in the padding": Mutant(
        "cells/padding.py",
        "index = jnp.where(t < lengths, lengths - 1 - t, t)",
        "index = x.shape[0] - 1 - t + 0 * lengths",
        RECURRENT,
    ),
    "length that is one step too long": Mutant(
        "cells/padding.py", "[:, None] < lengths\n", "[:, None] <= lengths\n", RECURRENT
    ),
    "dropout that the gradient does not see": Mutant(
        "cells/recurrence.py", "through_u if drop is None else through_u * drop", "through_u", RECURRENT
    ),
    "dropout whose own gradient forgets the state": Mutant(
        "cells/recurrence.py", "jnp.sum(through_u * h_before, axis=0)", "jnp.sum(through_u, axis=0)", RECURRENT
    ),
    "a few features without the bias": Mutant(
        "cells/recurrence.py", "strict=True)), params.bias)", "strict=True)))", RECURRENT
    ),
    "truncation that truncates nothing": Mutant(
        "cells/recurrence.py", "jax.lax.stop_gradient(carry) if first else carry", "carry", RECURRENT
    ),
    # the normalisations
    "layer norm that does not centre": Mutant(
        "cells/norm.py", "return a - jnp.mean(a, axis=-1, keepdims=True)", "return a", NORM
    ),
    "layer norm of all gates of a gru": Mutant(
        "cells/norm.py",
        "[unit(part, epsilon).values for part in split_groups(a, groups)]",
        "[unit(a, epsilon).values]",
        NORM,
    ),
    "gain that is left out": Mutant(
        "cells/norm.py", "split_groups(a, groups)], axis=-1) * gain", "split_groups(a, groups)], axis=-1)", NORM
    ),
    "memory that is not normalised": Mutant(
        "cells/norm.py", "return noted.values * weights.c + weights.c_shift, noted", "return c, noted", NORM
    ),
    "sum whose shift is lost": Mutant(
        "cells/norm.py", "gains[group] + shifts[group], noted", "gains[group], noted", NORM
    ),
    "single feature that keeps its scale": Mutant(
        "cells/normalised.py", "[x * scale for scale in scales]", "[x for scale in scales]", NORM
    ),
    "layer norm whose adjoint keeps the mean": Mutant(
        "cells/norm.py", "return centred(scaled_back(noted, bar))", "return scaled_back(noted, bar)", NORM
    ),
    "layer norm whose adjoint takes the deviation for a constant": Mutant(
        "cells/norm.py",
        "(bar - noted.values * jnp.mean(bar * noted.values, axis=-1, keepdims=True))",
        "bar",
        NORM,
    ),
    "layer norm whose adjoint forgets the gain": Mutant(
        "cells/norm.py", "split_groups(bar * weights.h, groups)", "split_groups(bar, groups)", NORM
    ),
    "gain of the memory that takes the shift's gradient": Mutant(
        "cells/norm.py", "c=cell.memory[0], c_shift", "c=cell.memory[1], c_shift", NORM
    ),
    "memory of batch norm whose shift is lost": Mutant(
        "cells/normalised.py", "return seen + weights.c_shift, noted", "return seen, noted", NORM
    ),
    "moments shared over time": Mutant(
        "cells/norm.py",
        "        mean = jnp.mean(a, axis=-2)\n",
        "        mean = jnp.broadcast_to(jnp.mean(a, axis=(0, -2)), jnp.mean(a, axis=-2).shape)\n",
        NORM,
    ),
    "moments of both projections mixed up": Mutant(
        "cells/normalised.py", "weights.h, keep, at and at.h)", "weights.h, keep, at and at.x)", NORM
    ),
    "padding that leaks into moments": Mutant(
        "cells/norm.py", "    if keep is None:\n        mean", "    if True:\n        mean", NORM
    ),
    "momentum the wrong way round": Mutant(
        "cells/norm.py",
        "momentum * old[:t] + (1 - momentum) * new[:t]",
        "(1 - momentum) * old[:t] + momentum * new[:t]",
        NORM,
    ),
    "moments of unseen steps that fade": Mutant(
        "cells/norm.py",
        "seen = jnp.ones((t, 1), bool) if keep is None else",
        "seen = jnp.ones((t, 1), bool) if True else",
        NORM,
    ),
    "beyond the trained length, the first moments": Mutant(
        "cells/norm.py",
        "jnp.minimum(first + jnp.arange(t), running.mean.shape[0] - 1)",
        "(first + jnp.arange(t)) % running.mean.shape[0]",
        NORM,
    ),
    "moments that start again where a scan goes on": Mutant(
        "cells/norm.py", "jnp.minimum(first + jnp.arange(t),", "jnp.minimum(jnp.arange(t),", NORM
    ),
    "gains of batch norm that start at one": Mutant("cells/norm.py", "0.1 if norm.by_batch else 1.0", "1.0", NORM),
    "variance for its root": Mutant(
        "cells/norm.py", "(jax.lax.rsqrt(var + epsilon) * gain)", "(gain / (var + epsilon))", NORM
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=list(MUTANTS))
def test_a_planted_bug_is_found(mutant, tmp_path):
    shutil.copytree(ROOT / "jaxseq", tmp_path / "jaxseq", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "jaxseq" / mutant.file
    source = path.read_text()
    assert source.count(mutant.right) == 1, f"{mutant.file} holds {mutant.right!r} {source.count(mutant.right)} times"
    path.write_text(source.replace(mutant.right, mutant.wrong))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    files = [f"tests/{name}" for name in mutant.tests]
    imports = [sys.executable, "-c", "import jaxseq.nn.apply, jaxseq; print(jaxseq.__file__)"]
    loaded = subprocess.run(imports, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert loaded.stdout.startswith(str(tmp_path)), "the copy is not what is tested"
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *files]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert found.returncode == 1, found.stdout[-2000:]
