"""Runs the GPU benchmark: every item that fits into the budget, in one process; the results are written after each.

Nothing here needs the command line's packages: `run(Settings(out=Path("gpu.json")))` from Python is the same as
`python -m jaxseq.benchmark --gpu --out gpu.json`. JAX is imported when the environment is set.
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from jaxseq.benchmark import machine, turns
from jaxseq.benchmark.budget import Budget
from jaxseq.benchmark.gpu import loads, table
from jaxseq.benchmark.gpu import turns as gpu_turns
from jaxseq.benchmark.gpu.loads import Load
from jaxseq.benchmark.gpu.reasons import reason
from jaxseq.benchmark.gpu.records import Header, PeerRecord, Record, Results
from jaxseq.benchmark.gpu.turns import Turn
from jaxseq.common.errors import UsageError
from jaxseq.common.files import user_path, write_json

# JAX is imported when the environment is set.
if TYPE_CHECKING:
    from jaxseq.benchmark.gpu.layers import Layer
    from jaxseq.benchmark.gpu.programs import Lowered
    from jaxseq.benchmark.gpu.start import Start
    from jaxseq.common.arrays import Tree

Made = TypeVar("Made")
"""A traced program or a peer that is ready."""

SCHEMA = 1
"""Number of the layout of the results; it changes when a reader has to."""
PACKAGES = ("jaxseq", "jax", "jaxlib", "jax-cuda13-plugin", "jax-cuda12-plugin", "flax", "optax", "keras", "torch")
ENVIRONMENT = {
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    # torch shares the GPU, so JAX must not take its memory beforehand, nor more than this share of it.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "XLA_PYTHON_CLIENT_MEM_FRACTION": ".60",
    "KERAS_BACKEND": "jax",
}
TRAINER, STEP = "jaxseq trainer", "jaxseq step"
"""Our peers beside the layers: an epoch of the package's trainer, and its step in generation."""
TORCH_MEMORY = 0.35
"""Share of the GPU's memory that torch may take."""
NOT_REACHED = "not reached: budget"
QUERY = ("name", "driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.draw", "temperature.gpu")
"""Fields of the GPU's state that are asked of nvidia-smi."""


class Settings(NamedTuple):
    """Contents and limits of a run.

    minutes     the time budget
    out         JSON file of the results; None only prints them
    device      "cuda", or "cpu" to try the code without a GPU
    rows        workloads in their order
    parity      (cell, norm) pairs of the parity block
    generation  (cell, rows at once) pairs
    only        text in the names of the items to measure, in any case; empty measures all
    peers       names of the peers to time; None times all
    """

    minutes: float = 6.0
    out: Path | None = None
    device: Literal["cuda", "cpu"] = "cuda"
    rows: tuple[Load, ...] = tuple(loads.ordered())
    parity: tuple[tuple[str, str], ...] = loads.PARITY
    generation: tuple[Load, ...] = loads.GENERATION
    only: str = ""
    peers: frozenset[str] | None = None
    clock: Callable[[], float] = time.perf_counter


class Item(NamedTuple):
    """A part of the run that is measured or left out as a whole.

    kind     "row", "parity" or "generation"
    weight   expected cost relative to others of its kind
    measure  give the result
    """

    kind: str
    name: str
    weight: float
    measure: Callable[[], Record]


def run(settings: Settings) -> Results:
    """Measure, print and write; return the results.

    Raises `UsageError` if JAX finds no GPU for "cuda", and for items and peers that there are none of.
    """
    budget = Budget(settings.minutes * 60, settings.clock)
    chosen = [item for item in items(settings, budget) if settings.only.casefold() in item.name.casefold()]
    if not chosen:
        names = "; ".join(item.name for item in items(settings, budget))
        raise UsageError(f'--only "{settings.only}": no item has that in its name; there are {names}')
    prepare(settings.device)
    _check_peers(settings)

    results = Results(
        **header(settings),
        rows=[],
        parity=[],
        generation=[],
        not_reached=[],
    )
    records = {"row": results["rows"], "parity": results["parity"], "generation": results["generation"]}
    for item in chosen:
        estimate = budget.estimate(item.kind, item.weight)
        # Later items may be cheaper, so the run goes on.
        if estimate > budget.left():
            results["not_reached"].append({"kind": item.kind, "name": item.name, "why": NOT_REACHED})
            _write(settings.out, results)
            continue

        before = budget.used()
        result = _measured(item)
        cost = budget.used() - before
        budget.spent(item.kind, item.weight, cost)
        records[item.kind].append(Record(name=item.name, seconds=cost) | result)
        results["seconds"] = budget.used()
        _write(settings.out, results)
        print(f"{budget.used():6.1f} s  {item.name}  ({cost:.1f} s)", file=sys.stderr, flush=True)
        _free_memory(settings.device)

    results["gpu_after"] = gpu_state()
    _write(settings.out, results)
    print(table.text(results), flush=True)
    return results


