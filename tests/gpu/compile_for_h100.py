"""Compile programs for an H100 from its description, without one; print what they launch as JSON.

Run by `test_compiles.py` in an environment that has JAX's CUDA plugin.
"""

import json
import re
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

# Before JAX.
import described_gpus
import jax
import jax.numpy as jnp
import optax

from jaxseq.cells import CELLS, normalised, recurrence
from jaxseq.cells import norm as norms
from jaxseq.cells.norm import NORMS, Norm
from jaxseq.cells.normalised import Normalisation
from jaxseq.cells.recurrence import Rows, Traversal
from jaxseq.common.arrays import Batch
from jaxseq.nn import heads, objectives
from jaxseq.nn.forecaster import Forecaster
from jaxseq.nn.recurrent import Bidirectional, Recurrent
from jaxseq.train import devices, epoch

STEPS, BATCH, FEATURES, UNITS, ROWS = 50, 32, 1, 50, 320
NO_KERNEL = ("parameter", "get-tuple-element", "tuple", "bitcast", "constant")
ON_THE_HOST = r"callback|infeed|outfeed|MoveToHost|MoveToDevice"

MESH = described_gpus.mesh_of("h100")
compiled = partial(described_gpus.compiled, MESH)
FORECASTERS = {
    "rnn": Forecaster(CELLS["rnn"], UNITS, 1, 1),
    "lstm": Forecaster(CELLS["lstm"], UNITS, 1, 1),
    "gru": Forecaster(CELLS["gru"], UNITS, 1, 1),
    "wide gru": Forecaster(CELLS["gru"], 256, 1, 1),
    "two layers, dropout": Forecaster(CELLS["gru"], UNITS, 2, 1, dropout=0.1, recurrent_dropout=0.1),
    "bidirectional": Forecaster(CELLS["lstm"], UNITS, 1, 1, bidirectional=True),
    "layer": Forecaster(CELLS["lstm"], UNITS, 1, 1, norm=Norm("layer")),
    "layer-sum": Forecaster(CELLS["gru"], UNITS, 1, 1, norm=Norm("layer-sum")),
    "batch": Forecaster(CELLS["lstm"], UNITS, 1, 1, norm=Norm("batch")),
    "batch-between": Forecaster(CELLS["rnn"], UNITS, 2, 1, norm_between=Norm("batch")),
}
LAYERS = {
    "recurrent": Recurrent(CELLS["gru"], UNITS, learn_start=True, truncate=20),
    "reverse": Recurrent(CELLS["lstm"], UNITS, reverse=True),
    "bidirectional": Bidirectional(Recurrent(CELLS["gru"], UNITS)),
}


def launched(program: Any) -> dict[str, Any]:
    """Return the kernels of each iteration by loop, the planned memory, and calls to the host."""
    text = program.as_text()
    computations = dict(_computations(text))
    loops = []
    for line in text.splitlines():
        body = re.search(r" while\(.*body=%?([\w.\-]+)", line)
        trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
        if body and trips:
            operations = [_operation(instruction) for instruction in computations[body[1]]]
            loops.append({"trips": int(trips[1]), "kernels": sum(map(_is_kernel, operations))})
    return {
        "loops": loops,
        "temporary_mib": round(program.memory_analysis().temp_size_in_bytes / 2**20, 2),
        "on_the_host": re.findall(ON_THE_HOST, text, re.IGNORECASE),
    }


def _computations(text: str) -> Iterator[tuple[str, list[str]]]:
    for block in re.findall(r"^(?:ENTRY )?%?([\w.\-]+) [^\n]*\{\n((?:  [^\n]*\n)*)\}", text, re.MULTILINE):
        yield block[0], [line.strip() for line in block[1].splitlines() if " = " in line]


def _operation(instruction: str) -> str:
    """Return the name of an instruction's operation: ``%x = f32[2]{0} fusion(...)`` is a fusion."""
    match = re.search(r"= (?:\(.*?\)|\S+) ([a-z][\w\-]*)\(", instruction)
    assert match, instruction
    return match[1]


def _is_kernel(operation: str) -> bool:
    # An asynchronous kernel is a pair of start and done.
    return operation not in NO_KERNEL and not operation.endswith("-done")


