"""`python -m jaxseq.benchmark`: one training step of ours against other people's, in turn, in one process on one core.

Times are CPU time of this process; a ratio is peer / ours, so above 1 we are faster. Each round times every peer once,
one after the other, and the ratio is the median over the rounds: it holds where the machine's speed drifts.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

Run = Callable[[], float]
"""Does some training steps and returns the CPU milliseconds of one."""


class Workload(NamedTuple):
    """One training step: a layer of a cell, a dense head on its last state, squared error, Adam."""

    name: str
    cell: str
    hidden: int
    window: int
    batch: int
    features: int
    steps: int


WORKLOADS = (
    Workload("RNN 50", "rnn", 50, 50, 32, 1, 60),
    Workload("LSTM 50", "lstm", 50, 50, 32, 1, 40),
    Workload("GRU 50", "gru", 50, 50, 32, 1, 40),
    Workload("LSTM 256", "lstm", 256, 128, 32, 96, 2),
    Workload("GRU 256", "gru", 256, 128, 32, 96, 2),
)
QUICK = 3
"""Workloads of `--quick`: the first ones, those of the main job."""


@dataclass(frozen=True)
class Options:
    """Time a training step against the same one by autodiff, by flax's cells and by torch, as far as installed."""

    quick: bool = False
    """Only the 50-unit workloads."""
    rounds: int = 7
    """Times that every peer takes its turn; the median is shown."""
    core: int | None = None
    """CPU core to stay on; the last one that this process may use if not given."""
    out: Path | None = None
    """JSON file to write the figures to."""


def one_core(core: int | None) -> int:
    """Stay on one core, and say so to XLA; must come before JAX is imported. Returns the core."""
    allowed = sorted(os.sched_getaffinity(0))
    chosen = allowed[-1] if core is None else core
    os.sched_setaffinity(0, {chosen})
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1".strip()
    return chosen


def timed(steps: int, work: Callable[[], Any]) -> float:
    """CPU milliseconds of one of the `steps` that `work` does."""
    start = time.process_time()
    work()
    return (time.process_time() - start) / steps * 1e3


def ours(load: Workload) -> Run:
    """Our trainer's own step: `fit.epoch` on as many rows as give the steps."""
    import jax
    import jax.numpy as jnp
    import optax

    from jaxseq import fit, models
    from jaxseq.arrays import Batch
    from jaxseq.cells import CELLS
    from jaxseq.tasks import REGRESSION

    setup = fit.Setup(models.Forecaster(CELLS[load.cell], load.hidden, 1, 1), REGRESSION, optax.adam(1e-3))
    rows = load.batch * load.steps
    x = jax.random.normal(jax.random.key(0), (rows, load.window, load.features))
    data = Batch(x, jnp.ones((rows, 1)))
    state = fit.init(setup, jax.random.key(1), x[:1])

    def work() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(fit.epoch(setup, state, data, load.batch))

    work()
    return lambda: timed(load.steps, work)


def jax_peer(load: Workload, apply: Callable[[Any, Any], Any], params: Any) -> Run:
    """The same step around another recurrence: `apply(params, x "b t d")` gives the last state "b h"."""
    import jax
    import jax.numpy as jnp
    import optax

    x = jax.random.normal(jax.random.key(0), (load.steps, load.batch, load.window, load.features))
    head = {"kernel": jnp.zeros((load.hidden, 1)), "bias": jnp.zeros(1)}
    adam = optax.adam(1e-3)

    def loss(weights: Any, x: Any) -> Any:
        return jnp.mean((apply(weights["cell"], x) @ weights["head"]["kernel"] + weights["head"]["bias"] - 1.0) ** 2)

    def step(state: Any, x: Any) -> tuple[Any, Any]:
        weights, opt = state
        value, gradient = jax.value_and_grad(loss)(weights, x)
        updates, opt = adam.update(gradient, opt, weights)
        return (optax.apply_updates(weights, updates), opt), value

    many = jax.jit(lambda state: jax.lax.scan(step, state, x))
    weights = {"cell": params, "head": head}
    state = (weights, adam.init(weights))
    jax.block_until_ready(many(state))
    return lambda: timed(load.steps, lambda: jax.block_until_ready(many(state)))


