"""StableHLO: the whole program, as `jax.export` reads it and as portable bytecode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.export import kinds, program
from jaxseq.export.formats.base import missing, zeros
from jaxseq.export.program import Outputs, Program
from jaxseq.train.domains.base import RestoredRun

PLATFORMS = ("cpu", "cuda", "tpu")


def takes(run: RestoredRun) -> bool:
    """Return whether the run is a program."""
    return kinds.of(run).program is not None


def files(run: RestoredRun) -> dict[str, bytes]:
    """Return the program for any number of rows. Raises `UsageError` if flatbuffers is not installed."""
    # JAX writes its own format by it, and does not install it.
    try:
        import flatbuffers  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing("flatbuffers") from error

    exported = kinds.program_of(run)
    with jax.enable_x64(_is_double(exported)), _without_places():
        inputs = program.symbolic(exported)
        compiled = jax.export.export(jax.jit(exported.function), platforms=PLATFORMS)(inputs)
        content = compiled.serialize()

        # What is checked is what another program will read.
        arrays = {name: jnp.asarray(value) for name, value in exported.example.items()}
        outputs: Outputs = jax.export.deserialize(content).call(arrays)  # pyrefly: ignore[bad-assignment]
    program.check(exported, {name: np.asarray(output) for name, output in outputs.items()})
    name = exported.result
    return {f"{name}.jax_export": bytes(content), f"{name}.stablehlo": compiled.mlir_module_serialized}


def call(run: RestoredRun) -> str:
    """Say how the program is read and called."""
    exported = kinds.program_of(run)
    name = exported.result
    called = f"program.call({zeros(exported)})"
    read = f'jax.export.deserialize(open("{name}.jax_export", "rb").read())'
    lines = [f"results = {called}"]
    if _is_double(exported):
        lines = ["with jax.enable_x64(True):", f"    results = {called}"]
    code = "\n".join(["import jax, numpy as np", "", f"program = {read}", *lines, f'print(results["{name}"])'])
    return f"""
```python
{code}
```

It needs `pip install jax flatbuffers`. `{name}.stablehlo` is the same as StableHLO's portable bytecode, for compilers.
"""


def _is_double(exported: Program) -> bool:
    return np.dtype(np.float64) in exported.dtypes.values()


@contextmanager
def _without_places() -> Iterator[None]:
    """Trace without the places of operations in the source, which name folders of this machine and differ by the call."""
    before = jax.config.values["jax_traceback_in_locations_limit"]
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", before)
