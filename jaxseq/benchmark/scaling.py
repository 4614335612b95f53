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
from jaxseq.errors import UsageError

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
    command = [sys.executable, "-m", "jaxseq.benchmark.scaling", name, str(rounds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        raise UsageError(f"{name} on {devices} devices could not be measured: {said[0]}")
    return json.loads(done.stdout.splitlines()[-1])


def timed(load: Workload, rounds: int) -> dict[str, Any]:
    """On all devices of this process: wall milliseconds of a step, of one device's share of it, of the sums alone."""
    import jax

    from jaxseq import fit, mesh
    from jaxseq.benchmark import peers

    start, devices = peers.given(load), mesh.make()
    setup = start.setup._replace(batch_sharding=mesh.batch_sharding(devices, load.batch))
    state, data = mesh.replicate(devices, (start.state, start.data))
    compiled = fit.epoch.lower(setup, state, data, load.batch).compile()
    share = load._replace(batch=load.batch // devices.size)
    works = {
        "step": _trainer(compiled, state, data),
        "share": peers.ours(share, peers.given(share)).work,
        "sums": _summer(state.params, devices, load.steps),
    }
    ms = {name: _fastest(work, load.steps, rounds) for name, work in works.items()}
    costs: Any = compiled.cost_analysis()
    text = compiled.as_text() or ""
    return {
        "workload": load.name,
        "devices": devices.size,
        "cores": len(os.sched_getaffinity(0)),
        "ms": ms,
        "sums": text.count(" all-reduce(") + text.count(" all-reduce-start("),
        "flops": costs["flops"],
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


def _summer(params: Any, devices: Any, steps: int) -> Callable[[], Any]:
    """A turn of the sums of a gradient over the devices, one after the other, with nothing else to do."""
    import jax
    import jax.numpy as jnp

    from jaxseq import mesh

    sharding = mesh.batch_sharding(devices, devices.size)
    held = jax.tree.map(lambda leaf: jax.device_put(jnp.zeros((devices.size, *leaf.shape)), sharding), params)

    def one(held: Any, _: None) -> tuple[Any, None]:
        means = jax.tree.map(partial(jnp.mean, axis=0), held)
        new = jax.tree.map(lambda leaf, mean: 0.5 * (leaf + mean) + 1.0, held, means)
        return jax.lax.with_sharding_constraint(new, sharding), None

    compiled = jax.jit(lambda held: jax.lax.scan(one, held, None, length=steps)[0]).lower(held).compile()
    return lambda: jax.block_until_ready(compiled(held))


def _fastest(work: Callable[[], Any], steps: int, rounds: int) -> float:
    """Wall milliseconds a step in the fastest turn, that which others disturbed the least; one before them warms up."""
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) / steps * 1e3)
    return min(times[1:])


def table(found: list[dict[str, Any]]) -> Any:
    """The table, for rich to print; speed-up is over one device, flops are those of one device as XLA counts them."""
    from rich.table import Table

    shown = Table()
    for name in ("workload", "devices", "step, ms", "speed-up", "share alone, ms", "sums alone, ms", "of the step"):
        shown.add_column(name, justify="left" if name == "workload" else "right", no_wrap=True)
    for name in ("sums", "flops a device"):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in found:
        one, ms = _one(found, row), row["ms"]
        sums = [f"{ms['sums']:.2f}", f"{ms['sums'] / ms['step']:.0%}"] if row["sums"] else ["\N{EN DASH}"] * 2
        figures = [f"{ms['step']:.2f}", f"{one['ms']['step'] / ms['step']:.2f}", f"{ms['share']:.2f}", *sums]
        flops = f"{row['flops'] / one['flops']:.0%}"
        shown.add_row(row["workload"], str(row["devices"]), *figures, str(row["sums"]), flops)
    return shown


def words(found: list[dict[str, Any]]) -> list[str]:
    """What limits each workload on the most devices, by its own numbers."""
    said = []
    for name in dict.fromkeys(row["workload"] for row in found):
        most = max((row for row in found if row["workload"] == name), key=lambda row: row["devices"])
        one, ms, n = _one(found, most), most["ms"], most["devices"]
        gain, ideal = one["ms"]["step"] / ms["step"], one["ms"]["step"] / ms["share"]
        turns = f"; {n} devices share {most['cores']} cores" if n > most["cores"] else ""
        said.append(
            f"{name}: {n} devices are {gain:.2f} times as fast as one. A share of 1/{n} of the batch by itself takes "
            f"{ms['share'] / one['ms']['step']:.0%} of the whole one's time, so {ideal:.2f} times is the most; sums "
            f"take {ms['sums'] / ms['step']:.0%} of the step{turns}"
        )
    return said


def _one(found: list[dict[str, Any]], row: dict[str, Any]) -> dict[str, Any]:
    return next(other for other in found if other["workload"] == row["workload"] and other["devices"] == 1)


if __name__ == "__main__":
    print(json.dumps(timed(LOADS[sys.argv[1]], int(sys.argv[2]))))
