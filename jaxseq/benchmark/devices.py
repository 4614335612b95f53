"""What more devices give: a step on 1, 2 and 4 of them, a device's share alone, and the sums between them alone.

Each number of devices has a process of its own, whose CPU is told to be so many. They are threads of one machine: with
fewer cores than devices they take turns, and the table shows that rather than what as many machines would do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from jaxseq.benchmark import workloads
from jaxseq.benchmark.workloads import Workload
from jaxseq.common.errors import UsageError

DEVICES = (1, 2, 4)
LOADS = {load.name: load for load in (workloads.SMALL[1], workloads.LARGE[4])}


def measure(quick: bool, rounds: int) -> list[dict[str, Any]]:
    """The figures of each workload on each number of devices, one after the other."""
    names = list(LOADS)[: 1 if quick else None]
    return [_in_process(name, devices, rounds) for name in names for devices in DEVICES]


def _in_process(name: str, devices: int, rounds: int) -> dict[str, Any]:
    print(f"{name}: {devices} devices, {rounds} rounds of {LOADS[name].steps} steps", file=sys.stderr, flush=True)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}".strip()
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "jaxseq.benchmark.devices", name, str(rounds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        raise UsageError(f"{name} on {devices} devices could not be measured: {said[0]}")
    return json.loads(done.stdout.splitlines()[-1])


def timed(load: Workload, rounds: int) -> dict[str, Any]:
    """On all devices of this process: wall milliseconds of a step, of one device's share of it, of the sums alone; and the
    cores that each keeps busy."""
    import jax

    from jaxseq.benchmark import peers
    from jaxseq.train import devices, epoch

    start, mesh = peers.given(load), devices.make()
    setup = start.setup._replace(batch_sharding=devices.batch_sharding(mesh, load.batch))
    state, data = devices.replicate(mesh, (start.state, start.data))
    compiled = epoch.epoch.lower(setup, state, data, load.batch).compile()
    share = load._replace(batch=load.batch // mesh.size)
    works = {
        "step": _trainer(compiled, state, data),
        "share": peers.ours(share, peers.given(share)).work,
        "sums": _summer(state.params, mesh, load.steps),
    }
    times = {name: _fastest(work, load.steps, rounds) for name, work in works.items()}
    text = compiled.as_text() or ""
    return {
        "workload": load.name,
        "devices": mesh.size,
        "cores": devices.cores(),
        "ms": {name: wall for name, (wall, _) in times.items()},
        "busy": {name: busy for name, (_, busy) in times.items()},
        "sums": text.count(" all-reduce(") + text.count(" all-reduce-start("),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
    }


def _trainer(compiled: Any, state: Any, data: Any) -> Callable[[], Any]:
    """A turn of an epoch that is compiled; it is given the state that it left, since it takes it away."""
    import jax

    def work() -> Any:
        nonlocal state
        state, log = jax.block_until_ready(compiled(state, data))
        return log

    return work


def _summer(params: Any, mesh: Any, steps: int) -> Callable[[], Any]:
    """A turn of the sums of a gradient over the devices, one after the other, with nothing else to do."""
    import jax
    import jax.numpy as jnp

    from jaxseq.train.devices import batch_sharding

    sharding = batch_sharding(mesh, mesh.size)
    held = jax.tree.map(lambda leaf: jax.device_put(jnp.zeros((mesh.size, *leaf.shape)), sharding), params)

    def one(held: Any, _: None) -> tuple[Any, None]:
        means = jax.tree.map(partial(jnp.mean, axis=0), held)
        new = jax.tree.map(lambda leaf, mean: 0.5 * (leaf + mean) + 1.0, held, means)
        return jax.lax.with_sharding_constraint(new, sharding), None

    compiled = jax.jit(lambda held: jax.lax.scan(one, held, None, length=steps)[0]).lower(held).compile()
    return lambda: jax.block_until_ready(compiled(held))


def _fastest(work: Callable[[], Any], steps: int, rounds: int) -> tuple[float, float]:
    """Wall milliseconds a step in the fastest turn, that which others disturbed the least, and the cores that were busy in
    it; a turn before them warms up."""
    times = []
    for _ in range(rounds + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        times.append((wall / steps * 1e3, cpu / wall))
    return min(times[1:])


def table(found: list[dict[str, Any]]) -> Any:
    """The table, for rich to print; speed-up is over one device."""
    from rich.table import Table

    shown = Table()
    shown.add_column("workload")
    for name in (
        "devices",
        "step, ms",
        "cores busy",
        "speed-up",
        "share alone, ms",
        "cores",
        "sums alone, ms",
        "of the step",
    ):
        shown.add_column(name, justify="right")
    for row in found:
        one, ms, busy = _one(found, row), row["ms"], row["busy"]
        sums = [f"{ms['sums']:.2f}", f"{ms['sums'] / ms['step']:.0%}"] if row["sums"] else ["\N{EN DASH}"] * 2
        figures = [f"{ms['step']:.2f}", f"{busy['step']:.1f}", f"{one['ms']['step'] / ms['step']:.2f}"]
        share = [f"{ms['share']:.2f}", f"{busy['share']:.1f}"]
        shown.add_row(row["workload"], str(row["devices"]), *figures, *share, *sums)
    return shown


def words(found: list[dict[str, Any]]) -> list[str]:
    """What limits each workload on more than one device, by its own numbers."""
    return [_limits(_one(found, row), row) for row in found if row["devices"] > 1]


def _limits(one: dict[str, Any], row: dict[str, Any]) -> str:
    ms, whole, n, cores = row["ms"], one["ms"]["step"], row["devices"], row["cores"]
    busy = one["busy"]["step"]
    return (
        f"{row['workload']}: {n} devices are {whole / ms['step']:.2f} times as fast as one. The most by the share, 1/{n} "
        f"of the batch in {ms['share'] / whole:.0%} of the time: {whole / ms['share']:.2f}; by the cores, {cores} of "
        f"which one device keeps {busy:.1f} busy: {cores / busy:.2f}. Sums take {ms['sums'] / ms['step']:.0%}"
    )


def _one(found: list[dict[str, Any]], row: dict[str, Any]) -> dict[str, Any]:
    return next(other for other in found if other["workload"] == row["workload"] and other["devices"] == 1)


if __name__ == "__main__":
    print(json.dumps(timed(LOADS[sys.argv[1]], int(sys.argv[2]))))