def prepare(device: str) -> None:
    """Set the environment before JAX is imported, and check that JAX finds the GPU."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import jax

    if device == "cpu":
        return
    machine.check_gpu(jax.default_backend())
    try:
        import torch
    except ImportError:
        return
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(TORCH_MEMORY)


def _check_peers(settings: Settings) -> None:
    from jaxseq.benchmark.gpu import generation, layers, torch_peers

    known = (*layers.MAKERS, TRAINER, *torch_peers.MAKERS, STEP, *generation.PEERS)
    for name in sorted(settings.peers or ()):
        if name not in known:
            raise UsageError(
                "no such peer",
                where="--peers",
                got=name,
                needed=f"one of {', '.join(dict.fromkeys(known))}",
            )


def header(settings: Settings) -> Header:
    """Describe the machine, the versions and the conditions."""
    import jax

    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        # Its peers are listed as absent, with the reason.
        except importlib.metadata.PackageNotFoundError:
            continue
    return Header(
        schema=SCHEMA,
        device=jax.devices()[0].device_kind,
        gpu_before=gpu_state(),
        versions=versions,
        environment={name: os.environ.get(name) for name in (*ENVIRONMENT, "XLA_FLAGS")},
        clock=machine.CLOCKS["gpu"][0],
        cores=os.cpu_count(),
        minutes=settings.minutes,
    )


def gpu_state() -> dict[str, str]:
    """Return name, driver, clocks, power and temperature of the GPU as nvidia-smi gives them; empty without it."""
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        # Its absence must not cost the measurements.
        return {}
    values = answer.strip().splitlines()[0].split(", ")
    return dict(zip(QUERY, values, strict=False))


def items(settings: Settings, budget: Budget) -> Iterator[Item]:
    """Yield all items in their order: the first rows, parity, generation, and the other rows."""
    first = [load for load in settings.rows if load in loads.FIRST]
    others = [load for load in settings.rows if load not in loads.FIRST]
    # First what a short budget must have: times of the usual sizes, and whether the kernels are right.
    for load in first:
        yield Item("row", load.name, load.weight, partial(measure_row, load, settings, budget))

    for cell, norm in settings.parity:
        prefix = f"{norm} norm " if norm else ""
        yield Item("parity", f"parity: {prefix}{cell}", 1.0, partial(_measure_parity, cell, norm))
    for load in settings.generation:
        name = f"generation: {load.cell}, {load.hidden} units, batch {load.batch}"
        yield Item("generation", name, 1.0, partial(measure_generation, load, settings))

    for load in others:
        yield Item("row", load.name, load.weight, partial(measure_row, load, settings, budget))


def _measured(item: Item) -> Record:
    try:
        return item.measure()
    # One item that fails must not cost the others, which may be measured once only.
    except Exception as error:
        return Record(error=reason(error))


def _measure_parity(cell: str, norm: str) -> Record:
    from jaxseq.benchmark.gpu import parity

    return parity.measure(cell, norm)


def measure_row(load: Load, settings: Settings, budget: Budget) -> Record:
    """Time all peers of a workload; a peer that raises is listed with its reason."""
    from jaxseq.benchmark.gpu import layers, programs, torch_peers, trainer
    from jaxseq.benchmark.gpu.start import draw

    start = draw(load)
    data = programs.on_device(load, start)
    ready: dict[str, Turn] = {}
    absent: dict[str, str] = {}

    tracers: dict[str, Callable[[], Lowered]] = {
        name: partial(_trace, make, load, start, data) for name, make in layers.MAKERS.items()
    }
    # The trainer has no pass of a layer alone.
    if load.task == "step":
        tracers[TRAINER] = partial(trainer.trace, load, start)
    lowered = _collect(_chosen(tracers, settings), absent, budget)

    # XLA compiles outside of Python's lock, so each peer has a thread.
    with ThreadPoolExecutor() as pool:
        futures = {name: pool.submit(programs.compiled, program) for name, program in lowered.items()}
    # One after the other: the first calls would share the device, and its memory.
    for name, future in futures.items():
        try:
            ready[name] = future.result()()
        except Exception as error:
            absent[name] = reason(error)

    # After JAX has compiled and run: a capture forbids some calls of other threads.
    torches = {name: partial(make, load, start, settings.device) for name, make in torch_peers.MAKERS.items()}
    ready |= _collect(_chosen(torches, settings), absent, budget)
    return Record(
        peers=_timed(ready, load.steps, settings),
        load=load._asdict(),
        steps=load.steps,
        absent=absent,
    )


def _trace(
    make: Callable[[Load, Start], Layer],
    load: Load,
    start: Start,
    data: Tree,
) -> Lowered:
    from jaxseq.benchmark.gpu import programs

    return programs.trace(make(load, start), load, start, data)


def measure_generation(load: Load, settings: Settings) -> Record:
    """Time the generation of a sequence by our step and by torch's loops."""
    from jaxseq.benchmark.gpu import generation
    from jaxseq.benchmark.gpu.start import draw

    start = draw(load)
    makers: dict[str, Callable[[], Turn]] = {STEP: partial(generation.ours, load, start)}
    for name, make in generation.PEERS.items():
        makers[name] = partial(make, load, start, settings.device)
    absent: dict[str, str] = {}
    ready = _collect(_chosen(makers, settings), absent, None)
    return Record(
        peers=_timed(ready, load.time_steps, settings),
        load=load._asdict(),
        absent=absent,
    )


