"""More devices: a step on 1, 2 and 4 of them, a device's share of the batch alone, and the sums between them alone.

Each number of devices has a process of its own, whose CPU is divided into as many. They are threads of one machine: with
fewer cores than devices they take turns, and the table shows that rather than what as many machines would do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from jaxseq.benchmark import workloads
from jaxseq.benchmark.workloads import Workload
from jaxseq.common.errors import UsageError

if TYPE_CHECKING:
    import jax
    from jax.stages import Compiled

    from jaxseq.common.arrays import Batch, Tree
    from jaxseq.train.epoch import TrainState

DEVICES = (1, 2, 4)
LOADS = {load.name: load for load in (workloads.SMALL[1], workloads.BATCH_256)}


class Timing(TypedDict):
    """Figures of a workload on a number of devices, as they stand in the JSON file.

    cores  of the machine
    ms     wall milliseconds of a step, of one device's share of it, of the sums alone
    busy   cores that each keeps busy
    sums   all-reduce operations in a step
    """

    workload: str
    devices: int
    cores: int
    ms: dict[str, float]
    busy: dict[str, float]
    sums: int
    parameters: int


class Turn(NamedTuple):
    """Wall milliseconds of a step, and the cores that were busy."""

    ms: float
    busy: float


def measure(quick: bool, rounds: int) -> list[Timing]:
    """Measure each workload on each number of devices, one after the other."""
    load_names = list(LOADS)
    if quick:
        load_names = load_names[:1]
    return [_in_process(name, devices, rounds) for name in load_names for devices in DEVICES]


def _in_process(name: str, devices: int, rounds: int) -> Timing:
    print(f"{name}: {devices} devices, {rounds} rounds of {LOADS[name].steps} steps", file=sys.stderr, flush=True)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}".strip()
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "jaxseq.benchmark.devices", name, str(rounds)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    if process.returncode:
        last_lines = process.stderr.strip().splitlines()[-1:] or [f"status {process.returncode}"]
        raise UsageError(f"{name} on {devices} devices could not be measured: {last_lines[0]}")
    return json.loads(process.stdout.splitlines()[-1])


def timed(load: Workload, rounds: int) -> Timing:
    """Time a step on all devices of this process, one device's share of it, and the sums alone."""
    import jax

    from jaxseq.benchmark import peers
    from jaxseq.train import devices, epoch

    start = peers.given(load)
    mesh = devices.make()
    setup = start.setup._replace(batch_sharding=devices.batch_sharding(mesh, load.batch))
    state, data = devices.replicate(mesh, (start.state, start.data))
    compiled = epoch.epoch.lower(setup, state, data, load.batch).compile()
    share = load._replace(batch=load.batch // mesh.size)
    works = {
        "step": _trainer(compiled, state, data),
        "share": peers.ours(share, peers.given(share)).work,
        "sums": _summer(state.params, mesh, load.steps),
    }

    fastest = {name: _fastest(work, load.steps, rounds) for name, work in works.items()}
    text = compiled.as_text() or ""
    return Timing(
        workload=load.name,
        devices=mesh.size,
        cores=devices.cores(),
        ms={name: turn.ms for name, turn in fastest.items()},
        busy={name: turn.busy for name, turn in fastest.items()},
        sums=text.count(" all-reduce(") + text.count(" all-reduce-start("),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
    )


def _trainer(compiled: Compiled, state: TrainState, data: Batch) -> Callable[[], object]:
    """Return a turn of an epoch; it is given the state that it left, which it donates."""
    import jax

    def work() -> object:
        nonlocal state
        state, log = jax.block_until_ready(compiled(state, data))
        return log

    return work


def _summer(params: Tree, mesh: jax.sharding.Mesh, steps: int) -> Callable[[], object]:
    """Return a turn of the sums of a gradient over the devices, one after the other, with nothing else to do."""
    import jax
    import jax.numpy as jnp

    from jaxseq.train.devices import batch_sharding

    sharding = batch_sharding(mesh, mesh.size)
    gradients = jax.tree.map(lambda leaf: jax.device_put(jnp.zeros((mesh.size, *leaf.shape)), sharding), params)

    def step(gradients: Tree, _: None) -> tuple[Tree, None]:
        means = jax.tree.map(partial(jnp.mean, axis=0), gradients)
        changed = jax.tree.map(lambda leaf, mean: 0.5 * (leaf + mean) + 1.0, gradients, means)
        return jax.lax.with_sharding_constraint(changed, sharding), None

    def many(gradients: Tree) -> Tree:
        return jax.lax.scan(step, gradients, None, length=steps)[0]

    compiled = jax.jit(many).lower(gradients).compile()
    return lambda: jax.block_until_ready(compiled(gradients))


def _fastest(work: Callable[[], object], steps: int, rounds: int) -> Turn:
    """Return the fastest turn, which other processes disturbed the least; a turn before them warms up."""
    measured = []
    for _ in range(rounds + 1):
        wall_start = time.perf_counter()
        cpu_start = time.process_time()
        work()
        wall = time.perf_counter() - wall_start
        cpu = time.process_time() - cpu_start
        measured.append(Turn(wall / steps * 1e3, cpu / wall))
    return min(measured[1:])


def table(results: Sequence[Timing]) -> str:
    """Return the table; the speed-up is over one device."""
    from jaxseq.benchmark import tables

    titles = ["workload", "devices", "step, ms", "cores busy", "speed-up"]
    titles += ["share alone, ms", "cores", "sums alone, ms", "of the step"]
    rows = []
    for result in results:
        ms = result["ms"]
        busy = result["busy"]
        # A single device has none.
        sums = [tables.ABSENT] * 2
        if result["sums"]:
            sums = [f"{ms['sums']:.2f}", f"{ms['sums'] / ms['step']:.0%}"]
        single = _on_one_device(results, result)
        rows.append(
            [
                result["workload"],
                str(result["devices"]),
                f"{ms['step']:.2f}",
                f"{busy['step']:.1f}",
                f"{single['ms']['step'] / ms['step']:.2f}",
                f"{ms['share']:.2f}",
                f"{busy['share']:.1f}",
                *sums,
            ]
        )
    return tables.markdown(titles, rows)


def words(results: Sequence[Timing]) -> list[str]:
    """Say what limits each workload on more than one device, by its own numbers."""
    return [_limits(_on_one_device(results, result), result) for result in results if result["devices"] > 1]


def _limits(single: Timing, result: Timing) -> str:
    ms = result["ms"]
    whole_ms = single["ms"]["step"]
    devices = result["devices"]
    cores = result["cores"]
    busy = single["busy"]["step"]
    return (
        f"{result['workload']}: {devices} devices are {whole_ms / ms['step']:.2f} times as fast as one. The most by the "
        f"share, 1/{devices} of the batch in {ms['share'] / whole_ms:.0%} of the time: {whole_ms / ms['share']:.2f}; by "
        f"the cores, {cores} of which one device keeps {busy:.1f} busy: {cores / busy:.2f}. Sums take "
        f"{ms['sums'] / ms['step']:.0%}"
    )


def _on_one_device(results: Sequence[Timing], result: Timing) -> Timing:
    return next(other for other in results if other["workload"] == result["workload"] and other["devices"] == 1)


if __name__ == "__main__":
    print(json.dumps(timed(LOADS[sys.argv[1]], int(sys.argv[2]))))
