"""Compile the persistent kernels for described GPUs; print registers, spills and shared memory of each as JSON.

Run by `test_compiles.py` in an environment that has JAX's CUDA plugin and ptxas.
"""

import itertools
import json
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

# Before JAX.
import described_gpus
import jax
import jax.numpy as jnp

from jaxseq.cells import CELLS, kernel_layout, normalised, recurrence
from jaxseq.cells import norm as norms
from jaxseq.cells.adjoint import Layer
from jaxseq.cells.norm import Norm
from jaxseq.cells.normalised import Normalisation
from jaxseq.cells.recurrence import Rows, Traversal

STEPS, BATCH, FEATURES = 50, 32, 1
NORMS = ("none", "layer", "layer-sum")
UNITS = (50, 64, 128)
ROWS = {
    "h100": ("whole", "lengths, dropout", "resets", "lengths, resets, dropout"),
    "a100": ("lengths, resets, dropout",),
}
"""What the rows have, by GPU."""
PTXAS = Path(sysconfig.get_path("purelib")) / "nvidia/cu13/bin/ptxas"
# The expression chooses among the files of each kernel, of which the others take most of the time.
DUMP = {"xla_gpu_dump_llvmir": True, "xla_dump_emitter_re": "ptx"}


class Case(NamedTuple):
    """A layer, and what its rows have."""

    cell: str
    norm: str
    units: int
    rows: str


def program_of(case: Case) -> tuple[Any, tuple[Any, ...]]:
    """Return a program of the forward and the backward kernel and little else, and the shapes of its arguments."""
    cell = CELLS[case.cell]
    params = jax.eval_shape(partial(cell.init, d=FEATURES, h=case.units), jax.random.key(0))
    carry = jax.eval_shape(lambda: cell.start((BATCH, case.units)))
    x = jax.ShapeDtypeStruct((STEPS, BATCH, FEATURES), jnp.float32)
    gains = None
    if case.norm != "none":
        new_gains = partial(norms.init, Norm(case.norm), cell.gate_count, len(carry) > 1, case.units)
        gains = jax.eval_shape(new_gains)

    rows = Rows()
    if "lengths" in case.rows:
        rows = rows._replace(lengths=jax.ShapeDtypeStruct((BATCH,), jnp.int32))
    if "dropout" in case.rows:
        rows = rows._replace(drop=jax.ShapeDtypeStruct((BATCH, case.units), jnp.float32))
    if "resets" in case.rows:
        rows = rows._replace(resets=jax.ShapeDtypeStruct((STEPS, BATCH), jnp.bool_), restart=carry)

    def loss(carry: Any, params: Any, gains: Any, x: Any, rows: Rows) -> Any:
        traversal = Traversal(kernel="pallas")
        if case.norm == "none":
            _, outputs = recurrence.scan(cell, params, x, carry, rows, traversal)
        else:
            normalisation = Normalisation(Norm(case.norm), gains)
            _, outputs, _ = normalised.scan(cell, normalisation, params, x, carry, rows, traversal)
        return outputs.sum()

    # By the carry alone, whose cotangent the backward kernel itself gives.
    return jax.jit(jax.value_and_grad(loss)), (carry, params, gains, x, rows)


def resources(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what each persistent kernel takes, from the files that XLA has written of a program."""
    (thunks,) = folder.glob("*.thunk_sequence.txt")
    launches = dict(re.findall(r"\] (\w+_(?:forward|backward)) (.*)", thunks.read_text()))
    for ptx in sorted(folder.glob("*.ptx")):
        text = ptx.read_text()
        name = _first(r"\.entry (\w+)\(", text)
        if name not in launches:
            continue
        architecture = _first(r"\.target (\w+)", text)
        command = [PTXAS, "-v", f"-arch={architecture}", ptx, "-o", folder / "kernel.cubin"]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        yield {
            "kernel": name.rpartition("_")[2],
            "architecture": architecture,
            "threads": int(_first(r"threads: \[(\d+)", launches[name])),
            "registers": int(_first(r"Used (\d+) registers", report)),
            "spilled_bytes": int(_first(r"(\d+) bytes spill stores", report)),
            "shared_bytes": int(_first(r"shared_memory: (\d+) bytes", launches[name])),
        }


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, f"{pattern} is not in {text}"
    return match[1]


def _keeps_all(case: Case) -> bool:
    """Whether all of R stays in registers; "auto" takes the other kernels on an H100 alone."""
    return kernel_layout.plan(Layer(CELLS[case.cell]), case.units).keeps_all


def main() -> None:
    for gpu, rows in ROWS.items():
        mesh = described_gpus.mesh_of(gpu)
        for values in itertools.product(("rnn", "lstm", "gru"), NORMS, UNITS, rows):
            case = Case(*values)
            if gpu != "h100" and not _keeps_all(case):
                continue
            program, arguments = program_of(case)
            with tempfile.TemporaryDirectory() as folder:
                described_gpus.compiled(mesh, program, *arguments, options={"xla_dump_to": folder, **DUMP})
                for kernel in resources(Path(folder)):
                    print(json.dumps({"gpu": gpu, **case._asdict(), **kernel}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
