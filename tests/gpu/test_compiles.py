"""Without a GPU: every cell, norm, layer and epoch compiles for an H100, in few kernels a time step and without spills."""

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
    # ptxas
    "nvidia-cuda-nvcc",
    "optax",
)
PROGRAMS = 69
PERSISTENT_KERNELS = 258

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
SPILLED = 440
"""Most bytes a thread that a backward kernel spills whose R is in part outside of the registers."""
SHARED = 48 * 1024
"""Most bytes of shared memory that any block may have."""


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
    packages = "\n".join(PACKAGES)
    if not complete.exists() or complete.read_text() != packages:
        subprocess.run([python_312(), "-m", "venv", "--clear", folder], check=True)
        install = [python, "-m", "pip", "install", "-q", *PACKAGES]
        installed = subprocess.run(install, capture_output=True, text=True)
        if installed.returncode:
            pytest.skip(f"the CUDA plugin cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
        complete.write_text(packages)
    return python


def printed_by(script):
    """The records that a script prints in that environment."""
    names = ("JAX_ENABLE_COMPILATION_CACHE", "JAX_COMPILATION_CACHE_DIR", "JAX_PLATFORMS", "XLA_FLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment["PYTHONPATH"] = str(HERE.parents[1])
    child = subprocess.run(
        [environment_with_the_plugin(), HERE / script],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr[-4000:]
    return [json.loads(line) for line in child.stdout.splitlines()]


@pytest.mark.slow
def test_everything_compiles_for_an_h100_in_few_kernels():
    programs = {record.pop("program"): record for record in printed_by("compile_for_h100.py")}
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


def span(numbers):
    """Least and largest number."""
    numbers = sorted(numbers)
    return f"{numbers[0]} to {numbers[-1]}" if numbers[0] != numbers[-1] else str(numbers[0])


def table_of(records):
    """Registers, spills and shared memory of all norms and options, by GPU, cell, units and kernel."""
    lines = [
        "| GPU | cell | units | kernel | registers | spilled bytes | shared bytes | threads |",
        "|---|---|---:|---|---:|---:|---:|---:|",
    ]
    groups = {}
    for record in records:
        place = record["gpu"], record["cell"], record["units"], record["kernel"]
        groups.setdefault(place, []).append(record)
    # Forwards first.
    for place, members in sorted(groups.items(), reverse=True):
        columns = [
            span(member[name] for member in members)
            for name in ("registers", "spilled_bytes", "shared_bytes", "threads")
        ]
        lines.append(f"| {' | '.join([*map(str, place), *columns])} |")
    return "\n".join(lines)


@pytest.mark.slow
def test_the_persistent_kernels_spill_nothing_where_all_of_r_is_in_registers():
    records = printed_by("kernel_resources.py")
    print(*records, table_of(records), sep="\n")
    assert len(records) == PERSISTENT_KERNELS

    for record in records:
        # `kernel_layout.plan` keeps half of R for these.
        is_parted = record["units"] == 128 and record["cell"] != "rnn"
        most_spilled = SPILLED if is_parted and record["kernel"] == "backward" else 0
        assert record["spilled_bytes"] <= most_spilled, record
        assert record["shared_bytes"] <= SHARED, record