def recurrences() -> Iterator[tuple[str, Any]]:
    """Compile value and gradient of every cell and norm, by the scan and by the kernel that the package chooses."""
    # The kernels and norms are those of the cells with gates.
    gated = {name: cell for name, cell in CELLS.items() if cell.gates is not None}
    for name, cell in gated.items():
        params = jax.eval_shape(partial(cell.init, d=FEATURES, h=UNITS), jax.random.key(0))
        x = jax.ShapeDtypeStruct((STEPS, BATCH, FEATURES), jnp.float32)
        carry = jax.eval_shape(lambda cell=cell: cell.start((BATCH, UNITS)))
        lengths = jax.ShapeDtypeStruct((BATCH,), jnp.int32)
        has_memory = len(carry) > 1
        for slot in ("none", *NORMS):
            gains = running = None
            if slot != "none":
                norm = Norm(slot)
                gains = jax.eval_shape(partial(norms.init, norm, cell.gate_count, has_memory, UNITS))
                running = jax.eval_shape(partial(norms.init_running, cell.gate_count, has_memory, STEPS, UNITS))

            def loss(params, gains, x, carry, running, lengths, kernel, cell=cell, slot=slot):
                rows, traversal = Rows(lengths), Traversal(kernel=kernel)
                if slot == "none":
                    _, outputs = recurrence.scan(cell, params, x, carry, rows, traversal)
                else:
                    normalisation = Normalisation(Norm(slot), gains, running, train=True)
                    _, outputs, _ = normalised.scan(cell, normalisation, params, x, carry, rows, traversal)
                return outputs.sum()

            for kernel, which in (("scan", "whole"), ("scan", "lengths"), ("auto", "lengths")):
                gradient = jax.jit(jax.value_and_grad(partial(loss, kernel=kernel), argnums=(0, 1, 2, 3)))
                given = lengths if which == "lengths" else None
                program = compiled(gradient, params, gains, x, carry, running, given)
                yield f"{kernel}, {name}, {slot}, {which}", program


def other_cells() -> Iterator[tuple[str, Any]]:
    """Compile value and gradient of the cells without gates, which have neither these kernels nor norms."""
    for name, cell in CELLS.items():
        if cell.gates is not None:
            continue
        params = jax.eval_shape(partial(cell.init, d=FEATURES, h=UNITS), jax.random.key(0))
        x = jax.ShapeDtypeStruct((STEPS, BATCH, FEATURES), jnp.float32)
        carry = jax.eval_shape(lambda cell=cell: cell.start((BATCH, UNITS)))
        lengths = jax.ShapeDtypeStruct((BATCH,), jnp.int32)

        def loss(params, x, carry, lengths, cell=cell):
            _, outputs = recurrence.scan(cell, params, x, carry, Rows(lengths))
            return outputs.sum()

        gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
        yield f"other, {name}", compiled(gradient, params, x, carry, lengths)


def layers() -> Iterator[tuple[str, Any]]:
    for name, layer in LAYERS.items():
        x = jax.ShapeDtypeStruct((BATCH, STEPS, 3), jnp.float32)
        variables = jax.eval_shape(layer.init, jax.random.key(0), x)
        gradient = jax.grad(lambda variables, x, layer=layer: layer.apply(variables, x)[1].sum())
        yield f"layer, {name}", compiled(jax.jit(gradient), variables, x)


def epochs() -> Iterator[tuple[str, Any]]:
    """Compile an epoch of every forecaster, and its predictions."""
    for name, model in FORECASTERS.items():
        setup = epoch.Setup(
            model,
            objectives.forecasting(heads.point()),
            optax.adam(1e-3),
            devices.batch_sharding(MESH, BATCH),
        )
        x = jax.ShapeDtypeStruct((ROWS, STEPS, FEATURES), jnp.float32)
        y = jax.ShapeDtypeStruct((ROWS, 1), jnp.float32)
        row = jax.ShapeDtypeStruct((1, STEPS, FEATURES), jnp.float32)
        state = jax.eval_shape(partial(epoch.init, setup), jax.random.key(0), row)

        training = jax.jit(partial(epoch.epoch, setup, batch=BATCH), donate_argnums=0)
        yield f"epoch, {name}", compiled(training, state, Batch(x, y))
        prediction = jax.jit(partial(epoch.predict, setup, batch=BATCH))
        yield f"predict, {name}", compiled(prediction, state.params, state.stats, x)


def main() -> None:
    for programs in (recurrences, other_cells, layers, epochs):
        for name, program in programs():
            print(json.dumps({"program": name, **launched(program)}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
