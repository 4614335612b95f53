"""More devices: a step on 1, 2 and 4 of them, a device's share of the batch alone, and the sums between them alone.

Each number of devices has a process of its own, whose CPU is divided into as many. They are threads of one machine: with
fewer cores than devices they take turns, and the table shows that rather than what as many machines would do.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from jaxseq.benchmark import machine, workloads
from jaxseq.benchmark.workloads import Workload

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
    return [_on_devices(name, devices, rounds) for name in load_names for devices in DEVICES]


def _on_devices(name: str, devices: int, rounds: int) -> Timing:
    print(f"{name}: {devices} devices, {rounds} rounds of {LOADS[name].steps} steps", file=sys.stderr, flush=True)
    # XLA divides the CPU when it starts, and not again. A user's own flags stay.
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}".strip()
    printed = machine.in_process(
        "jaxseq.benchmark.devices",
        [name, str(rounds)],
        environment={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        title=f"{name} on {devices} devices",
    )
    return json.loads(printed)


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
    # A device's rows without the sums: the step could not be faster if the sums were free.
    share = load._replace(batch=load.batch // mesh.size)
    works = {
        "step": _trainer(compiled, state, data),
        "share": peers.ours(share, peers.given(share)).work,
        "sums": _summer(state.params, mesh, load.steps),
    }

    fastest = {name: _fastest(work, load.steps, rounds) for name, work in works.items()}
    program = compiled.as_text() or ""
    # A sum that XLA starts and awaits apart has two operations, of which the first is counted.
    sums = program.count(" all-reduce(") + program.count(" all-reduce-start(")
    return Timing(
        workload=load.name,
        devices=mesh.size,
        cores=devices.cores(),
        ms={name: turn.ms for name, turn in fastest.items()},
        busy={name: turn.busy for name, turn in fastest.items()},
        sums=sums,
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


def _summer(
    params: Tree,
    mesh: jax.sharding.Mesh,
    steps: int,
) -> Callable[[], object]:
    """Return a turn of the sums of a gradient over the devices, one after the other, with nothing else to do."""
    import jax
    import jax.numpy as jnp

    from jaxseq.train.devices import batch_sharding

    sharding = batch_sharding(mesh, mesh.size)

    def zeros(leaf: jax.Array) -> jax.Array:
        shape = (mesh.size, *leaf.shape)
        return jax.device_put(jnp.zeros(shape), sharding)

    # A gradient of each device, along the first axis.
    gradients = jax.tree.map(zeros, params)

    def step(gradients: Tree, _: None) -> tuple[Tree, None]:
        means = jax.tree.map(partial(jnp.mean, axis=0), gradients)
        # The next sum needs this one, so that XLA cannot lift it out of the loop or do several as one.
        changed = jax.tree.map(lambda leaf, mean: 0.5 * (leaf + mean) + 1.0, gradients, means)
        # Each device keeps its own part; on copies of the whole there would be nothing to send.
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
        # CPU time is that of all threads: divided by wall time, it is the cores that worked.
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
    several = [result for result in results if result["devices"] > 1]
    return [_limits(_on_one_device(results, result), result) for result in several]


def _limits(single: Timing, result: Timing) -> str:
    ms = result["ms"]
    whole_ms = single["ms"]["step"]
    devices = result["devices"]
    cores = result["cores"]
    # A single device may keep more than one core busy, which leaves fewer for the others.
    busy = single["busy"]["step"]
    gain = whole_ms / ms["step"]
    most_by_share = whole_ms / ms["share"]
    most_by_cores = cores / busy
    return (
        f"{result['workload']}: {devices} devices are {gain:.2f} times as fast as one. The most by the "
        f"share, 1/{devices} of the batch in {ms['share'] / whole_ms:.0%} of the time: {most_by_share:.2f}; by "
        f"the cores, {cores} of which one device keeps {busy:.1f} busy: {most_by_cores:.2f}. Sums take "
        f"{ms['sums'] / ms['step']:.0%}"
    )


def _on_one_device(results: Sequence[Timing], result: Timing) -> Timing:
    return next(other for other in results if other["workload"] == result["workload"] and other["devices"] == 1)


if __name__ == "__main__":
    workload_name, round_count = sys.argv[1:]
    print(json.dumps(timed(LOADS[workload_name], int(round_count))))
