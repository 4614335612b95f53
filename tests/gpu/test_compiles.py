"""Without a GPU: every cell, norm, layer and epoch compiles for an H100, in few kernels a time step."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
VERSION = "0.11.2"
PACKAGES = (
    f"jax=={VERSION}",
    f"jax-cuda13-plugin=={VERSION}",
    "chex",
    "flax",
    "jaxtyping",
    "optax",
)
PROGRAMS = 59

KERNELS = {
    "rnn, none": (4, 5),
    "lstm, none": (8, 7),
    "gru, none": (7, 6),
    "rnn, layer": (7, 7),
    "lstm, layer": (15, 13),
    "gru, layer": (14, 10),
    "rnn, layer-sum": (9, 7),
    "lstm, layer-sum": (13, 12),
    "gru, layer-sum": (16, 16),
    "rnn, batch": (17, 10),
    "lstm, batch": (32, 18),
    "gru, batch": (23, 12),
}
"""Most kernels of a time step by the scan, forwards and backwards, of 50 units."""
TOGETHER = {"rnn, none": 8, "lstm, none": 14, "gru, none": 13, "lstm, layer": 28}
"""The same of both scans, of whole rows."""
IN_A_TRAINING_STEP = 80
"""Most kernels of a step outside of the recurrence, with the optimiser and the order of the rows."""
TEMPORARY_MIB = 24


def python_312():
    """A Python 3.12, for which the plugin is published; the test is skipped where there is none."""
    candidates = [sys.executable, shutil.which("python3.12")]
    candidates += [str(path) for path in sorted(Path("~/.pyenv/versions").expanduser().glob("3.12.*/bin/python3.12"))]
    for candidate in filter(None, candidates):
        answer = subprocess.run([candidate, "-V"], capture_output=True, text=True)
        if answer.stdout.startswith("Python 3.12."):
            return candidate
    pytest.skip("no Python 3.12, for which JAX's CUDA plugin is installed")


def environment_with_the_plugin():
    """The Python of an environment with JAX's CUDA plugin; it is made once, and kept beside the compiled programs."""
    folder = Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).parent / f"cuda-{VERSION}"
    python, complete = folder / "bin/python", folder / "complete"
    if not complete.exists():
        subprocess.run([python_312(), "-m", "venv", "--clear", folder], check=True)
        install = [python, "-m", "pip", "install", "-q", *PACKAGES]
        installed = subprocess.run(install, capture_output=True, text=True)
        if installed.returncode:
            pytest.skip(f"the CUDA plugin cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
        complete.touch()
    return python


def compiled_programs():
    """What each program launches, by its name."""
    names = ("JAX_ENABLE_COMPILATION_CACHE", "JAX_COMPILATION_CACHE_DIR", "JAX_PLATFORMS", "XLA_FLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment["PYTHONPATH"] = str(HERE.parents[1])
    child = subprocess.run(
        [environment_with_the_plugin(), HERE / "compile_for_h100.py"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr[-4000:]
    records = [json.loads(line) for line in child.stdout.splitlines()]
    return {record.pop("program"): record for record in records}


@pytest.mark.slow
def test_everything_compiles_for_an_h100_in_few_kernels():
    programs = compiled_programs()
    print(*(f"{name}: {record}" for name, record in programs.items()), sep="\n")
    assert len(programs) == PROGRAMS

    for name, record in programs.items():
        assert not record["on_the_host"], f"{name} calls the host: {record['on_the_host']}"
        assert record["temporary_mib"] <= TEMPORARY_MIB, f"{name} plans {record['temporary_mib']} MiB"
        kernels = [loop["kernels"] for loop in record["loops"]]
        kind, _, layer = name.partition(", ")
        layer, _, rows = layer.rpartition(", ")

        if kind == "scan":
            assert len(kernels) == 2
            assert all(count <= most for count, most in zip(kernels, KERNELS[layer], strict=True)), f"{name}: {kernels}"
            if rows == "whole" and layer in TOGETHER:
                assert sum(kernels) <= TOGETHER[layer], f"{name}: {kernels}"
        elif kind == "auto" and not layer.endswith("batch"):
            assert not kernels, f"{name} has a loop over time outside of its kernel"
        elif kind == "epoch":
            assert kernels[-1] <= IN_A_TRAINING_STEP, f"{name}: {kernels}"
