"""Long sequences: a training step whose derivative keeps every time step, and one that computes chunks again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import jax.numpy as jnp
import numpy as np

from jaxseq.benchmark import compare, peers, tables
from jaxseq.benchmark.compare import Settings
from jaxseq.benchmark.workloads import Workload
from jaxseq.cells import CELLS, chunks

WHOLE, CHUNKS = "whole", "chunks"
TIME_STEPS = (1024, 4096)
UNITS = (50, 256)
BATCH = 32


class Timing(TypedDict):
    """Figures of a length, as they stand in the JSON file.

    chunk       time steps that are computed again at once
    automatic   what "auto" takes for this shape, None for the whole scan
    ratio       whole / chunks in each round: the median, and its range
    memory_mib  what XLA plans for a call
    """

    cell: str
    hidden: int
    time_steps: int
    chunk: int
    automatic: int | None
    rounds: int
    ms: dict[str, float]
    ratio: float
    ratio_range: list[float]
    memory_mib: dict[str, float]


def loads(quick: bool) -> list[Workload]:
    """Return the workloads; their chunk is the root of the length."""
    sizes = [(cell, units, count) for units in UNITS for cell in ("lstm", "gru") for count in TIME_STEPS]
    if quick:
        sizes = sizes[:1]
    workloads = []
    for cell, units, count in sizes:
        workloads.append(
            Workload(
                f"{cell.upper()} {units}, {count} time steps",
                cell,
                hidden=units,
                window=count,
                batch=BATCH,
                features=1,
                # A step of this length is long against the start of a call.
                steps=1,
                chunk=round(count**0.5),
            )
        )
    return workloads


def measure(load: Workload, settings: Settings) -> Timing:
    """Time a step by the whole scan and by chunks, in turn."""
    assert isinstance(load.chunk, int), "a workload of `loads`"
    # Weights and rows are drawn alike, so that both do the same work.
    whole_load = load._replace(chunk=None)
    trainers = {
        WHOLE: peers.ours(whole_load, peers.given(whole_load)),
        CHUNKS: peers.ours(load, peers.given(load)),
    }
    works = {name: trainer.work for name, trainer in trainers.items()}
    times = compare.in_turn(works, load, settings)
    ratio = times[WHOLE] / times[CHUNKS]
    return Timing(
        cell=load.cell,
        hidden=load.hidden,
        time_steps=load.window,
        chunk=load.chunk,
        automatic=automatic(load),
        rounds=len(ratio),
        ms=compare.medians(times),
        ratio=float(np.median(ratio)),
        ratio_range=[float(ratio.min()), float(ratio.max())],
        memory_mib={name: trainer.memory / 2**20 for name, trainer in trainers.items()},
    )


def automatic(load: Workload) -> int | None:
    """Return the chunk that the layer takes by itself."""
    # Its shape alone decides.
    cell = CELLS[load.cell]
    x = jnp.zeros((load.window, load.batch, load.features))
    return chunks.size("auto", cell, x, cell.start((load.batch, load.hidden)))


def table(results: Sequence[Timing]) -> str:
    """Return the table of all lengths."""
    titles = ["layer, batch 32", "time steps", "chunk", "whole, ms", "chunks, ms", "whole / chunks"]
    titles += ["whole, MiB", "chunks, MiB", "auto takes"]
    rows = []
    for result in results:
        low, high = result["ratio_range"]
        choice = WHOLE
        if result["automatic"] is not None:
            choice = str(result["automatic"])
        rows.append(
            [
                f"{result['cell'].upper()} {result['hidden']}",
                str(result["time_steps"]),
                str(result["chunk"]),
                f"{result['ms'][WHOLE]:.1f}",
                f"{result['ms'][CHUNKS]:.1f}",
                f"{result['ratio']:.2f} ({low:.2f}-{high:.2f})",
                f"{result['memory_mib'][WHOLE]:.1f}",
                f"{result['memory_mib'][CHUNKS]:.1f}",
                choice,
            ]
        )
    return tables.markdown(titles, rows)