def autodiff(load: Workload) -> Run:
    """Our cell and scan with autodiff's gradient instead of the hand-written adjoint."""
    import jax
    import jax.numpy as jnp

    from jaxseq import recurrence
    from jaxseq.cells import CELLS

    cell = CELLS[load.cell]

    def apply(params: Any, x: Any) -> Any:
        start = cell.start((x.shape[0], load.hidden))
        return recurrence.scan_by_autodiff(cell, params, jnp.swapaxes(x, 0, 1), start)[0].h

    return jax_peer(load, apply, cell.init(jax.random.key(1), load.features, load.hidden))


def flax(load: Workload) -> Run:
    """flax.linen's own cell (the optimised one for the LSTM) in `nn.RNN`."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    cells = {"rnn": nn.SimpleCell, "lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}
    layer = nn.RNN(cells[load.cell](load.hidden))
    params = layer.init(jax.random.key(1), jnp.zeros((1, load.window, load.features)))
    return jax_peer(load, lambda params, x: jnp.asarray(layer.apply(params, x))[:, -1], params)


def torch(load: Workload) -> Run:
    """torch's layer, eager, with `torch.optim.Adam`, on one thread."""
    import torch as t

    t.set_num_threads(1)
    layer = {"rnn": t.nn.RNN, "lstm": t.nn.LSTM, "gru": t.nn.GRU}[load.cell]
    layer = layer(load.features, load.hidden, batch_first=True)
    head = t.nn.Linear(load.hidden, 1)
    adam = t.optim.Adam([*layer.parameters(), *head.parameters()])
    x, y = t.randn(load.batch, load.window, load.features), t.ones(load.batch, 1)

    def work() -> None:
        for _ in range(load.steps):
            adam.zero_grad()
            outputs, _ = layer(x)
            ((head(outputs[:, -1]) - y) ** 2).mean().backward()
            adam.step()

    work()
    return lambda: timed(load.steps, work)


PEERS: dict[str, tuple[str, Callable[[Workload], Run]]] = {
    "autodiff": ("jax", autodiff),
    "flax": ("flax", flax),
    "torch": ("torch", torch),
}
"""Name of a peer, the package it needs, and what makes its step."""


def measure(load: Workload, rounds: int) -> dict[str, Any]:
    """CPU milliseconds a step of everybody, medians over the rounds, and the median of each round's ratio."""
    import numpy as np

    there = {name: make for name, (package, make) in PEERS.items() if importlib.util.find_spec(package)}
    runs = {"ours": ours(load), **{name: make(load) for name, make in there.items()}}
    times = np.array([[run() for run in runs.values()] for _ in range(rounds)])
    ratios = times[:, 1:] / times[:, :1]
    return {
        "workload": load._asdict(),
        "ms": dict(zip(runs, np.median(times, axis=0).tolist(), strict=True)),
        "ratio": dict(zip(there, np.median(ratios, axis=0).tolist(), strict=True)),
        "ratio_range": {name: [r.min(), r.max()] for name, r in zip(there, ratios.T, strict=True)},
    }


def show(results: list[dict[str, Any]], core: int) -> None:
    """The table on the screen."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"One training step on core {core}: CPU ms, and peer / ours (range over the rounds)")
    table.add_column("workload", no_wrap=True)
    table.add_column("ours, ms", justify="right")
    for name in PEERS:
        table.add_column(f"{name} / ours", justify="right", no_wrap=True)
    for result in results:
        cells = []
        for name in PEERS:
            low, high = result["ratio_range"].get(name, (0, 0))
            found = name in result["ratio"]
            cells.append(f"{result['ratio'][name]:.2f} ({low:.2f} to {high:.2f})" if found else "not installed")
        table.add_row(result["workload"]["name"], f"{result['ms']['ours']:.2f}", *cells)
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(table)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    import tyro

    options = tyro.cli(Options, args=argv, prog="python -m jaxseq.benchmark", description=__doc__)
    core = one_core(options.core)
    results = []
    for load in WORKLOADS[: QUICK if options.quick else None]:
        print(f"{load.name}: {options.rounds} rounds", file=sys.stderr, flush=True)
        results.append(measure(load, options.rounds))
    show(results, core)
    if options.out is not None:
        packages = ("jax", "flax", "torch")
        there = {p: importlib.metadata.version(p) for p in packages if importlib.util.find_spec(p)}
        options.out.write_text(json.dumps({"versions": there, "results": results}, indent=2) + "\n")
        print(f"{options.out} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