def _chosen(
    makers: Mapping[str, Callable[[], Made]],
    settings: Settings,
) -> dict[str, Callable[[], Made]]:
    if settings.peers is None:
        return dict(makers)
    return {name: make for name, make in makers.items() if name in settings.peers}


def _collect(
    makers: Mapping[str, Callable[[], Made]],
    absent: dict[str, str],
    budget: Budget | None,
) -> dict[str, Made]:
    """Call the makers; those that raise, or that the budget has no time for, go to `absent` with the reason."""
    collected = {}
    for name, make in makers.items():
        if budget is not None and budget.left() < 0:
            absent[name] = NOT_REACHED
            continue
        try:
            collected[name] = make()
        except Exception as error:
            absent[name] = reason(error)
    return collected


def _timed(
    ready: Mapping[str, Turn],
    steps: int,
    settings: Settings,
) -> dict[str, PeerRecord]:
    """Time the peers in turn, and compare what they have computed with the first of them."""
    import numpy as np

    times = turns.measure(ready, steps, gpu_turns.PACE, settings.clock)
    peers: dict[str, PeerRecord] = {}
    for name, (milliseconds, calls) in times.items():
        turn = ready[name]
        peers[name] = PeerRecord(
            ms=float(np.median(milliseconds)),
            ms_range=[min(milliseconds), max(milliseconds)],
            ms_rounds=milliseconds,
            calls=calls,
            compile_s=turn.compile_s,
            check=turn.check,
        )

    # The trainer has none: its batches are other rows.
    checks = {name: np.array(turn.check) for name, turn in ready.items() if turn.check}
    if checks:
        # Our scan's, unless it is absent or was not chosen.
        expected = next(iter(checks.values()))
        for name, check in checks.items():
            difference = np.abs(check - expected)
            peers[name]["apart"] = float(np.max(difference / np.abs(expected)))
    return peers


def _free_memory(device: str) -> None:
    """Give cached memory back: torch's cache of one row would be missing to JAX in the next."""
    # Functions that refer to each other hold their arrays until they are collected.
    gc.collect()
    # A run without torch must not import it here.
    torch = sys.modules.get("torch")
    if device != "cpu" and torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _write(out: Path | None, results: Mapping[str, object]) -> None:
    if out is not None:
        write_json(user_path(out), results)
